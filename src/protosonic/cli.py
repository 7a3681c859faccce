"""The ``protosonic`` command: one thin function per command. Heavy imports stay inside the functions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from protosonic import __version__

__all__ = ["app", "main"]

app = typer.Typer(
    help="Classify LArTPC hits as track, shower, Michel electron or nothing, over whole campaigns.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Explain the configuration.", no_args_is_help=True)
model_app = typer.Typer(help="Work with models.", no_args_is_help=True)
endpoint_app = typer.Typer(help="Work with inference endpoints.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(model_app, name="model")
app.add_typer(endpoint_app, name="endpoint")

STAGES = "Stages (what the rules of the workflow call)"

SettingsOption = Annotated[
    Path, typer.Option("--settings", envvar="PROTOSONIC_SETTINGS", help="Configuration file, YAML or JSON.")
]
CampaignOption = Annotated[
    str | None, typer.Option("--campaign", help="Name of the campaign, where the folder holds several.")
]
InstancesOption = Annotated[
    int, typer.Option(min=1, help="Sessions that work at the same time; per GPU where there are GPUs.")
]
MaxBatchSizeOption = Annotated[int, typer.Option(min=1, help="Most patches that are scored together.")]
MaxQueueSizeOption = Annotated[
    int, typer.Option(min=0, help="Requests that may wait; more are turned away. 0 is no limit.")
]
WorkdirArgument = Annotated[Path, typer.Argument(help="Working directory of the campaign.")]


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
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    from protosonic.logs import start_logging

    context.obj = failures
    start_logging(verbose=verbose)


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
    cores: Annotated[int | None, typer.Option(min=1, help="CPU cores to use; all by default.")] = None,
) -> None:
    """Run a campaign: files to dataset and report.

    Example: [bold]protosonic run config/config.yaml --workdir /data/demo --cores 4[/bold]

    What follows [bold]--[/bold] goes to snakemake. The exit code says what went wrong; see docs/errors.md.
    """
    from protosonic.campaign.launch import run_campaign

    raise typer.Exit(run_campaign(config, workdir, profile, cores, context.args))


run_info = app.registered_commands[-1]
run_info.context_settings = {"allow_extra_args": True, "ignore_unknown_options": False}


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="Any file.")],
    detector: Annotated[str | None, typer.Option(help="Where the format does not store it.")] = None,
    charge_scale: Annotated[
        float | None, typer.Option(help="Stored charge times this = recob::Wire units.")
    ] = None,
    tag: Annotated[str, typer.Option(help="Wire-Cell frame tag.")] = "gauss",
    ticks_per_bin: Annotated[int, typer.Option(min=1, help="Readout ticks per stored bin.")] = 1,
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
) -> None:
    """Simulate events with truth, in the native format.

    Example: [bold]protosonic simulate data --files 4 --events 2 --hits 4000[/bold]
    """
    from protosonic.simulation.files import simulate_files

    for path in simulate_files(
        folder, detector=detector, files=files, events=events, hits=hits, seed=seed, run=run_number
    ):
        typer.echo(path)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="File of any supported format.")],
    output: Annotated[Path, typer.Argument(help="Native file to write.")],
    detector: Annotated[str | None, typer.Option(help="Where the format does not store it.")] = None,
    charge_scale: Annotated[
        float | None, typer.Option(help="Stored charge times this = recob::Wire units.")
    ] = None,
    tag: Annotated[str, typer.Option(help="Wire-Cell frame tag.")] = "gauss",
    ticks_per_bin: Annotated[int, typer.Option(min=1, help="Readout ticks per stored bin.")] = 1,
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


@app.command(rich_help_panel=STAGES)
def catalog(
    settings: SettingsOption,
    block: Annotated[str, typer.Option(help="Name of the block.")],
    output: Annotated[Path, typer.Option(help="JSON file to write.")],
) -> None:
    """Inspect a block of input files.

    Example: [bold]protosonic catalog --settings settings.json --block 3f --output 3f.json[/bold]
    """
    from protosonic.campaign.inputs import blocks_of_inputs, find_inputs
    from protosonic.config import load_settings
    from protosonic.errors import ConfigError
    from protosonic.stages.catalog import catalog_block

    blocks = blocks_of_inputs(find_inputs(load_settings(settings)))
    if block not in blocks:
        raise ConfigError(
            "there is no such block of inputs", where=block, expected=f"one of {', '.join(blocks)}"
        )
    catalog_block(blocks[block], output)


@app.command(rich_help_panel=STAGES)
def partition(
    catalog_blocks: Annotated[list[Path], typer.Argument(help="Block files of the catalog.")],
    settings: SettingsOption,
    descriptors: Annotated[Path, typer.Option(help="Folder of descriptors to write.")],
    plan: Annotated[Path, typer.Option(help="JSON file of the plan to write.")],
) -> None:
    """Cut a catalogued campaign into partitions.

    Example: [bold]protosonic partition --settings settings.json --descriptors partitions --plan plan.json 3f.json[/bold]
    """
    from protosonic.config import load_settings
    from protosonic.stages.partition import partition_campaign

    partition_campaign(catalog_blocks, load_settings(settings), descriptors, plan)


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

    preprocess_partition(descriptor, load_settings(settings).preprocess, output)


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
) -> None:
    """Score the hits of a partition.

    Example: [bold]protosonic infer --settings settings.json --unit ID.h5 --descriptor partitions/ID.json
    --model model.onnx --model-record model.json --scores ID.parquet --status ID.json[/bold]
    """
    from protosonic.config import load_settings
    from protosonic.stages.infer import infer_partition

    infer_partition(unit, descriptor, model, model_record, load_settings(settings), scores, status, threads)


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
    from protosonic.campaign.layout import Layout
    from protosonic.campaign.provenance import read_campaign
    from protosonic.stages.merge import check_acceptance

    check_acceptance(read_campaign(Layout.of_workdir(workdir, campaign)))


@app.command(rich_help_panel=STAGES)
def report(workdir: WorkdirArgument = Path(), campaign: CampaignOption = None) -> None:
    """Write the HTML report of a finished campaign.

    Example: [bold]protosonic report /data/demo[/bold]
    """
    from protosonic.campaign.layout import Layout
    from protosonic.reporting.report import write_report

    typer.echo(write_report(Layout.of_workdir(workdir, campaign)))


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
def display(
    source: Annotated[Path, typer.Argument(help="Input file, or folder of a finished campaign.")],
    output: Annotated[Path, typer.Option(help="PNG or SVG file to write.")] = Path("event.png"),
    entry: Annotated[int, typer.Option(min=0, help="Position of the event in the file.")] = 0,
    detector: Annotated[str | None, typer.Option(help="Where the format does not store it.")] = None,
    charge_scale: Annotated[
        float | None, typer.Option(help="Stored charge times this = recob::Wire units.")
    ] = None,
    tag: Annotated[str, typer.Option(help="Wire-Cell frame tag.")] = "gauss",
    ticks_per_bin: Annotated[int, typer.Option(min=1, help="Readout ticks per stored bin.")] = 1,
) -> None:
    """Draw an event: charge and hits, or hits coloured by class.

    Example: [bold]protosonic display frames.tar.bz2 --detector protodune-hd --charge-scale 1e-3 --output event.png[/bold]
    """
    from protosonic.events.reader import ReaderOptions
    from protosonic.reporting.event_display import draw_source

    options = ReaderOptions(
        detector=detector, charge_scale=charge_scale, tag=tag, ticks_per_bin=ticks_per_bin
    )
    typer.echo(draw_source(source, output, entry, options))


@app.command()
def serve(
    model: Annotated[
        Path | None, typer.Option(help="ONNX file; the untrained bundled model by default.")
    ] = None,
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


@endpoint_app.command("check")
def endpoint_check(
    url: Annotated[str, typer.Argument(help="grpc://HOST:PORT, or grpcs://HOST:PORT with TLS.")],
    model_file: Annotated[
        Path | None,
        typer.Option(help="ONNX file that should be served; the untrained bundled model by default."),
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


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the configuration.

    Example: [bold]protosonic config schema > config/schema.json[/bold]
    """
    from protosonic.config.render import schema_json

    typer.echo(schema_json(), nl=False)


@config_app.command("explain")
def config_explain(
    key: Annotated[str | None, typer.Argument(help="A key or a section; all by default.")] = None,
) -> None:
    """Explain a configuration key.

    Example: [bold]protosonic config explain inference.policy[/bold]
    """
    from protosonic.config.render import explain

    typer.echo(explain(key))


@config_app.command("default")
def config_default() -> None:
    """Print the demonstration configuration, with every key explained.

    Example: [bold]protosonic config default > config/config.yaml[/bold]
    """
    from protosonic.config.render import settings_yaml

    typer.echo(settings_yaml(), nl=False)


@model_app.command("check")
def model_check(file: Annotated[Path, typer.Argument(help="ONNX file.")]) -> None:
    """Check that an ONNX file meets the model contract.

    Example: [bold]protosonic model check cnn.onnx[/bold]
    """
    from protosonic.stages.model import check_model

    record = check_model(file)
    typer.echo(
        f"{file}: meets the contract{', untrained' if record.untrained else ''}; sha256 {record.sha256}"
    )


@model_app.command("repository")
def model_repository(
    folder: Annotated[Path, typer.Argument(help="Model repository; made where it is missing.")],
    model: Annotated[
        Path | None, typer.Option(help="ONNX file; the untrained bundled model by default.")
    ] = None,
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


@model_app.command("prepare")
def model_prepare(
    settings: SettingsOption,
    output: Annotated[Path, typer.Option(help="ONNX file to write.")],
    record: Annotated[Path, typer.Option(help="JSON record to write.")],
) -> None:
    """Put the configured model in its place and check it (what the workflow calls).

    Example: [bold]protosonic model prepare --settings settings.json --output model.onnx --record model.json[/bold]
    """
    from protosonic.config import load_settings
    from protosonic.stages.model import prepare_model

    prepare_model(load_settings(settings), output, record)


def main() -> None:
    """Run the command line; every error of ours becomes one message and the exit code of its class."""
    from protosonic.failures import guarded

    sys.exit(guarded(app, sys.argv[1:]))
