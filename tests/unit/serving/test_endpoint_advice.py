from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.serving.certificate import Certificate
from protosonic.serving.endpoint_advice import advise
from protosonic.serving.endpoint_check import read_setup
from protosonic.serving.endpoint_report import EndpointReport, LoadPoint, ModelSetup

GOOD = ModelSetup("onnxruntime", 2048, True, 256, 100.0, False, ("1 × GPU",), True, "off", False)
POINT = LoadPoint(1, 5.0, 500, 50_000, 0.01, 0.02, 0.001, 0.008, {})
CERTIFICATE = Certificate("CN=triton", "CN=ca", ("triton",), "2027-01-01T00:00:00Z", 400, "")


def report(**changes: Any) -> EndpointReport:
    facts = {
        "options": EndpointOptions("grpc://127.0.0.1:8001", version="1"),
        "server": "triton",
        "server_version": "2.60.0",
        "model_version": "1",
        "setup": GOOD,
        "deviation": 1e-7,
        "tolerance": 1e-5,
        "request_patches": 512,
        "load": [POINT, replace(POINT, concurrency=4, patches_per_s=55_000)],
    }
    return EndpointReport(**(facts | changes))


def test_a_good_endpoint_gets_no_advice() -> None:
    assert advise(report()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"dynamic_batching": False, "max_queue_size": 0, "queue_timeout_s": 0.0},
            "Turn dynamic batching on",
        ),
        ({"max_queue_size": 0}, "Set max_queue_size"),
        ({"queue_timeout_s": 0.0}, "Set default_timeout_microseconds"),
        ({"queue_timeout_s": 600.0}, "Set default_timeout_microseconds"),
        ({"max_batch_size": 64}, "Raise max_batch_size from 64"),
        ({"max_batch_size": 0}, "Raise max_batch_size from 0"),
        ({"max_batch_size": 1000}, "no two requests of 512 patches fit together"),
        ({"response_cache": True}, "Turn the response cache off"),
        ({"tf32": ""}, "Decide on TF32"),
        ({"tf32": "on"}, "Decide on TF32"),
        ({"follows_latest": True}, "List the versions"),
        ({"takes_images": True, "max_batch_size": 0}, "Leave the queue policy out"),
    ],
)
def test_every_flaw_of_the_configuration_gets_one_advice(changes: dict[str, Any], words: str) -> None:
    [advice] = advise(report(setup=replace(GOOD, **changes)))
    assert words in advice


def test_a_model_for_images_needs_neither_batching_nor_a_queue_policy() -> None:
    setup = replace(
        GOOD,
        takes_images=True,
        max_batch_size=0,
        dynamic_batching=False,
        max_queue_size=0,
        queue_timeout_s=0.0,
    )
    assert advise(report(setup=setup)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"serves_images": False}, "Serve the model for images"),
        ({"deviation": 3e-4, "failure": "wrong-model"}, "TF32"),
        ({"deviation": 0.3, "failure": "wrong-model"}, "Another model is served"),
        ({"deviation": float("nan"), "failure": "wrong-model"}, "Another model is served"),
        ({"failure": "unauthenticated"}, "--token-file"),
        ({"failure": "tls"}, "--ca-file"),
        ({"failure": "unavailable"}, "Nothing that speaks gRPC"),
        ({"failure": "overload"}, "busy"),
        ({"certificate": replace(CERTIFICATE, days_left=3.2)}, "expires in 3 days"),
        ({"options": EndpointOptions("grpc://h:1", version="1", token_env="T")}, "without encryption"),
        ({"options": EndpointOptions("grpc://h:1")}, "Ask for a version"),
        ({"server_version": "2.51.0"}, "Upgrade Triton 2.51.0"),
        ({"setup": None}, "does not tell how it runs"),
        ({"request_patches": 256}, "only 256 of 512 patches"),
        ({"load": [replace(POINT, failures={"overload": 3})]}, "3 requests were turned away"),
        ({"load": [replace(POINT, failures={"backend": 1})]}, r"1 requests failed (backend)"),
        ({"load": [POINT, replace(POINT, concurrency=2, patches_per_s=80_000)]}, "still rising"),
        ({"load": [POINT, replace(POINT, concurrency=2, patches_per_s=30_000)]}, "falls from 50,000"),
        ({"load": [replace(POINT, queue_s=0.02, p50_s=0.03)]}, "others use the server"),
        ({"load": [replace(POINT, p50_s=0.5)]}, "network"),
        ({"load": [replace(POINT, requests=2)]}, "longer --seconds"),
    ],
)
def test_everything_else_that_is_not_right_gets_one_advice(changes: dict[str, Any], words: str) -> None:
    [advice] = advise(report(**changes))
    assert words in advice


def test_points_without_answers_are_left_out_of_the_comparison() -> None:
    none = LoadPoint(8, 5.0, 0, 0.0, None, None, None, None, {"overload": 40})
    [advice] = advise(report(load=[POINT, none]))
    assert "40 requests were turned away" in advice
    assert len(advise(report(load=[none]))) == 1


def test_the_configuration_is_read_as_the_server_gives_it() -> None:
    config = text_format.Parse(
        """
        name: "x" platform: "onnxruntime_onnx" max_batch_size: 64
        instance_group { kind: KIND_GPU count: 2 }
        response_cache { enable: true }
        optimization { execution_accelerators {
            gpu_execution_accelerator { name: "cuda" parameters { key: "use_tf32" value: "1" } } } }
        """,
        model_config_pb2.ModelConfig(),
    )
    assert read_setup(config) == ModelSetup(
        "onnxruntime_onnx", 64, False, 0, 0.0, True, ("2 × GPU",), True, "on", True
    )


def test_the_record_holds_what_was_found_and_not_how_it_was_reached() -> None:
    options = EndpointOptions("grpc://h:1", version="1", headers={"x-site": "somewhere"})
    content = report(options=options, problem="no", failure="tls").to_json()
    assert content["url"] == "grpc://h:1"
    assert content["can_serve"] is False
    assert content["load"][0]["patches_per_s"] == 50_000
    assert "somewhere" not in str(content)
