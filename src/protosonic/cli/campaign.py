"""Commands for whole campaigns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from protosonic.cli.options import CampaignOption, WorkdirArgument
from protosonic.errors import ConfigError

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
    site: Annotated[
        Path | None,
        typer.Option(help="What differs between clusters; site.yaml beside the configuration by default."),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPU cores to use; all by default. On a cluster the limit of all jobs together."
        ),
    ] = None,
    pilot: Annotated[
        int | None,
        typer.Option(min=1, help="Run so many partitions first, measure them, and size the rest by them."),
    ] = None,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Go on with a campaign that was closed with known failures.")
    ] = False,
    view: Annotated[
        Literal["auto", "live", "plain", "snakemake"],
        typer.Option(
            help="Redrawn in place, a line now and then, or Snakemake's own messages; auto is live on a terminal, else plain."
        ),
    ] = "auto",
) -> None:
    """Run a campaign: files to dataset and report.

    Example: [bold]protosonic run config/config.yaml --workdir /data/demo --cores 4[/bold]

    What follows [bold]--[/bold] goes to snakemake. The exit code says what went wrong; see docs/errors.md.
    """
    from protosonic.campaign.closing import reopen_campaign
    from protosonic.campaign.launch import refuse_closed, run_campaign

    prepare = reopen_campaign if reopen else refuse_closed
    if pilot is not None:
        from protosonic.campaign.pilot import run_with_pilot

        raise typer.Exit(
            run_with_pilot(
                config, workdir, profile, cores, context.args, pilot, site=site, prepare=prepare, view=view
            )
        )
    raise typer.Exit(
        run_campaign(config, workdir, profile, cores, context.args, site=site, prepare=prepare, view=view)
    )


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


@app.command()
def status(
    workdir: WorkdirArgument = Path(),
    campaign: CampaignOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="List each failure, with the end of its log.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again until no run works on it any more.")
    ] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between looks with --watch.")] = 5.0,
    metrics: Annotated[
        Path | None, typer.Option(help="Also write metrics for Prometheus to this file, *.prom.")
    ] = None,
) -> None:
    """Say where a campaign stands, from its files alone; at any time, from any machine that sees them.

    Example: [bold]protosonic status /data/demo --failed[/bold]
    """
    from protosonic.campaign.layout import Layout
    from protosonic.campaign.state import read_state
    from protosonic.reporting.state import print_state, state_json

    layout = Layout.of_started(workdir, campaign)
    if watch:
        from protosonic.reporting.watch import watch_campaign

        if as_json:
            raise ConfigError("--json and --watch exclude each other", where="status")
        watch_campaign(layout, failed=failed, interval_s=interval, metrics=metrics)
        return
    state = read_state(layout)
    if metrics is not None:
        from protosonic.reporting.metrics import write_metrics

        write_metrics(state, metrics)
    if as_json:
        typer.echo(state_json(state))
    else:
        print_state(state, failed=failed)


@app.command()
def recover(
    workdir: WorkdirArgument = Path(),
    campaign: CampaignOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what failed in a way that no retry mends.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Name of a partition to do; may be given several times.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Do again what is missing or failed, with the configuration, profile and arguments of the last run.

    Example: [bold]protosonic recover /data/demo --dry-run[/bold]
    """
    from protosonic.campaign.layout import Layout
    from protosonic.campaign.recovery import plan_recovery, recover_campaign
    from protosonic.campaign.state import read_state
    from protosonic.reporting.state import print_recovery

    layout = Layout.of_started(workdir, campaign)
    recovery = plan_recovery(read_state(layout), everything=everything, only=only or ())
    print_recovery(recovery)
    if not dry_run:
        raise typer.Exit(recover_campaign(layout, recovery, only=only or ()))


@app.command()
def close(workdir: WorkdirArgument = Path(), campaign: CampaignOption = None) -> None:
    """End a campaign with known failures: what is not done is quarantined, the rest is merged.

    Example: [bold]protosonic close /data/demo[/bold]

    Exit code 5 if more events are quarantined than acceptance allows; the dataset is there all the same.
    """
    from protosonic.campaign.closing import close_campaign
    from protosonic.campaign.layout import Layout

    raise typer.Exit(close_campaign(Layout.of_started(workdir, campaign)))


@app.command()
def publish(
    to: Annotated[
        Path, typer.Option(help="Folder of publications; the campaign gets one of its name there.")
    ],
    workdir: WorkdirArgument = Path(),
    campaign: CampaignOption = None,
    namespace: Annotated[str, typer.Option(help="MetaCat namespace and Rucio scope.")] = "usertests",
    parent_namespace: Annotated[
        str | None, typer.Option(help="Where the input files are declared; the namespace by default.")
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option(help="YAML or JSON file with more MetaCat fields, such as core.file_type.")
    ] = None,
    license_text: Annotated[
        str | None, typer.Option("--license", help="URL or name of the licence of the dataset.")
    ] = None,
) -> None:
    """Copy a finished dataset with checksums, and describe it for MetaCat, Rucio, justIN and as an RO-Crate.

    Example: [bold]protosonic publish /data/demo --to /archive --namespace usertests[/bold]

    It can be killed and repeated. Nothing is sent to any catalog: declare.sh has the command lines.
    """
    from protosonic.campaign.layout import Layout
    from protosonic.publication.description import PublishOptions
    from protosonic.reporting.publication import print_publication
    from protosonic.stages.publish import publish_campaign, read_fields

    options = PublishOptions(namespace, parent_namespace, read_fields(metadata), license_text)
    print_publication(publish_campaign(Layout.of_workdir(workdir, campaign), to, options))
