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
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from unsteep.core.arguments import checked, kind
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Schedule
from unsteep.denoiser import Denoise
from unsteep.sampling.exponential import lagrange
from unsteep.sampling.frame import SCALAR, Frame
from unsteep.sampling.grids import levels_at
from unsteep.sampling.known import Known
from unsteep.sampling.loop import At

History = tuple[tuple[Tensor, Tensor], ...]  # (node, G) of the last calls, oldest first
OFFSET = 0.2  # of the nodes, in units of c_bar
LONG = 0.5, 0.75  # a step between nodes farther apart than this is too long for a parabola, for a straight line
_POINTS, _WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(24))


@dataclass(frozen=True)
class FrameStep:
    """The last step: from `z` at `level`, with the calls that it was made from. `leap`: it was the first one."""

    z: Tensor
    level: NoiseLevel
    history: History
    leap: bool


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
        z = self._frame.project(x, now.alpha) / self._wide(self._scale(now), x)
        free = memory is None and self.start == "free" and bool(nxt.sigma > 0)
        estimate = self._gaussian(z, x, now) if free else denoise(x, now)
        if bool(nxt.sigma == 0) and (memory is None or self.end == "denoiser"):
            return like(nxt.alpha, x) * estimate.x0, estimate, None
        beyond = torch.zeros_like(z) if free else self._beyond(estimate.x0, z, now)
        if memory is None:
            whole, _ = self._leap(now, nxt)
            x_nxt = self._restored(z + self._wide(whole, z) * beyond, x, nxt)
            return x_nxt, estimate, FrameStep(z, now, ((self._node(now), beyond),), leap=True)
        history = (*(() if memory.leap else memory.history), (self._node(now), beyond))
        if self.corrector and memory.leap:
            whole, late = self._leap(memory.level, now)
            first = memory.history[0][1]
            z = memory.z + self._wide(whole - late, z) * first + self._wide(late, z) * beyond
        elif self.corrector:
            too_long = self._length(memory.level, now) > LONG[1]
            z = self._walked(memory.z, history[-2:] if too_long else history, memory.level, now)
        history = history[-self.order :]
        length = self._length(now, nxt)
        used = 1 if length > LONG[1] else 2 if length > LONG[0] else self.order
        z_nxt = self._walked(z, history[-used:], now, nxt)
        return self._restored(z_nxt, x, nxt), estimate, FrameStep(z, now, history, leap=False)

    @property
    def _frame(self) -> Frame:
        return SCALAR if self.frame is None else self.frame

    def _scale(self, level: NoiseLevel) -> Tensor:
        return torch.hypot(level.alpha * self._frame.floored, level.sigma)

    def _wide(self, factor: Tensor, x: Tensor) -> Tensor:
        return self._frame.wide(factor, x)

    def _node(self, level: NoiseLevel) -> Tensor:
        return torch.log(level.sigma / level.alpha + OFFSET * self._frame.spread)

    def _length(self, now: NoiseLevel, nxt: NoiseLevel) -> float:
        return float(self._node(now) - self._node(nxt))

    def _restored(self, z: Tensor, x: Tensor, level: NoiseLevel) -> Tensor:
        return self._frame.restore(z * self._wide(self._scale(level), z), x, level.alpha)

    def _gaussian(self, z: Tensor, x: Tensor, now: NoiseLevel) -> Estimate:
        """The estimate of the Gaussian itself."""
        gain = now.alpha * self._frame.floored**2 / self._scale(now)
        return Estimate("x0", self._frame.restore(self._wide(gain, z) * z, x, torch.ones_like(now.alpha)), x, now)

    def _beyond(self, x0: Tensor, z: Tensor, now: NoiseLevel) -> Tensor:
        """G at `now`, (b, k + d): finite at alpha = 0."""
        told = self._frame.project(x0, torch.ones_like(now.alpha))
        gain = self._frame.floored**2 * now.alpha / now.sigma
        return self._wide(self._scale(now) / now.sigma, z) * told - self._wide(gain, z) * z

    def _walked(self, z: Tensor, history: History, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        """z after the step, by the polynomial through `history`."""
        nodes, values = zip(*history, strict=True)
        for share, value in zip(self._shares(torch.stack(nodes), now, nxt), values, strict=True):
            z = z + self._wide(share, z) * value
        return z

    def _shares(self, nodes: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        """The weight of each of n values in each direction, (n, k + 1): with theta = atan(s / c), ds / (c^2 + s^2) is
        dtheta / c."""
        c = self._frame.floored
        start, end = (torch.atan2(level.sigma, level.alpha * c) for level in (now, nxt))
        theta = ((start + end)[..., None] + (start - end)[..., None] * _POINTS) / 2
        places = torch.log(c[..., None] * torch.tan(theta) + OFFSET * self._frame.spread)
        basis = lagrange(nodes, places.flatten()).reshape(len(nodes), *places.shape)
        return (basis @ _WEIGHTS) * (start - end) / (2 * c)

    def _leap(self, now: NoiseLevel, nxt: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The integrals over the first step, in each direction, of 1 and of the share of the second call's G, which is
        1 at the end: in u = 1 / s, which is 0 where no signal is left."""
        c, s = self._frame.floored[..., None], nxt.sigma / nxt.alpha
        start, end = now.alpha / now.sigma, 1 / s
        u = (start + end + (end - start) * _POINTS) / 2
        kernel = _WEIGHTS * (end - start) / 2 / (1 + (c * u) ** 2)
        late = (s * u) ** 2 if self.start == "free" else (u - start) / (end - start)
        return kernel.sum(-1), (kernel * late).sum(-1)
