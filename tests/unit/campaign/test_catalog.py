"""The catalog: records of real files, read once, with a reason where a file cannot be used."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from protosonic.campaign.inputs import InputFile
from protosonic.campaign.records import CatalogBlock, InputSpec, read_record
from protosonic.detectors import load_detector
from protosonic.errors import ConfigError
from protosonic.events.model import EventId
from protosonic.events.native_writer import NativeWriter
from protosonic.publish import sha256_of
from protosonic.simulation.files import simulate_files
from protosonic.simulation.generator import simulate_event
from protosonic.stages.catalog import catalog_block, catalog_file

OUTPUT = Path("catalog.json")
HD = {"detector": "protodune-hd", "charge_scale": 1e-3, "run": 7}


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[InputFile]:
    """Two native files of two events each, in the working directory."""
    monkeypatch.chdir(tmp_path)
    paths = simulate_files(Path("data"), detector="protodune-sp", files=2, events=2, hits=0, seed=1)
    return [InputFile(str(path), InputSpec()) for path in paths]


@pytest.fixture
def frames(tmp_path) -> Path:
    """Wire-Cell frames of one event on collection channels of ProtoDUNE-HD: pulses of 5000 electrons."""
    path = tmp_path / "frames.h5"
    ticks = np.arange(300)
    pulse = 5000 * np.exp(-0.5 * ((ticks - 150) / 4.0) ** 2)
    with h5py.File(path, "w") as file:
        file["1/frame_gauss"] = np.tile(pulse.astype(np.float32), (20, 1))
        file["1/channels_gauss"] = np.arange(2080, 2100, dtype=np.int32)
        file["1/tickinfo_gauss"] = np.array([0.0, 500.0, 0.0])
    return path


def catalog(files: list[InputFile]) -> dict[str, object]:
    """Write the catalog; what was written must be what is returned."""
    block = catalog_block(files, OUTPUT)
    assert read_record(OUTPUT, CatalogBlock) == block
    return {record.path: record for record in block.files}


def tamper(path: str) -> None:
    """Change the record of a file so that it shows whether the file is read again."""
    content = json.loads(OUTPUT.read_text())
    for record in content["files"]:
        if record["path"] == path:
            record["warnings"] = ["not read again"]
    OUTPUT.write_text(json.dumps(content))


def was_read(records: dict, path: str) -> bool:
    return records[path].warnings != ("not read again",)


def test_record_of_a_file_says_all_that_a_campaign_needs(files):
    record = catalog(files)[files[0].path]
    status = Path(files[0].path).stat()
    assert (record.size, record.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert record.sha256 == sha256_of(Path(files[0].path))
    assert (record.format, record.detector, record.reason, record.warnings) == (
        "native",
        "protodune-sp",
        None,
        (),
    )
    assert [(event.entry, event.id) for event in record.events] == [(0, (1, 0, 1)), (1, (1, 0, 2))]
    for event in record.events:
        simulated = simulate_event(load_detector("protodune-sp"), event.id, event.entry, 0, 1)
        assert list(event.hits_by_plane) == simulated.hits.count_by_plane()
        assert event.n_samples == len(simulated.waveforms.values)


def test_records_are_sorted_by_path(files):
    assert list(catalog(files[::-1])) == [file.path for file in files]


def test_unchanged_file_is_not_read_again(files):
    catalog(files)
    tamper(files[0].path)
    again = catalog(files)
    assert not was_read(again, files[0].path)


def test_file_that_is_added_to_a_block_is_read_alone(files):
    catalog(files[:1])
    tamper(files[0].path)
    records = catalog(files)
    assert not was_read(records, files[0].path)
    assert len(records[files[1].path].events) == 2


def test_file_that_is_no_longer_an_input_loses_its_record(files):
    catalog(files)
    assert list(catalog(files[1:])) == [files[1].path]


def test_file_with_another_time_is_read_again(files):
    catalog(files)
    tamper(files[0].path)
    os.utime(files[0].path, (1000, 1000))
    records = catalog(files)
    assert was_read(records, files[0].path)
    assert records[files[0].path].mtime_ns == 1000 * 10**9


def test_file_with_another_size_is_read_again(files):
    path = Path(files[0].path)
    catalog(files)
    tamper(files[0].path)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(path.read_bytes()[:-100])
    os.utime(path, ns=times)
    records = catalog(files)
    assert was_read(records, files[0].path)
    assert records[files[0].path].reason.startswith("truncated: ")


def test_file_with_other_options_is_read_again(files):
    catalog(files)
    tamper(files[0].path)
    again = [file._replace(spec=InputSpec(run=5)) for file in files]
    assert was_read(catalog(again), files[0].path)


def test_all_files_are_read_again_by_another_version_of_protosonic(files):
    catalog(files)
    tamper(files[0].path)
    content = json.loads(OUTPUT.read_text())
    OUTPUT.write_text(json.dumps(content | {"package_version": "0.0.0"}))
    assert was_read(catalog(files), files[0].path)


@pytest.mark.parametrize("content", ["", "{", '{"version": 2, "files": []}', "[]"])
def test_damaged_catalog_is_made_anew(files, content):
    before = catalog(files)
    OUTPUT.write_text(content)
    assert catalog(files) == before


def test_missing_file_becomes_a_record_with_a_reason(files):
    record = catalog([*files, InputFile("data/gone.h5", InputSpec())])["data/gone.h5"]
    assert record.reason == "unreadable: the file cannot be opened: no such file or directory"
    assert (record.file_id, record.events, record.size) == ("", (), 0)


def test_missing_file_is_looked_for_again(files):
    catalog([InputFile("data/late.h5", InputSpec())])
    Path("data/late.h5").write_bytes(Path(files[0].path).read_bytes())
    record = catalog([InputFile("data/late.h5", InputSpec())])["data/late.h5"]
    assert record.reason is None
    assert len(record.events) == 2


def test_file_that_vanishes_loses_its_events(files):
    catalog(files)
    Path(files[0].path).unlink()
    record = catalog(files)[files[0].path]
    assert record.reason.startswith("unreadable: ")
    assert record.events == ()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty-file"),
        (b"nothing known" * 100, "unsupported-format"),
        (b"root\x00\x00", "unsupported-format"),
    ],
)
def test_file_that_cannot_be_used_becomes_a_record_with_a_reason(files, content, code):
    Path("bad").write_bytes(content)
    record = catalog([InputFile("bad", InputSpec())])["bad"]
    assert record.reason.startswith(f"{code}: ")
    assert "bad" not in record.reason.partition(":")[2]
    assert record.sha256 == sha256_of(Path("bad"))


def test_folder_among_the_files_becomes_a_record_with_a_reason(files):
    assert catalog([InputFile("data", InputSpec())])["data"].reason.startswith("unreadable: ")


def test_refused_file_is_not_read_again_until_it_changes(files):
    bad = InputFile("bad", InputSpec())
    Path("bad").write_bytes(b"nothing known" * 100)
    catalog([bad])
    tamper("bad")
    assert not was_read(catalog([bad]), "bad")
    Path("bad").write_bytes(Path(files[0].path).read_bytes())
    assert catalog([bad])["bad"].reason is None


def test_file_of_another_format_than_stated_is_refused(files):
    record = catalog_file(InputFile(files[0].path, InputSpec(format="numl")))
    assert record.reason.startswith("wrong-format: ")


def test_event_that_cannot_be_classified_is_recorded_with_its_reason(tmp_path):
    detector, path = load_detector("protodune-sp"), tmp_path / "a.h5"
    with NativeWriter(path, detector) as writer:
        event = simulate_event(detector, EventId(1, 0, 1), 0, 1, 1)
        writer.write(dataclasses.replace(event, waveforms=None))
        writer.write(simulate_event(detector, EventId(1, 0, 2), 1, 0, 1))
    first, second = catalog_file(InputFile(str(path), InputSpec())).events
    assert first.reason.startswith("no-waveforms: ")
    assert (first.id, second.id, second.reason) == ((1, 0, 1), (1, 0, 2), None)


def test_option_that_a_format_needs_stops_the_catalog(files, frames):
    with pytest.raises(
        ConfigError, match=r"frames\.h5: inputs\[\]\.charge_scale \(--charge-scale\) is needed"
    ):
        catalog([*files, InputFile(str(frames), InputSpec(detector="protodune-hd"))])
    assert not OUTPUT.exists()


def test_numbers_that_a_format_lacks_come_from_the_options(frames):
    record = catalog_file(InputFile(str(frames), InputSpec(**HD)))
    assert [event.id for event in record.events] == [(7, 0, 1)]
    assert record.events[0].hits_by_plane == (0, 0, 20)
    assert record.warnings == ()


def test_charge_scale_that_is_wrong_by_orders_is_warned_about(frames):
    record = catalog_file(InputFile(str(frames), InputSpec(**HD | {"charge_scale": 1.0})))
    [warning] = record.warnings
    assert warning.startswith("the median hit amplitude on the collection plane is 5e+03 recob::Wire units")
    assert warning.endswith("is charge_scale right?")
    assert record.reason is None
