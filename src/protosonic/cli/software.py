"""Commands for the software on a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app", "environment"]

app = typer.Typer()
environment = typer.Typer(help="Take the software along to other nodes.", no_args_is_help=True)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="Configuration of a campaign.")] = None,
    workdir: Annotated[Path, typer.Option(help="Its working directory.")] = Path(),
    profile: Annotated[
        str, typer.Option(help="Workflow profile: a name in workflow/profiles, or a folder.")
    ] = "default",
    json: Annotated[Path | None, typer.Option("--json", help="JSON file to write.")] = None,
) -> None:
    """Say whether this node, this profile and this configuration are fit for a campaign, and how to mend what is not.

    Example: [bold]protosonic doctor config/config.yaml --workdir /data/demo --profile slurm[/bold]

    The exit code is that of the kind of problem that should be mended first; see docs/errors.md.
    """
    from protosonic.publish import publish_json
    from protosonic.reporting.doctor_report import print_checks
    from protosonic.software.check import raise_worst
    from protosonic.software.doctor import examine

    checks = list(examine(config, workdir, profile))
    print_checks(checks)
    if json is not None:
        publish_json(json, {"checks": [check.to_json() for check in checks]})
    raise_worst(checks)


@environment.command()
def pack(
    archive: Annotated[Path, typer.Argument(help="Archive to write, such as protosonic.tar.gz.")],
    extras: Annotated[
        str, typer.Option(help="Extras that the archive must hold, such as report,htcondor.")
    ] = "report",
) -> None:
    """Pack Python, protosonic and all packages, as they are here, for nodes that have none of them.

    Example: [bold]protosonic environment pack protosonic.tar.gz[/bold]

    Unpacked anywhere, [bold]protosonic/bin/protosonic[/bold] is the command; docs/software.md says what a node needs.
    """
    from protosonic.software.pack import pack_environment

    names = tuple(name.strip() for name in extras.split(",") if name.strip())
    summary = pack_environment(archive, names)
    typer.echo(f"{archive}: {summary}")


@environment.command()
def conda() -> None:
    """Print the conda environment that the rules name, with the versions that the tests ran with.

    Example: [bold]protosonic environment conda > envs/protosonic.yaml[/bold]
    """
    from protosonic.campaign.launch import workflow_folder
    from protosonic.software.conda import conda_environment

    typer.echo(conda_environment(workflow_folder() / "envs" / "constraints.txt"), nl=False)
