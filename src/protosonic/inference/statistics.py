"""What a job has seen of an endpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from protosonic.inference.failure_policy import EndpointError
    from protosonic.inference.triton_client import Answer, ServerTimes

__all__ = ["EndpointStatistics", "Fault"]

MOST_FAULTS = 100


class Fault(NamedTuple):
    """A failed call.

    Attributes
    ----------
    seconds
        Time since the job began to score.
    failure
        Its class (:class:`protosonic.inference.failure_policy.FailureClass`).
    reason
        The error.
    """

    seconds: float
    failure: str
    reason: str


@dataclass
class EndpointStatistics:
    """What a job has seen of an endpoint.

    Attributes
    ----------
    url
        The endpoint.
    payload
        What was sent last: ``patches`` or ``image``.
    requests, answers
        Inference requests that were sent, and those whose answer was used.
    patches
        Hits that were scored by it.
    bytes_sent, bytes_received
        Bytes of tensors, canaries included.
    retries
        Requests that were sent again, by class of failure.
    latency_s
        Time from sending to the answer of each answered request, in seconds.
    most_in_flight
        Most requests that were under way at the same time.
    discarded
        Answers that came when the hits had been scored elsewhere.
    model_versions
        Versions that answered, in order of appearance.
    deviation
        Largest difference of its scores of the golden batch from those of the local model; ``None`` if never checked.
    departures
        How often it was left for others or the CPU.
    n_faults
        Number of failed calls.
    faults_by_class
        The same by class of failure.
    faults
        The first hundred of them.
    server_requests, server_queue_s, server_compute_s
        What the server counted meanwhile, over all its clients: requests, and the sums of their times.
    """

    url: str
    payload: str | None = None
    requests: int = 0
    answers: int = 0
    patches: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    latency_s: list[float] = field(default_factory=list)
    most_in_flight: int = 0
    discarded: int = 0
    model_versions: list[str] = field(default_factory=list)
    deviation: float | None = None
    departures: int = 0
    n_faults: int = 0
    faults_by_class: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    server_requests: int = 0
    server_queue_s: float = 0.0
    server_compute_s: float = 0.0

    def sent(self, n_bytes: int, in_flight: int) -> None:
        """Count a request."""
        self.requests += 1
        self.bytes_sent += n_bytes
        self.most_in_flight = max(self.most_in_flight, in_flight)

    def answered(self, answer: Answer, n_hits: int) -> None:
        """Count an answer that was used."""
        self.answers += 1
        self.patches += n_hits
        self.bytes_received += answer.n_bytes
        self.latency_s.append(answer.seconds)
        self.served_by(answer.model_version)

    def served_by(self, version: str) -> bool:
        """Note the version that answered; gives whether it is another one than before."""
        is_change = bool(self.model_versions) and self.model_versions[-1] != version
        if version not in self.model_versions or is_change:
            self.model_versions.append(version)
        return is_change

    def failed(self, error: EndpointError, seconds: float) -> None:
        """Note a failed call."""
        self.n_faults += 1
        self.faults_by_class[str(error.failure)] += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(round(seconds, 3), str(error.failure), str(error)))

    def add_server_times(self, before: ServerTimes, after: ServerTimes) -> None:
        """Add what the server counted between two readings; a server that was restarted counts from nothing."""
        if after.requests < before.requests:
            before = type(before)(0, 0.0, 0.0)
        self.server_requests += after.requests - before.requests
        self.server_queue_s += max(after.queue_s - before.queue_s, 0.0)
        self.server_compute_s += max(after.compute_s - before.compute_s, 0.0)
