"""The sparse evaluation in C."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from protosonic.inference.sparse_engine.build import LIBRARY
from protosonic.inference.sparse_engine.weights import FEATURES, HIDDEN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.inference.sparse_engine.activity import Windows
    from protosonic.inference.sparse_engine.network import Network

__all__ = ["CompiledKernel"]

_AHEAD = 2
"""Hits that the kernel prefetches."""


class CompiledKernel:
    """The kernel in C; calls release the interpreter and use the caller's thread alone.

    Parameters
    ----------
    level
        Instructions to use: 0 plain, 1 AVX2, 2 AVX-512; the best that the processor has where none is given. A
        processor that lacks them stops the process.
    library
        The library that :mod:`~.build` made.

    Raises
    ------
    OSError
        There is no library, or it is for another system.
    """

    name = "compiled"

    def __init__(self, level: int | None = None, library: Path = LIBRARY) -> None:
        functions = ctypes.CDLL(str(library))
        self.level: int = functions.protosonic_level() if level is None else level
        self._convolve = functions.protosonic_convolve
        self._convolve.restype = ctypes.c_int64
        self._convolve.argtypes = [
            ctypes.c_int,
            _array(np.float32),
            ctypes.c_int64,
            ctypes.c_int64,
            _array(np.int64),
            _array(np.float32),
            _array(np.float32),
            ctypes.c_int64,
            _array(np.int64),
            _array(np.float32),
            _array(np.uint16),
        ]
        self._accumulate = functions.protosonic_accumulate
        self._accumulate.restype = None
        self._accumulate.argtypes = [
            ctypes.c_int,
            ctypes.c_int64,
            _array(np.uint64),
            _array(np.int32),
            _array(np.int64),
            _array(np.float32),
            _array(np.uint16),
            _array(np.float32),
            _array(np.int32),
            _array(np.float32),
            _array(np.float32),
        ]

    def sums(
        self,
        network: Network,
        images: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
        windows: Windows,
    ) -> NDArray[np.float32]:
        """Compute the sums of the first dense layer; see :class:`~.engine.Kernel`."""
        n_active = sum(len(corners) for _, corners in images)
        start = np.zeros(n_active + 1, np.int64)
        # Only what is filled takes memory.
        value = np.empty(FEATURES * n_active, np.float32)
        row = np.empty(FEATURES * n_active, np.uint16)
        entry = position = 0
        for image, corners in images:
            entry = self._convolve(
                self.level,
                image,
                image.shape[1],
                len(corners),
                corners,
                network.kernel,
                network.bias,
                entry,
                start[position:],
                value,
                row,
            )
            position += len(corners)
        n_hits = windows.mask.shape[1]
        sums = np.repeat(network.empty[None], n_hits, axis=0)
        self._accumulate(
            self.level,
            n_hits,
            windows.mask.copy(),
            windows.first.astype(np.int32),
            start,
            value,
            row,
            network.dense,
            np.empty((n_hits + _AHEAD, 2), np.int32),
            np.empty((n_hits, HIDDEN), np.float32),
            sums,
        )
        return sums


def _array(dtype: type[np.generic]) -> Any:
    return np.ctypeslib.ndpointer(dtype, flags="C_CONTIGUOUS")
