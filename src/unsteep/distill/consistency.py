"""Consistency models (Song et al. 2023), of one call or several (Heek et al. 2024, "Multistep consistency models").

On an even grid of `calls` steps in t, what the map says from anywhere within a step to the end of it must be what it
says from a little further on the way,

    X0(now, nxt) = w X0(now, mid) + (1 - w) X0(mid, nxt)    (see `core.maps`),

where the student itself, without gradient, says the second part, and the first is the teacher's own step, or the
example itself, whose noise is kept. The gap from `now` to `mid` is a step over `coarsest`, halved after every `each`
steps of training until it is one over `finest`: learned from the data alone the map is off by about its square.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import nn

from unsteep.core.level import add_noise, like
from unsteep.core.maps import Maps, share_of_first
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import continuous
from unsteep.data.batch import Batch
from unsteep.denoiser import unwrapped
from unsteep.distill.teaching import Taught, asked, check_learns, second_order
from unsteep.objectives.loss import Loss
from unsteep.objectives.mse import weighed
from unsteep.objectives.times import SMALLEST


@dataclass(frozen=True, kw_only=True)
class Consistency(Taught):
    """From anywhere within a step to its end."""

    learns: Literal["teacher", "data"] = "teacher"
    """From whom: from the model that the run starts from, or from the data, and then from any beginning."""
    calls: int = 1
    """Steps of the grid that it knows, and no others."""
    coarsest: int = 8
    """Gaps of a step at first."""
    finest: int = 64
    """And at the end: `coarsest` times a power of two."""
    each: int = 200
    """Steps of training before the gap is halved."""

    def __post_init__(self) -> None:
        super().__post_init__()
        times = self.finest // max(1, self.coarsest)
        if self.coarsest < 1 or self.finest % self.coarsest or times & (times - 1):
            raise ValueError(
                f"finest: expected coarsest times a power of two, got {self.finest} for {self.coarsest}; take "
                f"{8 * max(1, self.coarsest)}"
            )
        if self.each < 1:
            raise ValueError(f"each: expected at least 1, got {self.each}")
        check_learns(self)

    @property
    def starts(self) -> bool:
        """Whether it needs a teacher."""
        return self.learns == "teacher"

    @property
    def maps(self) -> Maps:
        """Which steps it trains."""
        return Maps(calls=self.calls, grids=(self.calls,), diagonal=False)

    @classmethod
    def suited(cls, calls: int, steps: int, levels: int | None, **how: Any) -> Self:
        """One that meets all its gaps alike long."""
        of = cls(calls=calls, **how)
        return replace(of, each=max(1, steps // (of.finest // of.coarsest).bit_length()))

    def gaps(self, step: int) -> int:
        """Of a step of the grid, at step 0, 1, ... of training."""
        return min(self.finest, self.coarsest << min(step // self.each, 30))

    def begins(self, step: int) -> bool:
        """Whether step 0, 1, ... is the first of another gap, whose losses are others."""
        return step == 0 or self.gaps(step) != self.gaps(step - 1)

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        denoiser, schedule = unwrapped(module), continuous(unwrapped(module).schedule)
        t = draw.uniform(Purpose.TIME).clamp(min=SMALLEST)
        end = ((t * self.calls).ceil() - 1) / self.calls
        middle = torch.maximum(t - 1 / (self.calls * self.gaps(draw.step)), end)
        now, mid, nxt = schedule(t), schedule(middle), schedule(end)
        x_t = add_noise(batch.x, draw.normal(batch.x, Purpose.NOISE), now)
        told = module(x_t, now, batch.condition, nxt)
        with torch.no_grad():
            if self.learns == "teacher":
                first = second_order(asked(self.teacher(denoiser), batch.condition), x_t, now, mid, schedule)
            else:
                first = told.replace_x0(batch.x)
            onward = like(middle > end, x_t).bool()  # else the gap is all of the way, and there is no second part
            later = schedule(torch.where(middle > end, middle, t))
            second = module(torch.where(onward, first.moved(mid), x_t), later, batch.condition, nxt)
            w = like(share_of_first(now, mid, nxt), x_t)
            x0 = torch.where(onward, w * first.x0 + (1 - w) * second.x0, first.x0)
            aim = told.replace_x0(x0).as_(told.kind)
        error = weighed(denoiser, told, aim, self.weight, batch.weight)
        return Loss(error, t, {f"of {self.gaps(draw.step)} gaps": error})
