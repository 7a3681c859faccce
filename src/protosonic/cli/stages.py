"""Commands that the rules of the workflow call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protosonic.cli.options import CampaignOption, SettingsOption, WorkdirArgument

__all__ = ["app"]

STAGES = "Stages (what the rules of the workflow call)"

app = typer.Typer()


@app.command(rich_help_panel=STAGES)
def catalog(
    settings: SettingsOption,
    output: Annotated[Path, typer.Option(help="JSON file to write.")],
    inputs: Annotated[
        Path | None, typer.Option(help="JSON list of the block's files, as the workflow writes it.")
    ] = None,
    block: Annotated[str | None, typer.Option(help="Name of the block, without --inputs.")] = None,
) -> None:
    """Inspect a block of input files.

    Example: [bold]protosonic catalog --settings settings.json --block 3f --output 3f.json[/bold]
    """
    from protosonic.campaign.inputs import blocks_of_inputs, find_inputs, read_block
    from protosonic.config import load_settings
    from protosonic.errors import ConfigError
    from protosonic.stages.catalog import catalog_block

    loaded = load_settings(settings)
    if inputs is not None:
        files = read_block(inputs)
    else:
        blocks = blocks_of_inputs(find_inputs(loaded))
        if block not in blocks:
            raise ConfigError(
                "there is no such block of inputs", where=block, expected=f"one of {', '.join(blocks)}"
            )
        files = blocks[block]
    catalog_block(files, output, loaded.remote)


@app.command(rich_help_panel=STAGES)
def partition(
    catalog_blocks: Annotated[list[Path], typer.Argument(help="Block files of the catalog.")],
    settings: SettingsOption,
    descriptors: Annotated[Path, typer.Option(help="Folder of descriptors to write.")],
    plan: Annotated[Path, typer.Option(help="JSON file of the plan to write.")],
    pilot: Annotated[Path | None, typer.Option(help="JSON file of what a pilot measured.")] = None,
) -> None:
    """Cut a catalogued campaign into partitions.

    Example: [bold]protosonic partition --settings settings.json --descriptors partitions --plan plan.json 3f.json[/bold]
    """
    from protosonic.config import load_settings
    from protosonic.stages.partition import partition_campaign

    partition_campaign(catalog_blocks, load_settings(settings), descriptors, plan, pilot)


@app.command(rich_help_panel=STAGES)
def preprocess(
    settings: SettingsOption,
    descriptor: Annotated[Path, typer.Option(help="Partition descriptor.")],
    output: Annotated[Path, typer.Option(help="Unit file to write.")],
) -> None:
    """Make the plane images of a partition.

    Example: [bold]protosonic preprocess --settings settings.json --descriptor partitions/ID.json --output ID.h5[/bold]
    """
    from protosonic.config import load_settings
    from protosonic.stages.preprocess import preprocess_partition

    loaded = load_settings(settings)
    preprocess_partition(descriptor, loaded.preprocess, output, loaded.remote)


@app.command(rich_help_panel=STAGES)
def infer(
    settings: SettingsOption,
    unit: Annotated[Path, typer.Option(help="Unit file.")],
    descriptor: Annotated[Path, typer.Option(help="Partition descriptor.")],
    model: Annotated[Path, typer.Option(help="ONNX file.")],
    model_record: Annotated[Path, typer.Option(help="JSON record of the model.")],
    scores: Annotated[Path, typer.Option(help="Parquet file to write.")],
    status: Annotated[Path, typer.Option(help="JSON status to write.")],
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    weights: Annotated[
        Path | None, typer.Option(help="File of weights that 'model prepare' wrote, to start faster.")
    ] = None,
) -> None:
    """Score the hits of a partition.

    Example: [bold]protosonic infer --settings settings.json --unit ID.h5 --descriptor partitions/ID.json
    --model model.onnx --model-record model.json --scores ID.parquet --status ID.json[/bold]
    """
    from protosonic.config import load_settings
    from protosonic.stages.infer import infer_partition

    infer_partition(
        unit, descriptor, model, model_record, load_settings(settings), scores, status, threads, weights
    )


@app.command(rich_help_panel=STAGES)
def collect(
    settings: SettingsOption, bundle: Annotated[str, typer.Option(help="Name of the bundle.")]
) -> None:
    """Merge the scores of a bundle of partitions, in the working directory.

    Example: [bold]protosonic collect --settings work/demo/settings.json --bundle 0123456789abcdef[/bold]
    """
    from protosonic.campaign.layout import Layout
    from protosonic.config import load_settings
    from protosonic.stages.collect import collect_bundle

    loaded = load_settings(settings)
    collect_bundle(Layout(loaded.campaign.name), loaded.merge, bundle)


@app.command(rich_help_panel=STAGES)
def merge(settings: SettingsOption) -> None:
    """Merge the scores of all partitions, in the working directory.

    Example: [bold]protosonic merge --settings work/demo/settings.json[/bold]
    """
    from protosonic.campaign.layout import Layout
    from protosonic.config import load_settings
    from protosonic.stages.merge import merge_campaign

    loaded = load_settings(settings)
    merge_campaign(Layout(loaded.campaign.name), loaded)


@app.command(rich_help_panel=STAGES)
def accept(workdir: WorkdirArgument = Path(), campaign: CampaignOption = None) -> None:
    """Say whether a finished campaign counts as good; exit code 5 if not.

    Example: [bold]protosonic accept /data/demo[/bold]
    """
    from protosonic.campaign.acceptance import check_acceptance
    from protosonic.campaign.layout import Layout
    from protosonic.campaign.provenance import read_campaign

    check_acceptance(read_campaign(Layout.of_workdir(workdir, campaign)))


@app.command(rich_help_panel=STAGES)
def report(
    workdir: WorkdirArgument = Path(),
    campaign: CampaignOption = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Results folder or Parquet file whose scores stand beside those of the campaign."),
    ] = None,
    events: Annotated[int, typer.Option(min=0, max=20, help="Events that are drawn.")] = 3,
) -> None:
    """Write the HTML report of a finished campaign.

    Example: [bold]protosonic report /data/demo --reference /data/last-year/results/demo[/bold]
    """
    from protosonic.campaign.layout import Layout
    from protosonic.reporting.report import write_report

    layout = Layout.of_workdir(workdir, campaign)
    typer.echo(write_report(layout, reference=reference, events=events))
