"""Guidance: each wraps a denoiser into another, so that a solver never knows that it is guided."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.denoiser import Denoise


@dataclass(frozen=True)
class Clip:
    """Keeps every x0 estimate within [low, high], the range of the data, and derives eps from the clipped x0.

    Ho et al. 2020 sample so. Near t = 1 an eps error is multiplied by sigma / alpha (157 on the linear chain), and a
    clipped x0 does not leave the data's range. Wrong for unbounded data. It is the outermost wrapper.
    """

    denoise: Denoise
    low: float = -1.0
    high: float = 1.0

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        estimate = self.denoise(x_t, level)
        return estimate.replace_x0(estimate.x0.clamp(self.low, self.high))
