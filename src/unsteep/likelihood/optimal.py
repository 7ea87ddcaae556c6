"""The error of a model's x0 estimates by noise level, from data, and the reverse variance that it makes optimal.

The best reverse variance is beta_tilde + A^2 E (see `core.gaussian.optimal_variance`), with E the mean squared error
of x0 at the step's level. E is smooth in the log-SNR, so it is measured at a few levels and interpolated.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.arguments import choice
from unsteep.core.gaussian import ReverseVariance, Variance, optimal_variance
from unsteep.core.level import NoiseLevel, add_noise, wide
from unsteep.core.precision import arithmetic
from unsteep.core.schedules import Schedule, finite_range
from unsteep.denoiser import Denoise
from unsteep.likelihood.bound import Normals, check_some


def probing_levels(schedule: Schedule, n: int = 32) -> NoiseLevel:
    """About n levels, evenly spaced in log-SNR over what a sampler of 1000 steps, or of the chain's, visits."""
    logsnr = torch.linspace(*finite_range(schedule), n, dtype=torch.float64)
    return schedule(torch.unique(schedule.inverse(logsnr).t))


@arithmetic()
def measure_x0_error(denoise: Denoise, x0: Tensor, levels: NoiseLevel, noise: Normals) -> Tensor:
    """(2, n) float64: the log-SNRs of the n `levels` (sigma > 0), and the mean squared x0 error over x0 (b, ...) at
    each."""
    check_some(x0)
    errors = []
    with torch.no_grad():
        for i in range(len(levels)):
            x_t = add_noise(x0, noise.normal(x0, draw=i), levels[i])
            estimate = denoise(x_t, levels[i])
            error = wide((estimate.x0 - x0) ** 2)
            whole = None if estimate.valid is None else estimate.valid[None]  # all examples as one
            errors.append(masked.mean(error[None], whole)[0].cpu())
    order = torch.argsort(levels.logsnr)
    return torch.stack([levels.logsnr, torch.stack(errors)])[:, order]


class X0Error:
    """The measured error as a function of the level: log E is linear in the log-SNR between measurements, constant
    beyond."""

    def __init__(self, table: Tensor) -> None:
        """`table`: what `measure_x0_error` returned."""
        self.logsnr, self.log_error = table[0], table[1].log()

    def __call__(self, level: NoiseLevel) -> Tensor:
        at = level.logsnr.clamp(float(self.logsnr[0]), float(self.logsnr[-1]))
        above = torch.searchsorted(self.logsnr, at).clamp(1, len(self.logsnr) - 1)
        low, high = self.logsnr[above - 1], self.logsnr[above]
        fraction = ((at - low) / (high - low)).nan_to_num(0)  # a chain of one step has one measurement
        return torch.lerp(self.log_error[above - 1], self.log_error[above], fraction).exp()


def reverse_variance(name: ReverseVariance | None, learned: bool, x0_error: Tensor | None) -> Variance:
    """The variance of reverse steps by name, of a model that `learned` one or not, and whose `x0_error` was measured or
    not; default "learned" where it is, else "beta"."""
    if name is not None and not callable(name):
        choice("variance", name, get_args(ReverseVariance))
    if name is None:
        return "learned" if learned else "beta"
    if name == "learned" and not learned:
        raise ValueError("variance: this model learned none, its variance is fixed; choose beta, beta_tilde or optimal")
    if name != "optimal":
        return name
    if x0_error is None:
        raise ValueError("variance: optimal needs the error measured at the end of training, and this model has none")
    return optimal_variance(X0Error(x0_error))
