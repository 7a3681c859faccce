"""Pictures of events."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.detectors import load_detector
from protosonic.errors import ConfigError, DataError
from protosonic.events.formats import open_events
from protosonic.events.model import Event, EventId, Hits
from protosonic.events.native_writer import NativeWriter
from protosonic.events.reader import ReaderOptions
from protosonic.reporting.event_display import CLASS_COLOURS, draw_planes, draw_source, figure_bytes
from protosonic.reporting.event_views import (
    Choice,
    Colour,
    PlaneView,
    busiest,
    event_numbers,
    hit_classes,
    views_of_hits,
)
from protosonic.reporting.terminal import UNTRAINED_WARNING
from protosonic.simulation.files import simulate_files

PNG, SVG = b"\x89PNG\r\n\x1a\n", b"<?xml"
unit = st.floats(0, 1, width=32)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    [path] = simulate_files(folder, detector="protodune-sp", files=1, events=2, hits=100, seed=3)
    return path


@pytest.fixture
def hits(make_hits) -> dict[str, np.ndarray]:
    """Hits with scores, as the dataset gives them."""
    columns = make_hits(60)
    scores = np.random.default_rng(1).random((60, 4))
    columns |= {name: scores[:, n] for n, name in enumerate(("track", "em", "none", "michel"))}
    columns["backend"] = np.where(columns["hit"] % 2, "triton", "onnxruntime")
    return columns | {"wire_space": np.where(columns["in_wire_space"], "wire", "channel")}


@given(st.lists(st.tuples(unit, unit, unit, unit), min_size=1, max_size=20))
def test_class_is_michel_above_one_half_else_the_largest_of_the_others(rows):
    columns = dict(zip(("track", "em", "none", "michel"), np.array(rows).T, strict=True))
    for row, found in zip(rows, hit_classes(columns), strict=True):
        others = dict(zip(("track", "em", "none"), row[:3], strict=True))
        if row[3] > 0.5:
            assert found == "michel"
        else:
            assert others[str(found)] == max(others.values())


def test_every_class_has_a_colour_of_its_own():
    assert set(CLASS_COLOURS) == {"track", "em", "none", "michel"}
    assert len(set(CLASS_COLOURS.values())) == 4


def busiest_planes(hits: dict[str, np.ndarray], choice: Choice | None = None) -> list[PlaneView]:
    return busiest(views_of_hits(hits, choice or Choice()))


def test_busiest_tpc_of_every_plane_is_shown(hits):
    views = busiest_planes(hits)
    assert [view.title for view in views] == [
        "TPC 1, plane W: 18 hits",
        "TPC 1, plane V: 20 hits",
        "TPC 1, plane U: 20 hits",
    ]
    assert [view.row_name for view in views] == ["wire", "channel in plane", "channel in plane"]
    assert sum(len(view.hits["wire"]) for view in views) == 58


def test_planes_and_tpc_can_be_chosen(hits):
    assert [view.title[:14] for view in busiest_planes(hits, Choice(planes=(2,)))] == ["TPC 1, plane W"]
    there = sorted(set(hits["tpc"].tolist()))
    for tpc in there:
        assert {view.title.partition(",")[0] for view in busiest_planes(hits, Choice(tpc=tpc))} == {
            f"TPC {tpc}"
        }
    assert busiest_planes(hits, Choice(tpc=max(there) + 1)) == []


@pytest.mark.parametrize("colour", get_args(Colour))
def test_colours_differ(hits, colour):
    hits["truth"] = np.where(hits["hit"] % 3, "em", "none")

    def picture(name: str) -> bytes:
        return figure_bytes(draw_planes(busiest_planes(hits), name), "png")

    others = set(get_args(Colour)) - {colour}
    assert picture(colour) not in {picture(other) for other in others}


def test_score_has_a_bar_that_names_it(hits):
    assert b"<!-- score michel -->" in figure_bytes(draw_planes(busiest_planes(hits), "michel"), "svg")


def test_truth_that_is_not_known_is_refused(hits):
    with pytest.raises(ConfigError, match=r"--colour: the truth of these hits is not known"):
        draw_planes(busiest_planes(hits), "truth")


def test_axes_are_in_centimetres_and_microseconds_where_the_detector_is_known(hits):
    views = busiest_planes(hits, Choice(planes=(2,)))
    with pytest.raises(ConfigError, match=r"lengths and times need the detector.*--detector"):
        draw_planes(views, physical=True)
    known = [view._replace(detector=load_detector("protodune-hd")) for view in views]
    picture = figure_bytes(draw_planes(known, physical=True), "svg")
    assert b"<!-- wire \xc3\x97 pitch [cm] -->" in picture
    [axes] = draw_planes(known, physical=True).axes
    across, along = axes.collections[0].get_offsets().T
    [view] = views
    track = hit_classes(view.hits) == "track"
    np.testing.assert_allclose(across, view.hits["wire"][track] * 0.48)
    np.testing.assert_allclose(along, view.hits["peak_time"][track] * 0.5)


@pytest.mark.parametrize("text", ["", "1", "1:2", "1:2:3:4", "a:0:1", "1.5:0:1"])
def test_what_is_no_event_is_refused(text):
    with pytest.raises(ConfigError, match="expected RUN:SUBRUN:EVENT"):
        event_numbers(text)


def test_event_is_found_by_its_numbers_in_file_and_campaign(simulated, make_campaign, tmp_path):
    with open_events(simulated, ReaderOptions()) as file:
        ids = [summary.id for summary in file.summaries()]
    by_number, by_place = (
        draw_source(simulated, tmp_path / f"{n}.png", choice, ReaderOptions()).read_bytes()
        for n, choice in enumerate((Choice(event=tuple(ids[1])), Choice(1)))
    )
    assert by_number == by_place
    with pytest.raises(DataError, match="run 9 subrun 9 event 9: there is no such event"):
        draw_source(simulated, tmp_path / "no.png", Choice(event=(9, 9, 9)), ReaderOptions())
    workdir = make_campaign().workdir
    with pytest.raises(DataError, match="run 9 subrun 9 event 9: the event has nothing to draw"):
        draw_source(workdir, tmp_path / "no.png", Choice(event=(9, 9, 9)), ReaderOptions())
    with pytest.raises(DataError, match="entry 0, TPC 7: the event has nothing to draw"):
        draw_source(workdir, tmp_path / "no.png", Choice(tpc=7), ReaderOptions())


@pytest.mark.parametrize(("kind", "magic"), [("png", PNG), ("svg", SVG)])
def test_equal_figures_give_equal_bytes(hits, kind, magic):
    first, second = (figure_bytes(draw_planes(busiest_planes(hits)), kind) for _ in range(2))
    assert first == second
    assert first.startswith(magic)


def test_other_hits_give_another_picture(hits):
    moved = hits | {"wire": hits["wire"][::-1]}
    first, second = (figure_bytes(draw_planes(busiest_planes(columns)), "png") for columns in (hits, moved))
    assert first != second


@pytest.mark.parametrize(("name", "magic"), [("event.png", PNG), ("deep/EVENT.SVG", SVG)])
def test_event_of_a_file_is_drawn(simulated, tmp_path, name, magic):
    output = tmp_path / name
    assert draw_source(simulated, output, Choice(1), ReaderOptions()) == output
    assert output.read_bytes().startswith(magic)
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_events_of_a_file_are_told_apart(simulated, tmp_path):
    pictures = [
        draw_source(simulated, tmp_path / f"{n}.png", Choice(n), ReaderOptions()).read_bytes() for n in (0, 1)
    ]
    assert pictures[0] != pictures[1]


def test_event_of_a_finished_campaign_is_drawn(make_campaign, tmp_path):
    layout = make_campaign()
    output = draw_source(layout.workdir, tmp_path / "event.svg", Choice(0), ReaderOptions())
    text = output.read_text()
    assert text.startswith("<?xml")
    assert "<!-- TPC 1, plane W: 18 hits -->" in text


@pytest.mark.parametrize("untrained", [True, False])
def test_picture_of_scores_that_mean_nothing_says_so(make_campaign, tmp_path, untrained):
    layout = make_campaign(untrained=untrained)
    output = draw_source(layout.workdir, tmp_path / "event.svg", Choice(0), ReaderOptions())
    assert (f"<!-- {UNTRAINED_WARNING} -->" in output.read_text()) is untrained


@pytest.mark.parametrize("name", ["event.gif", "event", "event.png.txt", "png"])
def test_unknown_kind_of_picture_is_refused(simulated, tmp_path, name):
    with pytest.raises(ConfigError, match=rf"--output: unknown kind of picture .*found {name}\)"):
        draw_source(simulated, tmp_path / name, Choice(0), ReaderOptions())
    assert list(tmp_path.iterdir()) == []


def test_entry_that_a_campaign_does_not_have_is_refused(make_campaign, tmp_path):
    with pytest.raises(DataError, match="entry 1: the event has nothing to draw"):
        draw_source(make_campaign().workdir, tmp_path / "event.png", Choice(1), ReaderOptions())


@pytest.mark.parametrize("entry", [2, 1000])
def test_entry_that_a_file_does_not_have_is_refused(simulated, tmp_path, entry):
    with pytest.raises(DataError, match=f"entry {entry}: there is no such event"):
        draw_source(simulated, tmp_path / "event.png", Choice(entry), ReaderOptions())


def test_folder_without_a_campaign_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no finished campaign is here"):
        draw_source(tmp_path, tmp_path / "event.png", Choice(0), ReaderOptions())


def test_event_without_charge_is_refused(tmp_path):
    detector = load_detector("protodune-sp")
    with NativeWriter(tmp_path / "a.h5", detector) as writer:
        writer.write(Event(EventId(1, 0, 1), 0, detector, 6000, None, Hits.empty()))
    with pytest.raises(DataError, match="the event has nothing to draw"):
        draw_source(tmp_path / "a.h5", tmp_path / "event.png", Choice(0), ReaderOptions())


def test_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.h5").write_text("text " * 200)
    with pytest.raises(DataError, match=r"a\.h5: this is a file of an unknown format"):
        draw_source(tmp_path / "a.h5", tmp_path / "event.png", Choice(0), ReaderOptions())


def test_single_file_of_a_dataset_is_drawn_as_its_campaign(make_campaign, tmp_path):
    layout = make_campaign()
    [part] = layout.hits.iterdir()
    pictures = [
        draw_source(source, tmp_path / f"{n}.svg", Choice(0), ReaderOptions()).read_bytes()
        for n, source in enumerate((layout.workdir, layout.results, part))
    ]
    assert pictures[0] == pictures[1] == pictures[2]


def test_input_of_another_event_is_refused(make_campaign, simulated, tmp_path):
    workdir = make_campaign().workdir
    with pytest.raises(DataError, match=r"--input: the event came from another file .*begins with ffff"):
        draw_source(workdir, tmp_path / "a.png", Choice(0), ReaderOptions(), behind=simulated)
    with pytest.raises(ConfigError, match="--input: only a dataset is shown with its input"):
        draw_source(simulated, tmp_path / "a.png", Choice(0), ReaderOptions(), behind=simulated)
