"""Denoising diffusion: train on your own data, sample fast, measure honestly, read the whole theory.

    model = unsteep.load("runs/demo")
    pictures = model.sample(16, label=4, steps=50, seed=0)      # uint8 (16, c, h, w)

The names below are imported when they are first used, so that `import unsteep` and the command line's help are instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "DDIM": "unsteep.sampling",
    "Ancestral": "unsteep.sampling",
    "Condition": "unsteep.core.condition",
    "Denoiser": "unsteep.denoiser",
    "Estimate": "unsteep.core.estimate",
    "Model": "unsteep.model",
    "NoiseLevel": "unsteep.core.level",
    "NoiseSource": "unsteep.core.noise",
    "Run": "unsteep.training.run",
    "add_noise": "unsteep.core.level",
    "grid": "unsteep.sampling",
    "load": "unsteep.opening",
    "posterior": "unsteep.core.gaussian",
    "reverse": "unsteep.core.gaussian",
    "sample": "unsteep.sampling",
    "trajectory": "unsteep.sampling",
}

if TYPE_CHECKING:
    from unsteep.core.condition import Condition
    from unsteep.core.estimate import Estimate
    from unsteep.core.gaussian import posterior, reverse
    from unsteep.core.level import NoiseLevel, add_noise
    from unsteep.core.noise import NoiseSource
    from unsteep.denoiser import Denoiser
    from unsteep.model import Model
    from unsteep.opening import load
    from unsteep.sampling import DDIM, Ancestral, grid, sample, trajectory
    from unsteep.training.run import Run

__all__ = [
    "DDIM",
    "Ancestral",
    "Condition",
    "Denoiser",
    "Estimate",
    "Model",
    "NoiseLevel",
    "NoiseSource",
    "Run",
    "add_noise",
    "grid",
    "load",
    "posterior",
    "reverse",
    "sample",
    "trajectory",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'unsteep' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
