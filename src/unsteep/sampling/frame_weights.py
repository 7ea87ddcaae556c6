"""What the steps of a `GaussianFrame` weigh their values with: functions of the frame and the levels alone, found for a
grid before it is walked, and once for all samples that share a row of the frame.

With theta = atan(s / c), ds / (c^2 + s^2) is dtheta / c: 24 points of Gauss-Legendre in each direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel
from unsteep.sampling.exponential import lagrange
from unsteep.sampling.frame import Frame

OFFSET = 0.2  # of the nodes, in units of c_bar
LONG = 0.5, 0.75  # a step between nodes farther apart than this is too long for a parabola, for a straight line
AT_ONCE = 200_000  # numbers of the largest array that is worked on: what a cache holds
_POINTS, _WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(24))


@dataclass(frozen=True)
class StepWeights:
    """Of one step in each direction of the frame's rows, (k + 1,) or (r, k + 1) float64.

    `scale` and `scale_nxt`: of z. G = `told` V^T (x0 - m) - `own` z. `corrector` and `predictor`: of the last values of
    G, oldest first, in the integrals over the step that led here, and over this one.
    """

    scale: Tensor
    scale_nxt: Tensor
    told: Tensor
    own: Tensor
    corrector: tuple[Tensor, ...]
    predictor: tuple[Tensor, ...]

    def wide(self, frame: Frame, x: Tensor) -> StepWeights:
        """For the coordinates of x: (k + d,) or (b, k + d), in its dtype and on its device."""
        four, n = (self.scale, self.scale_nxt, self.told, self.own), len(self.corrector)
        each = frame.each(torch.stack([*four, *self.corrector, *self.predictor]), x).unbind()
        scale, scale_nxt, told, own = each[:4]
        return StepWeights(scale, scale_nxt, told, own, each[4 : 4 + n], each[4 + n :])


def step_weights(frame: Frame, levels: NoiseLevel, order: int, free: bool) -> Callable[[int], StepWeights]:
    """Those of each step over `levels`, by its place, for values of the last `order` calls; found for as many steps at
    once as memory allows. `free`: the first step makes no call."""
    c = frame.rows[0]
    size = max(1, AT_ONCE // (c.numel() * len(_POINTS) * (order + 1)))
    weighing = _Weighing(frame, c, levels, order, free)

    @lru_cache(maxsize=1)
    def block(number: int) -> list[StepWeights]:
        return weighing.of(range(number * size, min((number + 1) * size, len(levels) - 1)))

    return lambda place: block(place // size)[place % size]


@dataclass(frozen=True)
class _Weighing:
    frame: Frame
    c: Tensor
    levels: NoiseLevel
    order: int
    free: bool

    def of(self, places: range) -> list[StepWeights]:
        c, levels = self.c, self.levels[places.start : places.stop + 1]
        alpha, sigma = self._column(levels.alpha), self._column(levels.sigma)
        scale = torch.hypot(alpha * c, sigma)
        told, own = scale / sigma, c**2 * alpha / sigma
        steps = range(max(1, places.start - 1), places.stop)
        angles = self._angles(steps)
        predictor = self._integrals(steps, angles, {i: self._predicted_by(i) for i in places if i})
        corrector = self._integrals(steps, angles, {i - 1: self._corrected_by(i) for i in places if i > 1})
        if places.start <= 1:
            whole, late = self._leap()
            predictor[0], corrector[0] = (whole,), (whole - late, late)
        return [
            StepWeights(scale[j], scale[j + 1], told[j], own[j], corrector.get(i - 1, ()), predictor[i])
            for j, i in enumerate(places)
        ]

    def _column(self, of_level: Tensor) -> Tensor:
        return of_level.reshape(-1, *(1,) * self.c.ndim)

    @cached_property
    def _nodes(self) -> Tensor:
        return torch.log(self.levels.sigma / self.levels.alpha + OFFSET * self.frame.spread)

    @cached_property
    def _lengths(self) -> list[float]:
        return [-length for length in self._nodes.diff().tolist()]

    def _predicted_by(self, i: int) -> range:
        """The calls that step i extrapolates: that of the leap, step 0, counts for the leap alone."""
        length = self._lengths[i]
        used = 1 if length > LONG[1] else 2 if length > LONG[0] else self.order
        return range(max(1, i + 1 - min(used, self.order)), i + 1)

    def _corrected_by(self, i: int) -> range:
        """The calls that step i corrects the one before with."""
        used = 2 if self._lengths[i - 1] > LONG[1] else self.order + 1
        return range(max(1, i + 1 - used), i + 1)

    def _angles(self, steps: range) -> tuple[Tensor, Tensor]:
        """The way of each step in theta, (p, ..., k + 1), and log(s + OFFSET c_bar) at its 24 points."""
        levels = self.levels[steps.start : steps.stop + 1]
        ends = torch.atan2(self._column(levels.sigma), self._column(levels.alpha) * self.c)
        start, end = ends[:-1], ends[1:]
        theta = ((start + end)[..., None] + (start - end)[..., None] * _POINTS) / 2
        return start - end, torch.log(self.c[..., None] * torch.tan(theta) + OFFSET * self.frame.spread)

    def _integrals(
        self, steps: range, angles: tuple[Tensor, Tensor], calls: dict[int, range]
    ) -> dict[int, tuple[Tensor, ...]]:
        """The weights of the values of `calls` in the integrals over some of the `steps`: at once where they are as
        many."""
        found: dict[int, tuple[Tensor, ...]] = {}
        for n in {len(of) for of in calls.values()}:
            some = [i for i, of in calls.items() if len(of) == n]
            index = torch.tensor(some) - steps.start
            nodes = self._nodes[torch.tensor([list(calls[i]) for i in some]).T]
            way, places = (of[index] for of in angles)
            shares = (lagrange(nodes, places) @ _WEIGHTS) * way / (2 * self.c)
            found.update((i, tuple(shares[:, j])) for j, i in enumerate(some))
        return found

    def _leap(self) -> tuple[Tensor, Tensor]:
        """The integrals over the first step, in each direction, of 1 and of the share of the second call's G, which is
        1 at the end: in u = 1 / s, which is 0 where no signal is left."""
        now, nxt = self.levels[0], self.levels[1]
        c, s = self.c[..., None], nxt.sigma / nxt.alpha
        start, end = now.alpha / now.sigma, 1 / s
        u = (start + end + (end - start) * _POINTS) / 2
        kernel = _WEIGHTS * (end - start) / 2 / (1 + (c * u) ** 2)
        late = (s * u) ** 2 if self.free else (u - start) / (end - start)
        return kernel.sum(-1), (kernel * late).sum(-1)
