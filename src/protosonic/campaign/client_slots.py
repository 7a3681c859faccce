"""The cap on clients of an endpoint that several campaigns share."""

from __future__ import annotations

import fcntl
import logging
import random
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protosonic.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.config.model import Inference

__all__ = ["AllowedInference", "client_slot", "endpoints_allowed"]

log = logging.getLogger(__name__)

POLL_S = (0.5, 2.0)
"""Waiting jobs try again after a random time, so that none is always the last."""


@contextmanager
def client_slot(folder: Path, slots: int, patience_s: float) -> Iterator[int | None]:
    """Hold one of the slots of a shared folder.

    A slot is a file that its holder has locked. The system releases the lock however a job ends, so a slot is never
    lost; the folder may be on NFS, or on Lustre where that is mounted with ``flock``.

    Parameters
    ----------
    folder
        The folder of the slots; created where it is missing. All campaigns that share an endpoint name the same.
    slots
        How many there are; the same in all campaigns.
    patience_s
        How long to wait for one, in seconds.

    Yields
    ------
    The number of the slot, or ``None`` where none was free in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    is_waiting = False
    while True:
        for number in random.sample(range(slots), slots):
            with (folder / f"slot-{number:04d}").open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if is_waiting:
                    log.info("a client slot came free after %.0f s", time.monotonic() - start)
                yield number
                return
        left = start + patience_s - time.monotonic()
        if left <= 0:
            break
        if not is_waiting:
            log.info("all %d client slots are taken; waiting", slots)
            is_waiting = True
        time.sleep(min(random.uniform(*POLL_S), left))  # noqa: S311
    log.warning("no client slot came free in %.0f s", patience_s)
    yield None


class AllowedInference(NamedTuple):
    """How a job may score.

    Attributes
    ----------
    inference
        The section of the configuration; its policy is ``cpu-only`` where no slot came free.
    fallbacks
        Why, then.
    """

    inference: Inference
    fallbacks: tuple[str, ...] = ()


@contextmanager
def endpoints_allowed(inference: Inference) -> Iterator[AllowedInference]:
    """Hold a slot while a job may use endpoints, where the configuration shares them with other campaigns.

    Raises
    ------
    ServiceError
        No slot came free in time, and the policy forbids the CPU.
    """
    if inference.slots_folder is None or inference.policy == "cpu-only":
        yield AllowedInference(inference)
        return
    folder = Path(inference.slots_folder)
    with client_slot(folder, inference.slots, inference.slot_patience_s) as slot:
        if slot is not None:
            yield AllowedInference(inference)
            return
    problem = ServiceError(
        "no client slot came free",
        file=folder,
        expected=f"one of {inference.slots} within {inference.slot_patience_s:g} s",
        hint="Raise inference.slot_patience_s, or lower the gpu_clients of the campaigns that share the folder",
    )
    if inference.policy == "endpoint-only":
        raise problem
    yield AllowedInference(inference.model_copy(update={"policy": "cpu-only"}), (str(problem),))
