"""Solvers and the loop that runs them."""

import difflib
from typing import Annotated

from unsteep.core.arguments import shown
from unsteep.core.open import Components
from unsteep.sampling.adaptive import PAIRS, Adaptive
from unsteep.sampling.ancestral import Ancestral
from unsteep.sampling.ddim import DDIM
from unsteep.sampling.default import Grid, default_solver, levels_for, own_levels
from unsteep.sampling.edm import Euler, Heun
from unsteep.sampling.frame import Frame, frame_of
from unsteep.sampling.gaussian_frame import GaussianFrame
from unsteep.sampling.grids import SPACINGS, Spacing, given, grid, levels_at
from unsteep.sampling.known import Known, fitted
from unsteep.sampling.langevin import AnnealedLangevin, PredictorCorrector
from unsteep.sampling.loop import Driver, Solver, Step, called, driven, initial_noise, is_solver, sample, trajectory
from unsteep.sampling.multistep import DEIS, LMS, DPMMultistep
from unsteep.sampling.sde import EulerMaruyama, SDEDPMSolver
from unsteep.sampling.singlestep import Singlestep
from unsteep.sampling.traits import Traits, traits
from unsteep.sampling.unipc import UniPC

AnySolver = Annotated[
    Solver,
    Components(
        Ancestral,
        DDIM,
        Euler,
        Heun,
        Singlestep,
        DPMMultistep,
        DEIS,
        LMS,
        UniPC,
        GaussianFrame,
        EulerMaruyama,
        SDEDPMSolver,
        AnnealedLangevin,
        PredictorCorrector,
    ),
]

# By their names on the command line and in Python.
SOLVERS: dict[str, Solver] = {
    "ancestral": Ancestral(),
    "ddim": DDIM(),
    "euler": Euler(),
    "heun": Heun(),
    "dpm2": Singlestep(order=2, form="eps"),
    "dpm3": Singlestep(order=3, form="eps"),
    "dpmpp-2s": Singlestep(order=2, form="x0"),
    "dpmpp-2m": DPMMultistep(order=2),
    "dpmpp-3s": Singlestep(order=3, form="x0"),
    "dpmpp-3m": DPMMultistep(order=3),
    "dpmpp-sde": SDEDPMSolver(),
    "deis": DEIS(),
    "lms": LMS(),
    "unipc": UniPC(),
    "gaussian-frame": GaussianFrame(),
    "euler-maruyama": EulerMaruyama(),
    "langevin": AnnealedLangevin(),
    "predictor-corrector": PredictorCorrector(),
}


def solver_named(name: str) -> Solver:
    """The solver of this name, with its usual settings. ValueError for an unknown one, with the nearest."""
    if not isinstance(name, str):
        raise ValueError(f"solver: expected a name, got {shown(name)}; known: {', '.join(SOLVERS)}")
    if ":" in name:
        raise ValueError(f"solver: expected a name, got {name!r}, which names a class; give an instance of it")
    if name not in SOLVERS:
        close = difflib.get_close_matches(name, SOLVERS, n=2)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"solver: unknown solver {name!r}; {meant}known: {', '.join(SOLVERS)}")
    return SOLVERS[name]


__all__ = [
    "DDIM",
    "DEIS",
    "LMS",
    "PAIRS",
    "SOLVERS",
    "SPACINGS",
    "Adaptive",
    "Ancestral",
    "AnnealedLangevin",
    "AnySolver",
    "DPMMultistep",
    "Driver",
    "Euler",
    "EulerMaruyama",
    "Frame",
    "GaussianFrame",
    "Grid",
    "Heun",
    "Known",
    "PredictorCorrector",
    "SDEDPMSolver",
    "Singlestep",
    "Solver",
    "Spacing",
    "Step",
    "Traits",
    "UniPC",
    "called",
    "default_solver",
    "driven",
    "fitted",
    "frame_of",
    "given",
    "grid",
    "initial_noise",
    "is_solver",
    "levels_at",
    "levels_for",
    "own_levels",
    "sample",
    "solver_named",
    "traits",
    "trajectory",
]
