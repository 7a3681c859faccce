"""Native files that are damaged, inconsistent or hostile: only what is affected is lost, and it is never silent."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protosonic.errors import DataError
from protosonic.events.formats import open_events
from protosonic.events.model import MAX_SAMPLES, Event
from protosonic.events.reader import MAX_TICKS, BadEvent, ReaderOptions

from .builders import (
    W_CHANNEL,
    assert_same_event,
    make_event,
    make_waveforms,
    plain_event,
    read_bad,
    read_file,
    refusal,
    write_native,
)


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_native(tmp_path_factory.mktemp("native") / "sound.h5", plain_event(1), plain_event(2, 1))


@pytest.fixture
def two_events(tmp_path: Path, sound_file: Path) -> Path:
    """A copy for the test to damage."""
    return Path(shutil.copy(sound_file, tmp_path / "two.h5"))


def change(path: Path, name: str, index: int, value: Any) -> None:
    with h5py.File(path, "a") as file:
        file[name][index] = value


def replace(path: Path, name: str, content: Any) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        if content is not None:
            file[name] = content


def codes(path: Path) -> list[str | None]:
    return [event.error.code if isinstance(event, BadEvent) else None for event in read_file(path)]


def assert_only_second_is_bad(path: Path, code: str) -> BadEvent:
    first, second = read_file(path)
    assert isinstance(first, Event)
    assert_same_event(first, plain_event(1))
    assert isinstance(second, BadEvent)
    assert (second.id, second.entry, second.error.code) == (plain_event(2).id, 1, code)
    return second


@pytest.mark.parametrize("where", [0.0, 0.5, 0.99])
def test_a_flipped_byte_costs_only_the_events_of_its_block(tmp_path: Path, where: float) -> None:
    block = 65536
    rng = np.random.default_rng(5)
    events = [
        make_event(
            number + 1,
            entry=number,
            n_ticks=block,
            waveforms=make_waveforms({W_CHANNEL: {0: rng.random(block)}}, n_samples=block),
        )
        for number in range(3)
    ]
    path = write_native(tmp_path / "a.h5", *events)
    with h5py.File(path) as file:
        assert file["values/charge"].chunks == (block,)
        chunk = file["values/charge"].id.get_chunk_info(1)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset + int(where * chunk.size))
        byte = raw.read(1)[0]
        raw.seek(-1, 1)
        raw.write(bytes([byte ^ 0x10]))
    first, second, third = read_file(path)
    assert isinstance(first, Event)
    assert isinstance(third, Event)
    assert_same_event(first, events[0])
    assert_same_event(third, events[2])
    assert isinstance(second, BadEvent)
    assert second.error.code == "corrupt"
    assert second.error.where == "/values/charge"
    assert "another replica" in str(second.error)


def assert_flip_is_noticed_or_harmless(sound_file: Path, place: int, bit: int) -> None:
    content = bytearray(sound_file.read_bytes())
    content[place] ^= 1 << bit
    flipped = sound_file.with_name("flipped.h5")
    flipped.write_bytes(content)
    try:
        read = read_file(flipped)
    except DataError:
        return
    for event, number in zip(read, (1, 2), strict=True):
        if isinstance(event, Event):
            assert_same_event(event, plain_event(number, number - 1))


@settings(max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_noticed_or_harmless(sound_file: Path, place: float, bit: int) -> None:
    assert_flip_is_noticed_or_harmless(sound_file, int(place * sound_file.stat().st_size), bit)


@pytest.mark.parametrize("column", ["hits/peak_time", "values/charge"])
def test_a_flipped_bit_in_the_description_of_a_column_is_noticed_or_harmless(
    sound_file: Path, column: str
) -> None:
    """It could turn floating point into whole numbers, or blocks into zeros."""
    with h5py.File(sound_file) as file:
        header = h5py.h5o.get_info(file[column].id).addr
    for place in range(header, header + 160):
        assert_flip_is_noticed_or_harmless(sound_file, place, bit=place % 8)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, two_events: Path, keep: float) -> None:
    content = two_events.read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(content[: int(keep * len(content))])
    assert refusal(cut).code == "truncated"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("values/charge", np.nan),
        ("values/charge", -np.inf),
        ("hits/peak_time", np.inf),
        ("hits/rms", np.nan),
        ("hits/peak_amplitude", -np.inf),
        ("hits/integral", np.nan),
    ],
)
def test_numbers_that_are_not_finite_make_the_event_bad(two_events: Path, column: str, value: float) -> None:
    change(two_events, column, -1, value)
    bad = assert_only_second_is_bad(two_events, "not-finite")
    assert column.split("/")[1] in str(bad.error)


def test_charge_that_is_not_finite_is_named_by_channel_and_tick(two_events: Path) -> None:
    change(two_events, "values/charge", 4, np.nan)
    error = assert_only_second_is_bad(two_events, "not-finite").error
    assert f"channel {W_CHANNEL} at tick 3" in str(error)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("hits/wire", 480),
        ("hits/wire", -1),
        ("hits/tpc", 12),
        ("hits/tpc", -1),
        ("hits/plane", 3),
        ("hits/plane", -1),
        ("hits/in_wire_space", 0),  # TPC 1 is not the lowest of its unit
        ("waveforms/channel", 15360),
    ],
)
def test_what_lies_outside_of_the_detector_makes_the_event_bad(
    two_events: Path, column: str, value: int
) -> None:
    change(two_events, column, -1, value)
    assert_only_second_is_bad(two_events, "wrong-detector")


@pytest.mark.parametrize("plane", [3, -1])
def test_a_hit_in_no_plane_is_found_by_the_summary_too(two_events: Path, plane: int) -> None:
    change(two_events, "hits/plane", 1, plane)
    with open_events(two_events, ReaderOptions()) as file:
        assert [s.error.code if s.error else None for s in file.summaries()] == [None, "wrong-detector"]


@pytest.mark.parametrize(
    ("column", "index", "value"),
    [
        ("waveforms/roi_offset", -1, 1),  # falls
        ("waveforms/roi_offset", -1, 9),  # past the end
        ("rois/value_offset", -1, 2),
        ("rois/value_offset", -1, 99),
        ("rois/value_offset", -1, -1),
        ("rois/start", -1, -1),
        ("rois/start", -1, MAX_TICKS),
        ("waveforms/channel", -1, W_CHANNEL),  # given twice
        ("waveforms/channel", -1, 3),  # out of order
    ],
)
def test_tables_that_do_not_fit_together_make_the_event_bad(
    two_events: Path, column: str, index: int, value: int
) -> None:
    change(two_events, column, index, value)
    bad = assert_only_second_is_bad(two_events, "corrupt")
    assert "the tables do not fit together" in str(bad.error)


def test_regions_that_overlap_make_the_event_bad(tmp_path: Path) -> None:
    waveforms = make_waveforms({W_CHANNEL: {0: [1.0, 2.0, 3.0], 10: [4.0]}, W_CHANNEL + 1: {0: [5.0]}})
    path = write_native(tmp_path / "a.h5", make_event(waveforms=waveforms))
    assert codes(path) == [None]
    change(path, "rois/start", 1, 2)
    assert read_bad(path).where == "rois/start"
    change(path, "rois/start", 1, 3)  # next to each other is allowed
    assert codes(path) == [None]


@pytest.mark.parametrize("name", ["hits/rms", "rois/start", "values/charge", "waveforms/n_samples"])
def test_a_column_that_is_too_short_costs_the_events_beyond_it(two_events: Path, name: str) -> None:
    with h5py.File(two_events, "a") as file:
        file[name].resize((len(file[name]) - 1,))
    bad = assert_only_second_is_bad(two_events, "corrupt")
    assert name in str(bad.error)


def test_a_missing_column_names_the_nearest(two_events: Path) -> None:
    with h5py.File(two_events, "a") as file:
        file.move("hits/peak_time", "hits/peaktime")
    for event in read_file(two_events):
        assert isinstance(event, BadEvent)
        assert event.error.code == "corrupt"
        assert event.error.where == "/hits/peak_time"
        assert "nearest: peaktime" in str(event.error)


@pytest.mark.parametrize(
    "name", ["events", "hits", "waveforms", "bad_channels", "events/run", "events/n_ticks", "hits/channel"]
)
def test_a_file_without_a_table_that_all_events_need_is_refused(two_events: Path, name: str) -> None:
    replace(two_events, name, None)
    error = refusal(two_events)
    assert error.code == "corrupt"
    assert name in str(error)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("events/subrun", [3]),
        ("events/run", np.array([7.0, 7.0])),
        ("events/hit_offset", [0, 1]),
        ("events/hit_offset", [0, 2, 1]),
        ("events/hit_offset", np.array([0, 2, 1], np.uint64)),  # unsigned differences never fall
        ("events/hit_offset", [1, 1, 2]),
        ("events/waveform_offset", [0, 2, 5]),
        ("events/hit_offset", []),
        ("events/n_ticks", [100, 0]),
        ("events/n_ticks", [-1, 100]),
        ("events/n_ticks", [100, MAX_TICKS + 1]),
        ("events/n_ticks", [[100, 100]]),
        ("events/n_ticks", h5py.Empty("i4")),
    ],
)
def test_event_tables_that_do_not_fit_together_refuse_the_file(
    two_events: Path, name: str, content: Any
) -> None:
    replace(two_events, name, content)
    error = refusal(two_events)
    assert error.code == "corrupt"
    assert name in str(error)


def test_an_event_that_claims_absurdly_many_hits_is_refused_before_memory_is_taken(two_events: Path) -> None:
    """Chunks that were never written take no space in the file, but all of it in memory."""
    claimed = 2**50
    with h5py.File(two_events, "a") as file:
        for column in file["hits"].values():
            column.resize((claimed,))
        file["events/hit_offset"][2] = claimed
    assert_only_second_is_bad(two_events, "hostile")
    assert claimed > MAX_SAMPLES


def test_a_number_too_large_for_its_column_is_not_cut(two_events: Path) -> None:
    """Plane 258 would be plane 2 in eight bits."""
    replace(two_events, "hits/plane", np.array([2, 258], np.int32))
    assert_only_second_is_bad(two_events, "corrupt")
