"""Levels optimised for one denoiser and one solver.

Between t = 1 and the clean level a grid has k levels, at u = log(sigma / alpha). A walk over them ends R_i(u) away from
the exact answer, where the flow takes the same noise; sought are the u with the least

    f(u) = mean_i log ||R_i(u)||                              over samples i

the log of the geometric mean of the samples' distances. The few that land in another basin, whatever the grid, are far
away and would decide a mean of squares; here no sample counts for more than its share.

No gradient goes through the network. The R_i are known as vectors, not only their lengths, so that k walks with one
level moved in each show how all of them answer: R_i(u + d) = R_i + J_i d. A step of Gauss & Newton with the damping of
Levenberg & Marquardt minimises f on that,

    (sum_i w_i J_i^T J_i + mu D) d = -sum_i w_i J_i^T R_i,    w_i = 1 / ||R_i||^2

(the w_i are those of iteratively reweighted least squares: the right-hand side is -n times the gradient of f), with D
in units of the gaps between levels. Each further walk, whether it was an improvement or not, also mends J by Broyden's
rank-one update (Broyden 1965), which the first k walks are a case of, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel
from unsteep.core.schedules import Schedule
from unsteep.sampling.grids import levels_at

Walk = Callable[[NoiseLevel], Tensor]  # levels -> where the samples end, (n, ...)
PROBES = (0.15, 0.05)  # of a gap: how far a level is moved to see what it does, at first and when no step helps
REACH = 0.4  # of a gap: how far it may go in a step, so that no two levels meet
DAMPING = 0.1, 1e3  # mu at first; mu at which steps are too short to matter
HOP = 0.3
NOTHING = 1e-12  # a distance counts as no less: there is no logarithm of 0


@dataclass(frozen=True)
class Tried:
    """A grid, `place` (k,) its levels between the ends in u, and where it led: `rows` (n, d), `error` = f."""

    levels: NoiseLevel
    place: Tensor
    rows: Tensor
    error: float


def log_error(rows: Tensor) -> Tensor:
    """log of the root mean square of each row of (n, d), float64 (n,)."""
    return rows.double().square().mean(1).sqrt().clamp(min=NOTHING).log()


def tune(
    walk: Walk, reference: Tensor, schedule: Schedule, starts: Iterable[NoiseLevel], evaluations: int
) -> tuple[NoiseLevel, float]:
    """The best levels found in so many walks, or fewer where nothing helps any more, and their f.

    `reference` (n, ...): where the walks should end. `starts`: grids of one length, from t = 1 to clean, to try first;
    the search goes on from the best, and what is returned is no worse than any. On a chain all levels are levels of it.
    """
    search = _Search(walk, reference.flatten(1), schedule, evaluations)
    for levels in starts:
        search.visit(levels)
    search.search()
    return search.best.levels, search.best.error


class _Search:
    def __init__(self, walk: Walk, reference: Tensor, schedule: Schedule, evaluations: int) -> None:
        self.walk, self.reference, self.schedule, self.left = walk, reference, schedule, evaluations
        self.seen: set[tuple[float, ...]] = set()
        self.best: Tried

    def visit(self, levels: NoiseLevel) -> Tried | None:
        """Walks over `levels`; None where that was done before, or no walks are left."""
        times = tuple(levels.t.tolist())
        if times in self.seen or not self.left:
            return None
        self.seen.add(times)
        self.left -= 1
        rows = self.walk(levels).flatten(1) - self.reference
        error = float(log_error(rows).mean())
        tried = Tried(levels, _place(levels), rows, error if math.isfinite(error) else math.inf)
        if not hasattr(self, "best") or tried.error < self.best.error:
            self.best = tried
        return tried

    def at(self, place: Tensor) -> Tried | None:
        return self.visit(levels_at(self.schedule, -2 * place))

    def search(self) -> None:
        """Descends from the best grid; while walks are left, again from one that resembles it."""
        generator = torch.Generator().manual_seed(0)
        base: Tried | None = self.best
        while self.left:
            if base is not None:
                for probe in PROBES:
                    base = self.descend(base, probe)
            gaps = -self.best.place.diff() * torch.exp(HOP * torch.randn(len(self.best.place)-1, generator=generator, dtype=torch.float64))
            gaps = gaps * (self.best.place[0]-self.best.place[-1]) / gaps.sum()
            base = self.at(self.best.place[0] - torch.cat([torch.zeros_like(gaps[:1]), gaps.cumsum(0)]))

    def descend(self, base: Tried, probe: float) -> Tried:
        """Probes every level, then steps until none helps; again, as long as that found something better."""
        found = math.inf
        while self.left and base.error < found:
            found, mu = base.error, DAMPING[0]
            answers = base.rows.new_zeros(len(base.place), *base.rows.shape)  # J
            best = base
            for j in range(len(base.place)):
                tried = self._probed(base, j, probe)
                self._learn(answers, base, tried)
                best = min(best, tried or best, key=lambda one: one.error)
            base = best
            while self.left and mu < DAMPING[1]:
                tried = self.at(base.place + _step(base, answers, mu))
                self._learn(answers, base, tried)
                better = tried is not None and tried.error < base.error
                base, mu = (tried, mu / 3) if better else (base, mu * 4)
        return base

    def _probed(self, base: Tried, j: int, probe: float) -> Tried | None:
        """Level j moved into the wider of the gaps beside it, as far as `probe`; farther where that is no level of a
        chain."""
        above, below = _gaps(base.place)
        way = torch.zeros_like(base.place)
        way[j] = above[j] if above[j] > below[j] else -below[j]
        for share in (probe, 2 * probe, 4 * probe):
            if self.left and (tried := self.at(base.place + share * way)) is not None:
                return tried
        return None

    def _learn(self, answers: Tensor, base: Tried, tried: Tried | None) -> None:
        if tried is None or math.isinf(tried.error):
            return
        moved = (tried.place - base.place).to(answers)
        expected = torch.tensordot(moved, answers, 1)
        answers += (moved / moved.square().sum())[:, None, None] * (tried.rows - base.rows - expected)


def _place(levels: NoiseLevel) -> Tensor:
    return -levels.logsnr[1:-1] / 2


def _gaps(place: Tensor) -> tuple[Tensor, Tensor]:
    """To the noisier and to the cleaner neighbour of each of k levels, in u; beyond the outermost, as far as on their
    other side."""
    between = -place.diff() if len(place) > 1 else torch.ones_like(place)
    return torch.cat([between[:1], between]), torch.cat([between, between[-1:]])


def _step(base: Tried, answers: Tensor, mu: float) -> Tensor:
    """The damped step (k,) from `base`, no level farther than REACH of a gap."""
    weight = torch.exp(-2 * log_error(base.rows)) / base.rows[0].numel() / len(base.rows)
    weighed = answers.double() * weight[:, None]
    normal = torch.einsum("jnd,knd->jk", weighed, answers.double()).cpu()
    gradient = torch.einsum("jnd,nd->j", weighed, base.rows.double()).cpu()
    above, below = _gaps(base.place)
    step = -torch.linalg.solve(normal + mu * torch.diag(torch.minimum(above, below) ** -2), gradient)
    return step.clamp(-REACH * below, REACH * above)
