"""Reading HDF5 files that others made: no links out of the file, no pickles, bounded sizes, errors that help."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401  (importing it registers the compression filters that foreign files use)
import numpy as np

from protosonic.errors import DataError, classify_os_error
from protosonic.events.source import AnyFile, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = [
    "corrupt_data",
    "damage_as_data_error",
    "get_dataset",
    "get_group",
    "get_member",
    "names",
    "open_hdf5",
    "read_all",
    "read_slice",
    "text_attribute",
]

MAX_CHUNK_BYTES = 256 * 2**20
"""A chunk is decompressed as a whole, so its size bounds the memory that a hostile file can take."""
ALL_ROWS = slice(None)


def open_hdf5(path: AnyFile) -> h5py.File:
    """Open a file for reading.

    Raises
    ------
    DataError
        Code ``truncated`` or ``corrupt``.
    """
    with damage_as_data_error(path):
        content = path.content if isinstance(path, Source) else path
        return h5py.File(content if isinstance(content, Path) else content(), "r", locking=False)


def corrupt_data(error: Exception, path: AnyFile, where: str | None = None) -> Exception:
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


@contextmanager
def damage_as_data_error(path: AnyFile, where: str | None = None) -> Iterator[None]:
    """Turn what h5py raises for damaged metadata and data, a wide choice of errors, into a :class:`DataError`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:
        raise corrupt_data(error, path, where) from error


def names(group: h5py.Group, path: AnyFile) -> list[str]:
    """List the members of a group; bytes of a name that are not UTF-8 are replaced."""
    with damage_as_data_error(path, group.name):
        return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in group]


def text_attribute(group: h5py.Group, name: str) -> str | None:
    """Give a text attribute, of fixed or variable length; ``None`` where there is no such text."""
    value = group.attrs.get(name)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def get_member(group: h5py.Group, name: str, path: AnyFile) -> Any:
    """Return the group or dataset of that name, ``None`` where there is none.

    Raises
    ------
    DataError
        Code ``hostile``: it lies in another file. Code ``corrupt``: it cannot be opened.
    """
    where = _path_in_file(group, name)
    with damage_as_data_error(path, where):
        links = group.id.links
        kind = links.get_info(name.encode()).type if links.exists(name.encode()) else None
        item = group.get(name) if kind in {h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT} else None
        # A soft link can lead over an external one.
        is_elsewhere = kind == h5py.h5l.TYPE_EXTERNAL or (
            item is not None and item.file.filename != group.file.filename
        )
    if is_elsewhere:
        raise DataError("this is a link to another file", code="hostile", file=path, where=where)
    return item


def _path_in_file(group: h5py.Group, name: str) -> str:
    return f"{group.name.rstrip('/')}/{name}"


def get_group(group: h5py.Group, name: str, path: AnyFile) -> h5py.Group:
    """Return a group that lies in the file itself.

    Raises
    ------
    DataError
        Code ``corrupt`` (missing, with the nearest names) or ``hostile``.
    """
    item = get_member(group, name, path)
    if not isinstance(item, h5py.Group):
        raise _missing(group, name, path, "group")
    return item


def _missing(group: h5py.Group, name: str, path: AnyFile, what: str) -> DataError:
    there = names(group, path)
    near = difflib.get_close_matches(name, there, n=3) or there[:10]
    return DataError(
        f"there is no such {what}",
        code="corrupt",
        file=path,
        where=_path_in_file(group, name),
        found=f"nearest: {', '.join(near) or 'nothing'}",
    )


def get_dataset(
    group: h5py.Group, name: str, path: AnyFile, *, ndim: int | None = None, kinds: str = "iuf"
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
    item = get_member(group, name, path)
    if not isinstance(item, h5py.Dataset):
        raise _missing(group, name, path, "dataset")
    where = _path_in_file(group, name)
    with damage_as_data_error(path, where):
        _check_dataset(item, ndim, kinds, path, where)
    return item


def _check_dataset(item: h5py.Dataset, ndim: int | None, kinds: str, path: AnyFile, where: str) -> None:
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
    if item.shape is None or (ndim is not None and item.ndim != ndim):
        raise DataError(
            "the dataset has the wrong shape",
            code="corrupt",
            file=path,
            where=where,
            expected="data" if ndim is None else f"{ndim} dimensions",
            found=item.shape or "none",
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


def read_slice(dataset: h5py.Dataset, selection: Any, path: AnyFile) -> NDArray[Any]:
    """Read part of a dataset.

    Raises
    ------
    DataError
        Code ``corrupt``: a block of the file is damaged (checksum, decompression) or its filter is unknown.
    """
    with damage_as_data_error(path, dataset.name):
        return np.asarray(dataset[selection])


def read_all(
    group: h5py.Group, name: str, path: AnyFile, *, max_size: int, kinds: str = "iuf", rows: slice = ALL_ROWS
) -> NDArray[Any]:
    """Read a one-dimensional dataset of at most `max_size` elements; shape (N, 1) counts as one dimension.

    Parameters
    ----------
    group, name, path, kinds
        As in :func:`get_dataset`.
    max_size
        Number of elements that the whole dataset may have.
    rows
        Which rows to read.

    Raises
    ------
    DataError
        As :func:`get_dataset` and :func:`read_slice`; code ``hostile`` when it is larger.
    """
    dataset = get_dataset(group, name, path, kinds=kinds)
    if dataset.shape[1:] not in {(), (1,)} or not dataset.shape:
        raise DataError(
            "the dataset has the wrong shape",
            code="corrupt",
            file=path,
            where=dataset.name,
            expected="one column",
            found=dataset.shape,
        )
    if dataset.size > max_size:
        raise DataError(
            "the dataset is larger than anything of its kind",
            code="hostile",
            file=path,
            where=dataset.name,
            expected=f"at most {max_size} elements",
            found=dataset.size,
        )
    return read_slice(dataset, rows, path).reshape(-1)
