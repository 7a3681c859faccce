"""State of a detector: what its electronics and its signal processing make of the charge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Conditions"]

_Planes = tuple[float, float, float]


@dataclass(frozen=True)
class Conditions:
    """Numbers of the drift, the response after deconvolution and the noise; tuples hold one for each plane.

    The defaults are set to the ProtoDUNE-HD readout of run 27409 (docs/simulation.md compares them).

    Attributes
    ----------
    lifetime_us
        Lifetime of drifting electrons; the LArSoft configuration corrects for 35 ms.
    drift_mm_per_us
        Drift velocity.
    longitudinal_diffusion, transverse_diffusion
        cm²/s.
    response_ticks
        Sigma of the response along time.
    response_wires
        Sigma of the response across wires.
    noise
        Standard deviation of a sample, thousand electrons per tick.
    low_threshold, high_threshold
        A region of interest holds samples above the first and needs one above the second, thousand electrons.
    long_signal_loss
        Share of a signal longer than the field response that the deconvolution of an induction plane loses.
    crumbs
        Fragments of noise that signal processing leaves, per channel and window.
    dead_fraction
        Share of channels without a signal.
    gain_spread
        Relative standard deviation of the gain of channels.
    charge_scale
        Factor on the charge of each plane.
    """

    lifetime_us: float = 35_000.0
    drift_mm_per_us: float = 1.6
    longitudinal_diffusion: float = 7.2
    transverse_diffusion: float = 12.0
    response_ticks: _Planes = (3.7, 2.5, 2.4)
    response_wires: _Planes = (0.35, 0.35, 0.10)
    noise: _Planes = (0.08, 0.08, 0.06)
    low_threshold: _Planes = (0.10, 0.12, 0.12)
    high_threshold: _Planes = (0.35, 0.35, 0.3)
    long_signal_loss: float = 0.5
    crumbs: _Planes = (8.0, 8.0, 1.2)
    dead_fraction: float = 0.005
    gain_spread: float = 0.03
    charge_scale: _Planes = (1.2, 1.05, 1.2)

    def varied(self, rng: np.random.Generator) -> Self:
        """Give conditions of another detector or another time, for training that must hold for all of them."""

        def around(values: _Planes, spread: float) -> _Planes:
            common = float(rng.normal(0, spread))
            first, second, third = (
                value * 2.0 ** (common + float(rng.normal(0, spread / 2))) for value in values
            )
            return first, second, third

        return replace(
            self,
            lifetime_us=self.lifetime_us * 4.0 ** float(rng.uniform(-1, 0.5)),
            response_ticks=around(self.response_ticks, 0.2),
            response_wires=around(self.response_wires, 0.4),
            noise=around(self.noise, 0.5),
            low_threshold=around(self.low_threshold, 0.5),
            high_threshold=around(self.high_threshold, 0.4),
            long_signal_loss=float(rng.uniform(0, 0.7)),
            crumbs=around(self.crumbs, 1.5),
            charge_scale=around(self.charge_scale, 0.2),
        )
