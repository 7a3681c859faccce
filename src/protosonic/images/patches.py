"""Patches around hits, the fiducial flag and the duplicate policy (``PointIdAlg``, ``EmTrackMichelId``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.images.plane_image import scale_charge
from protosonic.images.profiles import PATCH_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.images.plane_image import PlaneImage
    from protosonic.images.profiles import Profile

__all__ = ["PatchCutter", "in_fiducial", "repeats_previous"]

HALF = PATCH_SIZE // 2
FIDUCIAL_MARGIN = PATCH_SIZE // 8


class PatchCutter:
    """Cuts patches out of one plane image, a batch at a time.

    Patch row *i* is wire ``w − 24 + i`` and column *j* drift bin ``d − 24 + j``, so the hit stands at [24][24]; what
    lies outside the image is at the zero level.

    Parameters
    ----------
    image
        The image; its padded dense form is held while the cutter lives.
    profile
        The constants it was made with.
    """

    def __init__(self, image: PlaneImage, profile: Profile) -> None:
        self._image = image
        self._profile = profile
        # In full view pixels are network input already; otherwise they are charge, which is zero in the padding.
        self._bin = 1 if profile.full_view else profile.drift_window
        background = profile.zero_level if profile.full_view else 0.0
        self._pad = PATCH_SIZE * self._bin
        self._dense = image.dense(background, pad=self._pad)

    def cut(
        self, wire: NDArray[np.int32], drift_bin: NDArray[np.int64], peak_time: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Cut the patches of some hits.

        Parameters
        ----------
        wire
            Row of each hit, within the image.
        drift_bin
            Drift bin of each hit; any value.
        peak_time
            Time of each hit in ticks; only used without full view.

        Returns
        -------
        float32 [hits, 48, 48].
        """
        windows = np.lib.stride_tricks.sliding_window_view(self._dense, (PATCH_SIZE, PATCH_SIZE * self._bin))
        top = wire.astype(np.int64) - HALF + self._pad
        if self._profile.full_view:
            left = np.clip(drift_bin, -HALF, self._image.n_columns + HALF) - HALF
            return windows[top, left + self._pad]
        # Without full view LArSoft clamps the first tick at 0 but not the last: near tick 0 a patch is moved to the left
        # and the ticks after its nominal end stay empty.
        whole = np.trunc(np.clip(peak_time, -(2.0**30), 2.0**30)).astype(np.int64)
        left = np.clip(whole - HALF * self._bin, 0, self._image.n_columns)
        is_read = np.arange(PATCH_SIZE * self._bin) < (whole + HALF * self._bin - left)[:, None]
        charge = np.where(is_read[:, None, :], windows[top, left + self._pad], np.float32(0))
        charge = charge.reshape(len(wire), PATCH_SIZE, PATCH_SIZE, self._bin)
        mean = charge.sum(axis=3, dtype=np.float64).astype(np.float32) * (
            np.float32(1) / np.float32(self._bin)
        )
        return scale_charge(mean, self._profile, self._image.key.plane)


def in_fiducial(
    wire: NDArray[np.int32], drift_bin: NDArray[np.int64], n_wires: int, n_drift_bins: int
) -> NDArray[np.bool_]:
    """Tell which hits lie at least 6 wires and 6 drift bins inside the plane (``isInsideFiducialRegion``).

    LArSoft computes the upper bounds without sign, so that planes of fewer than 6 wires have no bound; here such
    planes have no fiducial region.
    """
    margin = FIDUCIAL_MARGIN
    return (
        (wire >= margin)
        & (wire < n_wires - margin)
        & (drift_bin >= margin)
        & (drift_bin < n_drift_bins - margin)
    )


def repeats_previous(
    wire: NDArray[np.int32],
    drift_bin: NDArray[np.int64],
    peak_time: NDArray[np.float32],
    profile: Profile,
    previous: tuple[int, float] | None,
) -> tuple[NDArray[np.bool_], tuple[int, float] | None]:
    """Tell which hits LArSoft takes for the position that it has just filled.

    It classifies such a hit on a patch of zeros: ``bufferPatch`` returns early and leaves the new patch empty. The
    hit before is that of the processing order, across planes. In full view positions are compared by drift bin;
    otherwise the time of a hit is compared with the time before it cut to whole ticks.

    Parameters
    ----------
    wire, drift_bin, peak_time
        Hits of one plane in their order.
    profile
        Says whether the full view is binned.
    previous
        What this function returned for the plane before; ``None`` at the start of an event.

    Returns
    -------
    bool [hits], and the position that the next plane compares with.
    """
    asked = drift_bin.astype(np.float64) if profile.full_view else peak_time.astype(np.float64)
    kept = asked if profile.full_view else np.trunc(asked)
    repeats = np.zeros(len(wire), dtype=bool)
    repeats[1:] = (np.diff(wire) == 0) & (asked[1:] == kept[:-1])
    if len(wire):
        repeats[0] = previous == (int(wire[0]), float(asked[0]))
        previous = (int(wire[-1]), float(kept[-1]))
    return repeats, previous
