"""Levels optimised for one denoiser and one solver.

Between t = 1 and the clean level a grid has k levels, at u = log(sigma / alpha). A walk over them ends R_i(u) away from
the exact answer, which is where the flow takes the same noise; sought are the u with the least

    f(u) = mean_i log |R_i(u)|                                over samples i, | | the root mean square

so exp f is the geometric mean of the samples' distances. The few that land in another basin on one grid or another are
far away and would decide a mean of squares; here no sample counts for more than its share.

No gradient goes through the network. The R_i are known as vectors, not only their lengths, so k walks with one level
moved in each show how they all answer, R_i(u + d) = R_i + J_i d, and a step of Gauss & Newton, damped as Levenberg's
and Marquardt's, follows:

    (sum_i w_i J_i^T J_i + mu D) d = -sum_i w_i J_i^T R_i,    w_i = 1 / |R_i|^2

The weights are those of iteratively reweighted least squares: the right-hand side is -n times the gradient of f. D is
in units of the gaps between levels. Every further walk, an improvement or not, mends J by Broyden's rank-one update
(Broyden 1965), of which the first k are cases, too. Where no step helps, the search goes on from a grid like the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel
from unsteep.core.precision import arithmetic
from unsteep.core.schedules import Schedule
from unsteep.sampling.grids import levels_at
from unsteep.sampling.loop import Solver

Walker = Callable[[NoiseLevel], Tensor]  # levels -> where the samples end, (n, ...)
PROBE = 0.15  # of a gap: how far a level is moved to see what that does
REACH = 0.45  # of a gap: how far it may go in one step, so that no two levels meet
DAMPING = 1e-4, 1e-2, 1e3  # mu: the least, the first, and the one at which steps are too short to matter
HOP = 0.3  # standard deviation of the logarithms of gaps that a new start is given
NOTHING = 1e-12  # a distance counts as no less: 0 has no logarithm


@dataclass(frozen=True)
class Tuned:
    """The best `levels`, their f as `error`, and f of the `first` grid tried; found in so many `walks`."""

    levels: NoiseLevel
    error: float
    first: float
    walks: int


@arithmetic()
def tune(walk: Walker, exact: Tensor, schedule: Schedule, starts: Sequence[NoiseLevel], walks: int) -> Tuned:
    """The best levels found in at most so many walks, no worse than any of `starts` that there were walks for.

    `exact` (n, ...): where walks should end, on the CPU as they do. `starts`: grids of one length, from t = 1 to clean,
    tried first. On a chain all levels are levels of it.
    """
    search = _Search(walk, exact.flatten(1), schedule, walks)
    visited = [search.visit(levels) for levels in starts]
    assert visited[0] is not None, "starts: at least one, and a walk for it"
    if len(search.best.place):
        search.run()
    return Tuned(search.best.levels, search.best.error, visited[0].error, walks - search.left)


def log_error(rows: Tensor) -> Tensor:
    """log of the root mean square of each row of (n, d), float64 (n,)."""
    return rows.double().square().mean(1).sqrt().clamp(min=NOTHING).log()


def grid_name(solver: Solver, steps: int, guidance: float = 1.0) -> str:
    """What a model's statistics call the grid tuned for this: "grid/UniPC(order=2)/6", with "/guidance=2" if guided."""
    known: tuple[Field[Any], ...] = fields(solver) if is_dataclass(solver) else ()
    settings = [
        f"{field.name}={value}"
        for field in known
        if field.metadata.get("setting", True) and (value := getattr(solver, field.name)) != field.default
    ]
    named = f"grid/{type(solver).__name__}({', '.join(settings)})/{steps}"
    return named if guidance == 1 else f"{named}/guidance={guidance:g}"


def tuned_levels(
    statistics: Mapping[str, Tensor], schedule: Schedule, solver: Solver, steps: int, guidance: float = 1.0
) -> NoiseLevel:
    """The grid tuned for this, from a model's statistics; ValueError, naming those that there are, if it has none."""
    name = grid_name(solver, steps, guidance)
    if name not in statistics:
        stored = ", ".join(one.removeprefix("grid/") for one in statistics if one.startswith("grid/"))
        command = f"unsteep tune-grid RUN --steps {steps}" + ("" if guidance == 1 else f" --guidance {guidance:g}")
        raise ValueError(
            f"grid: none is tuned for {name.removeprefix('grid/')}, tuned are {stored or 'none'}; make one with: "
            f"{command}, and the same --solver if you name one"
        )
    return schedule(statistics[name])


@dataclass(frozen=True)
class _Tried:
    """A grid, `place` (k,) its levels between the ends in u, and what came of it: R as `rows` (n, d), f as `error`."""

    levels: NoiseLevel
    place: Tensor
    rows: Tensor
    error: float


class _Search:
    best: _Tried

    def __init__(self, walk: Walker, exact: Tensor, schedule: Schedule, walks: int) -> None:
        self.walk, self.exact, self.schedule, self.left = walk, exact, schedule, walks
        self.seen: set[tuple[float, ...]] = set()

    def visit(self, levels: NoiseLevel) -> _Tried | None:
        """Walks over `levels`; None where that was done before, or no walk is left."""
        times = tuple(levels.t.tolist())
        if times in self.seen or not self.left:
            return None
        self.left -= 1
        rows = self.walk(levels).flatten(1) - self.exact
        error = float(log_error(rows).mean())
        tried = _Tried(levels, -levels.logsnr[1:-1] / 2, rows, error if math.isfinite(error) else math.inf)
        if not self.seen or tried.error < self.best.error:
            self.best = tried
        self.seen.add(times)
        return tried

    def at(self, place: Tensor) -> _Tried | None:
        levels = levels_at(self.schedule, -2 * place)
        return self.visit(levels) if bool((levels.t.diff() < 0).all()) else None  # not beyond the schedule's ends

    def run(self) -> None:
        """Goes down from the best grid and then, while walks are left, from others like it."""
        random = torch.Generator().manual_seed(0)
        self.descend(self.best)
        for _ in range(self.left):  # a short chain has fewer grids than there are walks
            start = self.best.place
            gaps = start.diff() * torch.exp(HOP * torch.randn(len(start) - 1, generator=random, dtype=start.dtype))
            gaps = gaps * (start[-1] - start[0]) / gaps.sum()
            hopped = self.at(torch.cat([start[:1], start[0] + gaps.cumsum(0)]))
            if hopped is not None:
                self.descend(hopped)

    def descend(self, base: _Tried) -> None:
        """Probes every level, then steps until none helps; again, as long as that finds something better."""
        least, first, most = DAMPING
        answers = base.rows.new_zeros(len(base.place), *base.rows.shape)  # J
        found = math.inf
        while self.left and base.error < found:
            found, mu = base.error, first
            probes = [self.probe(base, j) for j in range(len(base.place))]
            for probe in probes:
                _learn(answers, base, probe)
            base = min([base, *(probe for probe in probes if probe)], key=lambda tried: tried.error)
            while self.left and mu < most:
                tried = self.at(base.place + _step(base, answers, mu))
                _learn(answers, base, tried)
                better = tried is not None and tried.error < base.error
                base, mu = (tried, max(mu / 3, least)) if tried and better else (base, mu * 4)

    def probe(self, base: _Tried, j: int) -> _Tried | None:
        """Level j moved into the wider of the gaps beside it: by PROBE, or to where a chain has a level."""
        above, below = _gaps(base.place)
        way = torch.zeros_like(base.place)
        way[j] = torch.maximum(above, below)[j] * torch.sign(above - below + NOTHING)[j]
        for share in (PROBE, 2 * PROBE, 4 * PROBE):
            if (tried := self.at(base.place + share * way)) is not None:
                return tried
        return None


def _gaps(place: Tensor) -> tuple[Tensor, Tensor]:
    """To the noisier and to the cleaner neighbour of each of k levels, in u; beyond the outermost, as far as on their
    other side, and 1 where there is no other."""
    if len(place) == 1:
        return torch.ones_like(place), torch.ones_like(place)
    between = -place.diff()
    return torch.cat([between[:1], between]), torch.cat([between, between[-1:]])


def _learn(answers: Tensor, base: _Tried, tried: _Tried | None) -> None:
    """Broyden's update: J, changed the least, that says of this walk what came of it."""
    if tried is None or math.isinf(tried.error):
        return
    moved = (tried.place - base.place).to(answers)
    if not moved.square().sum() > 0:  # times apart by a rounding may have one log-SNR: nothing moved
        return
    surprise = tried.rows - base.rows - torch.tensordot(moved, answers, 1)
    answers += (moved / moved.square().sum())[:, None, None] * surprise


def _step(base: _Tried, answers: Tensor, mu: float) -> Tensor:
    """The damped step d (k,) from `base`, no level farther than REACH of a gap."""
    rows, answers = base.rows.double(), answers.double()
    weighed = answers * (torch.exp(-2 * log_error(rows)) / rows.numel())[:, None]
    normal = torch.einsum("jnd,knd->jk", weighed, answers)
    gradient = torch.einsum("jnd,nd->j", weighed, rows)
    above, below = _gaps(base.place)
    damping = mu * torch.diag(torch.minimum(above, below) ** -2)
    return torch.linalg.solve(normal + damping, -gradient).clamp(-REACH * below, REACH * above)
