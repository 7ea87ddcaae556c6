"""A multistep method in the frame of a Gaussian that stands for the data (see `frame`).

With s = sigma / alpha, and mean m, directions V and standard deviations c of the data,

    z = V^T (x_t - alpha m) / sqrt(alpha^2 c^2 + sigma^2)
    dz/ds = -G / (c^2 + s^2),      G = (V^T (x0 - m) - c^2 / (c^2 + s^2) V^T (x_t / alpha - m)) sqrt(c^2 + s^2) / s

exactly, for any data: G is what the denoiser says beyond the Gaussian's own denoiser. It is 0 for Gaussian data, which
are solved exactly in any number of steps, and small at the noisy end for all data. With c -> 0 this is the form of x0,
with c -> infinity that of eps, with c = 1 that of v; each direction has the form that suits it.

A step extrapolates G through its last values by a polynomial in log(s + 0.2 c_bar), c_bar^2 the mean of c^2, and
integrates it against 1 / (c^2 + s^2) for each direction. The next call, made at the point reached, corrects the step
that led to it, with one value more and no call of its own.

The first step is a leap, from t = 1 to where the data begin to show, with the first call's G; the second call corrects
it by a straight line in 1 / s. `start` "free" spares the first call: G counts as 0 at t = 1, and as s^-2 from there.
That needs a frame with the true mean of what is sampled: of the class, of the guided class.

The last step is the denoiser itself, which is exact for atoms, as the values of pixels are. `end` "smooth" goes on to
s = 0 as any step does: of higher order where data have a density.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from unsteep.core.arguments import checked, kind
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Schedule
from unsteep.denoiser import Denoise
from unsteep.sampling.frame import SCALAR, Frame
from unsteep.sampling.frame_weights import StepWeights, step_weights
from unsteep.sampling.grids import levels_at
from unsteep.sampling.known import Known
from unsteep.sampling.loop import At


class FrameStep(NamedTuple):
    """The last step: from `z` at the last of the `levels` seen, with the `values` of G that it was made from, oldest
    first; to `x_nxt`, after so many `changes` in place, which is
    `z_nxt` there."""

    z: Tensor
    levels: tuple[NoiseLevel, ...]
    values: tuple[Tensor, ...]
    z_nxt: Tensor
    x_nxt: Tensor
    changes: int | None

    def is_at(self, x: Tensor) -> bool:
        """Whether x is what the step ended with, and nobody has written into it since."""
        return x is self.x_nxt and self.changes is not None and self.changes == _changes(x)


@dataclass(frozen=True, kw_only=True)
class GaussianFrame:
    """`order`: how many values the extrapolation goes through, at most. Keeps order + 1 states. `frame`: that of the
    data; a `Model` puts its own in place of None, which is a standard deviation of 0.5 in every direction.

    `start`: "call", or "free" for a frame whose mean is that of what is sampled; the grid that the solver lays then has
    one step more than calls. `end`: "denoiser", or "smooth" for data with a density.
    """

    order: Literal[1, 2, 3, 4] = 3
    corrector: bool = True
    start: Literal["call", "free"] = "call"
    end: Literal["denoiser", "smooth"] = "denoiser"
    frame: Frame | None = field(default=None, metadata={"setting": False})
    flows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked(self)
        if self.frame is not None:
            kind("frame", self.frame, Frame, "that of the data", "leave it out, and a model gives its own")

    @property
    def converges(self) -> float:
        return self.order + self.corrector

    def fitted(self, known: Known) -> Self:
        """In the frame of the data, unless it was given one."""
        return replace(self, frame=known.frame) if self.frame is None else self

    def levels(self, schedule: Schedule, steps: int) -> NoiseLevel:
        """The levels for `steps` calls: t = 1, then evenly in s^(1/7) from s = 0.8 N times the reach of the frame
        (0.55 N when the start is free) to min(0.025, 0.5 / N) c_bar, within the schedule's own, then clean."""
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        free = self.start == "free"
        noisy, clean = (math.exp(-end / 2) for end in (schedule.logsnr_min, schedule.logsnr_max))
        low = max(min(0.025, 0.5 / steps) * self._frame.spread, 1.05 * clean)
        high = (0.55 if free else 0.8) * steps * self._frame.reach
        high = min(max(high, 2 * low), noisy / 1.05)
        roots = torch.linspace(high ** (1 / 7), low ** (1 / 7), steps if free else steps - 1, dtype=torch.float64)
        return levels_at(schedule, -14 * roots.log())

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: FrameStep | None,
        at: At | None,
    ) -> tuple[Tensor, Estimate, FrameStep | None]:
        seen = (*(memory.levels if memory else ()), now)
        return self.planned(_row(*seen, nxt), x).step(denoise, x, now, nxt, noise, memory, at)

    def planned(self, levels: NoiseLevel, x: Tensor) -> Planned:
        """With the weights of every step over `levels`."""
        weights = step_weights(self._frame, levels, self.order, self.start == "free", x)
        return Planned(self, self._frame, weights)

    @property
    def _frame(self) -> Frame:
        return SCALAR if self.frame is None else self.frame


@dataclass(frozen=True)
class Planned:
    """The steps of a `GaussianFrame` over levels that are known, with the `weights` of each."""

    solver: GaussianFrame
    frame: Frame
    weights: Callable[[int], StepWeights]

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: FrameStep | None,
        at: At | None,
    ) -> tuple[Tensor, Estimate, FrameStep | None]:
        solver, frame, seen = self.solver, self.frame, (*(memory.levels if memory else ()), now)
        weights, last = self.weights(len(seen) - 1), bool(nxt.sigma == 0)
        free = memory is None and solver.start == "free" and not last
        z = memory.z_nxt if memory and memory.is_at(x) else frame.project(x, now.alpha) / weights.scale
        if free:
            estimate, beyond = self._gaussian(z, x, now), torch.zeros_like(z)
        else:
            estimate = denoise(x, now)
            if last and (memory is None or solver.end == "denoiser"):
                return like(nxt.alpha, x) * estimate.x0, estimate, None
            beyond = torch.addcmul(weights.told * frame.project(estimate.x0), weights.own, z, value=-1)
        values = (*(memory.values if memory else ()), beyond)
        if memory and solver.corrector:
            z = _walked(memory.z, weights.corrector, values)
        z_nxt = _walked(z, weights.predictor, values)
        x_nxt = frame.restore(z_nxt * weights.scale_nxt, x, nxt.alpha)
        return x_nxt, estimate, FrameStep(z, seen, values[-solver.order :], z_nxt, x_nxt, _changes(x_nxt))

    def _gaussian(self, z: Tensor, x: Tensor, now: NoiseLevel) -> Estimate:
        """The estimate of the Gaussian itself."""
        std, frame = self.frame.rows[0], self.frame
        gain = now.alpha * std**2 / torch.hypot(now.alpha * std, now.sigma)
        return Estimate("x0", frame.restore(frame.each(gain, x) * z, x), x, now)


def _walked(z: Tensor, shares: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> Tensor:
    """z after a step, by the weights of the last values."""
    for share, value in zip(shares, values[len(values) - len(shares) :], strict=True):
        z = torch.addcmul(z, share, value)
    return z


def _changes(x: Tensor) -> int | None:
    """How often x was written into; None where that is not counted."""
    return None if x.is_inference() else x._version


def _row(*levels: NoiseLevel) -> NoiseLevel:
    return NoiseLevel(*(torch.stack([getattr(level, of.name) for level in levels]) for of in fields(NoiseLevel)))
