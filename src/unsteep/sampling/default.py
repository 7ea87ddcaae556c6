"""The solver and the grid where none is asked for, chosen by measurement (`benchmarks/solvers.py` and its page).

A `GaussianFrame` in the frame of the training data, by class where there are classes. Up to six calls none is spent at
t = 1, whose answer is the data's mean but for the errors of a trained network. Of the same data, what takes values
of a grid, as pixels do, ends with the denoiser, and what has a density ends smoothly. A model that brings no statistics
gets UniPC of order 2, on the grid of log-SNR: what came next on trained networks.
"""

from __future__ import annotations

from unsteep.core.chains import Chain
from unsteep.core.schedules import Schedule
from unsteep.sampling.frame import Frame
from unsteep.sampling.gaussian_frame import GaussianFrame
from unsteep.sampling.grids import Spacing
from unsteep.sampling.loop import Solver
from unsteep.sampling.multistep import DEIS, LMS, DPMMultistep
from unsteep.sampling.singlestep import Singlestep
from unsteep.sampling.unipc import UniPC

FEW = 6


def default_spacing(solver: object) -> Spacing:
    """The grid of a solver that lays none: log-SNR for methods of higher order, trailing for all others."""
    return "logsnr" if isinstance(solver, DEIS | DPMMultistep | LMS | Singlestep | UniPC) else "trailing"


def default_solver(frame: Frame | None, schedule: Schedule, steps: int, atoms: bool) -> Solver:
    """For so many steps, and data that take the values of a grid (`atoms`) or not. `frame`: that of the data, if it is
    known."""
    if frame is None:
        return UniPC(order=2)
    spare = not isinstance(schedule, Chain) or steps < schedule.steps  # a free start takes one level more
    free = spare and steps <= FEW
    return GaussianFrame(start="free" if free else "call", end="denoiser" if atoms else "smooth", frame=frame)
