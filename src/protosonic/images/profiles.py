"""Named sets of preprocessing constants.

The numbers of ``protodune-sp-2021`` are those of ``protodune_emtrkmichelid`` since February 2021
(dunesw ``fcl/common/featurelabelingmodules.fcl``), with ``dune10kt_calorimetryalgmc``, ``protodune_detproperties`` and
``protodune_detectorclocks``. The profiles of ProtoDUNE-HD and -VD reuse them, as dunesw does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PATCH_SIZE", "Profile", "load_profile", "profile_names"]

PATCH_SIZE = 48
"""Wires and drift bins of a patch (``PatchSizeW``, ``PatchSizeD``), fixed by the network."""


@dataclass(frozen=True)
class Profile:
    """The constants of the preprocessing; LArSoft names in brackets.

    Attributes
    ----------
    name
        The version is part of the name: constants of a name never change.
    drift_window
        Ticks per drift bin [DriftWindow]; they are averaged [DownscaleFn "mean"].
    full_view
        Whether the whole plane is binned from tick 0 [DownscaleFullView]; else each patch is binned from its own
        first tick.
    adc_min, adc_max
        Clipping range after the amplitude constant [AdcMin, AdcMax].
    out_min, out_max
        Range of the network's input [OutMin, OutMax].
    lifetime_us
        Electron lifetime in microseconds [Electronlifetime]; ``None`` switches the correction off
        [CalibrateLifetime].
    trigger_offset_ticks
        Tick of the trigger; the lifetime correction is 1 there [TriggerOffsetTPC].
    amplitude
        Factor per plane, 1.2e-3 / CalAmpConstants [CalibrateAmpl].
    """

    name: str
    drift_window: int = 6
    full_view: bool = True
    adc_min: float = -10.0
    adc_max: float = 30.0
    out_min: float = -5.0
    out_max: float = 15.0
    lifetime_us: float | None = 35.0e3
    trigger_offset_ticks: int = 500
    amplitude: tuple[float, float, float] = (1.2e-3 / 0.9033e-3, 1.2e-3 / 1.0287e-3, 1.2e-3 / 0.8800e-3)

    @property
    def scale(self) -> float:
        """Slope of the map from charge to the network's input."""
        return (self.out_max - self.out_min) / (self.adc_max - self.adc_min)

    @property
    def zero_level(self) -> float:
        """Network input that means no charge; it fills rows without a waveform and the padding of patches."""
        return self.out_min + self.scale * (0.0 - self.adc_min)

    def as_dict(self) -> dict[str, Any]:
        """Give the constants by name, for provenance."""
        return asdict(self)


_SP_2021 = Profile("protodune-sp-2021")
_PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        _SP_2021,
        # Before the change of the charge scale and of DownscaleFullView in February 2021.
        replace(_SP_2021, name="protodune-sp-2019", adc_min=-50.0, adc_max=150.0, full_view=False),
        replace(_SP_2021, name="protodune-hd"),
        replace(_SP_2021, name="protodune-vd"),
    )
}


def profile_names() -> tuple[str, ...]:
    """List the known profiles."""
    return tuple(_PROFILES)


def load_profile(name: str) -> Profile:
    """Give the profile of that name."""
    return _PROFILES[name]
