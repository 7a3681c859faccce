"""Every other third-party file is read, or refused with what it is."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from protosonic.errors import DataError
from protosonic.events.formats import identify, open_events
from protosonic.events.model import EventId
from protosonic.events.reader import BadEvent, EventSummary, ReaderOptions

pytestmark = pytest.mark.realdata

NUML = {
    "numl/NeutrinoML_rishi.h5": (EventId(7010, 1705, 85251), 189),
    "numl/nugraph3_raw_event.h5": (EventId(0, 0, 0), 1284),
}
REFUSED = {
    "art-root/gen.root": ("an art/ROOT file", "HDF5FrameTap"),
    "misc/larcv3_test.h5": ("a larcv3 file", "neither wires nor hits"),
    "misc/lardon_top_423_1.h5": ("a PyTables file without a hit table", "native format"),
    "dune10kt-1x2x6/trackid_pid_map.h5": ("numbered groups but without frames", "native format"),
    "wire-cell-toolkit/muon-depos.npz": ("a zip archive", "native format"),
    "wire-cell-toolkit/test_beedeposource.zip": ("a zip archive", "native format"),
    "wire-cell-toolkit/uboone_raw_adc/uboone_raw_chirping48.npz": ("a zip archive", "native format"),
    "wire-geometry/protodune-wires-larsoft-v4.json.bz2": ("not a tar archive", "native format"),
    "nusonic-scaling/results_rscaletest-gke1.txt": ("an unknown format", "native format"),
    "README.md": ("an unknown format", "native format"),
}
READ = ("dune10kt-1x2x6/", "protodunevd-sim/", "wire-cell-toolkit/protodune", "numl/")


def summaries(path: Path) -> list[EventSummary]:
    with open_events(path, ReaderOptions(detector="microboone")) as file:
        return list(file.summaries())


@pytest.mark.parametrize("name", NUML)
def test_numl_files_without_wires_have_hits_but_no_images(realdata: Path, name: str) -> None:
    event_id, n_hits = NUML[name]
    assert identify(realdata / name) == "numl"
    with open_events(realdata / name, ReaderOptions(detector="microboone")) as file:
        (event,) = file.read()
    assert isinstance(event, BadEvent)
    assert (event.id, event.error.code) == (event_id, "no-waveforms")
    (summary,) = summaries(realdata / name)
    assert (summary.id, sum(summary.hits_by_plane)) == (event_id, n_hits)


def test_numl_hits_can_be_classified_once_there_are_wires(realdata: Path, tmp_path: Path) -> None:
    """The hits of the real file with a wire table of the same layout."""
    path = tmp_path / "with-wires.h5"
    path.write_bytes((realdata / "numl/NeutrinoML_rishi.h5").read_bytes())
    with h5py.File(path, "a") as file:
        file["wire_table/event_id"] = file["event_table/event_id"][:]
        for column, value in (("tpc", 0), ("local_plane", 2), ("local_wire", 1525)):
            file[f"wire_table/{column}"] = np.array([[value]], np.int32)
        file["wire_table/adc"] = np.eye(1, 6400, 341, dtype=np.float32)
        planes, wires = (file[f"hit_table/{name}"][:].ravel() for name in ("local_plane", "local_wire"))
    with open_events(path, ReaderOptions(detector="microboone")) as file:
        (event,) = file.read()
    assert not isinstance(event, BadEvent)
    assert (len(event.hits), event.n_ticks) == (189, 6400)
    np.testing.assert_array_equal(event.hits.channel, np.array([0, 2400, 4800])[planes] + wires)
    assert event.waveforms is not None
    assert event.waveforms.channel.tolist() == [4800 + 1525]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_named_with_the_way_out(realdata: Path, name: str) -> None:
    what, advice = REFUSED[name]
    with pytest.raises(DataError) as caught:
        identify(realdata / name)
    assert caught.value.code == "unsupported-format"
    assert what in str(caught.value)
    assert advice in str(caught.value)


def test_every_file_is_identified_or_refused(realdata: Path) -> None:
    files = sorted(path for path in realdata.rglob("*") if path.is_file())
    assert len(files) > 20
    for path in files:
        name = path.relative_to(realdata).as_posix()
        if name.startswith(READ) and name not in REFUSED:
            assert identify(path) in {"wirecell-archive", "wirecell-hdf5", "numl"}
        else:
            with pytest.raises(DataError) as caught:
                identify(path)
            assert caught.value.code == "unsupported-format"
