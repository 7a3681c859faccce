from __future__ import annotations

import errno
import resource
import signal

import h5py
import numpy as np
import pytest

from protosonic.hdf5_output import publish_hdf5


@pytest.fixture
def small_files():
    """Let no file grow past 20 kB, as a full disk would."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def write_much(file: h5py.File) -> None:
    for index in range(50):
        group = file.create_group(f"group{index}")
        group.create_dataset(
            "x", data=np.random.default_rng(index).random(1000), chunks=True, compression="gzip"
        )
        group.attrs["text"] = "words " * 20


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "out.h5"
    with publish_hdf5(path) as file:
        write_much(file)
        assert not path.exists()
    with h5py.File(path) as file:
        assert len(file) == 50
        np.testing.assert_array_equal(file["group7/x"], np.random.default_rng(7).random(1000))


def test_a_failing_disk_raises_its_error_and_leaves_nothing(tmp_path, small_files):
    with pytest.raises(OSError) as caught, publish_hdf5(tmp_path / "out.h5") as file:  # noqa: PT011
        write_much(file)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_block_is_raised_and_leaves_nothing(tmp_path):
    def fail_in_the_middle() -> None:
        with publish_hdf5(tmp_path / "out.h5") as file:
            write_much(file)
            raise KeyError

    with pytest.raises(KeyError):
        fail_in_the_middle()
    assert list(tmp_path.iterdir()) == []
