"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SettingsOption = Annotated[
    Path, typer.Option("--settings", envvar="PROTOSONIC_SETTINGS", help="Configuration file, YAML or JSON.")
]
CampaignOption = Annotated[
    str | None, typer.Option("--campaign", help="Name of the campaign, where the folder holds several.")
]
InstancesOption = Annotated[
    int, typer.Option(min=1, help="Sessions that work at the same time; per GPU where there are GPUs.")
]
MaxBatchSizeOption = Annotated[int, typer.Option(min=1, help="Most patches that are scored together.")]
MaxQueueSizeOption = Annotated[
    int, typer.Option(min=0, help="Requests that may wait; more are turned away. 0 is no limit.")
]
WorkdirArgument = Annotated[Path, typer.Argument(help="Working directory of the campaign.")]
DetectorOption = Annotated[str | None, typer.Option(help="Where the format does not store it.")]
ChargeScaleOption = Annotated[
    float | None, typer.Option(help="Stored charge times this = recob::Wire units.")
]
TagOption = Annotated[str, typer.Option(help="Wire-Cell frame tag.")]
TicksPerBinOption = Annotated[int, typer.Option(min=1, help="Readout ticks per stored bin.")]
