"""Estimates of x0 kept within the range of the data: by clipping, or by a threshold of each sample's own.

The outermost wrappers, around all guidance: a clipped x0 is no longer affine in what the network says. eps and every
other kind follow from the new x0.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unsteep.core import masked
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like
from unsteep.denoiser import Denoise, estimate


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
        return self._bounded(self.denoise(x_t, level))

    def to(self, x_t: Tensor, level: NoiseLevel, nxt: NoiseLevel) -> Estimate:
        """For a step that ends at `nxt`."""
        return self._bounded(estimate(self.denoise, x_t, level, nxt))

    def _bounded(self, told: Estimate) -> Estimate:
        return told.replace_x0(told.x0.clamp(self.low, self.high))


@dataclass(frozen=True)
class DynamicThreshold:
    """Clips x0 where it is too large for `quantile` of a sample's own entries, and scales what is left into the range.

    In units of the range, [-1, 1], s is the quantile of |x0| over all entries of one sample, at least 1: x0 becomes
    clamp(x0, -s, s) / s (Saharia et al. 2022, section 2.3). At s = 1 this is `Clip`. Strong guidance then saturates
    fewer pixels.
    """

    denoise: Denoise
    quantile: float = 0.995
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile: expected a number above 0 and at most 1, such as 0.995, got {self.quantile}")

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        return self._bounded(self.denoise(x_t, level))

    def to(self, x_t: Tensor, level: NoiseLevel, nxt: NoiseLevel) -> Estimate:
        """For a step that ends at `nxt`."""
        return self._bounded(estimate(self.denoise, x_t, level, nxt))

    def _bounded(self, told: Estimate) -> Estimate:
        centre, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        x0 = (told.x0 - centre) / half
        s = like(masked.quantile(x0.abs(), self.quantile, told.valid).clamp(min=1), x0)
        return told.replace_x0(centre + half * (x0.clamp(-s, s) / s))
