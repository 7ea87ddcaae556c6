"""Progressive distillation (Salimans & Ho 2022): a student's one step is two of its teacher, and it then teaches.

On an even grid of N steps in t the student's map (see `core.maps`) learns what two steps of half its length lead to,

    X0(now, nxt) = (sigma_now x_nxt - sigma_nxt x_now) / (alpha_nxt sigma_now - alpha_now sigma_nxt)

in the head's own kind. The first teacher is the model that the run starts from, whose steps are of second order: with
dz = x0 du, z = x / sigma and u = alpha / sigma, a step takes x0 at the middle in log u (DPM-Solver++ 2S, Lu et al.
2022), so that the student does not inherit what DDIM's steps lack. Every `each` steps of training N is halved, and what
the student then is becomes the teacher.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from unsteep.core.level import add_noise
from unsteep.core.maps import Maps, mean_x0
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import levels_of
from unsteep.data.batch import Batch
from unsteep.denoiser import Conditioned, Denoiser, estimate, unwrapped
from unsteep.distill.teaching import Taught, asked, second_order
from unsteep.objectives.loss import Graded, Loss
from unsteep.objectives.mse import weighed


@dataclass(frozen=True, kw_only=True)
class Progressive(Taught):
    """Halves the steps of the model that a run starts from until `calls` are left."""

    finest: int = 64
    """Steps of the grid that the first teacher walks: `calls` times a power of two."""
    calls: int = 4
    """Steps that are left at the end."""
    each: int = 500
    """Steps of training before the next halving."""
    cost: ClassVar[float] = 1.8
    alike: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        times = self.finest // self.calls
        if self.finest % self.calls or times < 2 or times & (times - 1):
            raise ValueError(
                f"finest: expected calls times a power of two, got {self.finest} for {self.calls}; take "
                f"{16 * self.calls}"
            )
        if self.each < 1:
            raise ValueError(f"each: expected at least 1 step of training, got {self.each}")

    @property
    def maps(self) -> Maps:
        """Which steps it trains: at the end only those of one grid."""
        return Maps(calls=self.calls, grids=(self.calls,), diagonal=False)

    @classmethod
    def suited(cls, calls: int, steps: int, levels: int | None, **how: Any) -> Self:
        """One whose turns take all the steps of training there are."""
        times = next((n for n in (16, 8, 4) if levels is None or n * calls <= levels), 2)
        of = cls(calls=calls, finest=times * calls, **how)
        return replace(of, each=max(1, steps // of.halvings))

    @property
    def halvings(self) -> int:
        """How many there are."""
        return (self.finest // self.calls).bit_length() - 1

    def fitted(self, space: Graded, denoiser: Denoiser) -> Self:
        """For a schedule that has as many levels."""
        steps = levels_of(denoiser.schedule)
        if steps is not None and self.finest > steps:
            raise ValueError(f"objective.finest: the chain has {steps} steps, got {self.finest}; take at most as many")
        return self

    def begins(self, step: int) -> bool:
        """Whether step 0, 1, ... is the first of another turn, whose losses are others."""
        return step % self.each == 0 and step < self.each * self.halvings

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        schedule, turn = unwrapped(module).schedule, min(draw.step // self.each, self.halvings - 1)
        teacher = self.teacher(unwrapped(module), turn)
        steps = self.finest >> (turn + 1)
        place = (draw.uniform(Purpose.TIME) * steps).ceil().clamp(min=1)
        t = place / steps
        now, mid, nxt = (schedule(t - share / steps) for share in (0, 0.5, 1))
        x_t = add_noise(batch.x, draw.normal(batch.x, Purpose.NOISE), now)
        with torch.no_grad():
            first = asked(teacher, batch.condition)
            later = Conditioned(teacher, batch.condition)
            x = x_t
            for start, end in ((now, mid), (mid, nxt)):
                step = second_order(first, x, start, end, schedule) if turn == 0 else estimate(later, x, start, end)
                x = step.moved(end)
            x0 = mean_x0(x_t, x, now, nxt)
        told = module(x_t, now, batch.condition, nxt)
        error = weighed(unwrapped(module), told, told.replace_x0(x0).as_(told.kind).detach(), self.weight, batch.weight)
        return Loss(error, t, {f"of {steps} steps": error})
