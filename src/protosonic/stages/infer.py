"""Stage ``infer``: a unit file → scores and status."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from protosonic import __version__
from protosonic.campaign.client_slots import endpoints_allowed
from protosonic.campaign.partitioning import selected_hits
from protosonic.campaign.permanent import failed_status, permanent_failure
from protosonic.campaign.records import (
    BackendUse,
    EventStatus,
    ModelRecord,
    Partition,
    PartitionFailure,
    PartitionStatus,
    read_record,
    write_record,
)
from protosonic.dataset.scores import ScoresWriter, hits_table
from protosonic.errors import VerificationError
from protosonic.images.profiles import load_profile
from protosonic.images.unit import UnitReader
from protosonic.inference.contract import SCORE_NAMES
from protosonic.inference.cpu_backend import load_cpu_backend
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.hits import HitsOnImage, ImageBatch
from protosonic.inference.sparse_engine.weights_file import WeightsFile
from protosonic.publish import sha256_of
from protosonic.stages.backend_use import endpoint_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from protosonic.config import Settings
    from protosonic.images.profiles import Profile
    from protosonic.images.unit import UnitEvent, UnitImage

__all__ = ["hit_batches", "infer_partition", "make_dispatcher", "order_on_image", "score_events"]

log = logging.getLogger(__name__)


class ScoredEvent(NamedTuple):
    """An event with its scores, float32 [hits, 4], and backends, str [hits], in the order of its images."""

    event: UnitEvent
    scores: NDArray[np.float32]
    backend: NDArray[np.object_]


def infer_partition(
    unit_file: Path,
    descriptor: Path,
    model_file: Path,
    model_record: Path,
    settings: Settings,
    output: Path,
    status_file: Path,
    threads: int,
    weights: Path | None = None,
) -> PartitionStatus:
    """Score every hit of a partition.

    A failure that no retry mends, here or in stage ``preprocess``, makes an empty scores file and a status that says
    why, so that the campaign goes on and the job is not tried again.

    Parameters
    ----------
    unit_file
        The unit file of the partition.
    descriptor
        Its descriptor.
    model_file, model_record
        The ONNX file and its record.
    settings
        ``inference``, ``model`` and ``preprocess.planes`` are used.
    output
        Parquet file of the scores.
    status_file
        JSON file of the status; written last.
    threads
        CPU threads that score.
    weights
        File of weights that stage ``model`` wrote, where there is one.

    Raises
    ------
    ServiceError
        No endpoint can serve and the policy forbids the CPU.
    ConfigError
        Something that an endpoint needs, such as a token, is not there.
    VerificationError
        The model is not that of the record.
    """
    partition = read_record(descriptor, Partition)
    model = read_record(model_record, ModelRecord)
    if sha256_of(model_file) != model.sha256:
        raise VerificationError(
            "the model is not that of its record",
            file=model_file,
            hint="Remove it and run the campaign again",
        )
    weights_file = None if weights is None else WeightsFile(weights, model.sha256)
    failure = None
    try:
        failure = _failure_of_preprocess(unit_file)
        if failure is None:
            with endpoints_allowed(settings.inference) as allowed:
                usable = settings.model_copy(update={"inference": allowed.inference})
                dispatcher = make_dispatcher(usable, model_file, threads, weights_file)
                status = _score_partition(unit_file, partition, model, dispatcher, settings, output)
            status = status.model_copy(update={"fallbacks": (*allowed.fallbacks, *status.fallbacks)})
    except Exception as error:
        failure = permanent_failure(error, "infer")
        if failure is None:
            raise
    if failure is not None:
        status = failed_status(partition, failure, model, settings, output)
    write_record(status_file, status)
    return status


def _failure_of_preprocess(unit_file: Path) -> PartitionFailure | None:
    with UnitReader(unit_file) as unit:
        failure = unit.header.get("failure")
    return None if failure is None else PartitionFailure.model_validate(failure)


def _score_partition(
    unit_file: Path,
    partition: Partition,
    model: ModelRecord,
    dispatcher: Dispatcher,
    settings: Settings,
    output: Path,
) -> PartitionStatus:
    start = time.monotonic()
    done: dict[int, Counter[str]] = {}
    footer = {
        "partition": partition.id,
        "file_id": partition.file_id,
        "model_sha256": model.sha256,
        "package_version": __version__,
    }
    with closing(dispatcher), UnitReader(unit_file) as unit, ScoresWriter(output, footer) as writer:
        for event, scores, backend in score_events(unit, dispatcher):
            hits = {
                name: np.concatenate([image.hits[name] for image in event.images])
                for name in (event.images[0].hits if event.images else ())
            }
            if event.images:
                writer.write(hits_table(event.id, hits, scores, SCORE_NAMES, backend, partition.file_id))
            done[event.entry] = Counter(backend.tolist())
            log.info("%s: %d hits scored", event.id, len(scores))
        quarantined = {entry["entry"]: entry["reason"] for entry in unit.quarantined}
        profile = unit.profile.as_dict()
        duplicates = unit.header["duplicate_patches"]
    seconds = time.monotonic() - start
    status = PartitionStatus(
        partition=partition.id,
        path=partition.path,
        file_id=partition.file_id,
        detector=partition.detector,
        events=tuple(_event_statuses(partition, done, quarantined, settings.preprocess.planes)),
        scores_sha256=sha256_of(output),
        rows=writer.rows,
        policy=settings.inference.policy,
        model_sha256=model.sha256,
        package_version=__version__,
        profile=profile,
        duplicate_patches=duplicates,
        seconds=seconds,
        backends=tuple(_backends_used(dispatcher)),
        fallbacks=tuple(fallback.reason for fallback in dispatcher.fallbacks),
    )
    log.info("%d hits in %.1f s (%.0f hits/s)", writer.rows, seconds, writer.rows / max(seconds, 1e-9))
    return status


def make_dispatcher(
    settings: Settings, model: Path, threads: int, weights_file: WeightsFile | None = None
) -> Dispatcher:
    """Make the dispatcher that the configuration describes; nothing is connected yet."""
    inference = settings.inference
    profile = load_profile(settings.preprocess.profile)

    def path(name: str | None) -> Path | None:
        return None if name is None else Path(name)

    endpoints = [
        EndpointOptions(
            url=endpoint.url,
            model=settings.model.name,
            version=settings.model.version,
            weight=endpoint.weight,
            ca_file=path(endpoint.ca_file),
            cert_file=path(endpoint.cert_file),
            key_file=path(endpoint.key_file),
            token_file=path(endpoint.token_file),
            token_env=endpoint.token_env,
            headers=endpoint.headers,
            compression=endpoint.compression,
            connect_timeout_s=inference.connect_timeout_s,
            request_timeout_s=inference.request_timeout_s,
            request_bytes=inference.request_bytes,
            payload=inference.payload,
            request_hits=inference.request_hits,
            max_in_flight=inference.max_in_flight,
            latency_target_s=inference.latency_target_s,
        )
        for endpoint in inference.endpoints
    ]
    return Dispatcher(
        inference.policy,
        endpoints,
        lambda: load_cpu_backend(
            model,
            threads,
            background=profile.zero_level,
            batch_size=inference.batch_size,
            precision=inference.precision,
            weights_file=weights_file,
        ),
        tolerance=inference.tolerance,
        patience_s=inference.patience_s,
        retries=inference.retries,
    )


def score_events(unit: UnitReader, dispatcher: Dispatcher) -> Iterator[ScoredEvent]:
    """Score the events of a unit file, in ascending order of their numbers."""
    waiting: deque[UnitEvent] = deque()

    def events() -> Iterator[UnitEvent]:
        for event in unit.events():
            waiting.append(event)
            yield event

    batches = hit_batches(
        events(),
        unit.profile,
        dispatcher.batch_size,
        blank_duplicates=unit.header["duplicate_patches"] == "larsoft",
    )
    scores = np.empty((0, len(SCORE_NAMES)), np.float32)
    backends = np.empty(0, dtype=object)
    for more_scores, more_backends in dispatcher.score(batches):
        scores, backends = np.concatenate([scores, more_scores]), np.concatenate([backends, more_backends])
        while waiting and waiting[0].n_hits <= len(scores):
            event = waiting.popleft()
            yield _in_order(event, scores[: event.n_hits], backends[: event.n_hits])
            scores, backends = scores[event.n_hits :], backends[event.n_hits :]
    for event in waiting:  # those without hits at the end
        yield _in_order(event, scores, backends)


def hit_batches(
    events: Iterable[UnitEvent], profile: Profile, size: int, *, blank_duplicates: bool
) -> Iterator[ImageBatch]:
    """Put the hits of all events into batches of at least `size`; the last one may be smaller.

    Hits of an image are ordered by their place on it, so that those which share pixels are together.

    Parameters
    ----------
    events
        Prepared events.
    profile
        The constants that they were prepared with.
    size
        Least number of hits per batch.
    blank_duplicates
        Give hits with the flag ``duplicate_patch`` a patch of zeros, as LArSoft does.
    """
    parts: list[HitsOnImage] = []
    for event in events:
        for image in event.images:
            order = order_on_image(image)
            wire, drift_bin, peak_time, repeats = (
                image.hits[name][order] for name in ("wire", "drift_bin", "peak_time", "duplicate_patch")
            )
            is_blank = repeats if blank_duplicates else np.zeros_like(repeats)
            parts.append(HitsOnImage(image.image, profile, wire, drift_bin, peak_time, is_blank))
        if sum(map(len, parts)) >= size:
            yield ImageBatch(parts)
            parts = []
    yield ImageBatch(parts)


def order_on_image(image: UnitImage) -> NDArray[np.intp]:
    """Give the order of an image's hits in :func:`hit_batches`."""
    return np.lexsort((image.hits["drift_bin"], image.hits["wire"]))


def _in_order(event: UnitEvent, scores: NDArray[np.float32], backends: NDArray[np.object_]) -> ScoredEvent:
    """Bring the scores of an event back from the order of :func:`hit_batches` into that of its images."""
    place = np.empty(event.n_hits, np.intp)
    first = 0
    for image in event.images:
        place[first + order_on_image(image)] = np.arange(first, first + len(image))
        first += len(image)
    return ScoredEvent(event, scores[place], backends[place])


def _event_statuses(
    partition: Partition, done: dict[int, Counter[str]], quarantined: dict[int, str], planes: tuple[int, ...]
) -> Iterator[EventStatus]:
    if {event.entry for event in partition.events} != done.keys() | quarantined.keys() or (
        done.keys() & quarantined.keys()
    ):
        raise VerificationError(
            "the unit file does not hold the planned events",
            where=f"partition {partition.id}",
            expected=sorted(event.entry for event in partition.events),
            found=sorted([*done, *quarantined]),
        )
    for event in partition.events:
        backends = done.get(event.entry, Counter())
        yield EventStatus(
            entry=event.entry,
            run=event.run,
            subrun=event.subrun,
            event=event.event,
            hits_planned=selected_hits(event, planes),
            hits_done=backends.total(),
            state="quarantined" if event.entry in quarantined else "done",
            reason=quarantined.get(event.entry),
            backends=dict(backends),
        )


def _backends_used(dispatcher: Dispatcher) -> Iterator[BackendUse]:
    for statistics in dispatcher.statistics:
        yield endpoint_use(statistics)
    cpu = dispatcher.cpu
    if dispatcher.cpu_patches and cpu is not None:
        yield BackendUse(backend=cpu.name, engine=cpu.engine, hits=dispatcher.cpu_patches)
