"""Frames of real and simulated detectors, as their groups have published them."""

from __future__ import annotations

import bz2
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from protosonic.errors import DataError
from protosonic.events.formats import identify, open_events
from protosonic.events.model import Event, EventId
from protosonic.events.reader import ReaderOptions

pytestmark = pytest.mark.realdata

HD_ARCHIVE = "wire-cell-toolkit/protodunehd-sp-frames-anode1.tar.bz2"
VD_ARCHIVE = "wire-cell-toolkit/protodunevd-sp-frames-anode0.tar.bz2"
VD_SIMULATED = "protodunevd-sim/g4-rec.h5"
FD_WORKSPACE = "dune10kt-1x2x6/full-workspace-g4-rec.h5"


def read(path: Path, **options: Any) -> list[Event]:
    with open_events(path, ReaderOptions(**options)) as file:
        events = list(file.read())
    assert all(isinstance(event, Event) for event in events)
    return [event for event in events if isinstance(event, Event)]


@pytest.fixture(scope="module")
def horizontal_drift(realdata: Path) -> Event:
    (event,) = read(realdata / HD_ARCHIVE, detector="protodune-hd", charge_scale=1e-3, run=27409)
    return event


def test_protodune_hd_has_the_hits_that_were_measured_in_it(horizontal_drift: Event) -> None:
    event = horizontal_drift
    assert (event.id, event.n_ticks, event.detector.name) == (EventId(27409, 0, 40896), 5999, "protodune-hd")
    u, v, w = event.hits.count_by_plane()
    assert u == pytest.approx(4235, rel=0.01)
    assert v == pytest.approx(4593, rel=0.01)
    assert 2900 <= w <= 3050


def test_protodune_hd_collection_hits_are_on_the_face_with_the_drift_volume(horizontal_drift: Event) -> None:
    hits = horizontal_drift.hits
    on_collection = hits.select(hits.plane == 2)
    counts = np.bincount(on_collection.tpc, minlength=8)
    assert counts[2] > 0.97 * len(on_collection)
    assert counts[2] + counts[3] == len(on_collection)  # APA 1
    assert on_collection.in_wire_space.all()
    assert not hits.select(hits.plane < 2).in_wire_space.any()


def test_protodune_hd_amplitudes_are_those_of_minimum_ionising_particles(horizontal_drift: Event) -> None:
    hits = horizontal_drift.hits
    low, median, high = np.percentile(hits.peak_amplitude[hits.plane == 2], [25, 50, 75])
    assert (low, median, high) == pytest.approx((5.5, 6.4, 8.4), rel=0.1)
    assert np.median(hits.rms[hits.plane == 2]) == pytest.approx(3.4, rel=0.25)


def test_protodune_hd_channels_are_all_there_and_masked_ones_have_no_hits(horizontal_drift: Event) -> None:
    waveforms, bad = horizontal_drift.waveforms, horizontal_drift.bad_channels
    assert waveforms is not None
    assert waveforms.channel.tolist() == list(range(2560, 5120))
    of_this_apa = bad[(bad >= 2560) & (bad < 5120)]
    assert (len(bad), len(of_this_apa)) == (41, 15)
    assert not np.isin(horizontal_drift.hits.channel, bad).any()


def test_protodune_hd_charge_is_that_of_the_file(realdata: Path, horizontal_drift: Event) -> None:
    with tarfile.open(fileobj=io.BytesIO(bz2.decompress((realdata / HD_ARCHIVE).read_bytes()))) as archive:
        member = archive.extractfile("frame_gauss1_40896.npy")
        assert member is not None
        frame = np.load(io.BytesIO(member.read()))
    waveforms = horizontal_drift.waveforms
    assert waveforms is not None
    dense = np.zeros_like(frame)
    dense[waveforms.sample_waveform, waveforms.sample_tick] = waveforms.values
    np.testing.assert_array_equal(dense, frame * np.float32(1e-3))


def test_the_other_tag_of_the_archive_can_be_asked_for(realdata: Path) -> None:
    (event,) = read(realdata / HD_ARCHIVE, detector="protodune-hd", charge_scale=1e-3, tag="wiener")
    assert len(event.hits) > 5000


def test_protodune_vd_data_use_the_newer_numbering(realdata: Path) -> None:
    (event,) = read(realdata / VD_ARCHIVE, detector="protodune-vd", charge_scale=1e-3, run=39324)
    assert (event.id, event.n_ticks) == (EventId(39324, 0, 339850), 6400)
    assert (event.detector.name, event.detector.n_channels) == ("protodune-vd", 12288)
    assert event.waveforms is not None
    assert len(event.waveforms) == 1536
    assert set(event.hits.tpc.tolist()) == {0, 1}
    assert min(event.hits.count_by_plane()) > 500


def test_simulated_protodune_vd_uses_all_volumes(realdata: Path) -> None:
    (event,) = read(realdata / VD_SIMULATED, detector="protodune-vd", charge_scale=0.2)
    assert (event.detector.name, event.n_ticks) == ("protodune-vd", 6000)
    assert event.waveforms is not None
    assert len(event.waveforms) == 12288
    on_collection = event.hits.select(event.hits.plane == 2)
    assert set(on_collection.tpc.tolist()) == set(range(16))
    assert np.median(on_collection.peak_amplitude) == pytest.approx(5.5, rel=0.25)


@pytest.mark.parametrize("anode", [1, 2, 3, 4, 5])
def test_far_detector_frames_of_four_ticks_per_bin(realdata: Path, anode: int) -> None:
    path = realdata / "dune10kt-1x2x6" / f"pixeldata-anode{anode}.h5"
    events = read(path, detector="dune10kt-1x2x6", charge_scale=0.05, tag="rebinned", ticks_per_bin=4)
    assert [event.id.event for event in events] == list(range(1, 11))
    with h5py.File(path) as file:
        for event in events:
            frame = file[f"{event.id.event}/frame_rebinned_reco"][:]
            assert (event.n_ticks, frame.shape) == (6000, (2560, 1500))
            assert event.waveforms is not None
            assert event.waveforms.channel.tolist() == list(range(2560 * anode, 2560 * (anode + 1)))
            assert len(event.waveforms.values) == 4 * np.count_nonzero(frame)
            assert set(event.hits.tpc.tolist()) <= {2 * anode, 2 * anode + 1}
    assert sum(len(event.hits) for event in events) > 100


@pytest.fixture(scope="module")
def far_detector(realdata: Path) -> list[Event]:
    path = realdata / "dune10kt-1x2x6" / "pixeldata-anode2.h5"
    return read(path, detector="dune10kt-1x2x6", charge_scale=0.05, tag="rebinned_reco", ticks_per_bin=4)


def test_far_detector_truth_is_that_of_the_bins(realdata: Path, far_detector: list[Event]) -> None:
    of_bins = {0: 2, 1: 0, 2: 1, 3: 3, 4: 1, 5: -1, 6: -1}
    with h5py.File(realdata / "dune10kt-1x2x6" / "pixeldata-anode2.h5", locking=False) as file:
        for event in far_detector:
            stored = file[f"{event.id.event}/frame_label_1st"][:]
            charge = file[f"{event.id.event}/frame_rebinned_reco"][:]
            channel = file[f"{event.id.event}/channels_rebinned_reco"][:]
            assert event.sample_label is not None
            assert event.waveforms is not None
            row, column = np.nonzero(charge[np.argsort(channel)])
            expected = stored[np.argsort(channel)][row, column]
            assert event.sample_label[::4].tolist() == [of_bins[label] for label in expected.tolist()]
            assert np.array_equal(np.repeat(event.sample_label[::4], 4), event.sample_label)


def test_far_detector_hits_have_truth_of_every_class(far_detector: list[Event]) -> None:
    label = np.concatenate([event.truth.label for event in far_detector if event.truth is not None])
    track, em, none, michel, unknown = (int((label == value).sum()) for value in (0, 1, 2, 3, -1))
    assert (len(label), michel) == (sum(len(event.hits) for event in far_detector), 0)
    assert track > 5000
    assert em > 5000
    assert 100 < none < 1000
    assert 500 < unknown < 5000


def test_far_detector_bins_are_sums_of_four_ticks_of_electrons(realdata: Path) -> None:
    """What docs/formats.md says of the charge scale."""
    ratio = []
    with h5py.File(realdata / "dune10kt-1x2x6" / "pixeldata-anode2.h5", locking=False) as file:
        for group in file.values():
            reco = group["frame_rebinned_reco"][:]
            steps = reco.astype(np.float64) / 0.005
            assert np.abs(steps - np.rint(steps)).max() < 0.2  # single precision of large sums
            electrons = group["frame_total_numelectrons"][:]
            collection = group["channels_rebinned_reco"][:] % 2560 >= 1600
            much = collection & (electrons.sum(axis=1) > 1e5)
            ratio.append(reco[much].sum(axis=1) / electrons[much].sum(axis=1))
    assert np.median(np.concatenate(ratio)) == pytest.approx(0.81 * 0.005, rel=0.02)


def test_far_detector_charge_is_that_of_minimum_ionising_particles(far_detector: list[Event]) -> None:
    def column(name: str) -> np.ndarray:
        return np.concatenate(
            [
                getattr(event.hits, name)[(event.truth.label == 0) & (event.hits.plane == 2)]
                for event in far_detector
                if event.truth is not None
            ]
        )

    assert np.median(column("integral")) == pytest.approx(27, rel=0.1)
    assert np.median(column("peak_amplitude")) == pytest.approx(3.3, rel=0.1)
    assert np.median(column("rms")) == pytest.approx(3.4, rel=0.1)


def test_a_frame_tag_that_fits_several_frames_is_refused(realdata: Path) -> None:
    path = realdata / "dune10kt-1x2x6" / "pixeldata-anode1.h5"
    options = ReaderOptions(detector="dune10kt-1x2x6", charge_scale=0.2, tag="trackid")
    with open_events(path, options) as file:
        reasons = [event.error.code for event in file.read() if not isinstance(event, Event)]
    assert reasons == ["no-frame"] * 10


READ_AND_TELL_MEMORY = """
import sys
from pathlib import Path

from protosonic.events.formats import open_events
from protosonic.events.reader import ReaderOptions

with open_events(Path(sys.argv[1]), ReaderOptions(detector="dune10kt-1x2x6", charge_scale=0.2)) as file:
    (event,) = file.read()
print(len(event.waveforms), event.n_ticks, len(event.hits))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_a_large_sparse_workspace_is_read_in_little_memory(realdata: Path) -> None:
    """4 MB in the file are 737 MB as a dense array."""
    # Not ru_maxrss: it starts from the memory of the process that started this one.
    command = [sys.executable, "-c", READ_AND_TELL_MEMORY, str(realdata / FD_WORKSPACE)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    n_waveforms, n_ticks, n_hits, peak_kb = (int(word) for word in output.split())
    assert (n_waveforms, n_ticks) == (30720, 6000)
    assert n_hits > 1000
    assert peak_kb < 400 * 1024


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        (HD_ARCHIVE, "wirecell-archive"),
        (VD_ARCHIVE, "wirecell-archive"),
        (VD_SIMULATED, "wirecell-hdf5"),
        (FD_WORKSPACE, "wirecell-hdf5"),
    ],
)
def test_formats_are_identified(realdata: Path, name: str, file_format: str) -> None:
    assert identify(realdata / name) == file_format


def test_a_cut_download_of_real_data_is_refused(realdata: Path, tmp_path: Path) -> None:
    content = (realdata / HD_ARCHIVE).read_bytes()
    cut = tmp_path / "cut.tar.bz2"
    cut.write_bytes(content[: len(content) // 2])
    options = ReaderOptions(detector="protodune-hd", charge_scale=1e-3)
    with open_events(cut, options) as file, pytest.raises(DataError) as caught:
        list(file.read())
    assert caught.value.code == "truncated"
