"""What a facility should change at an endpoint."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from protosonic.inference.failure_policy import FailureClass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.serving.endpoint_report import EndpointReport, ModelSetup

__all__ = ["advise"]

OLDEST_TRITON = (2, 53)
"""Release 24.12; older servers may crash when clients cancel requests (server pull request 7840)."""
CLIENT_DEADLINE_S = 120.0
GOOD_BATCH_SIZE = 2048
SOON_DAYS = 30
TF32_DEVIATIONS = (1e-5, 1e-2)
"""TF32 keeps 10 bits of the mantissa."""
STILL_RISING = 1.2
FALLING = 0.9
ENOUGH_ROUNDS = 3
"""Requests per place in flight under which a rate says little."""


def advise(report: EndpointReport) -> list[str]:
    """Say what to change, most important first.

    Parameters
    ----------
    report
        What was found; its own advice is not looked at.
    """
    return [
        *_wrong(report),
        *_certificate(report),
        *(_setup(report, report.setup) if report.setup else _silent(report)),
        *_images(report),
        *_version(report),
        *_size(report),
        *_load(report),
    ]


def _wrong(report: EndpointReport) -> Iterator[str]:
    low, high = TF32_DEVIATIONS
    deviation = report.deviation
    if deviation is not None and not deviation <= report.tolerance:
        if low <= deviation <= high:
            yield (
                f"TF32 or another reduced precision is suspected: the scores deviate by {deviation:.2g}. Turn it off "
                "(use_tf32 0, see 'protosonic model repository'; or NVIDIA_TF32_OVERRIDE=0 for the whole server)"
            )
        else:
            yield (
                f"Another model is served than the local one (the scores deviate by {deviation:.2g}). Serve the same "
                "file, or check with --model-file"
            )
    advice = {
        FailureClass.UNAVAILABLE: "Nothing that speaks gRPC answers there: check host, port, firewall and proxy, and "
        "whether the server hangs",
        FailureClass.TIMEOUT: "The server does not answer in time: it hangs, or a proxy holds the calls",
        FailureClass.OVERLOAD: "The site turns clients away because it is busy: add instances or servers",
        FailureClass.UNAUTHENTICATED: "The site wants a valid token: give --token-file or --token-env",
        FailureClass.PROTOCOL: "This is no server of the KServe v2 gRPC protocol",
        FailureClass.NOT_READY: "Load the model, and look at the server's log",
        FailureClass.UNKNOWN_MODEL: "Give the name and version that is served with --name and --version",
        FailureClass.TLS: "Give the authority of the server's certificate with --ca-file, and the client's certificate "
        "where the server wants one",
    }
    if report.failure in advice:
        yield advice[FailureClass(report.failure)]


def _certificate(report: EndpointReport) -> Iterator[str]:
    found = report.certificate
    if found is not None and found.not_after and found.days_left < SOON_DAYS:
        yield f"Renew the certificate: it expires in {found.days_left:.0f} days ({found.not_after})"
    if not report.options.uses_tls and (report.options.token_file or report.options.token_env):
        yield "Use grpcs://: the token travels without encryption"


def _images(report: EndpointReport) -> Iterator[str]:
    if report.serves_images is False:
        yield (
            "Serve the model for images as well (protosonic model repository): clients then send some hundred times "
            "fewer bytes"
        )


def _setup(report: EndpointReport, setup: ModelSetup) -> Iterator[str]:
    if setup.takes_images:
        if setup.max_queue_size or setup.queue_timeout_s:
            yield (
                "Leave the queue policy out: with one Triton lets the batcher sleep while requests for images wait"
            )
    else:
        yield from _batching(report, setup)
    if setup.response_cache:
        yield "Turn the response cache off: no two requests are equal"
    if setup.on_gpu and setup.tf32 != "off":
        yield "Decide on TF32 in the configuration (use_tf32): the default of ONNX Runtime is on"
    if setup.follows_latest:
        yield "List the versions in version_policy: a new version would replace the old one by itself"


def _batching(report: EndpointReport, setup: ModelSetup) -> Iterator[str]:
    if not setup.dynamic_batching:
        yield (
            "Turn dynamic batching on: without it requests are not scored together, and the queue cannot be bounded"
        )
    elif not setup.max_queue_size:
        yield (
            "Set max_queue_size (256 is a good start): the queue has no limit, so an overloaded server lets requests "
            "wait until their clients have gone"
        )
    if setup.dynamic_batching and not 0 < setup.queue_timeout_s < CLIENT_DEADLINE_S:
        yield (
            f"Set default_timeout_microseconds to less than the clients' deadline of {CLIENT_DEADLINE_S:g} s, so that "
            "the server does not work for clients that have given up"
        )
    if setup.max_batch_size < report.options.request_patches:
        yield (
            f"Raise max_batch_size from {setup.max_batch_size} to {GOOD_BATCH_SIZE}: clients send "
            f"{report.options.request_patches} patches in a request"
        )
    elif setup.max_batch_size < 2 * report.options.request_patches and setup.dynamic_batching:
        yield (
            f"Raise max_batch_size from {setup.max_batch_size} to {GOOD_BATCH_SIZE}: no two requests of "
            f"{report.options.request_patches} patches fit together"
        )


def _silent(report: EndpointReport) -> Iterator[str]:
    if report.server:
        yield (
            f"{report.server} does not tell how it runs the model: make sure by other means that the queue is bounded "
            "and that requests are scored together"
        )


def _version(report: EndpointReport) -> Iterator[str]:
    if not report.options.version:
        yield "Ask for a version (model.version in the configuration): what is served may change in mid-campaign"
    numbers = re.match(r"(\d+)\.(\d+)", report.server_version)
    if report.server == "triton" and numbers and tuple(map(int, numbers.groups())) < OLDEST_TRITON:
        yield (
            f"Upgrade Triton {report.server_version} to release 24.12 (2.53) or later: older ones may crash when "
            "clients give up"
        )


def _size(report: EndpointReport) -> Iterator[str]:
    allowed = report.setup.max_batch_size if report.setup else 0
    wanted = min(report.options.request_patches, allowed or report.options.request_patches)
    if 0 < report.request_patches < wanted:
        yield (
            f"Raise the limit on message sizes of the server or of the proxy: only {report.request_patches} of "
            f"{wanted} patches go through in a request"
        )


def _load(report: EndpointReport) -> Iterator[str]:
    for point in report.load:
        for failure, count in point.failures.items():
            if failure == FailureClass.OVERLOAD:
                yield (
                    f"{count} requests were turned away with {point.concurrency} in flight: the queue is bounded, "
                    "clients slow down; add instances if that happens with few clients"
                )
            else:
                yield f"{count} requests failed ({failure}) with {point.concurrency} in flight"
    good = [point for point in report.load if point.requests]
    if not good:
        return
    if any(point.requests < ENOUGH_ROUNDS * point.concurrency for point in good):
        yield "The measurements are short for such latencies, and their rates are rough: use longer --seconds"
        return
    best = max(good, key=lambda point: point.patches_per_s)
    last = good[-1]
    others = max((point.patches_per_s for point in good[:-1]), default=last.patches_per_s)
    if last.patches_per_s > STILL_RISING * others:
        yield (
            f"The throughput is still rising at {last.concurrency} requests in flight: measure more with "
            "--concurrency, and let clients send more (inference.max_in_flight)"
        )
    if last.patches_per_s < FALLING * best.patches_per_s:
        yield (
            f"The throughput falls from {best.patches_per_s:,.0f} to {last.patches_per_s:,.0f} patches/s between "
            f"{best.concurrency} and {last.concurrency} requests in flight: look for what thrashes (threads, memory)"
        )
    first = good[0]
    if first.queue_s is not None and first.compute_s is not None and first.p50_s is not None:
        if first.concurrency == 1 and first.queue_s > first.compute_s:
            yield "Requests wait longer than they are worked on with one in flight: others use the server now"
        away = first.p50_s - first.queue_s - first.compute_s
        if first.concurrency == 1 and away > first.queue_s + first.compute_s:
            yield (
                f"{away:.3g} s of {first.p50_s:.3g} s pass outside of the server: the network or a proxy limits; try "
                "compression, or an endpoint that is nearer"
            )
