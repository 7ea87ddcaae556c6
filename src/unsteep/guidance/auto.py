"""Autoguidance: a denoiser away from a weaker version of itself (Karras et al. 2024a, "a bad version of itself").

    x0 = x0_weaker + scale (x0 - x0_weaker)

The weaker one, smaller or trained for less time, on the same data and condition, errs as the better one does, but
more. Unlike classifier-free guidance it needs no condition, and pulls towards no class.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.denoiser import Denoise
from unsteep.guidance.branches import moved


@dataclass(frozen=True)
class Auto:
    """x0 = x0_weaker + scale (x0 - x0_weaker): a call of each, of `denoise` alone at `scale` 1, and of `weaker` alone
    at 0.

    The two may predict different kinds, and hear the same levels. A learned variance is that of `denoise`.
    """

    denoise: Denoise
    weaker: Denoise
    scale: float = 1.0

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        return self.pair(x_t, level)[0]

    @property
    def plain(self) -> Denoise:
        """The better of the two."""
        return self.denoise

    def pair(self, x_t: Tensor, level: NoiseLevel) -> tuple[Estimate, Estimate]:
        """(guided, the better one); at scale 0 the weaker one twice."""
        if self.scale in (0, 1):
            only = (self.denoise if self.scale == 1 else self.weaker)(x_t, level)
            return only, only
        plain = self.denoise(x_t, level)
        return moved(self.weaker(x_t, level), [plain], [self.scale]), plain
