"""Progressive distillation (Salimans & Ho 2022): a student's one step is two of its teacher, and it then teaches.

On an even grid of N steps in t the student's map (see `core.maps`) learns what two steps of half its length lead to,

    X0(now, nxt) = (sigma_now x_nxt - sigma_nxt x_now) / (alpha_nxt sigma_now - alpha_now sigma_nxt)

in the head's own kind. The first teacher is the model that the run starts from, whose steps are of second order: with
dz = x0 du, z = x / sigma and u = alpha / sigma, a step takes x0 at the middle in log u (DPM-Solver++ 2S, Lu et al.
2022), so that the student does not inherit what DDIM's steps lack. Every `each` steps of training N is halved, and what
the student then is becomes the teacher.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from unsteep.core.condition import Condition
from unsteep.core.level import NoiseLevel, add_noise, like
from unsteep.core.maps import Maps, mean_x0
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import Schedule, levels_of
from unsteep.data.batch import Batch
from unsteep.denoiser import Conditioned, Denoise, Denoiser, estimate, unwrapped
from unsteep.guidance import ClassifierFree
from unsteep.objectives.loss import Graded, Loss
from unsteep.objectives.mse import weighed
from unsteep.objectives.weights import AnyWeight, Native

TEACHER = "teacher."


@dataclass(frozen=True, kw_only=True)
class Progressive:
    """Halves the steps of the model that a run starts from until `calls` are left."""

    weight: AnyWeight = field(default_factory=Native)
    """Of each noise level in the loss."""
    finest: int = 64
    """Steps of the grid that the first teacher walks: `calls` times a power of two."""
    calls: int = 4
    """Steps that are left at the end."""
    each: int = 500
    """Steps of training before the next halving."""
    guidance: float = 1.0
    """Of the first teacher: the student is then guided so, at one call a step."""
    starts: ClassVar[bool] = True
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        times = self.finest // max(1, self.calls)
        if self.calls < 1 or self.finest % self.calls or times < 2 or times & (times - 1):
            raise ValueError(
                f"finest: expected calls times a power of two, got {self.finest} for {self.calls}; take "
                f"{16 * max(1, self.calls)}"
            )
        if self.each < 1:
            raise ValueError(f"each: expected at least 1 step of training, got {self.each}")

    @property
    def maps(self) -> Maps:
        """Which steps it trains: at the end only those of one grid."""
        return Maps(calls=self.calls, grids=(self.calls,), diagonal=False)

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
        teacher = self._teacher(unwrapped(module), turn)
        steps = self.finest >> (turn + 1)
        place = (draw.uniform(Purpose.TIME) * steps).ceil().clamp(min=1)
        t = place / steps
        now, mid, nxt = (schedule(t - share / steps) for share in (0, 0.5, 1))
        x_t = add_noise(batch.x, draw.normal(batch.x, Purpose.NOISE), now)
        with torch.no_grad():
            denoise = self._guided(teacher, batch.condition, turn)
            x = x_t
            for start, end in ((now, mid), (mid, nxt)):
                x = second_order(denoise, x, start, end, schedule) if turn == 0 else moved(denoise, x, start, end)
            x0 = mean_x0(x_t, x, now, nxt)
        told = module(x_t, now, batch.condition, nxt)
        error = weighed(unwrapped(module), told, told.replace_x0(x0).as_(told.kind).detach(), self.weight, batch.weight)
        return Loss(error, t, {f"of {steps} steps": error})

    def _guided(self, teacher: Denoiser, condition: Condition | None, turn: int) -> Denoise:
        if turn == 0 and self.guidance != 1 and condition is not None:
            return ClassifierFree(teacher, condition, self.guidance)
        return Conditioned(teacher, condition)

    def _teacher(self, student: Denoiser, turn: int) -> Denoiser:
        """The student as it was when this turn began."""
        if self._kept.get("turn") != turn or "module" not in self._kept:
            module = copy.deepcopy(student).eval().requires_grad_(False)
            if self._kept.get("turn") == turn:  # a run that goes on
                module.load_state_dict(self._kept["weights"])
            self._kept.update(turn=turn, module=module, weights=module.state_dict())
        found: Denoiser = self._kept["module"]
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """The teacher, as a checkpoint keeps it."""
        if "turn" not in self._kept:
            return {}
        return {"turn": torch.tensor(self._kept["turn"])} | {TEACHER + k: v for k, v in self._kept["weights"].items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores one."""
        self._kept.clear()
        if state:
            weights = {name.removeprefix(TEACHER): one for name, one in state.items() if name.startswith(TEACHER)}
            self._kept.update(turn=int(state["turn"]), weights=weights)


def moved(denoise: Denoise, x: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """Where one step of a map leads."""
    return estimate(denoise, x, now, nxt).moved(nxt)


def second_order(denoise: Denoise, x: Tensor, now: NoiseLevel, nxt: NoiseLevel, schedule: Schedule) -> Tensor:
    """Where a step of a plain denoiser leads, by x0 at the middle in log-SNR; where one end has no middle, at no signal
    or no noise, as DDIM. Two calls, levels of shape (b,)."""
    first = denoise(x, now)
    half = (now.logsnr + nxt.logsnr) / 2
    finite = half.isfinite()
    if not bool(finite.any()):
        return first.moved(nxt)
    mid = schedule.inverse(torch.where(finite, half, schedule(torch.full_like(half, 0.5)).logsnr))
    second = denoise(first.moved(mid), mid)
    return first.replace_x0(torch.where(like(finite, x).bool(), second.x0, first.x0)).moved(nxt)
