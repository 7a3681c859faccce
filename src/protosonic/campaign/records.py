"""The records that stages hand to each other, as JSON.

Each has a version; a record of another version is refused, because it was written by another protosonic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protosonic.errors import VerificationError
from protosonic.events.model import EventId
from protosonic.publish import publish_text

if TYPE_CHECKING:
    from pathlib import Path

    from protosonic.config import Input
    from protosonic.events.reader import ReaderOptions

__all__ = [
    "BackendUse",
    "Bundle",
    "CatalogBlock",
    "ClosedRecord",
    "EventRecord",
    "EventStatus",
    "FastPrecision",
    "Fault",
    "FileRecord",
    "InputBlock",
    "InputSpec",
    "ModelRecord",
    "Partition",
    "PartitionFailure",
    "PartitionStatus",
    "PilotPartition",
    "PilotRecord",
    "Plan",
    "PlannedPartition",
    "RefusedEvent",
    "RemoteState",
    "RunRecord",
    "read_record",
    "write_record",
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _VersionedRecord(_Record):
    version: Literal[1] = 1


RecordType = TypeVar("RecordType", bound=_VersionedRecord)


class InputSpec(_Record):
    """How to read a file: an entry of ``inputs`` in the configuration without its path."""

    format: str = "auto"
    detector: str | None = None
    charge_scale: float | None = None
    run: int = 0
    tag: str = "gauss"
    ticks_per_bin: int = 1
    hit_threshold: float = 0.6

    @classmethod
    def from_input(cls, entry: Input) -> Self:
        """Take it from the configuration."""
        return cls.model_validate(entry.model_dump(exclude={"path"}))

    def reader_options(self) -> ReaderOptions:
        """Give the options for :func:`protosonic.events.formats.open_events`."""
        from protosonic.events.reader import ReaderOptions

        return ReaderOptions(**self.model_dump(exclude={"format"}))


class EventRecord(_Record):
    """An event in the catalog."""

    entry: int
    run: int
    subrun: int
    event: int
    hits_by_plane: tuple[int, ...] = ()
    n_samples: int = 0
    reason: str | None = Field(None, description="Why the event cannot be classified.")

    @property
    def id(self) -> EventId:
        """Run, subrun and event number."""
        return EventId(self.run, self.subrun, self.event)


class RemoteState(_Record):
    """What tells whether a remote file is still the one that was catalogued."""

    url: str = Field(description="The replica that the catalog read.")
    adler32: str = Field(description="Checksum of the bytes that came; XRootD servers know it too.")
    etag: str = Field("", description="The server's name of this version of the file.")


class InputBlock(_VersionedRecord):
    """The input files of a catalog block."""

    files: tuple[tuple[str, InputSpec], ...]


class FileRecord(_Record):
    """An input file in the catalog."""

    path: str
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    remote: RemoteState | None = Field(None, description="For files of other machines.")
    spec: InputSpec
    format: str | None = None
    detector: str | None = None
    events: tuple[EventRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    reason: str | None = Field(None, description="Why nothing in the file can be used.")

    @property
    def file_id(self) -> str:
        """Name of the file's content in all outputs; empty when it could not be read."""
        return self.sha256[:16]


class CatalogBlock(_VersionedRecord):
    """The records of a block of input files, sorted by path."""

    package_version: str = Field(description="The protosonic that read the files.")
    files: tuple[FileRecord, ...]


class Partition(_VersionedRecord):
    """A partition descriptor: some events of one file, the work of one job."""

    id: str
    path: str
    size: int
    mtime_ns: int
    sha256: str
    remote: RemoteState | None = None
    share: float = Field(1.0, description="Part of the file's hits that the partition has.")
    spec: InputSpec
    format: str
    detector: str
    events: tuple[EventRecord, ...]
    hits: int = Field(description="Hits of the selected planes.")
    mem_mb: int = Field(description="Memory that the jobs of this partition need.")

    @property
    def file_id(self) -> str:
        """Name of the file's content in all outputs."""
        return self.sha256[:16]


class RefusedEvent(_Record):
    """An event that the catalog found but that no partition holds."""

    path: str
    file_id: str
    entry: int
    run: int
    subrun: int
    event: int
    hits: int
    reason: str


class PlannedPartition(_Record):
    """What the workflow has to know of a partition before it runs."""

    id: str
    path: str
    hits: int
    mem_mb: int


class Plan(_VersionedRecord):
    """The outcome of partitioning: what will be done, and what will not and why."""

    catalog: tuple[str, ...] = Field(description="Names of the catalog's block files that it was made from.")
    partitions: tuple[PlannedPartition, ...]
    refused: tuple[RefusedEvent, ...]
    refused_files: tuple[FileRecord, ...]


class FastPrecision(_Record):
    """What ``precision: fast`` changes, on simulated hits."""

    engine: str
    deviation: float = Field(description="Largest difference of a score.")
    figures: dict[str, dict[str, float]] = Field(description="Figures of merit, exact and fast.")


class ModelRecord(_VersionedRecord):
    """The model file that a campaign uses."""

    path: str
    sha256: str
    untrained: bool = Field(description="Whether its weights are random, so that its scores mean nothing.")
    fast: FastPrecision | None = Field(None, description="Where precision fast was asked for.")


class EventStatus(_Record):
    """What became of an event."""

    entry: int
    run: int
    subrun: int
    event: int
    hits_planned: int
    hits_done: int
    state: Literal["done", "quarantined"]
    reason: str | None = None
    backends: dict[str, int] = Field(default_factory=dict, description="Hits by backend.")

    @property
    def id(self) -> EventId:
        """Run, subrun and event number."""
        return EventId(self.run, self.subrun, self.event)


class Fault(_Record):
    """A call to an endpoint that failed."""

    seconds: float = Field(description="Time since the job began to score.")
    failure: str = Field(description="Class of the failure; see docs/dispatch.md.")
    reason: str


class BackendUse(_Record):
    """What one backend did for a partition; an endpoint that scored nothing is listed for its faults."""

    backend: str
    endpoint: str | None = None
    model_versions: tuple[str, ...] = Field((), description="Versions that answered, in that order.")
    payload: str | None = Field(None, description="What was sent: patches or image.")
    engine: str | None = Field(None, description="What computed on the CPU: sparse or onnxruntime.")
    hits: int = Field(0, description="Hits that it scored.")
    requests: int = Field(0, description="Inference requests that were sent.")
    answers: int = Field(0, description="Answers that were used.")
    discarded: int = Field(0, description="Answers to requests whose hits were scored elsewhere meanwhile.")
    retries: dict[str, int] = Field(
        default_factory=dict, description="Requests whose hits were sent again, by class of failure."
    )
    bytes_sent: int = Field(0, description="Bytes of tensors.")
    bytes_received: int = 0
    latency_s: dict[str, float] = Field(
        default_factory=dict, description="p50, p95, p99 and max of the time from request to answer."
    )
    server_requests: int = Field(0, description="What the server counted meanwhile, over all its clients.")
    server_queue_ms: float | None = Field(None, description="Mean wait of these in the server's queue.")
    server_compute_ms: float | None = Field(None, description="Mean time that the server worked on one.")
    most_in_flight: int = Field(0, description="Most requests under way at the same time.")
    departures: int = Field(0, description="How often the endpoint was left: its circuit breaker opened.")
    deviation: float | None = Field(
        None, description="Largest difference of its scores of the golden batch from the local ones."
    )
    failures: dict[str, int] = Field(default_factory=dict, description="Failed calls, by class of failure.")
    faults: tuple[Fault, ...] = Field((), description="The first of the failed calls.")


class PartitionFailure(_Record):
    """Why a partition failed in a way that trying the job again does not mend."""

    stage: str = Field(description="The job that failed: preprocess or infer; close where none did.")
    error: str = Field(description="Class of the error, or of the exception that nobody expected.")
    exit_code: int = Field(description="What the job would have ended with.")
    message: str
    recoverable: bool = Field(
        description="Whether doing all of the partition again can succeed: what one job left for the next was damaged."
    )


class PartitionStatus(_VersionedRecord):
    """What became of a partition; all events of a failed one are quarantined, and its scores file is empty."""

    partition: str
    path: str
    file_id: str
    state: Literal["done", "failed"] = "done"
    failure: PartitionFailure | None = Field(None, description="Why it failed.")
    events: tuple[EventStatus, ...]
    scores_sha256: str
    rows: int
    policy: str
    model_sha256: str
    package_version: str
    profile: dict[str, Any]
    duplicate_patches: str
    seconds: float = Field(description="Wall time of inference.")
    detector: str
    backends: tuple[BackendUse, ...]
    fallbacks: tuple[str, ...] = Field((), description="Why endpoints were left, each reason once.")


class Bundle(_VersionedRecord):
    """What became of the partitions of a bundle, whose scores are in one file."""

    statuses: tuple[PartitionStatus, ...]
    scores_sha256: str
    rows: int


class RunRecord(_VersionedRecord):
    """How a campaign was run, so that it can be run again in the same way."""

    config: str = Field(description="The configuration file, absolute.")
    settings: str = Field(description="The checked configuration, below the working directory.")
    profile: str = Field(description="Name of the workflow profile, or its folder, absolute.")
    site: str | None = Field(None, description="The site file, absolute, if there was one.")
    cores: int | None
    arguments: tuple[str, ...] = Field(description="What followed -- on the command line.")
    host: str
    started: str = Field(description="ISO 8601, UTC.")
    ended: str | None = None
    exit_code: int | None = Field(None, description="null while the run lasts, or when it was killed.")


class PilotPartition(_Record):
    """What a partition of the pilot took."""

    id: str
    path: str
    events: int
    events_done: int
    hits: int
    preprocess_seconds: float
    infer_seconds: float
    preprocess_mem_mb: float | None = Field(description="Resident memory; null where the job was too short.")
    infer_mem_mb: float | None


class PilotRecord(_VersionedRecord):
    """What the pilot measured; the rest of the campaign is cut and sized by it."""

    partitions: tuple[PilotPartition, ...]
    files: tuple[str, ...] = Field(description="SHA-256 of their files, which stay cut as they were.")
    target_hits: int = Field(description="What these files were cut by.")
    seconds_per_hit: float | None = Field(description="Of preprocess and infer; null where no hit was done.")
    memory_ratio: dict[str, float] = Field(description="Largest measured by estimated memory, by stage.")
    failed_fraction: float = Field(description="Events of the pilot that are not done.")
    released: bool = Field(description="Whether the rest may run.")


class ClosedRecord(_VersionedRecord):
    """A campaign that was closed with known failures."""

    closed: str = Field(description="ISO 8601, UTC.")
    partitions: tuple[str, ...] = Field(description="Partitions that are not done.")


def write_record(path: Path, record: _VersionedRecord) -> None:
    """Write a record atomically."""
    publish_text(path, record.model_dump_json(indent=1) + "\n")


def read_record(path: Path, kind: type[RecordType]) -> RecordType:
    """Read a record.

    Raises
    ------
    VerificationError
        The file is missing, damaged or of another version.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise VerificationError("the record is missing", file=path, hint="Run the campaign again") from error
    except ValidationError as error:
        problem = error.errors()[0]
        raise VerificationError(
            "the record is damaged or was written by another version of protosonic",
            file=path,
            where=".".join(map(str, problem["loc"])),
            found=problem["msg"],
            hint="Remove it and run the campaign again",
        ) from error
