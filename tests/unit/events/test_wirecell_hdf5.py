"""Wire-Cell HDF5 frames: what HDF5FrameTap writes is read; what leads out of the file or is absurd is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from protosonic.errors import ConfigError
from protosonic.events.convert import convert_file
from protosonic.events.formats import open_events
from protosonic.events.model import Event, EventId
from protosonic.events.reader import ReaderOptions

from .builders import (
    N_TICKS,
    W_CHANNEL,
    WIRECELL,
    add_frame,
    add_pulse,
    assert_same_event,
    pulse,
    pulse_members,
    read_bad,
    read_file,
    read_good,
    read_one,
    refusal,
    write_tar,
)


@pytest.fixture
def pulse_file(tmp_path: Path) -> Path:
    path = tmp_path / "frames.h5"
    with h5py.File(path, "w") as file:
        add_pulse(file)
    return path


def replace(path: Path, name: str, content: Any, **storage: Any) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        if content is not None:
            file.create_dataset(name, data=content, **storage)


def test_a_frame_gives_the_same_event_as_in_an_archive(tmp_path: Path, pulse_file: Path) -> None:
    event = read_one(pulse_file, run=27409, **WIRECELL)
    assert event.id == EventId(27409, 0, 1)
    assert len(event.hits) == 1
    archive = write_tar(tmp_path / "a.tar", pulse_members())
    assert_same_event(event, read_one(archive, run=27409, **WIRECELL))


def test_groups_are_numbers_not_text(tmp_path: Path) -> None:
    path = tmp_path / "frames.h5"
    with h5py.File(path, "w") as file:
        for ident, centre in (("1", 20), ("10", 60), ("2", 40)):
            add_pulse(file, ident=ident, centre=centre)
    events = read_good(path, **WIRECELL)
    assert [(event.entry, event.id.event) for event in events] == [(0, 1), (1, 2), (2, 10)]
    assert [round(float(event.hits.peak_time[0])) for event in events] == [20, 40, 60]
    with open_events(path, ReaderOptions(**WIRECELL)) as file:
        assert [event.id.event for event in file.read([2, 1])] == [2, 10]


@pytest.mark.parametrize("name", ["01", "1.5", "-1", "٣", "99999999999999999999", "frames", b"\xff1"])
def test_groups_that_are_no_frame_numbers_are_passed_over(pulse_file: Path, name: str | bytes) -> None:
    with h5py.File(pulse_file, "a") as file:
        file.create_group(name)
    assert [event.id.event for event in read_good(pulse_file, **WIRECELL)] == [1]


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"chunks": (1, 7), "compression": "gzip"},
        {"chunks": (3, N_TICKS), "compression": "lzf", "shuffle": True, "fletcher32": True},
        {"dtype": "i2"},
        {"dtype": "i2", "chunks": (2, 50), "compression": "gzip"},
        {"dtype": ">f4"},
        {"dtype": "f8"},
    ],
)
def test_storage_does_not_matter(tmp_path: Path, storage: dict[str, Any]) -> None:
    frame = np.round(np.stack([pulse(30, amplitude=5000), pulse(60, amplitude=3000), pulse(50)]))
    events = []
    for name, options in (("plain.h5", {"dtype": "f4"}), ("stored.h5", storage)):
        with h5py.File(tmp_path / name, "w") as file:
            add_frame(file, [7, 8, 9], frame, **options)
        events.append(read_one(tmp_path / name, **WIRECELL))
    assert len(events[0].hits) == 2
    assert_same_event(*events)


@pytest.mark.parametrize("storage", [{}, {"chunks": (7, 10)}])
def test_frames_larger_than_a_block_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: dict[str, Any]
) -> None:
    frame = np.random.default_rng(2).integers(0, 3, (300, N_TICKS)).astype(np.float32)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        add_frame(file, np.arange(300)[::-1], frame, **storage)
    monkeypatch.setattr("protosonic.events.wirecell_hdf5.BLOCK_BYTES", 5000)
    waveforms = read_one(path, detector="protodune-sp", charge_scale=1).waveforms
    assert waveforms is not None
    dense = np.zeros_like(frame)
    dense[waveforms.sample_waveform, waveforms.sample_tick] = waveforms.values
    np.testing.assert_array_equal(dense, frame[::-1])


def test_the_first_bin_and_the_ticks_of_a_bin_are_used(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        add_frame(file, [5], [[1.0, 0.0, 2.0]], tbin=2)
    event = read_one(path, detector="protodune-sp", charge_scale=1, ticks_per_bin=4)
    assert event.n_ticks == 20
    assert event.waveforms is not None
    assert event.waveforms.sample_tick.tolist() == [8, 9, 10, 11, 16, 17, 18, 19]
    assert event.waveforms.values.tolist() == [1.0] * 4 + [2.0] * 4


def test_anodes_of_one_event_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for anode in (1, 0, 2):
            add_pulse(file, channel=2560 * anode + 2080, tag=f"gauss{anode}")
    assert read_one(path, **WIRECELL).hits.tpc.tolist() == [1, 3, 5]


def test_an_unknown_tag_lists_the_tags_of_the_event(pulse_file: Path) -> None:
    error = read_bad(pulse_file, tag="raw", **WIRECELL)
    assert (error.code, error.found) == ("no-frame", "tags gauss")


@pytest.mark.parametrize("without", ["detector", "charge_scale"])
def test_what_the_format_does_not_store_must_be_configured(pulse_file: Path, without: str) -> None:
    options: dict[str, Any] = {name: value for name, value in WIRECELL.items() if name != without}
    with pytest.raises(ConfigError, match=rf"inputs\[\]\.{without} \(--[a-z-]+\) is needed"):
        read_file(pulse_file, **options)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1/frame_gauss", np.zeros(N_TICKS)),
        ("1/frame_gauss", np.zeros((2, N_TICKS, 1))),
        ("1/frame_gauss", np.zeros((3, N_TICKS))),
        ("1/frame_gauss", np.zeros((2, 0))),
        ("1/frame_gauss", np.zeros((2, N_TICKS), complex)),
        ("1/frame_gauss", h5py.Empty("f4")),
        ("1/channels_gauss", None),
        ("1/channels_gauss", [W_CHANNEL]),
        ("1/channels_gauss", [[W_CHANNEL, W_CHANNEL + 1]]),
        ("1/channels_gauss", [W_CHANNEL, W_CHANNEL]),
        ("1/channels_gauss", [W_CHANNEL, 2**32]),
        ("1/channels_gauss", [1.0, 2.0]),
        ("1/channels_gauss", ["a", "b"]),
        ("1/tickinfo_gauss", None),
        ("1/tickinfo_gauss", [0.0, 500.0]),
        ("1/tickinfo_gauss", [0.0, 500.0, np.nan]),
        ("1/tickinfo_gauss", 0.0),
    ],
)
def test_a_frame_that_does_not_fit_together_is_bad(pulse_file: Path, name: str, content: Any) -> None:
    replace(pulse_file, name, content)
    assert read_bad(pulse_file, **WIRECELL).code == "corrupt"


def test_a_group_in_place_of_the_frame_is_bad(pulse_file: Path) -> None:
    with h5py.File(pulse_file, "a") as file:
        del file["1/frame_gauss"]
        file.create_group("1/frame_gauss")
    assert read_bad(pulse_file, **WIRECELL).code == "corrupt"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1/tickinfo_gauss", [0.0, 500.0, 1e6]),
        ("1/tickinfo_gauss", [0.0, 500.0, -1.0]),
        ("1/tickinfo_gauss", np.zeros(100)),
        ("1/channels_gauss", np.zeros(2**21, np.int32)),
    ],
)
def test_absurd_sizes_are_hostile(pulse_file: Path, name: str, content: Any) -> None:
    replace(pulse_file, name, content)
    assert read_bad(pulse_file, **WIRECELL).code == "hostile"


def test_a_frame_longer_than_any_window_is_hostile(tmp_path: Path) -> None:
    """It was never written, so it takes no space in the file."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        add_frame(file, [1, 2], None, shape=(2, 2**40), chunks=(2, 1000), dtype="f4")
    assert path.stat().st_size < 2**16
    assert read_bad(path, **WIRECELL).code == "hostile"


def test_absurd_chunks_are_hostile(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        frame = {"shape": (2, N_TICKS), "maxshape": (None, None), "chunks": (2**14, 2**13), "dtype": "f4"}
        add_frame(file, [1, 2], None, compression="gzip", **frame)
    error = read_bad(path, **WIRECELL)
    assert (error.code, error.where) == ("hostile", "/1/frame_gauss")


def linked_out(file: h5py.File, elsewhere: Path, kind: str) -> None:
    """Replace a part of a good file by what leads to the same part of another file."""
    if kind == "external group":
        del file["1"]
        file["1"] = h5py.ExternalLink(elsewhere.name, "/1")
        return
    part = "1/channels_gauss" if kind == "external list of channels" else "1/frame_gauss"
    shape, dtype = file[part].shape, file[part].dtype
    del file[part]
    if kind in {"external link", "external list of channels"}:
        file[part] = h5py.ExternalLink(elsewhere.name, f"/{part}")
    elif kind == "soft link over an external one":
        file["1/door"] = h5py.ExternalLink(elsewhere.name, "/1")
        file[part] = h5py.SoftLink("/1/door/frame_gauss")
    elif kind == "external storage":
        file.create_dataset(part, shape, dtype, external=[(elsewhere.name, 0, 800)])
    elif kind == "virtual dataset":
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(elsewhere.name, part, shape)
        file.create_virtual_dataset(part, layout)


KINDS = [
    "external link",
    "external list of channels",
    "soft link over an external one",
    "external storage",
    "virtual dataset",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exists", [True, False])
def test_data_in_another_file_are_hostile(tmp_path: Path, pulse_file: Path, kind: str, exists: bool) -> None:
    elsewhere = tmp_path / "elsewhere.h5"
    elsewhere.write_bytes(pulse_file.read_bytes())
    with h5py.File(pulse_file, "a") as file:
        linked_out(file, elsewhere, kind)
    if not exists:
        elsewhere.unlink()
    expected = "corrupt" if kind.startswith("soft") and not exists else "hostile"
    assert read_bad(pulse_file, **WIRECELL).code == expected


@pytest.mark.parametrize("exists", [True, False])
def test_a_group_in_another_file_is_hostile(tmp_path: Path, pulse_file: Path, exists: bool) -> None:
    elsewhere = tmp_path / "elsewhere.h5"
    elsewhere.write_bytes(pulse_file.read_bytes())
    with h5py.File(pulse_file, "a") as file:
        add_pulse(file, ident="0")
        linked_out(file, elsewhere, "external group")
    if not exists:
        elsewhere.unlink()
    good, bad = read_file(pulse_file, **WIRECELL)
    assert isinstance(good, Event)
    assert not isinstance(bad, Event)
    assert bad.error.code == "hostile"


def test_soft_links_within_the_file_are_followed(pulse_file: Path) -> None:
    with h5py.File(pulse_file, "a") as file:
        file.move("1/frame_gauss", "frame")
        file["1/frame_gauss"] = h5py.SoftLink("/frame")
    assert len(read_one(pulse_file, **WIRECELL).hits) == 1


def test_links_in_a_circle_are_bad(pulse_file: Path) -> None:
    with h5py.File(pulse_file, "a") as file:
        del file["1/frame_gauss"]
        file["1/frame_gauss"] = h5py.SoftLink("/1/frame_gauss")
    assert read_bad(pulse_file, **WIRECELL).code == "corrupt"


def test_one_bad_event_does_not_cost_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    frame = np.zeros((2, 10))
    frame[1, 4] = np.nan
    with h5py.File(path, "w") as file:
        add_pulse(file, ident="1")
        add_frame(file, [5, 6], frame, ident="2")
        add_frame(file, [15359, 15360], np.ones((2, 10)), ident="3")
        file.create_group("4")
        file["5"] = [1, 2]
        add_pulse(file, ident="6")
    events = read_file(path, **WIRECELL)
    reasons = [None if isinstance(event, Event) else event.error.code for event in events]
    assert reasons == [None, "not-finite", "wrong-detector", "no-frame", "corrupt", None]
    assert [event.id.event for event in events] == [1, 2, 3, 4, 5, 6]
    with open_events(path, ReaderOptions(**WIRECELL)) as file:
        summaries = list(file.summaries())
    assert [s.error.code if s.error else None for s in summaries] == reasons
    assert summaries[0].hits_by_plane == (0, 0, 1)


def test_a_damaged_block_costs_only_its_event(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for ident in ("1", "2"):
            add_pulse(file, ident=ident, chunks=(2, N_TICKS), compression="gzip", fletcher32=True)
        chunk = file["1/frame_gauss"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0x20
    path.write_bytes(content)
    bad, good = read_file(path, **WIRECELL)
    assert not isinstance(bad, Event)
    assert (bad.error.code, bad.error.where) == ("corrupt", "/1/frame_gauss")
    assert isinstance(good, Event)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(pulse_file: Path, keep: float) -> None:
    content = pulse_file.read_bytes()
    pulse_file.write_bytes(content[: int(keep * len(content))])
    assert refusal(pulse_file, **WIRECELL).code == "truncated"


def labelled_file(path: Path, labels: Any, frame: Any = None) -> Path:
    """A frame of three channels, 8 bins, with the class of each bin beside it."""
    charge = np.zeros((3, 8)) if frame is None else np.asarray(frame)
    charge[:, 3:6] = [[1, 9, 1], [2, 8, 2], [3, 7, 3]]
    with h5py.File(path, "w") as file:
        group = add_frame(file, [W_CHANNEL + 1, W_CHANNEL, W_CHANNEL + 2], charge, dtype="f4")
        group["frame_label_1st"] = labels
    return path


LABELLED = {"detector": "protodune-sp", "charge_scale": 1.0}


@pytest.mark.parametrize(
    ("stored", "label"), [(0, 2), (1, 0), (2, 1), (3, 3), (4, 1), (5, -1), (6, -1), (7, -1), (-3, -1)]
)
def test_the_classes_of_wire_cell_become_ours(tmp_path: Path, stored: int, label: int) -> None:
    event = read_one(labelled_file(tmp_path / "a.h5", np.full((3, 8), stored, "i1")), **LABELLED)
    assert event.sample_label is not None
    assert event.truth is not None
    assert event.sample_label.tolist() == [label] * 9
    assert event.truth.label.tolist() == [label] * 3
    assert event.truth.particle.tolist() == [-1] * 3


def test_the_truth_of_samples_and_hits_follows_the_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros((3, 8), "i1")
    labels[:, 3:6] = [[0, 1, 0], [0, 2, 0], [3, 3, 1]]
    monkeypatch.setattr("protosonic.events.wirecell_hdf5.BLOCK_BYTES", 1)
    event = read_one(labelled_file(tmp_path / "a.h5", labels), ticks_per_bin=4, **LABELLED)
    assert event.truth is not None
    assert event.sample_label is not None
    assert event.waveforms is not None
    of_bins = [2, 1, 2, 2, 0, 2, 3, 3, 0]  # the second row of the file has the first channel
    assert event.sample_label.tolist() == np.repeat(of_bins, 4).tolist()
    assert event.hits.channel.tolist() == [W_CHANNEL, W_CHANNEL + 1, W_CHANNEL + 2]
    assert event.truth.label.tolist() == [1, 0, 3]


@pytest.mark.parametrize("shape", [(3, 32), (2, 8)])
def test_labels_of_other_bins_give_no_truth_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shape: tuple[int, int]
) -> None:
    event = read_one(labelled_file(tmp_path / "a.h5", np.ones(shape, "i1")), **LABELLED)
    assert (event.truth, event.sample_label) == (None, None)
    assert "frame_label_1st has other bins than frame_gauss: no truth" in caplog.text


def test_converting_keeps_the_truth_of_a_frame(tmp_path: Path) -> None:
    source = labelled_file(tmp_path / "a.h5", np.full((3, 8), 3, "i1"))
    convert_file(source, tmp_path / "b.h5", ReaderOptions(**LABELLED))
    assert_same_event(read_one(source, **LABELLED), read_one(tmp_path / "b.h5"))
    assert read_one(tmp_path / "b.h5").sample_label is not None
