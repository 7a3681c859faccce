"""The check of an endpoint: may clients use it, how fast is it, and what should be changed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from protosonic.inference.endpoint_options import IMAGE_SUFFIX
from protosonic.inference.failure_policy import EndpointError, FailureClass
from protosonic.inference.golden import CANARIES
from protosonic.inference.health import check_endpoint
from protosonic.inference.image_payload import IMAGE_INPUTS
from protosonic.inference.triton_client import Answer, TritonClient
from protosonic.serving.certificate import read_certificate
from protosonic.serving.endpoint_advice import advise
from protosonic.serving.endpoint_report import EndpointReport, LoadPoint, ModelSetup, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from protosonic.inference.endpoint_options import EndpointOptions
    from protosonic.inference.golden import Reference
    from protosonic.inference.triton_client import ServerTimes

__all__ = ["examine_endpoint", "read_setup"]

PAUSE_S = 0.1
"""Before the next request after one that was turned away."""
MOST_DELAY_S = 2.0


def examine_endpoint(
    options: EndpointOptions,
    reference: Reference,
    concurrencies: Sequence[int] = (1, 2, 4, 8),
    seconds: float = 5.0,
    on_progress: Callable[[str], None] = lambda _: None,
) -> EndpointReport:
    """Look at an endpoint as clients do, measure it, and say what to change.

    Parameters
    ----------
    options
        How to reach it.
    reference
        The golden batch and its scores by the local model.
    concurrencies
        Requests in flight, one measurement each; none leaves the measurements out.
    seconds
        Duration of each measurement.
    on_progress
        Gets one line before each measurement.

    Returns
    -------
    What was found; an endpoint that cannot serve is a finding, not an error.

    Raises
    ------
    ConfigError
        A file of certificates or a token cannot be read.
    """
    report = EndpointReport(options, tolerance=reference.tolerance)
    if options.uses_tls:
        _look_at_certificate(report)
    client = TritonClient(options)
    try:
        _look(client, reference, report)
        if concurrencies:
            patches = _fitting_request(client, reference, report)
            for concurrency in concurrencies:
                on_progress(f"{concurrency} request{'s' * (concurrency > 1)} at a time, {seconds:g} s")
                report.load.append(_measure(client, reference, patches, concurrency, seconds))
    except EndpointError as error:
        report.failure, report.problem = error.failure, str(error)
        if report.steps and report.steps[-1].passed is None and not report.steps[-1].detail:
            report.steps[-1] = Step(report.steps[-1].name, False, str(error))
    finally:
        client.close()
    report.advice = advise(report)
    return report


def read_setup(config: Any, *, takes_images: bool = False) -> ModelSetup:
    """Read how a server runs a model from its configuration (``inference.ModelConfig``)."""
    policy = config.dynamic_batching.default_queue_policy
    kinds = [
        (group.count, group.Kind.Name(group.kind).removeprefix("KIND_")) for group in config.instance_group
    ]
    cuda = [
        dict(accelerator.parameters)
        for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator
        if accelerator.name == "cuda"
    ]
    settings = {parameters["use_tf32"] for parameters in cuda if "use_tf32" in parameters}
    return ModelSetup(
        backend=config.backend or config.platform,
        max_batch_size=config.max_batch_size,
        dynamic_batching=config.HasField("dynamic_batching"),
        max_queue_size=policy.max_queue_size,
        queue_timeout_s=policy.default_timeout_microseconds / 1e6,
        response_cache=config.response_cache.enable,
        instances=tuple(f"{count} × {kind}" for count, kind in kinds),
        on_gpu=any(kind == "GPU" for _, kind in kinds),
        tf32={"0": "off", "1": "on"}.get(settings.pop(), "") if len(settings) == 1 else "",
        follows_latest=not (
            config.version_policy.HasField("specific") or config.version_policy.HasField("all")
        ),
        takes_images=takes_images,
    )


def _look_at_certificate(report: EndpointReport) -> None:
    options = report.options
    try:
        found = read_certificate(
            options.address,
            ca_file=options.ca_file,
            cert_file=options.cert_file,
            key_file=options.key_file,
            timeout_s=options.connect_timeout_s,
        )
    except OSError as error:  # what that means for clients is said by the first call
        report.steps.append(Step("certificate", None, f"cannot be read: {error}"))
        return
    report.certificate = found
    expiry = f"until {found.not_after or 'unknown'}"
    detail = f"{found.subject}; for {', '.join(found.names) or 'no name'}; by {found.issuer}; {expiry}"
    problem = f"; not trusted: {found.problem}" if found.problem else ""
    report.steps.append(Step("certificate", not found.problem, detail + problem))


def _look(client: TritonClient, reference: Reference, report: EndpointReport) -> None:
    """Go through what clients rely on; raises at the first thing that is wrong."""

    def begin(name: str) -> None:
        report.steps.append(Step(name, None, ""))

    def end(detail: str, *, passed: bool | None = True) -> None:
        report.steps[-1] = Step(report.steps[-1].name, passed, detail)

    begin("reachable")
    if not client.is_live():
        raise _problem(client, "the server is not live")
    end("the server is live")
    begin("server")
    report.server, report.server_version = client.server_metadata()
    end(f"{report.server} {report.server_version}")
    begin("admission")
    index = client.repository_index()
    if index is None:
        end("the server has no RepositoryIndex", passed=None)
    else:
        own = [f"version {version} {state}" for name, version, state in index if name == client.options.model]
        end(f"not turned away; {client.options.model}: {', '.join(own) or 'not listed'}")
    begin("model ready")
    if not client.is_model_ready():
        raise _problem(client, "the model is not ready")
    end(f"{client.options.model} version {client.options.version or 'of the server’s choice'}")
    begin("contract")
    tensors = client.read_tensors()
    inputs = IMAGE_INPUTS if client.takes_images else [tensors.input]
    end(", ".join([*inputs, *tensors.outputs.values()]))
    if index is not None and not client.takes_images:
        begin("images")
        name = client.options.model + IMAGE_SUFFIX
        report.serves_images = any((model, state) == (name, "READY") for model, _, state in index)
        served = f"{name} takes images instead of patches"
        end(served if report.serves_images else f"{name} is not served", passed=report.serves_images or None)
    begin("configuration")
    config = client.model_config()
    if config is None:
        end("the server does not tell it", passed=None)
    else:
        report.setup = setup = read_setup(config, takes_images=client.takes_images)
        queue = f"queue of {setup.max_queue_size}" if setup.max_queue_size else "no queue limit"
        batching = "dynamic batching" if setup.dynamic_batching else "no dynamic batching"
        end(
            f"{setup.backend}, {', '.join(setup.instances) or 'no instances'}, batches of up to "
            f"{setup.max_batch_size}, {batching}, {queue}"
        )
    begin("golden check")
    report.deviation = _deviation(client, reference, report.setup)
    # What clients do before they give an endpoint any work: it decides.
    found = check_endpoint(client, reference)
    report.model_version = found.version
    end(f"scores differ from the local model's by at most {found.deviation:.2g}")


def _deviation(client: TritonClient, reference: Reference, setup: ModelSetup | None) -> float:
    """Compare the golden batch without judging."""
    size = (setup.max_batch_size if setup else 0) or len(reference.patches)
    scores = [
        client.infer(client.prepare(reference.patches[first : first + size])).scores
        for first in range(0, len(reference.patches), size)
    ]
    return float(np.abs(np.concatenate(scores) - reference.scores).max())


def _problem(client: TritonClient, message: str) -> EndpointError:
    return EndpointError(
        message,
        FailureClass.NOT_READY,
        file=str(client.options),
        hint="Look at the server's log, and at the name and version of the model",
    )


def _fitting_request(
    client: TritonClient, reference: Reference, report: EndpointReport
) -> NDArray[np.float32]:
    """Find the largest request that clients may send and the server takes; float32 [n, 48, 48]."""
    most = report.setup.max_batch_size if report.setup else 0
    n = min(client.options.request_patches, most or client.options.request_patches)
    report.steps.append(Step("request size", None, ""))
    while True:
        hits = np.resize(reference.patches, (max(n - CANARIES, 1), *reference.patches.shape[1:]))
        patches = reference.with_canaries(hits)
        try:
            answer = client.infer(client.prepare(patches))
        except EndpointError as error:
            if error.failure is not FailureClass.TOO_LARGE or n <= CANARIES + 1:
                raise
            n //= 2
            continue
        reference.without_canaries(answer.scores, str(client.options))
        report.request_patches = len(patches)
        size = f"{len(patches)} patches, {patches.nbytes / 1e6:.1f} MB"
        report.steps[-1] = Step("request size", len(patches) >= client.options.request_patches, size)
        return patches


def _times_after(client: TritonClient, before: ServerTimes, answers: int) -> ServerTimes | None:
    """Read the server's times when it has counted these answers, which it does a moment after it has sent them."""
    deadline = time.monotonic() + MOST_DELAY_S
    while (times := client.server_times()) is not None:
        if times.requests >= before.requests + answers or time.monotonic() > deadline:
            return times
        time.sleep(PAUSE_S)
    return None


def _measure(
    client: TritonClient,
    reference: Reference,
    patches: NDArray[np.float32],
    concurrency: int,
    seconds: float,
) -> LoadPoint:
    """Keep so many requests in flight for a while; every answer is checked."""
    request = client.prepare(patches)
    failures: Counter[str] = Counter()
    broken: list[EndpointError] = []
    stop = threading.Event()
    before = client.server_times()
    start = time.monotonic()

    def work(_: int) -> list[float]:
        latencies: list[float] = []
        while time.monotonic() < start + seconds and not stop.is_set():
            try:
                answer: Answer = client.infer(request)
                reference.without_canaries(answer.scores, str(client.options))
            except EndpointError as error:
                failures[error.failure] += 1
                if error.failure is not FailureClass.OVERLOAD:
                    broken.append(error)
                    stop.set()
                stop.wait(PAUSE_S)
            else:
                latencies.append(answer.seconds)
        return latencies

    with ThreadPoolExecutor(concurrency) as threads:
        latencies = np.array([value for part in threads.map(work, range(concurrency)) for value in part])
    duration = time.monotonic() - start
    after = _times_after(client, before, len(latencies)) if before and not broken else None
    requests = after.requests - before.requests if before and after else 0
    if broken and not len(latencies):
        raise broken[0]
    p50, p95 = map(float, np.percentile(latencies, (50, 95))) if len(latencies) else (None, None)
    return LoadPoint(
        concurrency,
        duration,
        len(latencies),
        len(latencies) * len(patches) / duration,
        p50,
        p95,
        (after.queue_s - before.queue_s) / requests if before and after and requests else None,
        (after.compute_s - before.compute_s) / requests if before and after and requests else None,
        dict(failures),
    )
