"""The deterministic solvers of unsteep, each on every grid that suits it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Schedule
from unsteep.denoiser import Denoise
from unsteep.sampling import SOLVERS, Frame, GaussianFrame, Solver, Spacing, grid, sample, traits
from unsteep.sampling.default import default_solver

SPACINGS: tuple[Spacing, ...] = ("trailing", "logsnr", "karras")
DEFAULT = "default"  # the name of what `Model.sample` takes when nothing is asked for


@dataclass(frozen=True)
class Ours:
    """A solver for a number of steps, by its name on the command line; `spacing` is None where it lays its own grid."""

    name: str
    solver: Callable[[Schedule, int], Solver]
    spacing: Spacing | None

    def levels(self, schedule: Schedule, steps: int) -> NoiseLevel:
        """Its grid. ValueError where the solver or the grid cannot have so many steps."""
        if self.spacing is None:
            return self.solver(schedule, steps).levels(schedule, steps)  # type: ignore[attr-defined]
        return grid(schedule, steps, self.spacing)


def ours(frame: Frame, atoms: bool, names: Sequence[str] = (), guidance: float = 1.0) -> list[Ours]:
    """Every solver of `unsteep.sampling.SOLVERS` that draws no noise on each of SPACINGS, or those of `names`; with the
    `frame` of the data where it takes one, and then with both of its starts and ends; and the default."""

    def default(schedule: Schedule, steps: int) -> Solver:
        return default_solver(frame, schedule, steps, atoms=atoms, guidance=guidance)

    found = [Ours(DEFAULT, default, None)]
    for name, solver in SOLVERS.items():
        if isinstance(solver, GaussianFrame):
            for start, end in product(("call", "free"), ("denoiser", "smooth")):
                framed = replace(solver, frame=frame, start=start, end=end)  # type: ignore[arg-type]
                found.append(Ours(f"{name} {start} {end}", _always(framed), None))
        elif not traits(solver).draws:
            found += [Ours(f"{name} {spacing}", _always(solver), spacing) for spacing in SPACINGS]
    return [one for one in found if not names or one.name.split()[0] in names]


def _always(solver: Solver) -> Callable[[Schedule, int], Solver]:
    return lambda schedule, steps: solver


def run(mine: Ours, schedule: Schedule, denoise: Denoise, x: Tensor, calls: int) -> Tensor | None:
    """Where it takes x (n, ...) from t = 1 in as many steps as `calls` calls of `denoise` allow; None if there is no
    such number of steps."""
    steps = _steps(mine, schedule, x, calls)
    return None if steps is None else _walk(mine, schedule, denoise, x, steps)


def _walk(mine: Ours, schedule: Schedule, denoise: Denoise, x: Tensor, steps: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of signal left at t = 1: the exact flow starts there, too
        levels = mine.levels(schedule, steps)
    return sample(denoise, x, levels, mine.solver(schedule, steps), NoiseSource(range(len(x))), schedule.inverse)


_FOUND: dict[tuple[str, str, int], int | None] = {}


def _steps(mine: Ours, schedule: Schedule, x: Tensor, calls: int) -> int | None:
    """The largest number of steps that asks a denoiser at most `calls` times, by counting."""
    key = (mine.name, repr(schedule), calls)
    if key not in _FOUND:
        _FOUND[key] = next((n for n in range(calls, 0, -1) if _asked(mine, schedule, x, n) <= calls), None)
    return _FOUND[key]


def _asked(mine: Ours, schedule: Schedule, x: Tensor, steps: int) -> float:
    asked = 0

    def counting(x_t: Tensor, level: NoiseLevel) -> Estimate:
        nonlocal asked
        asked += 1
        return Estimate("x0", torch.zeros_like(x_t), x_t, level)

    try:
        _walk(mine, schedule, counting, x, steps)
    except ValueError:  # the solver or the grid cannot have so many steps, or so few
        return float("inf")
    return asked
