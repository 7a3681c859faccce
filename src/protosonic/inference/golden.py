"""Patches whose scores are known beforehand: they prove that an endpoint computes what the local model computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.inference.failure_policy import EndpointError, FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["CANARIES", "GOLDEN_PATCHES", "NoReference", "Reference", "golden_patches"]

GOLDEN_PATCHES = 16
CANARIES = 2
"""Patches that every inference request carries besides its hits."""


def golden_patches() -> NDArray[np.float32]:
    """Give the golden batch, float32 [16, 48, 48], the same on every machine and with every version of numpy.

    In the first half about 6 % of the pixels hold charge, over the whole range of the images, with no symmetry: a wrong
    order of rows, columns or patches changes the scores. A trained network is as good as certain about such patches, and
    says 0 or 1 whatever else is wrong. So the second half shows what it knows, and is in doubt about: straight lines
    through or up to the hit, long and short, steep and flat, among crumbs of charge.
    """
    numbers = np.arange(GOLDEN_PATCHES * 48 * 48, dtype=np.uint32)
    # A multiplicative hash with shifts between (the finaliser of MurmurHash3).
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        numbers = (numbers ^ (numbers >> np.uint32(shift))) * np.uint32(factor)
    numbers ^= numbers >> np.uint32(16)
    charge = (numbers >> np.uint32(8)).astype(np.float32) * np.float32(20 / 2**24) - np.float32(5)
    patches = np.where(numbers & np.uint32(15), np.float32(0), charge).reshape(GOLDEN_PATCHES, 48, 48)
    # All numbers are eighths, so that no order of additions matters.
    crumbs = np.where(numbers & np.uint32(127), np.float32(0), np.rint(charge) / np.float32(4)).reshape(
        patches.shape
    )
    first = GOLDEN_PATCHES - len(_LINES)
    for patch, crumb, line in zip(patches[first:], crumbs[first:], _LINES, strict=True):
        patch[...] = np.clip(crumb + _line(*line), -5, 15)
    return patches


# Wires before and after the hit, drift bins per eight wires, charge at the hit.
_LINES = (
    (24, 24, 3, 8),
    (24, 24, -9, 6),
    (24, 24, 20, 7),
    (24, 0, 5, 10),
    (9, 0, -7, 8),
    (14, 2, 11, 7),
    (5, 3, 2, 5),
    (12, 12, -26, 3),
)
_WIDTH = (1, 4, 6, 4, 1)
"""Charge of a line along the drift, in eighths."""


def _line(before: int, after: int, slope: int, charge: int) -> NDArray[np.float32]:
    image = np.zeros((48, 48), np.float32)
    for row in range(24 - before, 24 + after):
        column = 24 + (row - 24) * slope // 8
        for offset, share in enumerate(_WIDTH, start=-2):
            if 0 <= column + offset < 48:
                image[row, column + offset] = np.float32(charge * share / 8)
    return image


class Reference:
    """What the local model makes of the golden batch, and the comparison with it.

    Every request carries two golden patches, as its first and last: so every single answer proves that it comes from
    the right model, that its outputs are not exchanged and that its rows stand in their order.

    Parameters
    ----------
    infer
        Computes scores with the local model, float32 [n, 48, 48] → float32 [n, 4].
    tolerance
        Largest difference of a score that is taken for equal.
    """

    def __init__(self, infer: Callable[[NDArray[np.float32]], NDArray[np.float32]], tolerance: float) -> None:
        self.patches = golden_patches()
        self.scores = infer(self.patches)
        self.tolerance = tolerance
        self._first, self._last = _most_telling(self.scores)

    @property
    def canaries(self) -> NDArray[np.float32]:
        """The golden patches that go before and after the hits of a request, float32 [2, 48, 48]."""
        return self.patches[[self._first, self._last]]

    def with_canaries(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put a golden patch before and after the patches: float32 [n, 48, 48] → float32 [n + 2, 48, 48]."""
        framed = np.empty((len(patches) + CANARIES, *patches.shape[1:]), np.float32)
        framed[1:-1], framed[[0, -1]] = patches, self.canaries
        return framed

    def without_canaries(self, scores: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        """Check the scores of the canaries and take them off: float32 [n + 2, 4] → float32 [n, 4].

        Raises
        ------
        EndpointError
            They are not those of the local model.
        """
        expected = self.scores[[self._first, self._last]]
        self._compare(scores[[0, -1]], expected, FailureClass.WRONG_ANSWER, what)
        return scores[1:-1]

    def check(self, scores: NDArray[np.float32], what: str) -> float | None:
        """Compare the scores of the whole golden batch with those of the local model; gives the largest difference.

        Raises
        ------
        EndpointError
            They differ by more than the tolerance.
        """
        return self._compare(scores, self.scores, FailureClass.WRONG_MODEL, what)

    def _compare(
        self, found: NDArray[np.float32], expected: NDArray[np.float32], failure: FailureClass, what: str
    ) -> float:
        deviation = float(np.abs(found - expected).max())
        if not deviation <= self.tolerance:
            raise EndpointError(
                "the scores of known patches are not those of the local model",
                failure,
                file=what,
                expected=f"differences of at most {self.tolerance:g}",
                found=f"{deviation:.3g}",
                hint="Serve the file that model.path names, in FP32 and without TF32",
            )
        return deviation


def _most_telling(scores: NDArray[np.float32]) -> tuple[int, int]:
    """Choose the canaries from the scores of the golden batch.

    They must differ, so that exchanged rows cannot be missed; by half of the largest difference is enough. Of such pairs
    the one with most scores that are neither 0 nor 1 is taken, as these show what is slightly wrong.
    """
    distance = np.abs(scores[:, None] - scores[None]).max(axis=2)
    doubt = (scores * (1 - scores)).sum(axis=1)
    telling = np.where(distance >= distance.max() / 2, doubt[:, None] + doubt[None], -np.inf)
    first, last = np.unravel_index(int(telling.argmax()), telling.shape)
    return int(first), int(last)


class NoReference(Reference):
    """Stands where there is no local model: requests carry no golden patches, and no scores are compared."""

    def __init__(self) -> None:
        super().__init__(lambda patches: np.zeros((len(patches), 4), np.float32), np.inf)

    @property
    def canaries(self) -> NDArray[np.float32]:
        """None, float32 [0, 48, 48]."""
        return self.patches[:0]

    def with_canaries(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the patches as they are."""
        return patches

    def without_canaries(self, scores: NDArray[np.float32], what: str) -> NDArray[np.float32]:  # noqa: ARG002
        """Give the scores as they are."""
        return scores

    def check(self, scores: NDArray[np.float32], what: str) -> None:  # noqa: ARG002
        """Compare nothing."""
        return
