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

    About 6 % of the pixels hold charge, over the whole range of the images, with no symmetry: a wrong order of rows,
    columns or patches changes the scores.
    """
    numbers = np.arange(GOLDEN_PATCHES * 48 * 48, dtype=np.uint32)
    # A multiplicative hash with shifts between (the finaliser of MurmurHash3).
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        numbers = (numbers ^ (numbers >> np.uint32(shift))) * np.uint32(factor)
    numbers ^= numbers >> np.uint32(16)
    charge = (numbers >> np.uint32(8)).astype(np.float32) * np.float32(20 / 2**24) - np.float32(5)
    return np.where(numbers & np.uint32(15), np.float32(0), charge).reshape(GOLDEN_PATCHES, 48, 48)


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
        # The two that differ most, so that exchanged rows cannot be missed.
        distance = np.abs(self.scores[:, None] - self.scores[None]).max(axis=2)
        self._first, self._last = np.unravel_index(int(distance.argmax()), distance.shape)

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
