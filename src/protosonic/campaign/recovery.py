"""``protosonic recover``: do again what is missing or failed, as the last run was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from protosonic.campaign.last_run import recorded_run, running_on
from protosonic.campaign.launch import refuse_closed, run_again
from protosonic.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from protosonic.campaign.layout import Layout
    from protosonic.campaign.problems import Problem
    from protosonic.campaign.state import CampaignState
    from protosonic.config import Settings

__all__ = ["Recovery", "forget_partitions", "plan_recovery", "recover_campaign"]


@dataclass(frozen=True)
class Recovery:
    """What a recovery does.

    Attributes
    ----------
    missing
        Partitions that were never done, or whose job failed in a way that passes.
    again
        Partitions that failed for good and are tried once more.
    left
        Those that are not: nothing says that they can succeed.
    """

    missing: tuple[str, ...]
    again: tuple[Problem, ...]
    left: tuple[Problem, ...]


def plan_recovery(state: CampaignState, *, everything: bool = False, only: Sequence[str] = ()) -> Recovery:
    """Choose what is done again.

    Parameters
    ----------
    state
        The state of the campaign.
    everything
        Also what failed in a way that only a change of software, model or data can mend.
    only
        Names of the partitions to do; all by default. Those that are named are done also when they failed for good.

    Raises
    ------
    ConfigError
        A partition that is named is not among those that are not done.
    """
    failed = {
        problem.partition: problem
        for problem in state.problems
        if problem.partition is not None and problem.partition not in state.missing
    }
    if unknown := sorted(set(only) - failed.keys() - set(state.missing)):
        raise ConfigError(
            f"there is nothing to recover of {', '.join(unknown)}",
            where="--only",
            hint="It is done, or not planned; 'protosonic status --failed' lists what failed",
        )
    if only:
        again = tuple(problem for name, problem in failed.items() if name in only)
        return Recovery(tuple(name for name in state.missing if name in only), again, ())
    chosen = [problem for problem in failed.values() if everything or not problem.permanent]
    left = [problem for problem in failed.values() if problem not in chosen]
    return Recovery(tuple(state.missing), tuple(chosen), tuple(left))


def recover_campaign(layout: Layout, recovery: Recovery, *, only: Sequence[str] = ()) -> int:
    """Forget the failures that are tried again, and run the campaign as it was run last.

    Parameters
    ----------
    layout
        The campaign.
    recovery
        What :func:`plan_recovery` chose.
    only
        Partitions that are named: they are done, and nothing else.

    Returns
    -------
    The exit code of the run.

    Raises
    ------
    ConfigError
        The campaign was closed, or was never run.
    TransientError
        A run is working on the campaign.
    """
    recorded_run(layout)
    refuse_running(layout)

    def prepare(inner: Layout, settings: Settings) -> None:
        refuse_closed(inner, settings)
        forget_partitions(inner, [problem.partition for problem in recovery.again if problem.partition])

    targets = [str(layout.status(name).relative_to(layout.workdir)) for name in only]
    return run_again(layout, targets=targets, prepare=prepare)


def refuse_running(layout: Layout) -> None:
    """Refuse to go on while a run works on the campaign, on whatever host.

    Raises
    ------
    TransientError
        One does, or seems to.
    """
    host = running_on(layout)
    if host is not None:
        raise TransientError(
            "a run is working on this campaign",
            file=layout.lock,
            found=f"host {host}",
            hint=f"Wait for it, or stop it first. If it was killed there, empty {layout.lock}",
        )


def forget_partitions(layout: Layout, partitions: Iterable[str]) -> None:
    """Remove statuses and scores, so that the workflow makes them again."""
    for name in partitions:
        # The status first: scores without a status are made again, the other way round would be damage.
        layout.status(name).unlink(missing_ok=True)
        layout.scores(name).unlink(missing_ok=True)
        (layout.units / f"{name}.h5").unlink(missing_ok=True)
