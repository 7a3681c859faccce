"""The command ``protosonic serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protosonic.cli.options import InstancesOption, MaxBatchSizeOption, MaxQueueSizeOption

__all__ = ["app"]

app = typer.Typer()


@app.command()
def serve(
    model: Annotated[Path | None, typer.Option(help="ONNX file; the bundled model by default.")] = None,
    name: Annotated[str, typer.Option(help="Name of the model at the endpoint.")] = "emtrkmichel",
    version: Annotated[str, typer.Option(help="Version of the model at the endpoint.")] = "1",
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8001,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8000,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8002,
    instances: InstancesOption = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of an instance; all cores by default.")
    ] = None,
    max_batch_size: MaxBatchSizeOption = 2048,
    max_queue_size: MaxQueueSizeOption = 256,
) -> None:
    """Run an NVIDIA Triton server with a model on this machine, until SIGTERM or SIGINT (Ctrl-C).

    Example: [bold]protosonic serve --model cnn.onnx --grpc-port 8001[/bold]

    Only this machine can reach it. When it is ready it prints one line: ready grpc://127.0.0.1:PORT. The server is
    installed at the first call.
    """
    import os

    from protosonic.serving.repository import ServedModel
    from protosonic.serving.server import Ports, serve_model

    served = ServedModel(
        name,
        version,
        instances=instances,
        threads=threads or len(os.sched_getaffinity(0)),
        max_batch_size=max_batch_size,
        max_queue_size=max_queue_size,
    )
    ports = Ports(grpc_port, http_port, metrics_port)
    serve_model(model, served, ports, lambda url: typer.echo(f"ready {url}"))
