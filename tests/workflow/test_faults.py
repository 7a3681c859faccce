"""Bad inputs and accidents: the documented outcome each time, the rest of the campaign unharmed."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protosonic.detectors import load_detector
from protosonic.errors import AcceptanceError, ResourceError
from protosonic.events.model import Event, EventId, Hits, Waveforms
from protosonic.events.native import NativeWriter
from support.campaign import BIN, assert_same_hits, clean_environment
from support.models import linear_weights, write_linear_model

ACCEPTANCE = AcceptanceError.exit_code


def copy_of(simulated: Path, target: Path) -> Path:
    """A copy of the last simulated file, to be damaged; its events are 5 and 6."""
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(max(simulated.glob("*.h5")).read_bytes())
    return target


def truncated_file(simulated: Path, folder: Path) -> Path:
    path = copy_of(simulated, folder / "bad.h5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def flipped_byte(simulated: Path, folder: Path) -> Path:
    """Flip a byte in the compressed charge of the file; both events share the block."""
    path = copy_of(simulated, folder / "bad.h5")
    with h5py.File(path) as file:
        block = file["values/charge"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[block.byte_offset + block.size // 2] ^= 0x10
    path.write_bytes(content)
    return path


def nan_charge(simulated: Path, folder: Path) -> Path:
    path = copy_of(simulated, folder / "bad.h5")
    with h5py.File(path, "a") as file:
        file["values/charge"][5] = np.nan
    return path


def zip_bomb(simulated: Path, folder: Path) -> Path:
    """A small archive whose frame claims to be, and inflates to, far more than any detector can make."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2560, 2_000_000)}
    )
    info = tarfile.TarInfo("frame_gauss0_9.npy")
    info.size = len(header.getvalue()) + 2560 * 2_000_000 * 4
    path = folder / "bad.tar.bz2"
    folder.mkdir(exist_ok=True)
    import bz2

    with bz2.open(path, "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + header.getvalue())
        for _ in range(64):
            file.write(bytes(2**20))
    return path


def escaping_tar(simulated: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "bad.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("../escaped.npy")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    return path


def not_data(simulated: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "bad.h5"
    path.write_text("this is no HDF5 file\n" * 100)
    return path


@pytest.mark.parametrize(
    ("damage", "code", "quarantined"),
    [
        (truncated_file, "truncated", [(None, None)]),
        (flipped_byte, "corrupt", [(5, 0), (6, 1)]),
        (nan_charge, "not-finite", [(5, 0)]),
        (zip_bomb, "hostile", [(None, None)]),
        (escaping_tar, "hostile", [(None, None)]),
        (not_data, "unsupported-format", [(None, None)]),
    ],
)
def test_bad_data_is_quarantined_with_its_reason_and_the_rest_is_classified(
    make_campaign, simulated, quiet, tmp_path, damage, code, quarantined
):
    good = sorted(simulated.glob("*.h5"))[:2]
    bad = damage(simulated, tmp_path / "bad")
    campaign = make_campaign(
        inputs=[{"path": str(path), "detector": "protodune-sp", "charge_scale": 1.0} for path in (*good, bad)]
    )
    output = campaign.run(expect=ACCEPTANCE)
    assert "quarantined" in output
    refused = [row for row in campaign.accounting() if row["state"] == "quarantined"]
    assert [(row["event"], row["entry"]) for row in refused] == quarantined
    for row in refused:
        assert row["file"] == str(bad)
        assert row["reason"].startswith(f"{code}: ")
    campaign.verify()
    done = {row["event"] for row in campaign.accounting() if row["state"] == "done"}
    assert {1, 2, 3, 4} <= done
    expected = quiet.hits().filter(pa.compute.is_in(quiet.hits()["event"], pa.array(sorted(done))))
    # What is left of the damaged file has another checksum than the undamaged one.
    assert_same_hits(campaign.hits(), expected, except_for=("file_id",))
    assert not list(tmp_path.rglob("escaped*"))
    assert not list(campaign.workdir.rglob("*.part"))


def test_accepted_bad_data_does_not_fail_the_campaign(make_campaign, simulated, tmp_path):
    bad = truncated_file(simulated, tmp_path / "bad")
    campaign = make_campaign(
        inputs=[{"path": str(min(simulated.glob("*.h5")))}, {"path": str(bad)}],
        acceptance={"max_quarantined_fraction": 0.5},
    )
    campaign.run()
    campaign.verify()


def test_an_event_given_twice_is_classified_once_and_both_places_are_named(
    make_campaign, simulated, quiet, tmp_path
):
    copy = copy_of(simulated, tmp_path / "copies" / "again.h5")
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}, {"path": str(copy)}])
    campaign.run(expect=ACCEPTANCE)
    refused = [row for row in campaign.accounting() if row["state"] == "quarantined"]
    assert [row["event"] for row in refused] == [5, 6]
    for row in refused:
        assert row["reason"].startswith("duplicate-event: ")
        assert str(copy) in row["reason"]
        assert str(max(simulated.glob("*.h5"))) in row["reason"]
    campaign.verify()
    assert_same_hits(campaign.hits(), quiet.hits())


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
    make_campaign, tmp_path, simulated
):
    campaign = make_campaign(inputs=[{"path": str(not_data(simulated, tmp_path / "bad"))}])
    campaign.run(expect=ACCEPTANCE)
    campaign.verify()
    assert len(campaign.hits()) == 0
    assert len(campaign.accounting()) == 1


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and everything below it, all at once."""
    try:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        tree = []
    for victim in tree:
        try:
            victim.send_signal(signal.SIGSTOP)
        except psutil.NoSuchProcess:
            continue
    for victim in tree:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def test_killed_at_ten_random_moments_a_campaign_ends_with_the_undisturbed_dataset(
    make_campaign, simulated, quiet
):
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}], partition={"target_hits": 1})
    moments = random.Random(11)
    for _ in range(10):
        process = subprocess.Popen(
            campaign.command(), env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.3, 5.0))
        kill_tree(process)
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
    make_campaign, simulated, tmp_path, share
):
    # A small model leaves the disk to the campaign; `share` of what it needs is there at first.
    model = write_linear_model(tmp_path / "linear.onnx", linear_weights())
    whole = make_campaign("whole", inputs=[{"path": f"{simulated}/*.h5"}], model={"path": str(model)})
    whole.run()
    needed = sum(path.stat().st_blocks * 512 for path in whole.workdir.rglob("*"))
    mounted, saved = tmp_path / "small", tmp_path / "saved"
    mounted.mkdir()
    script = IN_SMALL_FOLDER.format(
        size=int(share * needed),
        workdir=mounted,
        config=whole.config_file,
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
    assert_same_hits(pa.concat_tables(tables), whole.hits())
