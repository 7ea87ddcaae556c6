"""Posterior sampling for a linear measurement y = A x0 + noise_std n: a denoiser of x0 given y, made from one of x0.

By Bayes' rule the score of x_t given y has one term more, and so has the estimate of x0 (Tweedie's formula):

    score(x_t | y) = score(x_t) + grad log p(y | x_t)
    E[x0 | x_t, y] = x0^ + (sigma^2 / alpha) grad log p(y | x_t),           x0^ = E[x0 | x_t]

What is left is p(y | x_t). With J the Jacobian of x0^ in x_t, whose products with vectors are one backward pass:

**PiGDM** (Song, Vahdat, Mardani & Kautz 2023) takes N(x0^, r^2 I) for x0 given x_t, so that y is N(A x0^, r^2 A A^T +
noise_std^2 I) and

    grad log p(y | x_t) = J^T A^T (r^2 A A^T + noise_std^2 I)^-1 (y - A x0^)

with r^2 = sigma^2 / (sigma^2 + alpha^2), the variance left of data of variance 1. It is exact for Gaussian data of
covariance c I with theirs, r^2 = c sigma^2 / (sigma^2 + c alpha^2). (sigma^2 / alpha) J is the covariance of x0 given
x_t; where alpha = 0 it cannot be had from J, and r^2 I stands for it. The paper's further weight on the gradient, which
belongs to its sampler, is left out: this is the posterior itself, for any solver.

**DPS** (Chung et al. 2023, algorithm 1) goes down the gradient of the residual's norm after every step of the chain:

    x_nxt <- x_nxt - (scale / |y - A x0^|) grad |y - A x0^|^2

one norm for each sample. As the mean of x_nxt holds A_step x0 (`core.gaussian`), this is the same as an estimate of x0
that is lower by the gradient over A_step: the same samples from the whole chain with `Ancestral`, and as much guidance
for each unit of time from any other solver and grid. It suits many steps: few ones overshoot.

Clip goes around these, never inside: a clipped estimate has no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import posterior_weights
from unsteep.core.level import NoiseLevel, like
from unsteep.denoiser import Denoise
from unsteep.inverse.operators import LinearOperator, Mask


def unit_variance(level: NoiseLevel) -> Tensor:
    """sigma^2 / (sigma^2 + alpha^2), the variance of x0 given x_t for data N(0, I)."""
    return (level.sigma / level.scale) ** 2


@dataclass(frozen=True)
class PiGDM:
    """`denoise` given y (b or 1, ...), which `operator` measured with noise of `noise_std`; a call each, and its
    backward pass. `r2`: the variance of x0 given x_t at a level (see the module)."""

    denoise: Denoise
    operator: LinearOperator
    y: Tensor
    noise_std: float = 0.0
    r2: Callable[[NoiseLevel], Tensor] = unit_variance

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        x, estimate, x0, residual = _traced(self.denoise, self.operator, self.y, x_t, level)
        r2 = like(self.r2(level), x_t)
        pull = self.operator.adjoint(self.operator.solve(residual, self.noise_std**2 / r2)) / r2
        at = level.like(x_t)
        some = at.alpha > 0
        through = at.sigma**2 / torch.where(some, at.alpha, 1) * _pulled_back(x0, x, pull)
        return estimate.replace_x0(x0.detach() + torch.where(some, through, r2 * pull))


@dataclass(frozen=True)
class DPS:
    """`denoise` drawn towards y (b or 1, ...), which `operator` measured. `previous`: the level one step of the chain
    before a level, as `Denoiser.previous`. `scale`: the length of the paper's step, 0.3 to 1 there."""

    denoise: Denoise
    operator: LinearOperator
    y: Tensor
    previous: Callable[[NoiseLevel], NoiseLevel]
    scale: float = 1.0

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        x, estimate, x0, residual = _traced(self.denoise, self.operator, self.y, x_t, level)
        norm = residual.flatten(1).norm(dim=1).clamp(min=torch.finfo(x_t.dtype).tiny)  # no residual asks for nothing
        descent = 2 * _pulled_back(x0, x, self.operator.adjoint(residual / like(norm, x_t)))
        a_step, _ = posterior_weights(level, self.previous(level))
        return estimate.replace_x0(x0.detach() + like(self.scale / a_step, x_t) * descent)


@dataclass(frozen=True)
class Kept:
    """`denoise` with the known pixels of x0 (b or 1, c, h, w) put in its estimate: exact, bit for bit, in what a solver
    ends with whose last step is the denoiser. `paste` makes sure of it for any."""

    denoise: Denoise
    mask: Mask
    x0: Tensor

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        estimate = self.denoise(x_t, level)
        return estimate.replace_x0(self.paste(estimate.x0))

    def paste(self, x: Tensor) -> Tensor:
        """x (b, c, h, w) with the known pixels of x0."""
        return torch.where(self.mask.on(x), self.x0.to(x), x)


def _traced(
    denoise: Denoise, operator: LinearOperator, y: Tensor, x_t: Tensor, level: NoiseLevel
) -> tuple[Tensor, Estimate, Tensor, Tensor]:
    """A copy x of x_t that a gradient can be taken in, the estimate there (without one), its x0 (with one), and the
    residual y - A x0 (without)."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        estimate = denoise(x, level)
        x0 = estimate.x0
    measured = operator.forward(x0.detach())
    if y.ndim != measured.ndim or y.shape[1:] != measured.shape[1:] or len(y) not in (1, len(measured)):
        raise ValueError(
            f"y: expected a measurement of shape {tuple(measured.shape)}, or one for all, got {tuple(y.shape)}; "
            f"make it with the operator's forward"
        )
    return x, _detached(estimate, x_t), x0, y.to(measured) - measured


def _detached(estimate: Estimate, x_t: Tensor) -> Estimate:
    fraction, log_variance = (
        None if learned is None else learned.detach() for learned in (estimate.variance_fraction, estimate.log_variance)
    )
    return replace(
        estimate, value=estimate.value.detach(), x_t=x_t, variance_fraction=fraction, log_variance=log_variance
    )


def _pulled_back(x0: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """J^T v for J = d x0 / d x."""
    (product,) = torch.autograd.grad(x0, x, v)
    return product
