"""Shortcut models (Frans et al. 2024, "One step diffusion via shortcut models"): a map learned from data alone.

Most examples of a batch train the plain estimate, nxt = now, by L_simple. The others train a long step to be what two
steps of half its length make together, which the network says itself (see `core.maps`),

    X0(now, nxt) = w X0(now, mid) + (1 - w) X0(mid, nxt),    now, mid, nxt even in t

in the head's own kind and weighed as L_simple is. Steps are those of even grids of 1, 2, 4 ... `finest` / 2 steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate, target
from unsteep.core.level import NoiseLevel, add_noise, like
from unsteep.core.maps import Maps, share_of_first
from unsteep.core.noise import Draw, Purpose
from unsteep.data.batch import Batch
from unsteep.denoiser import unwrapped
from unsteep.objectives.loss import Loss
from unsteep.objectives.mse import weighed
from unsteep.objectives.times import AnyTimes, Uniform, WithTimes, corrected
from unsteep.objectives.weights import AnyWeight, Native


@dataclass(frozen=True, kw_only=True)
class Shortcut(WithTimes):
    """L_simple on most examples of a batch, and long steps out of two halves on a `share` of them."""

    weight: AnyWeight = field(default_factory=Native)
    """Of each noise level in the loss."""
    times: AnyTimes = field(default_factory=Uniform)
    """How training draws noise levels of the plain estimate."""
    share: float = 0.25
    """Of the examples of a batch that train a long step; each costs two calls more."""
    finest: int = 128
    """Steps of the finest grid, a power of two: one step of it is taken for the plain estimate."""
    calls: int = 4
    """Of a sample, where nobody says how many."""
    cost: ClassVar[float] = 1.25
    """Of a step of training, in steps of the plain one."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share: expected a share between 0 and 1, got {self.share}")
        if self.finest < 2 or self.finest & (self.finest - 1):
            raise ValueError(f"finest: expected a power of two, got {self.finest}; take 64 or 128")
        if self.calls < 1:
            raise ValueError(f"calls: expected at least 1, got {self.calls}")

    @classmethod
    def suited(cls, calls: int, steps: int, levels: int | None, **how: Any) -> Self:
        """One for samples of so many calls."""
        return cls(calls=calls, **how)

    @property
    def maps(self) -> Maps:
        """Which steps it trains."""
        return Maps(calls=self.calls, grids=tuple(2**i for i in range(self.finest.bit_length())))

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        denoiser, schedule = unwrapped(module), unwrapped(module).schedule
        t, correction = corrected(self.times, draw)
        long = draw.uniform(Purpose.PART) < self.share
        rows = long.to(batch.x.device)
        begins, length = self._steps(draw)
        t, ends = torch.where(long, begins, t), torch.where(long, begins - length, t)
        correction = torch.where(long, 1.0, correction)
        level, nxt = schedule(t), schedule(ends.clamp(min=0))
        eps = draw.normal(batch.x, Purpose.NOISE)
        x_t = add_noise(batch.x, eps, level)
        told: Estimate = module(x_t, level, batch.condition, nxt)
        aim = target(told.kind, batch.x, eps, level)
        if bool(long.any()):
            mid = schedule((t - length / 2)[long])
            condition = None if batch.condition is None else batch.condition.select(rows)
            halves = _halves(module, x_t[rows], level[long], mid, nxt[long], condition)
            aim = aim.masked_scatter(rows.reshape(-1, *(1,) * (aim.ndim - 1)), halves.as_(told.kind))
        error = weighed(denoiser, told, aim, self.weight, batch.weight)
        terms = {"simple": torch.where(rows, 0, error), "shortcut": torch.where(rows, error, 0)}
        return Loss(error * correction.to(error), t, terms, correction)

    def _steps(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Where a long step begins, and how long it is: float64 (b,)."""
        counts = self.finest.bit_length() - 1  # of grids with steps to be halved
        u = draw.uniform(Purpose.STEP) * counts
        steps = 2.0 ** u.floor().clamp(max=counts - 1)
        place = ((u % 1) * steps).ceil().clamp(min=1)  # each step of the grid alike
        return place / steps, 1 / steps


@torch.no_grad()
def _halves(
    module: nn.Module, x: Tensor, now: NoiseLevel, mid: NoiseLevel, nxt: NoiseLevel, condition: Condition | None
) -> Estimate:
    """What two steps make together, as the estimate of one."""
    first: Estimate = module(x, now, condition, mid)
    second: Estimate = module(first.moved(mid), mid, condition, nxt)
    w = like(share_of_first(now, mid, nxt), x)
    return first.replace_x0(w * first.x0 + (1 - w) * second.x0)
