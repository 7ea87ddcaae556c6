"""Solvers measured: orders of convergence, and the moments of samples, on data whose answers are exact.

Deterministic solvers: in one dimension the probability flow carries every quantile along, so that F_nxt(x_nxt) =
F_now(x_now) with the distribution functions of the noised mixture is its exact answer. The error at the last level
above zero noise, from N and from 2 N steps, has the slope that is the order.

Stochastic solvers: on Gaussian data a walk is linear in its start and in every number of noise that it draws. Its
answers to each of them alone, all in one batch, give the exact mean and variance of the samples: nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.checks.rows import Check, Row, below, holds, near, published
from unsteep.core.chains import LinearBetas
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource, clock
from unsteep.core.schedules import Schedule
from unsteep.guidance import Counted
from unsteep.sampling import (
    DDIM,
    SOLVERS,
    Ancestral,
    DPMMultistep,
    Driver,
    Euler,
    Frame,
    GaussianFrame,
    Solver,
    grid,
    sample,
    traits,
)

STEPS = 150  # and twice as many
MEAN, VARIANCE = 0.7, 0.25  # of the Gaussian data

_MEANS, _STDS, _WEIGHTS = (
    torch.tensor(values, dtype=torch.float64) for values in ((-1.0, 0.2, 0.9), (0.4, 0.5, 0.35), (0.3, 0.4, 0.3))
)

Draws = dict[tuple[int, int], int]


class Impulses(NoiseSource):
    """Noise that is given: row r of a batch draws the number `rows`[r, i] where a walk draws for the i-th time, 0 where
    there are no `rows`. `seen`: which draws there were, by (stream, draw)."""

    def __init__(self, seen: Draws, rows: Tensor | None = None, step: int = 0) -> None:
        self.seen, self.rows, self.step = seen, rows, step

    def at(self, stream: int | Tensor) -> Impulses:
        return Impulses(self.seen, self.rows, int(stream))

    def check(self, like: Tensor) -> None:
        """Any rows will do."""

    def normal(self, like: Tensor, draw: int) -> Tensor:
        i = self.seen.setdefault((self.step, draw), len(self.seen))
        return torch.zeros_like(like) if self.rows is None else self.rows[:, i : i + 1]

    def brownian(self, like: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        return self.normal(like, -1) * (clock(now.t) - clock(nxt.t)).sqrt()


def checks() -> list[Check]:
    """Of every solver in SOLVERS, and of variants with published answers."""
    as_published = DPMMultistep(order=3, published=True)
    return [
        *checks_of(SOLVERS),
        ("dpmpp-3m as published", partial(_of, "dpmpp-3m as published", as_published)),
        ("equalities", _equalities),
        ("spread of samples", _published_spreads),
        ("gaussian-frame", _gaussian_frame),
    ]


def checks_of(solvers: Mapping[str, Solver]) -> list[Check]:
    """Of any solvers by name: their orders, whether they do what they say, and their last step. ValueError for one that
    walks no grid."""
    for name, solver in solvers.items():
        if isinstance(solver, Driver):
            raise ValueError(f"solver: {name} lays its own levels; give one that walks a grid")
    return [
        *((name, partial(_of, name, solver)) for name, solver in solvers.items()),
        ("what they say", partial(_as_said, solvers)),
        ("last step", partial(_last_steps, solvers)),
    ]


def _of(name: str, solver: Solver) -> Iterable[Row]:
    chain = LinearBetas()
    if _draws(solver, chain, grid(chain, 4)[:-1]):
        return _weak_order(name, solver)
    return [_order(name, solver)]


def _order(name: str, solver: Solver) -> Row:
    """The slope of the error between STEPS and twice as many."""
    errors = [_error(solver, steps) for steps in (STEPS, 2 * STEPS)]
    return _slope(f"order of {name}", math.log2(errors[0] / errors[1]), solver)


def _slope(name: str, slope: float, solver: Solver) -> Row:
    """Against the order that the solver claims; only that the error falls, where it claims none."""
    order = traits(solver).order
    if order is None:
        return holds(name, "> 0.3", f"{slope:.2f}", slope > 0.3)
    return near(name, order, 0.15, slope)


def _error(solver: Solver, steps: int) -> float:
    """Root mean square, on a mixture, at the last level above zero noise of a Karras grid."""
    chain = LinearBetas().interpolated()
    mixture = Mixture(_MEANS[:, None], _STDS**2, _WEIGHTS)
    levels = grid(chain, steps, "karras")[:-1]
    x = torch.linspace(-2.2, 2.2, 12, dtype=torch.float64)
    end = sample(mixture, x[:, None], levels, solver, NoiseSource(range(len(x))), chain.inverse).squeeze(1)
    return float((end - exact_flow(x, levels[0], levels[-1])).square().mean().sqrt())


def exact_flow(x: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """Where the flow of the mixture carries x (n,), by bisection for its quantiles."""
    wanted = _distribution(x, now)
    low, high = torch.full_like(x, -20.0), torch.full_like(x, 20.0)
    for _ in range(60):
        middle = (low + high) / 2
        short = _distribution(middle, nxt) < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return (low + high) / 2


def _distribution(x: Tensor, level: NoiseLevel) -> Tensor:
    stds = torch.hypot(level.alpha * _STDS, level.sigma)
    return torch.special.ndtr((x[:, None] - level.alpha * _MEANS) / stds) @ _WEIGHTS


def _weak_order(name: str, solver: Solver) -> Iterator[Row]:
    """Of the spread of samples, begun with that of the data at the first level; and that the mean is kept."""
    chain = LinearBetas().interpolated()
    errors = []
    for steps in (STEPS // 2, STEPS):
        levels = grid(chain, steps, "logsnr")[:-1]
        found = moments(solver, chain, levels, _marginal(levels[0]))
        if found is None:
            yield _drawn(name, solver)
            return
        (mean, std), (true_mean, true_std) = found, _marginal(levels[-1])
        errors.append((abs(mean - true_mean), abs(std - true_std)))
    yield _slope(f"order of the spread of {name}", math.log2(errors[0][1] / errors[1][1]), solver)
    yield below(f"error of the mean of {name}", 0.01, errors[1][0])


def _marginal(level: NoiseLevel) -> tuple[float, float]:
    """The mean and standard deviation of the Gaussian data at a level."""
    return float(level.alpha) * MEAN, float(torch.hypot(level.alpha * math.sqrt(VARIANCE), level.sigma))


def moments(
    solver: Solver, schedule: Schedule, levels: NoiseLevel, start: tuple[float, float]
) -> tuple[float, float] | None:
    """The exact mean and standard deviation of samples of the Gaussian data, from a start with those moments; None if
    the walk is not linear: its answer to everything at once is not the sum of those to each start and draw alone."""
    seen = _draws(solver, schedule, levels)
    n, (mean, std) = len(seen), start
    rows = torch.cat([torch.zeros(2, n), torch.eye(n), torch.ones(1, n)]).double()
    x = torch.full((n + 3, 1), mean, dtype=torch.float64)
    x[[1, -1]] += std
    end = sample(_gaussian(1), x, levels, solver, Impulses(seen, rows), schedule.inverse).squeeze(1)
    answers = end[1:-1] - end[0]
    linear = torch.allclose(end[-1] - end[0], answers.sum(), rtol=1e-6, atol=1e-9)
    return (float(end[0]), float(answers.norm())) if linear else None


def _draws(solver: Solver, schedule: Schedule, levels: NoiseLevel) -> Draws:
    """The numbers of noise that a walk draws."""
    seen: Draws = {}
    x = torch.zeros(1, 1, dtype=torch.float64)
    sample(_gaussian(1), x, levels, solver, Impulses(seen), schedule.inverse)
    return seen


def _gaussian(dimensions: int) -> Mixture:
    mean = torch.full((dimensions,), MEAN, dtype=torch.float64)
    return Mixture.gaussian(mean, torch.tensor(VARIANCE, dtype=torch.float64))


def _drawn(name: str, solver: Solver) -> Row:
    """The spread of 64 samples of 256 dimensions, for solvers whose steps depend on the norm of x."""
    chain, n, d = LinearBetas().interpolated(), 64, 256
    levels = grid(chain, STEPS, "logsnr")[:-1]
    mean, std = _marginal(levels[0])
    x = mean + std * NoiseSource(range(n)).normal(torch.empty(n, d, dtype=torch.float64), draw=0)
    end = sample(_gaussian(d), x, levels, solver, NoiseSource(range(n)), chain.inverse)
    return near(f"spread of {name}, drawn", round(_marginal(levels[-1])[1], 3), 0.05, float(end.std()))


def _published_spreads() -> Iterator[Row]:
    """Standard deviations of samples from 20 steps down the linear chain; that of the data is 0.5."""
    chain = LinearBetas()
    levels = grid(chain, 20)
    for name, solver, expected in (
        ("ddim", DDIM(), "0.43137"),
        ("ddim eta=1", DDIM(eta=1.0), "0.39151"),
        ("beta_tilde", Ancestral(variance="beta_tilde"), "0.39151"),
        ("beta", Ancestral(variance="beta"), "0.51683"),
    ):
        found = moments(solver, chain, levels, (float(levels[0].alpha) * MEAN, 1.0))
        yield published(f"spread of {name}, 20 steps", expected, found[1] if found else math.nan)


def _as_said(solvers: Mapping[str, Solver]) -> Iterator[Row]:
    """A step in the middle of a walk draws noise, and calls the denoiser as often, as the solver says."""
    chain, x = LinearBetas().interpolated(), torch.linspace(-2, 2, 8, dtype=torch.float64)[:, None]
    wrong = []
    for name, solver in solvers.items():
        seen: Draws = {}
        calls = Counted(_gaussian(1))
        sample(calls, x, grid(chain, 10)[4:6], solver, Impulses(seen), chain.inverse)
        if (calls.rows / len(x), bool(seen)) != (traits(solver).calls, traits(solver).draws):
            wrong.append(name)
    yield holds("calls and noise of a step, as said", "all solvers", ", ".join(wrong) or "all", not wrong)


def _equalities() -> Iterator[Row]:
    """Solvers that are one and the same, on a mixture."""
    chain = LinearBetas()
    x, noise = torch.linspace(-2, 2, 8, dtype=torch.float64)[:, None], NoiseSource(range(8))
    mixture = Mixture(_MEANS[:, None], _STDS**2, _WEIGHTS)
    ends = [
        sample(mixture, x, grid(chain, 20), solver, noise, chain.inverse)
        for solver in (DDIM(eta=1.0), Ancestral(variance="beta_tilde"), DDIM(), Euler())
    ]
    yield below("ddim eta=1 against ancestral", 1e-9, float((ends[0] - ends[1]).abs().max()))
    yield below("ddim against euler", 1e-9, float((ends[2] - ends[3]).abs().max()))


def _gaussian_frame() -> Iterator[Row]:
    """On Gaussian data with a frame that knows them, 5 steps are exact."""
    random = NoiseSource([0]).normal(torch.empty(1, 4, 4, dtype=torch.float64), draw=0)[0]
    basis, std = torch.linalg.qr(random)[0], torch.tensor([0.05, 0.3, 1.0, 2.5], dtype=torch.float64)
    mean = torch.tensor([0.3, -0.5, 0.0, 1.0], dtype=torch.float64)
    frame = Frame.of(mean, torch.cat([std, std[:1]]), basis)
    data = Mixture.gaussian(mean, basis @ torch.diag(std**2) @ basis.T)
    chain = LinearBetas().interpolated()
    levels = grid(chain, 5)[:-1]
    x = NoiseSource(range(16)).normal(torch.empty(16, 4, dtype=torch.float64), draw=0)
    end = sample(data, x, levels, GaussianFrame(frame=frame), NoiseSource(range(16)), chain.inverse)
    first, last = levels[0], levels[-1]
    gain = torch.hypot(last.alpha * std, last.sigma) / torch.hypot(first.alpha * std, first.sigma)
    exact = last.alpha * mean + ((x - first.alpha * mean) @ basis * gain) @ basis.T
    yield below("error of gaussian-frame on a Gaussian", 1e-10, float((end - exact).abs().max()))


def _last_steps(solvers: Mapping[str, Solver]) -> Iterator[Row]:
    """The step to no noise draws none and gives the denoiser's own x0."""
    chain, x = LinearBetas(), torch.linspace(-2, 2, 8, dtype=torch.float64)[:, None]
    levels = grid(chain, 10)[-2:]
    mixture = Mixture(_MEANS[:, None], _STDS**2, _WEIGHTS)
    x0 = mixture(x, levels[0]).x0
    wrong = []
    for name, solver in solvers.items():
        seen: Draws = {}
        end = sample(mixture, x, levels, solver, Impulses(seen), chain.inverse)
        if seen or float((end - x0).abs().max()) > 1e-12:
            wrong.append(name)
    yield holds("last step: the denoiser, no noise", "all solvers", ", ".join(wrong) or "all", not wrong)
