"""Guidance: each wraps a denoiser into another, so that a solver never knows that it is guided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.denoiser import Denoise


class Conditional(Protocol):
    """A denoiser whose condition is not bound yet: a `Denoiser`, or a `Mixture` with labels."""

    def __call__(self, x_t: Tensor, level: NoiseLevel, condition: Condition) -> Estimate: ...


@dataclass(frozen=True)
class ClassifierFree:
    """x0 = x0_null + scale (x0_condition - x0_null), both branches in one network batch (Ho & Salimans 2022).

    `scale` 1 is the conditional denoiser itself and 0 the unconditional one, in one call each; above 1 is guided, at
    two. The kinds of estimate are affine in each other, so it is the same x0 whatever the head predicts. A learned
    variance is the conditional one's.
    """

    denoiser: Conditional
    condition: Condition
    scale: float = 1.0

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        if self.scale in (0, 1):
            return self.denoiser(x_t, level, self.condition if self.scale == 1 else self.condition.null())
        null = self.condition.null().tensors()
        both = Condition(**{name: torch.cat([one, null[name]]) for name, one in self.condition.tensors().items()})
        rows = level.expand(len(x_t))
        twice = NoiseLevel(*(torch.cat([c, c]) for c in (rows.t, rows.logsnr, rows.alpha, rows.sigma)))
        told = self.denoiser(torch.cat([x_t, x_t]), twice, both)
        conditional, unconditional = told.value.chunk(2)
        value = unconditional + self.scale * (conditional - unconditional)
        fraction, log_variance = (
            None if learned is None else learned.chunk(2)[0] for learned in (told.variance_fraction, told.log_variance)
        )
        return Estimate(told.kind, value, x_t, level, fraction, log_variance)


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
