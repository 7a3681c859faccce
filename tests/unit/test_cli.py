"""The ``protosonic`` command: help, exit codes, and every command on real files."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import typer.main
import yaml

from protosonic import __version__
from protosonic.campaign.inputs import block_of
from protosonic.campaign.records import CatalogBlock, Plan, read_record
from protosonic.cli import app
from protosonic.config.load import known_keys
from protosonic.config.render import schema_json, settings_yaml
from protosonic.events.formats import open_events
from protosonic.events.reader import ReaderOptions
from protosonic.failures import guarded, read_failures
from protosonic.inference.untrained import write_untrained_model
from support.campaign import protosonic
from support.models import linear_weights, write_linear_model


class Outcome(NamedTuple):
    """What a command line gave."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def commands() -> list[list[str]]:
    """Every command as the words that call it."""
    found: list[list[str]] = []

    def walk(command, words: list[str]) -> None:
        found.append(words)
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, [*words, name])

    walk(typer.main.get_command(app), [])
    return found


@contextlib.contextmanager
def restored_logging() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def cli(capsys, monkeypatch) -> Iterator[Cli]:
    """Run a command line in this process."""
    monkeypatch.delenv("PROTOSONIC_SETTINGS", raising=False)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: object) -> Outcome:
        code = guarded(app, [str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    with restored_logging():
        yield run


@pytest.fixture(scope="module")
def native(tmp_path_factory) -> Path:
    """A simulated file of two events."""
    folder = tmp_path_factory.mktemp("native")
    protosonic("simulate", str(folder), "--events", "2", "--hits", "100")
    [path] = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def finished(native, tmp_path_factory) -> Path:
    """Working directory of a campaign of which every stage was run by its command; one input is empty."""
    workdir = tmp_path_factory.mktemp("finished")
    (workdir / "empty.h5").touch()
    config = {
        "inputs": [{"path": str(native)}, {"path": "empty.h5"}],
        "preprocess": {"planes": [2]},
        "inference": {"policy": "cpu-only"},
    }
    (workdir / "config.yaml").write_text(yaml.safe_dump(config))
    with contextlib.chdir(workdir), restored_logging():
        for arguments in stage_commands(Path("work/demo"), [str(native), "empty.h5"]):
            assert guarded(app, arguments) == 0, arguments
    (workdir / "work" / "demo" / "model" / "model.onnx").unlink()
    return workdir


def stage_commands(work: Path, files: list[str]) -> Iterator[list[str]]:
    """What the rules of the workflow call, one after the other."""
    settings = "--settings config.yaml"
    blocks = sorted({f"{work}/catalog/{block_of(file)}.json" for file in files})
    for block in blocks:
        yield f"catalog {settings} --block {Path(block).stem} --output {block}".split()
    outputs = f"--descriptors {work}/partitions --plan {work}/plan.json"
    yield f"partition {settings} {outputs} {' '.join(blocks)}".split()
    model = f"{work}/model/model"
    weights = f"--weights {work}/model/weights.npz"
    yield f"model prepare {settings} --output {model}.onnx --record {model}.json {weights}".split()
    for partition in read_record(work / "plan.json", Plan).partitions:
        unit = f"{settings} --descriptor {work}/partitions/{partition.id}.json"
        yield f"preprocess {unit} --output unit.h5".split()
        inputs = f"--unit unit.h5 --model {model}.onnx --model-record {model}.json {weights} --threads 2"
        outputs = f"--scores {work}/scores/{partition.id}.parquet --status {work}/status/{partition.id}.json"
        yield f"infer {unit} {inputs} {outputs}".split()
    yield f"merge {settings}".split()
    yield ["report"]


@pytest.fixture
def campaign(finished, tmp_path) -> Path:
    """A copy of the finished campaign to change."""
    return Path(shutil.copytree(finished, tmp_path / "campaign"))


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_of_every_command_explains_it(cli, words):
    outcome = cli(*words, "--help")
    assert outcome.code == 0
    text = " ".join(outcome.out.split())
    assert f"Usage: {' '.join(['protosonic', *words])} " in text
    assert cli(*words, "-h").out == outcome.out


GROUPS = [[], ["config"], ["endpoint"], ["environment"], ["kubernetes"], ["model"]]


@pytest.mark.parametrize(
    "words",
    [words for words in commands() if words not in GROUPS],
    ids=" ".join,
)
def test_help_of_every_command_holds_an_example_of_it(cli, words):
    text = " ".join(cli(*words, "--help").out.split())
    assert f"Example: {' '.join(['protosonic', *words])}" in text


def test_every_option_is_explained():
    def check(command) -> None:
        for parameter in command.params:
            assert parameter.help, f"{command.name} {parameter.name}"
        for inner in getattr(command, "commands", {}).values():
            check(inner)

    check(typer.main.get_command(app))


def test_command_without_arguments_shows_the_help(cli):
    assert "Usage: protosonic" in (shown := cli()).out + shown.err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["infer", "--help"], ["config"]])
def test_help_imports_no_heavy_library(arguments):
    code = (
        "import sys; sys.argv[0] = 'protosonic'\n"
        "from protosonic.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('loaded:', *sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    loaded = set(process.stdout.partition("loaded: ")[2].split())
    assert "protosonic.cli" in loaded
    heavy = {"numpy", "h5py", "pyarrow", "onnx", "onnxruntime", "snakemake", "tritonclient", "matplotlib"}
    assert not heavy & loaded


def test_commands_do_not_let_linear_algebra_start_threads_of_its_own():
    code = (
        "import os, sys\n"
        "from protosonic.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import numpy as np\n"
        "np.ones((1000, 1000)) @ np.ones((1000, 1000))\n"
        "print('threads:', len(os.listdir('/proc/self/task')))"
    )
    arguments = [sys.executable, "-c", code, "--version"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    process = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert process.stdout.endswith("threads: 1\n")


def test_installed_command_prints_the_version():
    assert protosonic("--version") == f"protosonic {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["zebra"], ["inspect"], ["simulate", "x", "--files", "0"], ["display", "x", "--entry", "-1"], ["infer"]],
)
def test_wrong_usage_exits_with_code_2(cli, arguments):
    outcome = cli(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: protosonic" in outcome.err


def test_simulate_writes_files_and_prints_their_names(cli, tmp_path):
    outcome = cli("simulate", tmp_path / "new", "--files", 2, "--events", 3, "--hits", 0, "--run", 9)
    paths = [Path(line) for line in outcome.out.splitlines()]
    assert sorted((tmp_path / "new").iterdir()) == paths
    events = []
    for path in paths:
        with open_events(path, ReaderOptions()) as file:
            events += [summary.id for summary in file.summaries()]
    assert events == [(9, 0, number) for number in range(1, 7)]


def test_simulating_again_gives_the_same_files(cli, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        cli("simulate", tmp_path / name, "--hits", 50, "--seed", seed)
    first, same, other = (next((tmp_path / name).iterdir()).read_bytes() for name in "abc")
    assert first == same
    assert first != other


@pytest.mark.parametrize("detector", ["zebra", "microboone"])
def test_detector_that_cannot_be_simulated_exits_with_code_2(cli, tmp_path, detector):
    outcome = cli("simulate", tmp_path / "new", "--detector", detector)
    assert outcome.code == 2
    assert detector in outcome.err
    assert not list(tmp_path.rglob("*.h5"))


def test_output_that_cannot_be_made_exits_with_code_2(cli, native):
    outcome = cli("simulate", native / "folder", "--hits", 0)
    assert (outcome.code, outcome.err) == (
        2,
        f"error: {native}/folder: Not a directory. Choose another path\n",
    )


def test_inspect_lists_the_events_of_a_file(cli, native):
    outcome = cli("inspect", native)
    assert outcome.code == 0
    assert outcome.out.startswith(f"{native}: native\ndetector protodune-sp\n")
    assert outcome.out.count("\n│ ") == 2


def test_inspect_of_a_bad_file_exits_with_code_3(cli, tmp_path):
    (tmp_path / "bad.h5").write_bytes(b"root" + bytes(2000))
    outcome = cli("inspect", tmp_path / "bad.h5")
    assert outcome.code == 3
    assert outcome.err.startswith(f"error: {tmp_path}/bad.h5: this is a ROOT file, which cannot be read. ")


def test_convert_leaves_out_events_that_cannot_be_used(cli, native, tmp_path):
    damaged = Path(shutil.copy(native, tmp_path / "damaged.h5"))
    with h5py.File(damaged, "r+") as file:
        file["values/charge"][0] = np.nan
    outcome = cli("convert", damaged, tmp_path / "new" / "good.h5")
    assert (outcome.code, outcome.out) == (0, f"1 events written to {tmp_path}/new/good.h5\n")
    assert "run 1 subrun 0 event 1: left out: not-finite: " in outcome.err
    with (
        open_events(tmp_path / "new" / "good.h5", ReaderOptions()) as file,
        open_events(native, ReaderOptions()) as old,
    ):
        [kept], [_, expected] = file.read(), old.read()
    assert kept.id == expected.id
    np.testing.assert_array_equal(kept.waveforms.values, expected.waveforms.values)
    np.testing.assert_array_equal(kept.hits.peak_time, expected.hits.peak_time)


def test_convert_of_a_bad_file_writes_nothing(cli, tmp_path):
    (tmp_path / "bad.h5").write_text("text " * 300)
    assert cli("convert", tmp_path / "bad.h5", tmp_path / "good.h5").code == 3
    assert not (tmp_path / "good.h5").exists()


@pytest.mark.parametrize(("name", "magic"), [("event.png", b"\x89PNG"), ("event.svg", b"<?xml")])
def test_display_draws_an_event_of_a_file_and_of_a_campaign(cli, native, finished, tmp_path, name, magic):
    for source in (native, finished):
        outcome = cli("display", source, "--entry", 1, "--output", tmp_path / name)
        assert (outcome.code, outcome.out) == (0, f"{tmp_path / name}\n")
        assert (tmp_path / name).read_bytes().startswith(magic)
        (tmp_path / name).unlink()


def test_display_of_an_unknown_kind_exits_with_code_2(cli, native, tmp_path):
    assert cli("display", native, "--output", tmp_path / "event.gif").code == 2


def test_config_default_and_schema_print_the_generated_files(cli):
    assert cli("config", "default").out == settings_yaml()
    assert cli("config", "schema").out == schema_json()


def test_config_explain_explains_everything_or_one_key(cli):
    everything = cli("config", "explain").out
    assert all(f"{key} (" in everything for key in known_keys())
    assert cli("config", "explain", "merge.target_rows").out.startswith(
        "merge.target_rows (default 4000000)\n"
    )
    assert cli("config", "explain", "zebra").code == 2


def test_model_check_accepts_models_that_meet_the_contract(cli, tmp_path):
    write_untrained_model(tmp_path / "untrained.onnx")
    write_linear_model(tmp_path / "linear.onnx", linear_weights())
    assert (
        "untrained.onnx: meets the contract, untrained; sha256 "
        in cli("model", "check", tmp_path / "untrained.onnx").out
    )
    assert "linear.onnx: meets the contract; sha256 " in cli("model", "check", tmp_path / "linear.onnx").out


def test_model_check_says_what_a_model_is_for_people_and_for_programs(cli, tmp_path):
    path = write_linear_model(tmp_path / "linear.onnx", linear_weights() * 1000)
    outcome = cli("model", "check", path)
    assert outcome.code == 0
    assert "em_trk_none_netout  em_trk_none_netout FP32 [?, 3]\n" in outcome.out
    assert "ONNX Runtime: another architecture than the published one" in outcome.out
    assert "is the softmax missing?" in outcome.out
    report = json.loads(cli("model", "check", path, "--json").out)
    assert report["engine"] == "onnxruntime"
    assert set(report["golden"]) == {"track", "em", "none", "michel"}
    assert any("is the softmax missing?" in remark for remark in report["remarks"])


@pytest.mark.parametrize("kind", ["missing", "text", "other names"])
def test_model_check_exits_with_code_4_for_others(cli, tmp_path, kind):
    path = tmp_path / "model.onnx"
    if kind == "text":
        path.write_text("not a model")
    elif kind == "other names":
        write_linear_model(path, linear_weights(), output_names=("a", "b"))
    outcome = cli("model", "check", path)
    assert outcome.code == 4
    assert outcome.err.splitlines()[-1].startswith(f"error: {path}: ")


def test_evaluating_a_campaign_gives_what_evaluating_its_file_gives(cli, finished, native, tmp_path):
    of_campaign = cli("model", "evaluate", finished, "--output", tmp_path / "campaign")
    assert of_campaign.code == 0
    assert "hits, track vs shower" in of_campaign.out
    arguments = ("--planes", "2", "--compare", tmp_path / "campaign" / "evaluation.json")
    of_file = cli("model", "evaluate", native, "--output", tmp_path / "file", *arguments)
    assert of_file.code == 0
    assert "AUC, network: this − other" in of_file.out
    assert "same events" in of_file.out
    one, other = (
        json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("campaign", "file")
    )
    assert one["sample"]["hits"] > 50
    assert one["sample"]["digest"] == other["sample"]["digest"]
    for level in ("hits", "truth_clusters"):
        here, there = (content["scorers"]["network"][level] for content in (one, other))
        assert here["confusion"] == there["confusion"]
        areas = [part["track_vs_shower"]["overall"]["auc"] for part in (here, there)]
        assert areas[0]["value"] == pytest.approx(areas[1]["value"], abs=1e-5)
        assert areas[0]["uncertainty"] == pytest.approx(areas[1]["uncertainty"], abs=1e-4)
    for name in ("roc.png", "parts.png", "reliability.png", "confusion.png"):
        assert (tmp_path / "file" / name).read_bytes().startswith(b"\x89PNG")


def test_stages_make_a_campaign_that_verifies(cli, finished):
    outcome = cli("verify", finished, "--inputs")
    assert outcome.code == 0
    assert "verified: 3 planned = 2 done + 1 quarantined" in outcome.out
    assert (finished / "results" / "demo" / "report.html").is_file()


def test_verify_exits_with_code_6_when_something_is_wrong(cli, campaign):
    (campaign / "results" / "demo" / "accounting.parquet").write_bytes(b"")
    outcome = cli("verify", campaign)
    assert (outcome.code, outcome.err) == (6, f"error: {campaign}/results/demo: 1 problem\n")
    assert (
        outcome.out == "accounting.parquet: its bytes are not those that were published (SHA-256 differs)\n"
    )


def test_verify_exits_with_code_2_where_there_is_no_campaign(cli, finished, tmp_path):
    assert cli("verify", tmp_path).code == 2
    assert cli("verify", finished, "--campaign", "other").code == 2


def test_accept_exits_with_code_5_when_too_much_is_quarantined(cli, finished):
    outcome = cli("accept", finished)
    assert outcome.code == 5
    assert outcome.err.startswith(
        "error: 1 of 3 planned events are quarantined (expected a fraction of at most 0.0"
    )


def test_accept_exits_with_code_0_when_it_is_within_the_limit(cli, campaign, monkeypatch):
    monkeypatch.chdir(campaign)
    config = yaml.safe_load(Path("config.yaml").read_text())
    Path("config.yaml").write_text(yaml.safe_dump(config | {"acceptance": {"max_quarantined_fraction": 0.5}}))
    assert cli("merge", "--settings", "config.yaml").code == 0
    assert cli("accept", campaign, "--campaign", "demo").code == 0


def test_report_is_written_again(cli, campaign):
    report = campaign / "results" / "demo" / "report.html"
    report.unlink()
    assert cli("report", campaign).out == f"{report}\n"
    assert report.is_file()


def test_settings_come_from_the_environment_of_the_jobs(cli, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished)
    monkeypatch.setenv("PROTOSONIC_SETTINGS", "config.yaml")
    output = tmp_path / "block.json"
    assert cli("catalog", "--block", block_of("empty.h5"), "--output", output).code == 0
    assert [file.path for file in read_record(output, CatalogBlock).files] == ["empty.h5"]


def test_unknown_block_exits_with_code_2(cli, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished)
    outcome = cli("catalog", "--settings", "config.yaml", "--block", "zz", "--output", tmp_path / "zz.json")
    assert outcome.code == 2
    assert outcome.err.startswith("error: zz: there is no such block of inputs (expected one of ")


def test_wrong_settings_exit_with_code_2_and_are_recorded_for_the_run(cli, tmp_path):
    (tmp_path / "config.yaml").write_text("zebra: 1\n")
    command = ["merge", "--settings", tmp_path / "config.yaml"]
    assert cli("--failures", tmp_path / "failures", *command).code == 2
    [failure] = read_failures(tmp_path / "failures", 0)
    assert (failure.exit_code, failure.error) == (2, "ConfigError")
    assert "zebra: unknown key" in failure.message


def test_batch_log_has_dated_lines_and_verbose_ones_say_where_an_error_was_raised(cli, tmp_path):
    quiet = cli("convert", tmp_path / "none.h5", tmp_path / "good.h5")
    verbose = cli("--verbose", "convert", tmp_path / "none.h5", tmp_path / "good.h5")
    assert verbose.code == quiet.code == 3
    assert len(quiet.err.splitlines()) == 1
    assert re.match(r"20\d\d-\d\d-\d\d .* DEBUG raised here\n", verbose.err)
    assert verbose.err.endswith(quiet.err)
