"""What every method that learns from a teacher has: the teacher, and the scale at which it is guided.

The teacher is the model that a run starts from, which is what the student is before its first step; it is kept with the
training state, so that a run that goes on needs no other file. Where the student hears a scale (see `hearing.scale`),
the teacher is guided at that of each example, and one call of the student stands for two guided ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from unsteep.core.condition import SCALE, Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import Schedule
from unsteep.denoiser import Conditioned, Denoise, Denoiser
from unsteep.guidance.branches import answers
from unsteep.objectives.times import SMALLEST
from unsteep.objectives.weights import AnyWeight, Native

TEACHER = "teacher."


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A method that starts from a trained model, its teacher."""

    calls: int = 4
    """Of the network for a sample, where nobody says how many."""
    weight: AnyWeight = field(default_factory=Native)
    """Of each noise level in the loss."""
    guidance: float = 1.0
    """Largest scale of guidance of the teacher that the student learns: it is then asked for any from 1 to this, at one
    call a step; 1: none."""
    cost: ClassVar[float] = 2.0
    """Of a step of training, in steps of the plain one."""
    alike: ClassVar[bool] = False
    """Whether all its turns are to train alike, each with an average of its own."""
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.guidance < float("inf"):
            raise ValueError(f"guidance: expected the largest scale to learn, from 1, got {self.guidance}")
        if self.calls < 1:
            raise ValueError(f"calls: expected at least 1, got {self.calls}")

    @property
    def starts(self) -> bool:
        """Whether it needs a teacher."""
        return True

    @classmethod
    def suited(cls, calls: int, steps: int, levels: int | None, **how: Any) -> Self:
        """One for samples of so many calls, in so many steps of training, on a schedule of so many levels, if it has
        any."""
        return cls(calls=calls, **how)

    def teacher(self, student: Denoiser, turn: int = 0) -> Denoiser:
        """The student as it was when this turn began."""
        if self._kept.get("turn") != turn or "module" not in self._kept:
            module = copy.deepcopy(student).eval().requires_grad_(False)
            if self._kept.get("turn") == turn:  # a run that goes on
                module.load_state_dict(self._kept["weights"])
            self._kept.update(turn=turn, module=module, weights=module.state_dict())
        found: Denoiser = self._kept["module"]
        return found

    def follow(self, teacher: Callable[..., Estimate]) -> None:
        """Learns from another teacher than the student's beginning, as an exact field, which no checkpoint keeps."""
        self._kept.update(turn=0, module=teacher, weights={})

    def state_dict(self) -> dict[str, Tensor]:
        """The teacher, as a checkpoint keeps it."""
        if "turn" not in self._kept:
            return {}
        return {"turn": torch.tensor(self._kept["turn"])} | {TEACHER + k: v for k, v in self._kept["weights"].items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores one."""
        for name in ("turn", "module", "weights"):
            self._kept.pop(name, None)
        if state:
            weights = {name.removeprefix(TEACHER): one for name, one in state.items() if name.startswith(TEACHER)}
            self._kept.update(turn=int(state["turn"]), weights=weights)


def asked(teacher: Callable[..., Estimate], condition: Condition | None) -> Denoise:
    """A plain teacher under the condition of examples, guided at the scale of each that has one."""
    if condition is None or SCALE not in condition:
        return Conditioned(teacher, condition)
    named = Condition({name: one for name, one in condition.items() if name != SCALE}, nulls=condition.nulls)
    scale = condition[SCALE]

    def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
        towards, away = answers(teacher, x_t, level, [named, named.null()])
        return away.replace_x0(torch.lerp(away.x0, towards.x0, like(scale, x_t)))

    return denoise


def spans(draw: Draw, diagonal: float) -> tuple[Tensor, Tensor]:
    """The times at which steps begin and end, float64 (b,): all beginnings alike, and all ends before one; a share
    `diagonal` ends where it begins."""
    t = draw.uniform(Purpose.TIME).clamp(min=SMALLEST)
    ends = (t * draw.uniform(Purpose.STEP)).clamp(min=SMALLEST)
    return t, torch.where(draw.uniform(Purpose.PART) < diagonal, t, ends)


def check_share(diagonal: float) -> None:
    """ValueError for what is no share of a batch."""
    if not 0 <= diagonal < 1:
        raise ValueError(f"diagonal: expected a share from 0 to below 1, got {diagonal}")


def check_learns(objective: Any) -> None:
    """ValueError where one that learns from the data is to be guided."""
    if not objective.starts and objective.guidance != 1:
        raise ValueError("guidance: it is the teacher that is guided, and the data are none; leave it at 1")


@contextmanager
def resting(module: nn.Module) -> Iterator[nn.Module]:
    """A module that others are trained by: inside it has no dropout."""
    training = module.training
    module.eval()
    try:
        yield module
    finally:
        module.train(training)


def second_order(denoise: Denoise, x: Tensor, now: NoiseLevel, nxt: NoiseLevel, schedule: Schedule) -> Estimate:
    """A step of a plain denoiser as the estimate of a map, by x0 at the middle in log-SNR; where one end has no middle,
    at no signal or no noise, as DDIM. Two calls, levels of shape (b,)."""
    first = denoise(x, now)
    half = (now.logsnr + nxt.logsnr) / 2
    finite = half.isfinite()
    if not bool(finite.any()):
        return first
    mid = schedule.inverse(torch.where(finite, half, schedule(torch.full_like(half, 0.5)).logsnr))
    second = denoise(first.moved(mid), mid)
    return first.replace_x0(torch.where(like(finite, x).bool(), second.x0, first.x0))
