"""Distribution matching (Yin et al. 2024, "One-step diffusion with distribution matching distillation"; DMD2).

The student makes samples x of its own in `calls` steps. Noised again to x_t, they are moved by

    (x0_fake(x_t) - x0_teacher(x_t)) / mean |x - x0_teacher(x_t)|,

down the gradient of how far the distribution of such x_t is from the teacher's. The `fake` is a second denoiser, which
learns what the student makes by L_simple, several turns to one of the student's. The samples become the teacher's as a
whole, and not one by one: this is no map of its flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unsteep.core import masked
from unsteep.core.level import add_noise, like
from unsteep.core.maps import Maps
from unsteep.core.noise import Draw, Purpose
from unsteep.data.batch import Batch
from unsteep.denoiser import estimate, unwrapped
from unsteep.distill.teaching import Taught, asked, resting
from unsteep.objectives.loss import Loss, Objective
from unsteep.objectives.mse import Simple
from unsteep.objectives.weights import AnyWeight, Native

LOW, HIGH = 0.02, 0.98  # times of the noise that is put on samples


@dataclass(frozen=True, kw_only=True)
class DistributionMatching(Taught):
    """Samples that a second denoiser cannot tell from the teacher's."""

    calls: int = 1
    """Steps of a sample, and no others."""
    turns: int = 5
    """Of the second denoiser, to one of the student."""
    cost: ClassVar[float] = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.turns < 1:
            raise ValueError(f"turns: expected at least 1, got {self.turns}")

    @property
    def maps(self) -> Maps:
        """Which steps it trains."""
        return Maps(calls=self.calls, grids=(self.calls,), diagonal=False)

    @property
    def beside(self) -> Mapping[str, Objective]:
        """What trains along, by name: each a copy of the student at first, and its objective."""
        return {"fake": Samples(calls=self.calls, weight=self.weight)}

    def meets(self, modules: Mapping[str, nn.Module]) -> None:
        """Is told what trains along."""
        self._kept["fake"] = modules["fake"]

    def turn(self, step: int) -> str:
        """Which of them step 0, 1, ... trains."""
        return "model" if step % (self.turns + 1) == self.turns else "fake"

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        denoiser, condition = unwrapped(module), batch.condition
        x = made(module, batch, draw, self.calls)
        t = LOW + (HIGH - LOW) * draw.uniform(Purpose.TIME)
        level = denoiser.schedule(t)
        x_t = add_noise(x.detach(), draw.normal(x, Purpose.NOISE), level)
        with torch.no_grad(), resting(self._kept["fake"]) as other:
            fake = other(x_t, level, condition)
            true = asked(self.teacher(denoiser), condition)(x_t, level)
            apart = masked.mean((x - true.x0).abs(), fake.valid, batch.weight).clamp(min=1e-6)
            aim = x - (fake.x0 - true.x0) / like(apart, x)
        error = masked.mean((x - aim) ** 2, fake.valid, batch.weight) / 2
        return Loss(error, t, {"matching": error})


@dataclass(frozen=True, kw_only=True)
class Samples:
    """L_simple on what the student makes of the batch's conditions in `calls` steps."""

    calls: int = 1
    weight: AnyWeight = field(default_factory=Native)
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def meets(self, modules: Mapping[str, nn.Module]) -> None:
        """Is told who the student is."""
        self._kept["model"] = modules["model"]

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        with torch.no_grad(), resting(self._kept["model"]) as student:
            x = made(student, batch, draw, self.calls)
        return Simple(weight=self.weight)(module, Batch(x, batch.condition, batch.index), draw)


def made(module: nn.Module, batch: Batch, draw: Draw, calls: int) -> Tensor:
    """What a map makes of noise in so many even steps, for the conditions of a batch."""
    schedule = unwrapped(module).schedule
    levels = schedule(torch.linspace(1, 0, calls + 1, dtype=torch.float64))
    x = like(levels.scale[0], batch.x) * draw.normal(batch.x, Purpose.START)
    for i in range(calls):
        x = estimate(module, x, levels[i], levels[i + 1], batch.condition).moved(levels[i + 1])
    return x
