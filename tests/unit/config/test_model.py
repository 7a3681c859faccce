"""What the configuration allows, and what it takes where nothing is said."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from protosonic.config import Settings, check_settings, demo_settings
from protosonic.config.load import known_keys
from protosonic.errors import ConfigError


def settings(**sections) -> Settings:
    return check_settings({"inputs": [{"path": "a.h5"}]} | sections)


def test_defaults_are_the_documented_ones():
    assert settings().model_dump() == {
        "campaign": {"name": "demo", "seed": 1},
        "inputs": (
            {
                "path": "a.h5",
                "format": "auto",
                "detector": None,
                "charge_scale": None,
                "run": 0,
                "tag": "gauss",
                "ticks_per_bin": 1,
                "hit_threshold": 0.6,
            },
        ),
        "remote": {"fetch": "auto", "replicas": {}, "attempts": 4, "timeout_s": 60.0},
        "partition": {
            "target_hits": 200_000,
            "target_minutes": 30.0,
            "stop_after_failed": 20,
            "max_mem_mb": 1500,
            "most_at_once": 10_000,
        },
        "pilot": {"max_failed_fraction": 0.1},
        "preprocess": {
            "profile": "protodune-sp-2021",
            "planes": (0, 1, 2),
            "duplicate_patches": "correct",
        },
        "model": {"path": "bundled", "name": "emtrkmichel", "version": "1"},
        "inference": {
            "policy": "endpoint-first",
            "endpoints": (
                {
                    "url": "grpc://127.0.0.1:8001",
                    "weight": 1.0,
                    "ca_file": None,
                    "cert_file": None,
                    "key_file": None,
                    "token_file": None,
                    "token_env": None,
                    "headers": {},
                    "compression": "none",
                },
            ),
            "payload": "auto",
            "threads": None,
            "batch_size": None,
            "precision": "exact",
            "request_bytes": 4_718_592,
            "request_hits": 4096,
            "max_in_flight": 8,
            "latency_target_s": 2.0,
            "connect_timeout_s": 5.0,
            "request_timeout_s": 120.0,
            "patience_s": 300.0,
            "retries": 4,
            "tolerance": 1e-5,
            "wan_mbps": 100,
            "slots_folder": None,
            "slots": 32,
            "slot_patience_s": 900.0,
        },
        "merge": {"target_rows": 4_000_000, "row_group_rows": 250_000, "bundle_partitions": 100},
        "acceptance": {"max_quarantined_fraction": 0.0},
        "report": {"reference": None, "events": 3},
        "training": {
            "events": 40,
            "validation_events": 3,
            "held_out_events": 4,
            "minutes": 25.0,
            "steps": None,
            "batch_size": 256,
            "learning_rate": 5e-4,
            "device": "auto",
        },
    }


@pytest.mark.parametrize("file_format", ["wirecell-archive", "wirecell-hdf5"])
def test_wire_cell_inputs_need_a_charge_scale(file_format):
    with pytest.raises(ConfigError, match="charge_scale is needed for Wire-Cell inputs"):
        settings(inputs=[{"path": "a", "format": file_format}])
    settings(inputs=[{"path": "a", "format": file_format, "charge_scale": 1e-3}])


@pytest.mark.parametrize("file_format", ["auto", "native", "numl"])
def test_other_inputs_need_no_charge_scale(file_format):
    settings(inputs=[{"path": "a", "format": file_format}])


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_charge_scale_is_a_positive_number(scale):
    with pytest.raises(ConfigError, match=r"inputs\[0\]\.charge_scale"):
        settings(inputs=[{"path": "a", "charge_scale": scale}])


@pytest.mark.parametrize(
    "url",
    [
        "grpc://127.0.0.1:8001",
        "grpcs://triton.example.org:443",
        "grpc://node-1_a:65535",
        "grpc://[::1]:8001",
    ],
)
def test_endpoint_takes_a_grpc_url(url):
    assert settings(inference={"endpoints": [{"url": url}]}).inference.endpoints[0].url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8001",
        "http://127.0.0.1:8000",
        "GRPC://host:8001",
        "grpc://host",
        "grpc://host:",
        "grpc://:8001",
        "grpc://host:0",
        "grpc://host:65536",
        "grpc://host:8001/v2",
        "grpc://host/v2:8001",
        "grpc://user:secret@host:8001",
        "grpc://ho st:8001",
        "grpc://host:²",
        "grpc://::1:8001",
    ],
)
def test_endpoint_refuses_other_urls(url):
    with pytest.raises(ConfigError, match=r"is not of the form grpc://HOST:PORT or grpcs://HOST:PORT"):
        settings(inference={"endpoints": [{"url": url}]})


@pytest.mark.parametrize("policy", ["endpoint-first", "endpoint-only", "cooperative"])
def test_policy_that_uses_endpoints_needs_one(policy):
    with pytest.raises(ConfigError, match=f"policy {policy} needs at least one entry in endpoints"):
        settings(inference={"policy": policy, "endpoints": []})


def test_policy_cpu_only_needs_no_endpoint():
    assert settings(inference={"policy": "cpu-only", "endpoints": []}).inference.endpoints == ()


def endpoint(**keys: object) -> Settings:
    return settings(inference={"endpoints": [{"url": "grpcs://host:443"} | keys]})


def test_endpoint_takes_tls_files_a_token_headers_and_compression():
    found = endpoint(
        weight=0.5,
        ca_file="ca.pem",
        cert_file="me.pem",
        key_file="me.key",
        token_env="TOKEN",
        headers={"x-experiment": "dune", "priority_1": ""},
        compression="gzip",
    ).inference.endpoints[0]
    assert (found.cert_file, found.key_file, found.token_env) == ("me.pem", "me.key", "TOKEN")
    assert found.headers == {"x-experiment": "dune", "priority_1": ""}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"cert_file": "a"}, "cert_file and key_file are given together"),
        ({"key_file": "a"}, "cert_file and key_file are given together"),
        ({"url": "grpc://host:1", "ca_file": "a"}, "ca_file: TLS needs a url that begins with grpcs://"),
        (
            {"url": "grpc://host:1", "cert_file": "a", "key_file": "b"},
            "cert_file, key_file: TLS needs a url that begins with grpcs://",
        ),
        ({"token_file": "a", "token_env": "B"}, "from token_file or from token_env, not from both"),
        ({"token_file": ""}, "should have at least 1 character"),
        ({"token_env": "A B"}, "should match pattern"),
        ({"token_env": "1A"}, "should match pattern"),
        ({"weight": 0}, "should be greater than 0"),
        ({"weight": float("inf")}, "should be a finite number"),
        ({"compression": "zstd"}, "should be 'none', 'gzip' or 'deflate'"),
    ],
)
def test_endpoint_refuses_what_does_not_go_together(keys, message):
    with pytest.raises(ConfigError) as caught:
        endpoint(**keys)
    assert "inference.endpoints[0]" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["authorization", "Authorization", "cookie", "proxy-authorization"])
def test_a_secret_among_the_headers_is_refused_without_showing_it(name):
    with pytest.raises(
        ConfigError, match=f"'{name}' carries a secret.*use token_file or token_env"
    ) as caught:
        endpoint(headers={name: "Bearer hidden"})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("X-Experiment", "lower case letters"),
        ("a b", "lower case letters"),
        ("", "lower case letters"),
        (":path", "lower case letters"),
        ("a\n", "lower case letters"),
        ("grpc-timeout", "kept for gRPC itself"),
        ("trace-bin", "kept for gRPC itself"),
    ],
)
def test_names_that_are_no_metadata_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        endpoint(headers={name: "x"})


@pytest.mark.parametrize("value", ["a\nb", "é", "\0", "a\r\nx: y"])
def test_values_that_are_no_metadata_are_refused(value):
    with pytest.raises(ConfigError, match="the value of 'x' is not printable ASCII"):
        endpoint(headers={"x": value})


def test_an_endpoint_that_is_given_twice_is_refused():
    with pytest.raises(ConfigError, match="endpoints are given twice: grpc://a:1"):
        settings(
            inference={"endpoints": [{"url": "grpc://a:1"}, {"url": "grpc://b:1"}, {"url": "grpc://a:1"}]}
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("request_bytes", 36_863),
        ("request_bytes", 2**26 + 1),
        ("max_in_flight", 0),
        ("max_in_flight", 65),
        ("latency_target_s", 0),
        # A server that gets deadlines of milliseconds spends its time on work that nobody waits for.
        ("connect_timeout_s", 0.01),
        ("request_timeout_s", 0.01),
        ("patience_s", -1),
        ("retries", -1),
        ("tolerance", 0),
        ("tolerance", float("nan")),
    ],
)
def test_limits_of_dispatch_are_bounded(key, value):
    with pytest.raises(ConfigError, match=f"inference.{key}: "):
        settings(inference={key: value})


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"https://me:{SECRET}@example.org/a.h5", "must not hold a login"),
        (f"https://{SECRET}@example.org/a.h5", "must not hold a login"),
        (f"root://example.org//a.h5?authz={SECRET}", r"must not hold a secret \(the parameter authz\)"),
        (f"https://example.org/a.h5?x=1&X-Amz-Signature={SECRET}", "the parameter x-amz-signature"),
        ("ftp://example.org/a.h5", "cannot be read by ftp://; allowed: root://"),
        ("https:///a.h5", "needs a host"),
        ("s3://bucket", "needs a host"),
        ("https://example.org:port/a.h5", "this is not a URL"),
    ],
)
def test_urls_that_cannot_or_must_not_be_used_are_refused(url, message):
    for sections in ({"inputs": [{"path": url}]}, {"remote": {"replicas": {url: ["root://b//"]}}}):
        with pytest.raises(ConfigError, match=message) as caught:
            settings(**sections)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("replicas", "message"),
    [
        ({"root://a//x": ["root://b//"]}, "must end in '/'"),
        ({"root://a//": ["root://b//x"]}, "must end in '/'"),
        ({"/data/": ["root://b//"]}, "a replica is a prefix of a URL"),
        ({"root://a//": ["/data/"]}, "a replica is a prefix of a URL"),
    ],
)
def test_replicas_are_prefixes_of_urls(replicas, message):
    with pytest.raises(ConfigError, match=message):
        settings(remote={"replicas": replicas})


def test_planes_are_sorted():
    assert settings(preprocess={"planes": [2, 0]}).preprocess.planes == (0, 2)


@pytest.mark.parametrize("planes", [[], [0, 0], [3], [-1]])
def test_planes_that_make_no_sense_are_refused(planes):
    with pytest.raises(ConfigError, match=r"preprocess\.planes"):
        settings(preprocess={"planes": planes})


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 101, "a\n"])
def test_campaign_name_is_the_name_of_a_folder(name):
    with pytest.raises(ConfigError, match=r"campaign\.name"):
        settings(campaign={"name": name})


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_accepted_fraction_lies_between_0_and_1(fraction):
    with pytest.raises(ConfigError, match=r"acceptance\.max_quarantined_fraction"):
        settings(acceptance={"max_quarantined_fraction": fraction})


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        demo_settings().campaign.seed = 5


# Another value of every key.
OTHER = {
    "campaign.name": "other",
    "campaign.seed": 2,
    "remote.fetch": "copy",
    "remote.replicas": {"root://a//": ["root://b//"]},
    "remote.attempts": 1,
    "remote.timeout_s": 5.0,
    "partition.target_hits": 5,
    "partition.target_minutes": 45.0,
    "partition.stop_after_failed": 3,
    "partition.max_mem_mb": 2000,
    "partition.most_at_once": 100,
    "pilot.max_failed_fraction": 0.5,
    "preprocess.profile": "protodune-hd",
    "preprocess.planes": [2],
    "preprocess.duplicate_patches": "larsoft",
    "model.path": "cnn.onnx",
    "model.name": "other",
    "model.version": "2",
    "inference.policy": "cpu-only",
    "inference.endpoints": [{"url": "grpc://other:8001"}],
    "inference.payload": "patches",
    "inference.threads": 3,
    "inference.batch_size": 64,
    "inference.precision": "fast",
    "inference.request_bytes": 100_000,
    "inference.request_hits": 100,
    "inference.max_in_flight": 2,
    "inference.latency_target_s": 1.0,
    "inference.connect_timeout_s": 1.0,
    "inference.request_timeout_s": 1.0,
    "inference.patience_s": 0.0,
    "inference.retries": 0,
    "inference.tolerance": 1e-4,
    "inference.wan_mbps": 1,
    "inference.slots_folder": "slots",
    "inference.slots": 1,
    "inference.slot_patience_s": 1.0,
    "merge.target_rows": 1,
    "merge.row_group_rows": 1,
    "merge.bundle_partitions": 1,
    "acceptance.max_quarantined_fraction": 0.5,
    "report.reference": "results/other",
    "report.events": 1,
    "training.events": 240,
    "training.validation_events": 6,
    "training.held_out_events": 6,
    "training.minutes": 5.0,
    "training.steps": 1000,
    "training.batch_size": 2048,
    "training.learning_rate": 1e-3,
    "training.device": "cpu",
    "inputs": [{"path": "other.h5"}],
}


def test_every_key_has_another_value_below():
    sections = {key if key.count(".") < 2 else key.rpartition(".")[0] for key in known_keys()}
    assert set(OTHER) == {"inputs" if key.startswith("inputs.") else key for key in sections}


@pytest.mark.parametrize("key", OTHER)
def test_digest_changes_exactly_with_the_keys_it_is_made_of(key):
    section, _, name = key.partition(".")
    before, after = settings(), settings(**{section: {name: OTHER[key]} if name else OTHER[key]})
    for other in OTHER:
        assert (before.digest(other) != after.digest(other)) == (other == key)
    for other in Settings.model_fields:
        assert (before.digest(other) != after.digest(other)) == (other == section)
    assert before.digest(key, "merge") != after.digest(key, "merge")


def test_digest_tells_keys_apart_that_have_equal_values():
    same = settings(campaign={"name": "x"}, model={"name": "x"})
    assert same.digest("campaign.name") != same.digest("model.name")
