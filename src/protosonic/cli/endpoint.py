"""The commands ``protosonic endpoint``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Work with inference endpoints.", no_args_is_help=True)


@app.command("check")
def endpoint_check(
    url: Annotated[str, typer.Argument(help="grpc://HOST:PORT, or grpcs://HOST:PORT with TLS.")],
    model_file: Annotated[
        Path | None,
        typer.Option(help="ONNX file that should be served; the bundled model by default."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model at the endpoint.")] = "emtrkmichel",
    version: Annotated[
        str, typer.Option(help="Version of the model; '' leaves the choice to the server.")
    ] = "1",
    ca_file: Annotated[Path | None, typer.Option(help="PEM file of the authorities to trust.")] = None,
    cert_file: Annotated[Path | None, typer.Option(help="PEM file of the client's certificate.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File that holds a bearer token.")] = None,
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds a bearer token.")
    ] = None,
    compression: Annotated[str, typer.Option(help="none, gzip or deflate.")] = "none",
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest difference of a score that counts as equal.")
    ] = 1e-5,
    concurrency: Annotated[
        str, typer.Option(help="Requests in flight, one measurement each; '' for none.")
    ] = "1,2,4,8",
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of each measurement.")] = 5.0,
    json: Annotated[Path | None, typer.Option("--json", help="JSON file to write.")] = None,
) -> None:
    """Say whether an endpoint is right, how fast it is, and what to change; exit code 11 if it cannot serve.

    Example: [bold]protosonic endpoint check grpcs://triton.example.org:443 --model-file cnn.onnx --token-env TOKEN[/bold]
    """
    from protosonic.reporting.endpoint_report import print_endpoint_report, show_progress
    from protosonic.stages.endpoint import check_url, parse_concurrencies

    endpoint = {
        "url": url,
        "ca_file": ca_file,
        "cert_file": cert_file,
        "key_file": key_file,
        "token_file": token_file,
        "token_env": token_env,
        "compression": compression,
    }
    print_endpoint_report(
        check_url(
            endpoint,
            name,
            version,
            model_file,
            tolerance,
            parse_concurrencies(concurrency),
            seconds,
            json,
            show_progress,
        )
    )
