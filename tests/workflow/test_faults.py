"""Bad inputs and accidents: the documented outcome each time, the rest of the campaign unharmed."""

from __future__ import annotations

import bz2
import io
import os
import random
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protosonic.detectors import load_detector
from protosonic.errors import AcceptanceError, ResourceError
from protosonic.events.model import Event, EventId, Hits, Waveforms
from protosonic.events.native_writer import NativeWriter
from support.campaign import BIN, CampaignRun, assert_same_hits, clean_environment, protosonic
from support.expected import assert_scores, expected_scores, native_waveforms
from support.models import linear_weights
from support.processes import kill_tree


def truncated(source: Path, path: Path) -> None:
    content = source.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped_byte(source: Path, path: Path) -> None:
    """Flip a byte in the compressed charge of the file; both events share the block."""
    with h5py.File(source) as file:
        block = file["values/charge"].id.get_chunk_info(0)
    content = bytearray(source.read_bytes())
    content[block.byte_offset + block.size // 2] ^= 0x10
    path.write_bytes(content)


def nan_charge(source: Path, path: Path) -> None:
    """One sample of the first event is no number."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "a") as file:
        file["values/charge"][5] = np.nan


def zip_bomb(source: Path, path: Path) -> None:
    """A small archive whose frame claims to be, and inflates to, far more than any detector can make."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2560, 2_000_000)}
    )
    info = tarfile.TarInfo("frame_gauss0_9.npy")
    info.size = len(header.getvalue()) + 2560 * 2_000_000 * 4
    with bz2.open(path, "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + header.getvalue())
        for _ in range(64):
            file.write(bytes(2**20))


def escaping_tar(source: Path, path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("../escaped.npy")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))


def not_data(source: Path, path: Path) -> None:
    path.write_text("this is no HDF5 file\n" * 100)


def event_given_twice(source: Path, path: Path) -> None:
    path.write_bytes(source.read_bytes())


DAMAGES = {
    # What is done to a file, its new name, the reason, and the (run, event, entry) that are quarantined for it.
    truncated: ("truncated.h5", "truncated", [(None, None, None)]),
    flipped_byte: ("flipped.h5", "corrupt", [(2, 1, 0), (2, 2, 1)]),
    nan_charge: ("nan.h5", "not-finite", [(3, 1, 0)]),
    zip_bomb: ("bomb.tar.bz2", "hostile", [(None, None, None)]),
    escaping_tar: ("escaping.tar", "hostile", [(None, None, None)]),
    not_data: ("text.h5", "unsupported-format", [(None, None, None)]),
    event_given_twice: ("twice.h5", "duplicate-event", [(1, 5, 0), (1, 6, 1)]),
}


@pytest.fixture(scope="module")
def damaged(linear: CampaignRun, tmp_path_factory: pytest.TempPathFactory) -> CampaignRun:
    """A campaign over the good files and every kind of bad ones, as it ended."""
    workdir = tmp_path_factory.mktemp("damaged")
    shutil.copytree(linear.workdir / "data", workdir / "data")
    sources = {event_given_twice: max(workdir.glob("data/*.h5"))}
    for run, damage in ((2, flipped_byte), (3, nan_charge), (4, truncated)):
        folder = tmp_path_factory.mktemp("source")
        protosonic(
            "simulate", str(folder), "--events", "2", "--hits", "400", "--run", str(run), "--seed", str(run)
        )
        sources[damage] = next(folder.iterdir())
    (workdir / "worse").mkdir()
    for damage, (name, _, _) in DAMAGES.items():
        damage(sources.get(damage), workdir / "worse" / name)
    options = {"detector": "protodune-sp", "charge_scale": 1.0}
    inputs = [{"path": path, **options} for path in ("data/*.h5", "worse/*")]
    campaign = CampaignRun(workdir, linear.config | {"inputs": inputs})
    campaign.run(expect=AcceptanceError.exit_code)
    return campaign


@pytest.mark.parametrize(
    ("name", "code", "events"), DAMAGES.values(), ids=[name for name, _, _ in DAMAGES.values()]
)
def test_bad_data_is_quarantined_with_its_reason(damaged, name, code, events):
    refused = [
        row for row in damaged.accounting() if row["file"] == f"worse/{name}" and row["state"] != "done"
    ]
    assert {row["state"] for row in refused} == {"quarantined"}
    assert [(row["run"], row["event"], row["entry"]) for row in refused] == events
    for row in refused:
        assert row["reason"].startswith(f"{code}: ")


def test_both_places_of_an_event_given_twice_are_named(damaged):
    [first, *_] = [row for row in damaged.accounting() if row["file"] == "worse/twice.h5"]
    assert "worse/twice.h5" in first["reason"]
    assert str(max((damaged.workdir / "data").iterdir()).relative_to(damaged.workdir)) in first["reason"]


def test_bad_data_does_not_harm_the_rest_of_the_campaign(damaged, linear):
    assert "quarantined" in damaged.outputs[0]
    damaged.verify()
    hits = damaged.hits()
    assert_same_hits(hits.filter(pa.compute.equal(hits["run"], 1)), linear.hits())
    # The event beside the one with NaN; nothing else is left of the damaged files.
    rest = hits.filter(pa.compute.greater(hits["run"], 1))
    assert set(zip(rest["run"].to_pylist(), rest["event"].to_pylist(), strict=True)) == {(3, 2)}
    waveforms = native_waveforms(damaged.workdir / "worse" / "nan.h5", 1)
    assert_scores(rest, expected_scores(rest, waveforms, 6000, "protodune-sp", linear_weights()))
    assert not list(damaged.workdir.parent.rglob("escaped*"))
    assert not list(damaged.workdir.rglob("*.part"))


def test_bad_data_that_is_accepted_does_not_fail_the_campaign(damaged, tmp_path):
    shutil.copytree(damaged.workdir, tmp_path / "accepting")
    config = damaged.config | {"acceptance": {"max_quarantined_fraction": 0.7}}
    campaign = CampaignRun(tmp_path / "accepting", config)
    campaign.run()
    campaign.verify()


def test_empty_events_and_planes_without_hits_are_done(make_campaign, tmp_path):
    detector = load_detector("protodune-sp")
    charge = Waveforms.from_samples(
        np.array([2081], np.int32),
        np.array([6000], np.int32),
        np.zeros(3, np.int64),
        np.arange(1000, 1003),
        np.array([5.0, 9.0, 5.0], np.float32),
    )
    nothing = Waveforms.from_samples(*(np.empty(0, np.int32) for _ in range(4)), np.empty(0, np.float32))
    one = np.ones(1, np.float32)
    hit = Hits(
        channel=np.array([2081], np.int32),
        cryostat=np.array([0], np.int16),
        tpc=np.array([1], np.int16),
        plane=np.array([2], np.int8),
        wire=np.array([1], np.int32),
        peak_time=1001 * one,
        rms=one,
        peak_amplitude=9 * one,
        integral=19 * one,
        in_wire_space=np.ones(1, bool),
    )
    path = tmp_path / "sparse.h5"
    with NativeWriter(path, detector) as writer:
        for number, (waveforms, hits) in enumerate(
            [(nothing, Hits.empty()), (charge, Hits.empty()), (None, Hits.empty()), (charge, hit)]
        ):
            writer.write(Event(EventId(1, 0, number), number, detector, 6000, waveforms, hits))
    campaign = make_campaign(inputs=[{"path": str(path)}])
    campaign.run()
    campaign.verify()
    assert [(row["event"], row["state"], row["hits_done"]) for row in campaign.accounting()] == [
        (0, "done", 0),
        (1, "done", 0),
        (2, "done", 0),
        (3, "done", 1),
    ]
    assert campaign.hits()["event"].to_pylist() == [3]


def test_a_campaign_in_which_nothing_can_be_used_still_gives_a_dataset_and_its_account(
    make_campaign, tmp_path
):
    path = tmp_path / "bad.h5"
    not_data(path, path)
    campaign = make_campaign(inputs=[{"path": str(path)}])
    campaign.run(expect=AcceptanceError.exit_code)
    campaign.verify()
    assert len(campaign.hits()) == 0
    assert len(campaign.accounting()) == 1


def test_killed_at_ten_random_moments_a_campaign_ends_with_the_undisturbed_dataset(
    make_campaign, simulated, quiet
):
    campaign = make_campaign(
        inputs=[{"path": f"{simulated}/*.h5"}], partition={"target_hits": 1}, model={"path": "bundled"}
    )
    moments = random.Random(11)
    for _ in range(10):
        process = subprocess.Popen(
            campaign.command(), env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.3, 5.0))
        kill_tree(process)
    # As if killed between the scores and the removal of the unit, which is hard to hit, and before the end.
    (campaign.work / "accepted").unlink(missing_ok=True)
    for status in campaign.work.glob("status/*.json"):
        left = campaign.work / "units" / f"{status.stem}.h5"
        left.parent.mkdir(exist_ok=True)
        left.touch()
        os.utime(left, (0, status.stat().st_mtime - 1))
    campaign.run()
    campaign.verify()
    assert_same_hits(campaign.hits(), quiet.hits())
    leftovers = [
        path for path in campaign.workdir.rglob("*") if path.suffix == ".part" or path.name.endswith(".h5")
    ]
    assert leftovers == []


def test_a_second_run_of_a_campaign_that_runs_is_refused(make_campaign, simulated):
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}])
    first = subprocess.Popen(
        campaign.command(), env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    lock = campaign.work / "run.lock"
    while not (lock.exists() and lock.stat().st_size):
        assert first.poll() is None
        time.sleep(0.01)
    assert "another run is working on this campaign" in campaign.run(expect=10)
    assert first.wait() == 0
    campaign.verify()


IN_SMALL_FOLDER = """
set -eu
mount -t tmpfs -o size={size} tmpfs {workdir}
cp {config} {workdir}/config.yaml
code=0
{protosonic} run {workdir}/config.yaml --workdir {workdir} --cores 2 || code=$?
echo "code $code"
find {workdir} -name '*.part' | sed 's/^/left /'
mount -o remount,size=300m {workdir}
{protosonic} run {workdir}/config.yaml --workdir {workdir} --cores 2
{protosonic} verify {workdir}
cp -r {workdir}/results {saved}
"""


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_full_disk_stops_the_campaign_and_freeing_it_completes_it(
    make_campaign, simulated, linear, tmp_path, share
):
    # `share` of what the campaign needs is there at first.
    config = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}]).write_config()
    used = [path for path in linear.workdir.rglob("*") if linear.workdir / "data" not in path.parents]
    needed = sum(path.stat().st_blocks * 512 for path in used)
    mounted, saved = tmp_path / "small", tmp_path / "saved"
    mounted.mkdir()
    script = IN_SMALL_FOLDER.format(
        size=int(share * needed),
        workdir=mounted,
        config=config,
        protosonic=BIN / "protosonic",
        saved=saved,
    )
    # A mount namespace of its own: the small file system vanishes with it, and no privilege is needed.
    process = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert process.returncode == 0, process.stdout
    lines = process.stdout.splitlines()
    assert f"code {ResourceError.exit_code}" in lines, process.stdout
    assert not [line for line in lines if line.startswith("left ")], process.stdout
    tables = [pq.read_table(path) for path in sorted(saved.glob("test/hits/*.parquet"))]
    assert_same_hits(pa.concat_tables(tables), linear.hits())
