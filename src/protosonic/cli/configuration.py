"""The commands ``protosonic config``."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Explain the configuration.", no_args_is_help=True)


@app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the configuration.

    Example: [bold]protosonic config schema > config/schema.json[/bold]
    """
    from protosonic.config.render import schema_json

    typer.echo(schema_json(), nl=False)


@app.command("explain")
def config_explain(
    key: Annotated[str | None, typer.Argument(help="A key or a section; all by default.")] = None,
) -> None:
    """Explain a configuration key.

    Example: [bold]protosonic config explain inference.policy[/bold]
    """
    from protosonic.config.render import explain

    typer.echo(explain(key))


@app.command("default")
def config_default() -> None:
    """Print the demonstration configuration, with every key explained.

    Example: [bold]protosonic config default > config/config.yaml[/bold]
    """
    from protosonic.config.render import settings_yaml

    typer.echo(settings_yaml(), nl=False)
