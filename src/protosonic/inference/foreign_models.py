"""Telling model files of other kinds apart from ONNX files, so that users hear what to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protosonic.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["refuse_foreign_model"]

_CONVERT = "Convert it with tf2onnx; docs/models.md gives the command"
_HEAD_BYTES = 1 << 16


def refuse_foreign_model(path: Path) -> None:
    """Refuse what is plainly a model of another framework.

    A file of an unknown kind passes: loading it says more about it.

    Raises
    ------
    ModelError
        It is a TensorFlow graph, a SavedModel folder, a Keras file or a PyTorch file.
    """
    what, hint = _recognise(path)
    if what is not None:
        raise ModelError(f"this is {what}, not an ONNX file", file=path, hint=hint)


def _recognise(path: Path) -> tuple[str | None, str]:
    if path.is_dir():
        kind = "a TensorFlow SavedModel" if (path / "saved_model.pb").is_file() else "a folder"
        return kind, _CONVERT if kind != "a folder" else "Give the ONNX file itself"
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "an HDF5 file (Keras?)", _CONVERT
    if head.startswith(b"PK\x03\x04"):
        if b"config.json" in head and b"metadata.json" in head:
            return "a Keras file", _CONVERT
        return "a zip archive (PyTorch?)", "Export it with torch.onnx.export under the names of the contract"
    # A frozen GraphDef is a list of nodes, an ONNX file starts with its version.
    if head.startswith(b"\x0a") and b"Placeholder" in head:
        return "a TensorFlow graph", _CONVERT
    return None, ""
