"""What guidance costs: the network evaluations of a denoiser, counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.denoiser import estimate


@dataclass
class Counted:
    """`denoiser`, its condition bound or not, with a count of the `rows` that went through it. Divided by the number
    of samples this is the NFE: two branches in one batch are two evaluations."""

    denoiser: Callable[..., Estimate]
    rows: int = 0

    def __call__(self, x_t: Tensor, level: NoiseLevel, condition: Condition | None = None) -> Estimate:
        self.rows += len(x_t)
        return self.denoiser(x_t, level) if condition is None else self.denoiser(x_t, level, condition)

    def to(self, x_t: Tensor, level: NoiseLevel, nxt: NoiseLevel, condition: Condition | None = None) -> Estimate:
        """For a step that ends at `nxt`."""
        self.rows += len(x_t)
        return estimate(self.denoiser, x_t, level, nxt, condition)
