"""The solver and the grid where none is asked for, chosen by measurement (`benchmarks/solvers.py` and its page).

A `GaussianFrame` in the frame of the training data, by class where there are classes. On data with a density no call is
spent at t = 1, whose answer is the data's mean; where the run is guided, none of up to twelve. Such data also end
smoothly. Networks of pictures err at t = 1, so that the call there pays, but for five calls and fewer; and their values
are those of a grid, so that they end with the denoiser. A model that brings no statistics gets the frame of standard
deviation 0.5, whose mean is not that of what is sampled: with a call at t = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from unsteep.core.level import NoiseLevel
from unsteep.core.schedules import Schedule, levels_of
from unsteep.sampling.frame import Frame
from unsteep.sampling.gaussian_frame import GaussianFrame
from unsteep.sampling.grids import Spacing, given
from unsteep.sampling.grids import grid as laid
from unsteep.sampling.loop import Solver
from unsteep.sampling.traits import traits
from unsteep.sampling.tuning import tuned_levels

Grid = Spacing | Literal["tuned"] | Sequence[float] | NoiseLevel
FEW_GUIDED, FEW_PICTURES = 12, 5  # calls


@runtime_checkable
class Laying(Protocol):
    """A solver that lays a grid of its own."""

    def levels(self, schedule: Schedule, steps: int) -> NoiseLevel: ...


def default_solver(
    frame: Frame | None, schedule: Schedule, steps: int, *, atoms: bool, guidance: float = 1.0
) -> Solver:
    """For so many steps, and data that take the values of a grid (`atoms`) or not. `frame`: that of the data, if it is
    known."""
    whole = levels_of(schedule)
    spare = whole is None or steps < whole  # a free start takes one level more
    most = FEW_GUIDED if guidance > 1 else steps
    if atoms:
        most = FEW_PICTURES if guidance <= 1 else 0
    free = frame is not None and spare and steps <= most
    return GaussianFrame(start="free" if free else "call", end="denoiser" if atoms else "smooth", frame=frame)


def levels_for(
    grid: Grid | None,
    schedule: Schedule,
    steps: int,
    solver: Solver,
    statistics: Mapping[str, Tensor],
    guidance: float = 1.0,
) -> NoiseLevel:
    """The levels of a grid: by name, by its times, as they are, or by None: the solver's own. "tuned" is what
    `unsteep tune-grid` found and `statistics` hold, for this solver, so many steps and this scale of guidance."""
    if isinstance(grid, NoiseLevel):
        return grid
    if grid == "tuned":
        return tuned_levels(statistics, schedule, solver, steps, guidance)
    if grid is None:
        return own_levels(solver, schedule, steps)
    return laid(schedule, steps, grid) if isinstance(grid, str) else given(schedule, grid)


def own_levels(solver: Solver, schedule: Schedule, steps: int) -> NoiseLevel:
    """The levels that a solver wants where none are asked for: those that it lays, or those of its spacing."""
    if isinstance(solver, Laying):
        return solver.levels(schedule, steps)
    return laid(schedule, steps, traits(solver).spacing)
