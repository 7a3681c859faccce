"""What a check of an endpoint finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protosonic.inference.endpoint_options import EndpointOptions
    from protosonic.serving.certificate import Certificate

__all__ = ["EndpointReport", "LoadPoint", "ModelSetup", "Step"]


@dataclass(frozen=True)
class Step:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What.
    passed
        Whether it is right; ``None`` where the server does not tell.
    detail
        What was found.
    """

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class ModelSetup:
    """How a server runs the model, as its configuration says.

    Attributes
    ----------
    backend
        What computes.
    max_batch_size
        Most patches in a request; 0 is no batching at all.
    dynamic_batching
        Whether requests that wait are scored together.
    max_queue_size
        Requests that may wait; 0 is no limit.
    queue_timeout_s
        A request that has waited longer is turned away; 0 is no limit.
    response_cache
        Whether answers are cached.
    instances
        Number and kind of the sessions, such as ``1 × GPU``.
    on_gpu
        Whether a GPU is asked for.
    tf32
        What the configuration says of TF32: ``on``, ``off`` or nothing.
    follows_latest
        Whether a new version replaces the old one by itself.
    takes_images
        Whether requests are images, of which each is scored by itself, instead of patches.
    """

    backend: str
    max_batch_size: int
    dynamic_batching: bool
    max_queue_size: int
    queue_timeout_s: float
    response_cache: bool
    instances: tuple[str, ...]
    on_gpu: bool
    tf32: str
    follows_latest: bool
    takes_images: bool = False


@dataclass(frozen=True)
class LoadPoint:
    """What an endpoint does with a number of requests at a time.

    Attributes
    ----------
    concurrency
        Requests in flight.
    seconds
        Duration.
    requests
        Requests that were answered.
    patches_per_s
        Patches scored in a second.
    p50_s, p95_s
        Latency of a request: half and 95 of 100 were faster; ``None`` where none was answered.
    queue_s, compute_s
        Mean time that a request waited in the server and was worked on, over all clients; ``None`` where the server
        does not tell.
    failures
        Requests that failed, by class.
    """

    concurrency: int
    seconds: float
    requests: int
    patches_per_s: float
    p50_s: float | None
    p95_s: float | None
    queue_s: float | None
    compute_s: float | None
    failures: dict[str, int]


@dataclass
class EndpointReport:
    """What a check of an endpoint has found.

    Attributes
    ----------
    options
        How it was reached.
    steps
        What was looked at, in order; the first that has not passed ends it.
    server, server_version
        Name and version of the server's software.
    certificate
        For TLS.
    model_version
        The version that answered.
    setup
        How the server runs the model; ``None`` where it does not tell.
    deviation
        Largest difference of a score of the golden batch from the local model's.
    tolerance
        Largest difference that counts as equal.
    serves_images
        Whether the model is also served for images; ``None`` where the server does not tell.
    request_patches
        Patches in a request of the load test.
    load
        One point for each concurrency.
    advice
        What to change.
    failure
        Class of what is wrong; empty when all is right.
    problem
        Why the endpoint cannot serve; empty when it can.
    """

    options: EndpointOptions
    steps: list[Step] = field(default_factory=list)
    server: str = ""
    server_version: str = ""
    certificate: Certificate | None = None
    model_version: str = ""
    setup: ModelSetup | None = None
    deviation: float | None = None
    tolerance: float = 0.0
    serves_images: bool | None = None
    request_patches: int = 0
    load: list[LoadPoint] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    failure: str = ""
    problem: str = ""

    @property
    def can_serve(self) -> bool:
        """Whether clients would give it work."""
        return not self.problem

    def to_json(self) -> dict[str, Any]:
        """Give everything but how it was reached, which may say more than is good to publish."""
        content = {key: value for key, value in asdict(self).items() if key != "options"}
        place = {
            "url": self.options.url,
            "model": self.options.model,
            "asked_version": self.options.version,
        }
        return place | {"can_serve": self.can_serve} | content
