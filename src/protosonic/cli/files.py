"""Commands for event files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from protosonic.cli.options import ChargeScaleOption, DetectorOption, TagOption, TicksPerBinOption

__all__ = ["app"]

app = typer.Typer()


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="Any file.")],
    detector: DetectorOption = None,
    charge_scale: ChargeScaleOption = None,
    tag: TagOption = "gauss",
    ticks_per_bin: TicksPerBinOption = 1,
) -> None:
    """Say what a file is, and list its events and hits.

    Example: [bold]protosonic inspect frames.tar.bz2 --detector protodune-hd --charge-scale 1e-3[/bold]
    """
    from protosonic.events.reader import ReaderOptions
    from protosonic.reporting.terminal import print_inspection

    options = ReaderOptions(
        detector=detector, charge_scale=charge_scale, tag=tag, ticks_per_bin=ticks_per_bin
    )
    print_inspection(file, options)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")],
    detector: Annotated[
        str, typer.Option(help="protodune-sp, protodune-hd or dune10kt-1x2x6.")
    ] = "protodune-sp",
    files: Annotated[int, typer.Option(min=1, help="Number of files.")] = 1,
    events: Annotated[int, typer.Option(min=0, help="Events per file.")] = 1,
    hits: Annotated[int, typer.Option(min=0, help="Hits per event, at least.")] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal events.")] = 1,
    run_number: Annotated[int, typer.Option("--run", min=0, help="Run number.")] = 1,
    vary_conditions: Annotated[
        bool, typer.Option("--vary-conditions", help="Other response, noise and thresholds in each event.")
    ] = False,
    stopping_muons: Annotated[
        float, typer.Option(min=0, max=1, help="Share of cosmic muons that are made to stop inside.")
    ] = 0.0,
) -> None:
    """Simulate events with truth, in the native format.

    Example: [bold]protosonic simulate data --files 4 --events 2 --hits 4000[/bold]
    """
    from protosonic.simulation.files import simulate_files

    for path in simulate_files(
        folder,
        detector=detector,
        files=files,
        events=events,
        hits=hits,
        seed=seed,
        run=run_number,
        vary_conditions=vary_conditions,
        stopping_share=stopping_muons,
    ):
        typer.echo(path)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="File of any supported format.")],
    output: Annotated[Path, typer.Argument(help="Native file to write.")],
    detector: DetectorOption = None,
    charge_scale: ChargeScaleOption = None,
    tag: TagOption = "gauss",
    ticks_per_bin: TicksPerBinOption = 1,
    run_number: Annotated[int, typer.Option("--run", min=0, help="Where the format has no run number.")] = 0,
) -> None:
    """Convert a file to the native format; events that cannot be used are named and left out.

    Example: [bold]protosonic convert frames.tar.bz2 events.h5 --detector protodune-hd --charge-scale 1e-3[/bold]
    """
    from protosonic.events.convert import convert_file
    from protosonic.events.reader import ReaderOptions

    options = ReaderOptions(
        detector=detector, charge_scale=charge_scale, tag=tag, ticks_per_bin=ticks_per_bin, run=run_number
    )
    typer.echo(f"{convert_file(file, output, options)} events written to {output}")


@app.command()
def display(
    source: Annotated[
        Path, typer.Argument(help="Input file, folder of a finished campaign, or Parquet file of hits.")
    ],
    output: Annotated[Path, typer.Option(help="PNG, SVG or HTML file to write.")] = Path("event.png"),
    entry: Annotated[int, typer.Option(min=0, help="Position of the event in the file.")] = 0,
    event: Annotated[str | None, typer.Option(help="RUN:SUBRUN:EVENT instead of the position.")] = None,
    tpc: Annotated[
        int | None, typer.Option(min=0, help="TPC; for each plane the one with most hits by default.")
    ] = None,
    plane: Annotated[
        list[int] | None, typer.Option(min=0, max=2, help="Plane: 0 U, 1 V, 2 W; repeat it for several.")
    ] = None,
    colour: Annotated[
        Literal["class", "track", "em", "none", "michel", "backend", "truth"],
        typer.Option(help="What colours hits: class, a score, backend, or truth where it is known."),
    ] = "class",
    behind: Annotated[
        Path | None,
        typer.Option("--input", help="Input file of a dataset's event: adds its charge and its truth."),
    ] = None,
    axes: Annotated[
        Literal["wires", "cm"], typer.Option(help="Wires and ticks, or centimetres and microseconds.")
    ] = "wires",
    detector: DetectorOption = None,
    charge_scale: ChargeScaleOption = None,
    tag: TagOption = "gauss",
    ticks_per_bin: TicksPerBinOption = 1,
) -> None:
    """Draw an event: charge and hits, or hits coloured by class.

    Example: [bold]protosonic display frames.tar.bz2 --detector protodune-hd --charge-scale 1e-3 --output event.png[/bold]
    """
    from protosonic.events.reader import ReaderOptions
    from protosonic.reporting.event_display import draw_source
    from protosonic.reporting.event_views import Choice, event_numbers

    options = ReaderOptions(
        detector=detector, charge_scale=charge_scale, tag=tag, ticks_per_bin=ticks_per_bin
    )
    numbers = None if event is None else event_numbers(event)
    choice = Choice(entry, numbers, tpc, tuple(plane or (0, 1, 2)), colour)
    typer.echo(draw_source(source, output, choice, options, behind=behind, physical=axes == "cm"))
