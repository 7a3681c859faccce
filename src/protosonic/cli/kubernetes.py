"""The commands ``protosonic kubernetes``, which the scripts of the profile call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    help="Hand jobs of Snakemake to Kubernetes; for the profile kubernetes.", no_args_is_help=True
)


@app.command()
def submit(
    script: Annotated[Path, typer.Argument(help="Job script of Snakemake, on the shared volume.")],
    template: Annotated[Path, typer.Option(help="Manifest that all jobs are made from.")],
) -> None:
    """Create a job and print its name.

    Example: [bold]protosonic kubernetes submit --template profile/job.yaml .snakemake/tmp.1/job.sh[/bold]
    """
    from protosonic.batch.kubernetes import submit_job

    typer.echo(submit_job(template, script))


@app.command()
def status(job: Annotated[str, typer.Argument(help="NAMESPACE/NAME.")]) -> None:
    """Print running, success or failed.

    Example: [bold]protosonic kubernetes status default/protosonic-infer-0123456789abcdef[/bold]
    """
    from protosonic.batch.kubernetes import state_of_job

    typer.echo(state_of_job(job))


@app.command()
def cancel(jobs: Annotated[list[str], typer.Argument(help="NAMESPACE/NAME, any number.")]) -> None:
    """Delete jobs.

    Example: [bold]protosonic kubernetes cancel default/protosonic-infer-0123456789abcdef[/bold]
    """
    from protosonic.batch.kubernetes import delete_jobs

    delete_jobs(jobs)
