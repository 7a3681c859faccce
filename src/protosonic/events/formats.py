"""Telling formats apart by content, and refusing those that cannot be used with the way out."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from typing import IO, TYPE_CHECKING

from protosonic.errors import DataError, classify_os_error
from protosonic.events.source import open_binary, size_of

if TYPE_CHECKING:
    import h5py

    from protosonic.events.reader import EventFile, ReaderOptions
    from protosonic.events.source import AnyFile

__all__ = ["FORMATS", "identify", "open_events"]

FORMATS = ("native", "wirecell-archive", "wirecell-hdf5", "numl")

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ROUTES = (
    "Supported routes: Wire-Cell frames written by HDF5FrameTap or FrameFileSink, numl HDF5Maker with its wire table, "
    "or the native format (docs/formats.md)"
)
# First bytes → what the file is.
_OTHER_MAGICS = {
    b"PK\x03\x04": "a zip archive",
    b"\x93NUMPY": "a single NumPy array",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
}


def identify(path: AnyFile) -> str:
    """Find the format of a file from its content.

    Returns
    -------
    One of :data:`FORMATS`.

    Raises
    ------
    DataError
        Code ``unsupported-format`` (what the file is, and what to do instead), ``truncated``, ``corrupt`` or
        ``empty-file``.
    """
    try:
        size = size_of(path)
        with open_binary(path) as file:
            head = file.read(1024)
            is_hdf5 = _has_hdf5_signature(file, size)
    except OSError as error:
        raise unreadable(path, error) from error
    if size == 0:
        raise DataError("the file is empty", code="empty-file", file=path, hint="Transfer it again")
    if is_hdf5:
        return _identify_hdf5(path)
    if head.startswith(b"root"):
        raise _root_refusal(path, size)
    for magic, what in _OTHER_MAGICS.items():
        if head.startswith(magic):
            raise _refusal(path, what)
    return _identify_archive(path)


def open_events(path: AnyFile, options: ReaderOptions, file_format: str = "auto") -> EventFile:
    """Open an input file.

    Parameters
    ----------
    path
        The file.
    options
        What the configuration says about it.
    file_format
        One of :data:`FORMATS`, or ``auto``.

    Raises
    ------
    DataError
        The file cannot be used, or is of another format than stated (code ``wrong-format``).
    ConfigError
        The configuration lacks something that the format needs.
    """
    from protosonic.events.native import NativeFile
    from protosonic.events.numl import NumlFile
    from protosonic.events.wirecell_archive import WireCellArchiveFile
    from protosonic.events.wirecell_hdf5 import WireCellHdf5File

    found = identify(path)
    if file_format not in {"auto", found}:
        raise DataError(
            "the file is of another format than the configuration says",
            code="wrong-format",
            file=path,
            expected=file_format,
            found=found,
            hint="Set inputs[].format to auto",
        )
    readers: tuple[type[EventFile], ...] = (NativeFile, NumlFile, WireCellArchiveFile, WireCellHdf5File)
    return next(reader for reader in readers if reader.format == found)(path, options)


def unreadable(path: AnyFile, error: OSError) -> Exception:
    """Turn the failure to open a file into an error: a data problem where trying again cannot help."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return DataError(
            f"the file cannot be opened: {(error.strerror or str(error)).lower()}",
            code="unreadable",
            file=path,
        )
    return classify_os_error(error) or DataError(str(error), code="unreadable", file=path)


def _has_hdf5_signature(file: IO[bytes], size: int) -> bool:
    """Look for the signature at its places: the start, or 512, 1024, 2048, … bytes where a user block precedes it."""
    place = 0
    while place < size:
        file.seek(place)
        if file.read(len(_HDF5_MAGIC)) == _HDF5_MAGIC:
            return True
        place = max(2 * place, 512)
    return False


def _refusal(path: AnyFile, what: str, advice: str = _ROUTES) -> DataError:
    return DataError(
        f"this is {what}, which cannot be read", code="unsupported-format", file=path, hint=advice
    )


def _root_refusal(path: AnyFile, size: int) -> DataError:
    with open_binary(path) as file:
        ends = file.read(2**20)
        file.seek(max(size - 2**20, 0))
        ends += file.read()
    # Names of trees are stored uncompressed in their keys.
    what = "an art/ROOT file" if b"RootFileDB" in ends or b"EventMetaData" in ends else "a ROOT file"
    return _refusal(
        path,
        what,
        "Without the experiment's libraries art products cannot be read safely. Write the same events in an art job: "
        "Wire-Cell frames with HDF5FrameTap, or hits and wires with numl HDF5Maker",
    )


def _identify_archive(path: AnyFile) -> str:
    from protosonic.events.wirecell_archive import COMPRESSIONS, open_inflated

    try:
        with open_binary(path) as raw:
            compressed = raw.read(8).startswith(tuple(COMPRESSIONS))
        with open_inflated(path) as file:
            block = file.read(tarfile.BLOCKSIZE)
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if compressed and len(block) < tarfile.BLOCKSIZE:
            raise DataError(
                "the compressed file holds almost nothing", code="truncated", file=path
            ) from error
        what = "a compressed file that is not a tar archive" if compressed else "a file of an unknown format"
        raise _refusal(path, what) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and (classified := classify_os_error(error)):
            raise classified from error
        raise DataError(
            "the compressed file is damaged", code="corrupt", file=path, found=str(error)
        ) from error
    return "wirecell-archive"


def _identify_hdf5(path: AnyFile) -> str:
    from protosonic.events.hdf5 import damage_as_data_error, names, open_hdf5, text_attribute
    from protosonic.events.native import FORMAT_NAME
    from protosonic.events.numl import looks_like_numl
    from protosonic.events.wirecell_hdf5 import looks_like_frames

    with open_hdf5(path) as file, damage_as_data_error(path):
        if text_attribute(file, "format") == FORMAT_NAME:
            return "native"
        if looks_like_numl(file, path):
            return "numl"
        if looks_like_frames(file, path):
            return "wirecell-hdf5"
        what, advice = _describe_hdf5(file, names(file, path))
    raise _refusal(path, what, advice)


def _describe_hdf5(file: h5py.File, members: list[str]) -> tuple[str, str]:
    """Say what an HDF5 file of another kind is, and what to do instead."""
    if "filelayout_params" in file.attrs or any(
        name.startswith(("TriggerRecord", "TimeSlice")) for name in members
    ):
        return (
            "a DUNE-DAQ raw data file",
            "The network needs deconvolved charge: run signal processing (Wire-Cell) first and give its frames",
        )
    if "Data" in members and "Events" in members:
        return "a larcv3 file", f"It has images but neither wires nor hits. {_ROUTES}"
    if "PYTABLES_FORMAT_VERSION" in file.attrs:
        return "a PyTables file without a hit table", _ROUTES
    if members and all(name.isdecimal() for name in members):
        return "an HDF5 file with numbered groups but without frames", _ROUTES
    return f"an HDF5 file of an unknown kind (it holds {', '.join(members[:8]) or 'nothing'})", _ROUTES
