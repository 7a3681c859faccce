"""Commands for whole campaigns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protosonic.cli.options import CampaignOption, WorkdirArgument

__all__ = ["app"]

app = typer.Typer()


@app.command()
def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Configuration file.")],
    workdir: Annotated[
        Path, typer.Option(help="Where results/ and work/ go, and where relative input paths start.")
    ] = Path(),
    profile: Annotated[
        str, typer.Option(help="Workflow profile: a name in workflow/profiles, or a folder.")
    ] = "default",
    cores: Annotated[int | None, typer.Option(min=1, help="CPU cores to use; all by default.")] = None,
) -> None:
    """Run a campaign: files to dataset and report.

    Example: [bold]protosonic run config/config.yaml --workdir /data/demo --cores 4[/bold]

    What follows [bold]--[/bold] goes to snakemake. The exit code says what went wrong; see docs/errors.md.
    """
    from protosonic.campaign.launch import run_campaign

    raise typer.Exit(run_campaign(config, workdir, profile, cores, context.args))


run_info = app.registered_commands[-1]
run_info.context_settings = {"allow_extra_args": True, "ignore_unknown_options": False}


@app.command()
def verify(
    workdir: WorkdirArgument = Path(),
    campaign: CampaignOption = None,
    inputs: Annotated[bool, typer.Option("--inputs", help="Also read the input files again.")] = False,
) -> None:
    """Read everything again and prove that nothing is lost, doubled or damaged; exit code 6 if something is.

    Example: [bold]protosonic verify /data/demo[/bold]
    """
    from protosonic.campaign.layout import Layout
    from protosonic.reporting.terminal import print_verification
    from protosonic.stages.verify import verify_campaign

    layout = Layout.of_workdir(workdir, campaign)
    print_verification(layout, verify_campaign(layout, inputs=inputs))
