"""The ``protosonic`` command: one thin function per command. Heavy imports stay inside the functions."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from protosonic import __version__
from protosonic.cli import (
    campaign,
    configuration,
    endpoint,
    files,
    kubernetes,
    model,
    planning,
    serving,
    software,
    stages,
)

__all__ = ["app", "main"]

app = typer.Typer(
    help="Classify LArTPC hits as track, shower, Michel electron or nothing, over whole campaigns.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (campaign, files, planning, serving, software, stages):
    app.add_typer(commands.app)
app.add_typer(configuration.app, name="config")
app.add_typer(model.app, name="model")
app.add_typer(endpoint.app, name="endpoint")
app.add_typer(software.environment, name="environment")
app.add_typer(kubernetes.app, name="kubernetes", hidden=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"protosonic {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    failures: Annotated[
        Path | None,
        typer.Option("--failures", hidden=True, help="Folder to leave a record in when the command fails."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    version: Annotated[  # noqa: ARG001 (its callback acts on it)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    from protosonic.logs import start_logging

    context.obj = failures
    start_logging(verbose=verbose)


def main() -> None:
    """Run the command line; every error of ours becomes one message and the exit code of its class."""
    from protosonic.failures import guarded

    # Jobs compute in threads of their own. Those of NumPy's linear algebra would only spin beside them: two jobs of one
    # thread each on two cores take almost twice as long with them. It reads this when it is loaded. MKL's variable
    # is left alone: PyTorch, which trains, takes its own number of threads from it.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    sys.exit(guarded(app, sys.argv[1:]))
