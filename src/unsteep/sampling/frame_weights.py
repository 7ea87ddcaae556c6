"""What the steps of a `GaussianFrame` weigh their values with: functions of the frame and the levels alone, found for a
grid before it is walked, and once for all samples that share a row of the frame.

With theta = atan(s / c), ds / (c^2 + s^2) is dtheta / c: 24 points of Gauss-Legendre in each direction. Integrals over
theta are smooth in log c: those of many directions are interpolated between those of a few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import chain, islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel
from unsteep.sampling.frame import Frame

OFFSET = 0.2  # of the nodes, in units of c_bar
LONG = 0.5, 0.75  # a step between nodes farther apart than this is too long for a parabola, for a straight line
AT_ONCE = 200_000  # numbers of the largest array that is worked on: what a cache holds
FEW = 64  # standard deviations: the integrals of more are interpolated, to 1e-9 from 0.003 to 100
_POINTS, _WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(24))

T = TypeVar("T")


class StepWeights(NamedTuple):
    """Of one step in each direction of the frame's rows, (k + 1,) or (r, k + 1) float64; or for the coordinates of x.

    `scale` and `scale_nxt`: of z. G = `told` V^T (x0 - m) - `own` z. `corrector` and `predictor`: of the last values of
    G, oldest first, in the integrals over the step that led here, and over this one.
    """

    scale: Tensor
    scale_nxt: Tensor
    told: Tensor
    own: Tensor
    corrector: tuple[Tensor, ...]
    predictor: tuple[Tensor, ...]


def step_weights(frame: Frame, levels: NoiseLevel, order: int, free: bool, x: Tensor) -> Callable[[int], StepWeights]:
    """Those of each step over `levels`, by its place, for the coordinates of x and values of the last `order` calls;
    found for as many steps at once as a cache holds. `free`: the first step makes no call."""
    weighing, steps = _Weighing(frame, frame.rows[0], levels, order, free), len(levels) - 1
    narrow = _in_blocks(weighing.of, steps, weighing.few.numel() * len(_POINTS) * (order + 1))
    return _in_blocks(lambda places: _wide(map(narrow, places), frame, x), steps, (2 * order + 5) * x.numel())


def _in_blocks(of: Callable[[range], Sequence[T]], count: int, size: int) -> Callable[[int], T]:
    """What `of` finds for the places 0 .. count - 1, for several at once, of `size` numbers each."""
    several = max(1, AT_ONCE // max(1, size))

    @lru_cache(maxsize=1)
    def block(number: int) -> Sequence[T]:
        return of(range(number * several, min((number + 1) * several, count)))

    return lambda place: block(place // several)[place % several]


def _wide(some: Iterable[StepWeights], frame: Frame, x: Tensor) -> list[StepWeights]:
    """For the coordinates of x: (k + d,) or (b, k + d), in its dtype and on its device."""
    parts = [((of.scale, of.scale_nxt, of.told, of.own), of.corrector, of.predictor) for of in some]
    each = iter(frame.each(torch.stack([one for part in parts for of in part for one in of]), x).unbind())
    made = []
    for _, corrector, predictor in parts:
        scale, scale_nxt, told, own = islice(each, 4)
        shares = tuple(tuple(islice(each, len(of))) for of in (corrector, predictor))
        made.append(StepWeights(scale, scale_nxt, told, own, *shares))
    return made


@dataclass(frozen=True)
class _Weighing:
    frame: Frame
    c: Tensor
    levels: NoiseLevel
    order: int
    free: bool

    def of(self, places: range) -> list[StepWeights]:
        c, levels = self.c, self.levels[places.start : places.stop + 1]
        alpha, sigma = (of.reshape(-1, *(1,) * c.ndim) for of in (levels.alpha, levels.sigma))
        scale = torch.hypot(alpha * c, sigma)
        told, own, scales = (each.unbind() for each in (scale / sigma, c**2 * alpha / sigma, scale))
        corrector, predictor = self._integrals(places)
        if places.start < 2:
            whole, late = self._leap()
            for i, each, of in ((0, (whole,), predictor), (1, (whole - late, late), corrector)):
                if i in places:
                    of[i - places.start] = each
        return [
            StepWeights(scales[j], scales[j + 1], told[j], own[j], corrector[j], predictor[j])
            for j in range(len(places))
        ]

    @cached_property
    def few(self) -> Tensor:
        """The standard deviations (m,) that integrals are found for: all, or Chebyshev's points of log c."""
        if self.c.numel() <= FEW:
            return self.c.flatten()
        low, high = self._ends
        return torch.exp((low + high + (high - low) * torch.cos(_turns())) / 2)

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        low, high = self.c.log().aminmax()
        return low, torch.maximum(high, low + 1e-6)

    @cached_property
    def _between(self) -> Tensor:
        """What makes of values at `few` those at all, (m, numbers of c): by the polynomials cos(i acos(x)) in x from -1
        to 1."""
        low, high = self._ends
        x = ((2 * self.c.log().flatten() - low - high) / (high - low)).clamp(-1, 1)
        i = torch.arange(FEW, dtype=torch.float64)
        shares = torch.where(i == 0, 1.0, 2.0)[:, None] / FEW
        return torch.cos(torch.outer(_turns(), i)) @ (shares * torch.cos(torch.outer(i, torch.acos(x))))

    def _everywhere(self, integrals: Tensor) -> Tensor:
        """Integrals over theta (..., m), for all directions, over s."""
        found = integrals @ self._between if self.c.numel() > FEW else integrals
        return found.reshape(*found.shape[:-1], *self.c.shape) / self.c

    @cached_property
    def _nodes(self) -> Tensor:
        return torch.log(self.levels.sigma / self.levels.alpha + OFFSET * self.frame.spread)

    @cached_property
    def _lengths(self) -> list[float]:
        return [-length for length in self._nodes.diff().tolist()]

    def _counts(self, i: int) -> tuple[int, int]:
        """How many of the last calls step i corrects the one before with, and how many it extrapolates. That of the
        leap, step 0, counts for the leap alone."""
        length, before = self._lengths[i], self._lengths[i - 1]
        extrapolated = 1 if length > LONG[1] else 2 if length > LONG[0] else self.order
        return min(2 if before > LONG[1] else self.order + 1, i), min(extrapolated, self.order, i)

    def _integrals(self, places: range) -> tuple[list[tuple[Tensor, ...]], list[tuple[Tensor, ...]]]:
        """The weights of the last calls in the integrals over the steps before `places`, and over those there: by the
        polynomials that are 1 at one call and 0 at the others. All at once: a call that has no part in a step is no
        factor. Those of the leap are found apart."""
        first, column, i = max(0, places.start - 1), torch.arange(self.order + 1), torch.tensor(places)
        counts = [self._counts(of) for of in places]
        without = column <= self.order - torch.tensor(counts).T[..., None]  # (2, p, order + 1)
        nodes = self._nodes[(i[:, None] + column - self.order).clamp(min=1)]
        steps = (torch.stack([i - 1, i]) - first).clamp(min=0)
        ways, points = (of[steps] for of in self._angles(range(first, places.stop)))  # (2, p, m), and of 24
        away = (points[:, :, None] - nodes[..., None, None]).masked_fill(without[..., None, None], 1).unbind(2)
        apart = (nodes[:, :, None] - nodes[:, None]).masked_fill(without[..., None] | without[..., None, :], 1)
        apart.diagonal(dim1=-2, dim2=-1).fill_(1)
        above = [reduce(torch.mul, (one for n, one in enumerate(away) if n != j)) @ _WEIGHTS for j in range(len(away))]
        shares = self._everywhere(torch.stack(above, 2) / apart.prod(-1)[..., None] * ways[:, :, None] / 2)
        each, k = shares.flatten(0, 2).unbind(), self.order + 1
        ends = range(k, len(each) + 1, k)
        taken = [each[end - n : end] for end, n in zip(ends, chain(*zip(*counts, strict=True)), strict=True)]
        return taken[: len(places)], taken[len(places) :]

    def _angles(self, steps: range) -> tuple[Tensor, Tensor]:
        """The way of each step in theta, (p, m), and log(s + OFFSET c_bar) at its 24 points."""
        levels = self.levels[steps.start : steps.stop + 1]
        ends = torch.atan2(levels.sigma[:, None], levels.alpha[:, None] * self.few)
        start, end = ends[:-1], ends[1:]
        theta = ((start + end)[..., None] + (start - end)[..., None] * _POINTS) / 2
        return start - end, torch.log(self.few[:, None] * torch.tan(theta) + OFFSET * self.frame.spread)

    def _leap(self) -> tuple[Tensor, Tensor]:
        """The integrals over the first step, in each direction, of 1 and of the share of the second call's G, which is
        1 at the end: in u = 1 / s, which is 0 where no signal is left."""
        now, nxt = self.levels[0], self.levels[1]
        c, s = self.few[:, None], nxt.sigma / nxt.alpha
        start, end = now.alpha / now.sigma, 1 / s
        u = (start + end + (end - start) * _POINTS) / 2
        kernel = _WEIGHTS * (end - start) / 2 * c / (1 + (c * u) ** 2)
        late = (s * u) ** 2 if self.free else (u - start) / (end - start)
        return self._everywhere(kernel.sum(-1)), self._everywhere((kernel * late).sum(-1))


def _turns() -> Tensor:
    """The angles of Chebyshev's points."""
    return (torch.arange(FEW, dtype=torch.float64) + 0.5) * math.pi / FEW
