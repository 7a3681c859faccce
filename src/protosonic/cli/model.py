"""The commands ``protosonic model``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protosonic.cli.options import (
    CampaignOption,
    ChargeScaleOption,
    DetectorOption,
    InstancesOption,
    MaxBatchSizeOption,
    MaxQueueSizeOption,
    SettingsOption,
    TagOption,
    TicksPerBinOption,
)

__all__ = ["app"]

app = typer.Typer(help="Work with models.", no_args_is_help=True)


@app.command("check")
def model_check(
    model: Annotated[str, typer.Argument(help="ONNX file, or 'bundled'.", metavar="FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Check that an ONNX file meets the model contract, and try it.

    Example: [bold]protosonic model check cnn.onnx[/bold]
    """
    from protosonic.reporting.model_report import print_model_report
    from protosonic.stages.model_check import inspect_model

    print_model_report(inspect_model(model), as_json=as_json)


@app.command("evaluate")
def model_evaluate(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Working directory of a finished campaign, or event files with truth."),
    ],
    model: Annotated[
        str, typer.Option(help="ONNX file or 'bundled'; scores event files on the CPU.")
    ] = "bundled",
    output: Annotated[Path, typer.Option(help="Folder for evaluation.json and the pictures.")] = Path(
        "evaluation"
    ),
    compare: Annotated[
        Path | None, typer.Option(help="evaluation.json of another model or run to compare with.")
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            help="Native event files to train the classical baseline on; may be given several times."
        ),
    ] = None,
    detector: DetectorOption = None,
    charge_scale: ChargeScaleOption = None,
    tag: TagOption = "gauss",
    ticks_per_bin: TicksPerBinOption = 1,
    profile: Annotated[str, typer.Option(help="Preprocessing profile.")] = "protodune-sp-2021",
    planes: Annotated[str, typer.Option(help="Planes to classify.")] = "0,1,2",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads that score.")] = 1,
    resamples: Annotated[int, typer.Option(min=0, help="Draws of events behind the uncertainties.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal draws.")] = 1,
    campaign: CampaignOption = None,
) -> None:
    """Say how good the scores are, on events whose truth is known.

    Example: [bold]protosonic model evaluate held-out/*.h5 --model cnn.onnx --baseline train.h5[/bold]
    """
    from protosonic.events.reader import ReaderOptions
    from protosonic.stages.evaluate import EvaluationOptions, as_planes, as_profile, evaluate_and_show

    options = EvaluationOptions(
        sources=tuple(sources),
        model=model,
        reader=ReaderOptions(
            detector=detector, charge_scale=charge_scale, tag=tag, ticks_per_bin=ticks_per_bin
        ),
        profile=as_profile(profile),
        planes=as_planes(planes),
        threads=threads,
        baseline=tuple(baseline or ()),
        resamples=resamples,
        seed=seed,
        campaign=campaign,
    )
    typer.echo(evaluate_and_show(options, output, compare))


@app.command("repository")
def model_repository(
    folder: Annotated[Path, typer.Argument(help="Model repository; made where it is missing.")],
    model: Annotated[Path | None, typer.Option(help="ONNX file; the bundled model by default.")] = None,
    name: Annotated[str, typer.Option(help="Name of the model at the endpoint.")] = "emtrkmichel",
    version: Annotated[str, typer.Option(help="Version of the model at the endpoint.")] = "1",
    form: Annotated[
        str, typer.Option(help="onnxruntime: production, on GPUs; python: the server of PyPI, on the CPU.")
    ] = "onnxruntime",
    payload: Annotated[
        str,
        typer.Option(
            help="What clients send: patches; image, some hundred times less, to <name>_image; or both, one model each."
        ),
    ] = "both",
    max_batch_size: MaxBatchSizeOption = 2048,
    instances: InstancesOption = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of an instance; form python.")] = 1,
    max_queue_size: MaxQueueSizeOption = 256,
    queue_timeout: Annotated[
        float, typer.Option(min=0, help="A request that has waited for so many seconds is turned away.")
    ] = 100.0,
    tf32: Annotated[
        bool, typer.Option("--tf32", help="Let GPUs compute in TF32: faster, scores differ by some 1e-4.")
    ] = False,
) -> None:
    """Write a model into a model repository for Triton; other versions of it stay.

    Example: [bold]protosonic model repository /srv/models --model cnn.onnx --version 2[/bold]
    """
    from protosonic.serving.repository import (
        ServedModel,
        as_form,
        as_payloads,
        warn_if_untrained,
        write_repository,
    )

    served = ServedModel(
        name, version, instances, threads, max_batch_size, max_queue_size, queue_timeout, tf32
    )
    chosen = as_payloads(payload)
    warn_if_untrained(model)
    for one in chosen:
        typer.echo(write_repository(folder, model, served, as_form(form), one))


@app.command("train")
def model_train(
    folder: Annotated[Path, typer.Argument(help="Folder for the model, its figures and its curves.")],
    events: Annotated[int, typer.Option(min=4, help="Simulated events to train on.")] = 40,
    validation_events: Annotated[
        int, typer.Option(min=1, help="Simulated events to stop and calibrate by.")
    ] = 3,
    minutes: Annotated[float, typer.Option(help="Wall time of the training, without the simulation.")] = 25.0,
    steps: Annotated[int | None, typer.Option(help="Batches; makes a run repeatable.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Patches of a batch; 2048 suits a GPU.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Largest rate; 1e-3 suits batches of 2048.")] = 5e-4,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes that simulate.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seeds events and training.")] = 1,
) -> None:
    """Train the network on simulated events; needs the extra 'train'.

    Example: [bold]protosonic model train results/network --events 40 --minutes 25[/bold]
    """
    from protosonic.extras import needs_extra

    with needs_extra("train"):
        from protosonic.training.run import TrainingPlan, train

    train(
        TrainingPlan(
            folder,
            events=events,
            validation_events=validation_events,
            minutes=minutes,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            device=device,
            workers=workers,
            seed=seed,
        )
    )


@app.command("prepare")
def model_prepare(
    settings: SettingsOption,
    output: Annotated[Path, typer.Option(help="ONNX file to write.")],
    record: Annotated[Path, typer.Option(help="JSON record to write.")],
    weights: Annotated[
        Path | None, typer.Option(help="File of weights to write, so that jobs on the CPU start faster.")
    ] = None,
) -> None:
    """Put the configured model in its place and check it (what the workflow calls).

    Example: [bold]protosonic model prepare --settings settings.json --output model.onnx --record model.json[/bold]
    """
    from protosonic.config import load_settings
    from protosonic.stages.model import prepare_model

    prepare_model(load_settings(settings), output, record, weights)
