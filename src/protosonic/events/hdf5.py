"""Reading HDF5 files that others made: no links out of the file, no pickles, bounded sizes, errors that help."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401  (importing it registers the compression filters that foreign files use)
import numpy as np

from protosonic.errors import DataError, classify_os_error

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["corrupt_data", "get_dataset", "names", "open_hdf5", "read_all", "read_slice"]

MAX_CHUNK_BYTES = 256 * 2**20
"""A chunk is decompressed as a whole, so its size bounds the memory that a hostile file can take."""


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading.

    Raises
    ------
    DataError
        Code ``truncated`` or ``corrupt``.
    """
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise corrupt_data(error, path) from error


def corrupt_data(error: Exception, path: Path, where: str | None = None) -> Exception:
    """Turn what h5py raised into a :class:`DataError`, or into an infrastructure error where the errno says so."""
    if isinstance(error, OSError) and (classified := classify_os_error(error)):
        return classified
    text = str(error)
    if "truncated file" in text:
        return DataError(
            "the HDF5 file is truncated",
            code="truncated",
            file=path,
            where=where,
            found=text[text.find("truncated file") :].rstrip(")"),
            hint="Transfer it again; its writer may have died",
        )
    return DataError(
        "the HDF5 data cannot be read",
        code="corrupt",
        file=path,
        where=where,
        found=text,
        hint="Transfer the file again or take it from another replica",
    )


def names(group: h5py.Group, path: Path) -> list[str]:
    """List the members of a group."""
    try:
        return list(group)
    except (OSError, RuntimeError) as error:
        raise corrupt_data(error, path, group.name) from error


def get_dataset(
    group: h5py.Group, name: str, path: Path, *, ndim: int | None = None, kinds: str = "iuf"
) -> h5py.Dataset:
    """Return a dataset that is safe to read.

    Parameters
    ----------
    group, name
        Where it is.
    path
        Named in errors.
    ndim
        Number of dimensions that it must have.
    kinds
        NumPy kinds of its type that are allowed.

    Raises
    ------
    DataError
        Code ``corrupt`` (missing, with the nearest names; wrong type or shape) or ``hostile`` (stored outside of the
        file, or in chunks of absurd size).
    """
    where = f"{group.name.rstrip('/')}/{name}"
    try:
        link = group.get(name, getlink=True)
        item: Any = group.get(name) if isinstance(link, h5py.HardLink | h5py.SoftLink) else None
    except (OSError, RuntimeError, KeyError) as error:
        raise corrupt_data(error, path, where) from error
    if isinstance(link, h5py.ExternalLink):
        raise DataError("the dataset is a link to another file", code="hostile", file=path, where=where)
    if not isinstance(item, h5py.Dataset):
        near = difflib.get_close_matches(name, names(group, path), n=3) or names(group, path)[:10]
        raise DataError(
            "there is no such dataset",
            code="corrupt",
            file=path,
            where=where,
            found=f"nearest: {', '.join(near)}",
        )
    if item.external or item.is_virtual:
        raise DataError("the dataset is stored in another file", code="hostile", file=path, where=where)
    if item.dtype.kind not in kinds or item.dtype.hasobject:
        raise DataError(
            "the dataset has the wrong type",
            code="corrupt",
            file=path,
            where=where,
            expected=f"NumPy kind {' or '.join(kinds)}",
            found=item.dtype,
        )
    if ndim is not None and item.ndim != ndim:
        raise DataError(
            "the dataset has the wrong shape",
            code="corrupt",
            file=path,
            where=where,
            expected=f"{ndim} dimensions",
            found=item.shape,
        )
    chunk_bytes = int(np.prod(item.chunks or (1,), dtype=np.int64)) * item.dtype.itemsize
    if chunk_bytes > MAX_CHUNK_BYTES:
        raise DataError(
            "the dataset has chunks of absurd size",
            code="hostile",
            file=path,
            where=where,
            expected=f"at most {MAX_CHUNK_BYTES} bytes",
            found=f"{chunk_bytes} bytes",
        )
    return item


def read_slice(dataset: h5py.Dataset, selection: Any, path: Path) -> NDArray[Any]:
    """Read part of a dataset.

    Raises
    ------
    DataError
        Code ``corrupt``: a block of the file is damaged (checksum, decompression) or its filter is unknown.
    """
    try:
        return np.asarray(dataset[selection])
    except (OSError, RuntimeError, ValueError) as error:
        raise corrupt_data(error, path, dataset.name) from error


def read_all(group: h5py.Group, name: str, path: Path, *, max_size: int, kinds: str = "iuf") -> NDArray[Any]:
    """Read a one-dimensional dataset of at most `max_size` elements; shape (N, 1) counts as one dimension.

    Raises
    ------
    DataError
        As :func:`get_dataset` and :func:`read_slice`; code ``hostile`` when it is larger.
    """
    dataset = get_dataset(group, name, path, kinds=kinds)
    if dataset.size > max_size:
        raise DataError(
            "the dataset is larger than anything of its kind",
            code="hostile",
            file=path,
            where=dataset.name,
            expected=f"at most {max_size} elements",
            found=f"{dataset.size}",
        )
    values = read_slice(dataset, (), path)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            "the dataset has the wrong shape",
            code="corrupt",
            file=path,
            where=dataset.name,
            expected="one column",
            found=dataset.shape,
        )
    return values
