"""Denoising diffusion: train on your own data, sample fast, measure honestly, read the whole theory.

    model = unsteep.train("digits", out="runs/demo", steps=500)
    model = unsteep.load("runs/demo")                            # and again, on the best device there is
    pictures = model.sample(16, label=4, solver="ddim", seed=0)  # uint8 (16, c, h, w)
    print(unsteep.evaluate(model, real, n=500).values)

The names below are imported when they are first used, so that `import unsteep` and the command line's help are instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "Adaptive": "unsteep.sampling",
    "Ancestral": "unsteep.sampling",
    "Batch": "unsteep.data.batch",
    "Condition": "unsteep.core.condition",
    "Cosine": "unsteep.core.schedules",
    "CosineBetas": "unsteep.core.chains",
    "DDIM": "unsteep.sampling",
    "DataSet": "unsteep.core.protocols",
    "Denoiser": "unsteep.denoiser",
    "DiTConfig": "unsteep.networks",
    "Draw": "unsteep.core.noise",
    "Estimate": "unsteep.core.estimate",
    "Examples": "unsteep.data",
    "Flow": "unsteep.core.schedules",
    "Guidance": "unsteep.guidance.setting",
    "Heun": "unsteep.sampling",
    "Karras": "unsteep.core.schedules",
    "LinearBetas": "unsteep.core.chains",
    "MLPConfig": "unsteep.networks",
    "Mixture": "unsteep.analytic",
    "Model": "unsteep.model",
    "ModelConfig": "unsteep.model",
    "NoiseLevel": "unsteep.core.level",
    "NoiseSource": "unsteep.core.noise",
    "Pixels": "unsteep.spaces",
    "Run": "unsteep.training.run",
    "Sequences": "unsteep.spaces",
    "Simple": "unsteep.objectives",
    "UNetConfig": "unsteep.networks",
    "UniPC": "unsteep.sampling",
    "VP": "unsteep.core.schedules",
    "Vectors": "unsteep.spaces",
    "add_noise": "unsteep.core.level",
    "bench": "unsteep.benchmarks.bench",
    "evaluate": "unsteep.evaluation.evaluating",
    "fill": "unsteep.model.fill",
    "grid": "unsteep.sampling",
    "interpolate": "unsteep.model.interpolate",
    "invert": "unsteep.model.invert",
    "load": "unsteep.opening",
    "posterior": "unsteep.core.gaussian",
    "redraw": "unsteep.model.redraw",
    "reverse": "unsteep.core.gaussian",
    "sample": "unsteep.sampling",
    "solver_named": "unsteep.sampling",
    "train": "unsteep.starting",
    "train_student": "unsteep.distilling",
    "trajectory": "unsteep.sampling",
    "tune_grid": "unsteep.model.tuned_grid",
}

if TYPE_CHECKING:
    from unsteep.analytic import Mixture
    from unsteep.benchmarks.bench import bench
    from unsteep.core.chains import CosineBetas, LinearBetas
    from unsteep.core.condition import Condition
    from unsteep.core.estimate import Estimate
    from unsteep.core.gaussian import posterior, reverse
    from unsteep.core.level import NoiseLevel, add_noise
    from unsteep.core.noise import Draw, NoiseSource
    from unsteep.core.protocols import DataSet
    from unsteep.core.schedules import VP, Cosine, Flow, Karras
    from unsteep.data import Examples
    from unsteep.data.batch import Batch
    from unsteep.denoiser import Denoiser
    from unsteep.distilling import train_student
    from unsteep.evaluation.evaluating import evaluate
    from unsteep.guidance.setting import Guidance
    from unsteep.model import Model, ModelConfig
    from unsteep.model.fill import fill
    from unsteep.model.interpolate import interpolate
    from unsteep.model.invert import invert
    from unsteep.model.redraw import redraw
    from unsteep.model.tuned_grid import tune_grid
    from unsteep.networks import DiTConfig, MLPConfig, UNetConfig
    from unsteep.objectives import Simple
    from unsteep.opening import load
    from unsteep.sampling import DDIM, Adaptive, Ancestral, Heun, UniPC, grid, sample, solver_named, trajectory
    from unsteep.spaces import Pixels, Sequences, Vectors
    from unsteep.starting import train
    from unsteep.training.run import Run

__all__ = [
    "DDIM",
    "VP",
    "Adaptive",
    "Ancestral",
    "Batch",
    "Condition",
    "Cosine",
    "CosineBetas",
    "DataSet",
    "Denoiser",
    "DiTConfig",
    "Draw",
    "Estimate",
    "Examples",
    "Flow",
    "Guidance",
    "Heun",
    "Karras",
    "LinearBetas",
    "MLPConfig",
    "Mixture",
    "Model",
    "ModelConfig",
    "NoiseLevel",
    "NoiseSource",
    "Pixels",
    "Run",
    "Sequences",
    "Simple",
    "UNetConfig",
    "UniPC",
    "Vectors",
    "add_noise",
    "bench",
    "evaluate",
    "fill",
    "grid",
    "interpolate",
    "invert",
    "load",
    "posterior",
    "redraw",
    "reverse",
    "sample",
    "solver_named",
    "train",
    "train_student",
    "trajectory",
    "tune_grid",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'unsteep' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
