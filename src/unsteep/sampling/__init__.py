"""Solvers and the loop that runs them."""

from unsteep.sampling.ancestral import Ancestral
from unsteep.sampling.ddim import DDIM
from unsteep.sampling.grids import SPACINGS, Spacing, grid
from unsteep.sampling.loop import Solver, Step, initial_noise, sample, trajectory

AnySolver = Ancestral | DDIM
SOLVERS: dict[str, type[AnySolver]] = {"ancestral": Ancestral, "ddim": DDIM}

__all__ = [
    "DDIM",
    "SOLVERS",
    "SPACINGS",
    "Ancestral",
    "AnySolver",
    "Solver",
    "Spacing",
    "Step",
    "grid",
    "initial_noise",
    "sample",
    "trajectory",
]
