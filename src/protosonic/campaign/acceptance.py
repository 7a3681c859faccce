"""Whether a finished campaign counts as good."""

from __future__ import annotations

from typing import Any

from protosonic.errors import AcceptanceError

__all__ = ["check_acceptance"]


def check_acceptance(campaign: dict[str, Any]) -> None:
    """Say whether a finished campaign counts as good.

    Raises
    ------
    AcceptanceError
        More events are quarantined than the configuration accepts.
    """
    summary, acceptance = campaign["totals"], campaign["acceptance"]
    if not acceptance["accepted"]:
        raise AcceptanceError(
            f"{summary['events_quarantined']} of {summary['events_planned']} planned events are quarantined",
            expected=f"a fraction of at most {acceptance['max_quarantined_fraction']}",
            found=f"{summary['quarantined_fraction']:.4g}",
            hint="The dataset is complete for all others. accounting.parquet and the report give the reasons; "
            "acceptance.max_quarantined_fraction sets the limit",
        )
