"""Diagonal Gaussians, and the forward and reverse steps between two noise levels written with them.

For a step from `now` to the cleaner `nxt` (Ho et al. 2020, eq. 6 and 7, on any pair of levels):

    q(x_nxt | x_now, x0) = N(A x0 + B x_now, beta_tilde)
    A = alpha_nxt beta / sigma_now^2,      B = (alpha_now / alpha_nxt) (sigma_nxt / sigma_now)^2

The model's step p(x_nxt | x_now) puts its estimate of x0 in the same mean, with a variance of one's choice. Its term of
the bound, L_{t-1} = KL(q || p), and the last term L_0, an integral over each data value's bin, are in nats per element.
At nxt.sigma = 0 the posterior is the point alpha_nxt x0, by the same formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unsteep.core.arguments import kind, shown
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, level_of, like, paired, step_variances

Variance = Literal["beta", "beta_tilde", "learned"] | Callable[[NoiseLevel, NoiseLevel], Tensor]
ReverseVariance = Literal["beta", "beta_tilde", "learned", "optimal"]  # by name; optimal: of a measured error


@dataclass(frozen=True)
class Gaussian:
    """N(mean, variance), elementwise independent. `variance` broadcasts with `mean` (b, ...) and may be 0."""

    mean: Tensor
    variance: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density at x in nats per element, shape of x."""
        return -0.5 * ((x - self.mean) ** 2 / self.variance + self.variance.log() + math.log(2 * math.pi))

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std noise, for a standard normal `noise`."""
        return self.mean + self.variance.sqrt() * noise


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats per element, broadcast over both."""
    excess = q.variance / p.variance - 1  # small on long chains: next to a 1, the other terms would lose their digits
    return 0.5 * ((q.mean - p.mean) ** 2 / p.variance + excess - torch.log1p(excess))


def posterior_weights(now: NoiseLevel, nxt: NoiseLevel) -> tuple[Tensor, Tensor]:
    """(A, B) of the posterior's mean A x0 + B x_now, float64, of the levels' shape."""
    beta, _ = step_variances(now, nxt)
    return nxt.alpha * beta / now.sigma**2, now.alpha / nxt.alpha * (nxt.sigma / now.sigma) ** 2


def posterior(x0: Tensor, x_t: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Gaussian:
    """q(x_nxt | x_now = x_t, x0): where a step backwards should land, if x0 were known. x0, x_t: (b, ...)."""
    paired(x0=x0, x_t=x_t)
    if bool((level_of("now", now).sigma == 0).any()):
        raise ValueError("now: expected a noisy level, got clean data; there is nothing to step back from")
    a, b = posterior_weights(now, nxt)
    _, beta_tilde = step_variances(now, nxt)
    return Gaussian(like(a, x_t) * x0 + like(b, x_t) * x_t, like(beta_tilde, x_t))


def reverse(estimate: Estimate, nxt: NoiseLevel, variance: Variance = "beta", floor: Tensor | None = None) -> Gaussian:
    """p(x_nxt | x_now), the model's step from estimate.level to `nxt` (Ho et al. 2020, eq. 1 and section 3.2).

    `variance`: "beta" (optimal for x0 ~ N(0, I): beta itself where the variance of x is preserved), "beta_tilde"
    (optimal for one fixed x0), "learned" (the estimate's own), or a function of the two levels. `floor`: the variance
    to use where the chosen one is 0, as beta_tilde is at the last step.
    """
    kind("estimate", estimate, Estimate, "an estimate", "make one, as denoiser(x_t, level)")
    now, x_t = estimate.level, estimate.x_t
    mean = posterior(estimate.x0, x_t, now, nxt).mean
    if floor is not None and (not isinstance(floor, Tensor) or floor.layout != torch.strided or floor.is_complex()):
        raise ValueError(f"floor: expected a tensor, got {shown(floor)}; give the variance to use where it is 0")
    beta, beta_tilde = step_variances(now, nxt)
    beta = beta * (nxt.scale / now.scale) ** 2  # the step back is made at the scale of x_nxt
    if callable(variance) and not isinstance(variance, type):
        return Gaussian(mean, _floored(like(variance(now, nxt), x_t), floor))
    if isinstance(variance, str) and variance == "beta":
        return Gaussian(mean, _floored(like(beta, x_t), floor))
    if isinstance(variance, str) and variance == "beta_tilde":
        return Gaussian(mean, _floored(like(beta_tilde, x_t), floor))
    if not isinstance(variance, str) or variance != "learned":
        raise ValueError(
            f"variance: unknown variance {shown(variance)}; choose beta, beta_tilde, learned or a function of levels"
        )
    if estimate.log_variance is not None:
        return Gaussian(mean, estimate.log_variance.exp())
    if estimate.variance_fraction is None:
        raise ValueError(
            "this model learned no variance: its head gives only the mean; choose variance beta or beta_tilde"
        )
    low = _floored(like(beta_tilde, x_t), floor)
    fraction = estimate.variance_fraction
    return Gaussian(mean, low ** (1 - fraction) * like(beta, x_t) ** fraction)  # as powers: low may be 0


def step_term(x0: Tensor, estimate: Estimate, nxt: NoiseLevel, variance: Variance = "beta") -> Tensor:
    """L_{t-1} = KL(q(x_nxt | x_now, x0) || p(x_nxt | x_now)) in nats per element (Ho et al. 2020, eq. 5). nxt.sigma
    > 0."""
    return kl(posterior(x0, estimate.x_t, estimate.level, nxt), reverse(estimate, nxt, variance))


def decoder_log_prob(
    x0: Tensor,
    estimate: Estimate,
    levels: NoiseLevel,
    variance: Variance,
    *,
    values: int | None,
    convention: Literal["pair", "ho"] = "pair",
) -> Tensor:
    """log p(x0 | x_now), minus L_0, at the last pair of the grid `levels` (noise first, clean last); nats per element.

    beta_tilde is 0 there, so the variance is a choice. "pair": the pair's own beta wherever the model's variance is 0.
    "ho": as the code of Ho et al. 2020, beta_tilde of the pair before, also where the model's steps use beta. `values`:
    how many equally spaced values data take in [-1, 1], whose bins are integrated; None for the density at x0.
    """
    floor, _ = step_variances(levels[-2], levels[-1])
    floor = floor * (levels[-1].scale / levels[-2].scale) ** 2
    if convention == "ho":
        if len(levels) < 3:
            raise ValueError("decoder: Ho's variance is that of the pair before the last, and this grid has one pair")
        _, floor = step_variances(levels[-3], levels[-2])
        variance = "beta_tilde" if variance == "beta" else variance
    p = reverse(estimate, levels[-1], variance, floor=floor)
    return p.log_prob(x0) if values is None else discretized_log_prob(p, x0, values)


def optimal_variance(x0_error: Callable[[NoiseLevel], Tensor]) -> Callable[[NoiseLevel, NoiseLevel], Tensor]:
    """The reverse variance with the best bound, beta_tilde + A^2 E, for a denoiser whose mean squared x0 error is E.

    With a perfect denoiser E is the posterior variance of x0, and this is Analytic-DPM (Bao et al. 2022, theorem 1).
    """

    def variance(now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        _, beta_tilde = step_variances(now, nxt)
        a, _ = posterior_weights(now, nxt)
        return beta_tilde + a**2 * x0_error(now)

    return variance


def discretized_log_prob(p: Gaussian, x0: Tensor, levels: int = 256) -> Tensor:
    """log of p's mass on the bin of each value of x0, in nats per element (Ho et al. 2020, eq. 13).

    x0 holds values of a grid of `levels` equally spaced ones from -1 to 1; the outermost bins reach to infinity.
    Written with log-cdfs, so that a bin far in a tail has its true, very negative logarithm.
    """
    half = 1 / (levels - 1)
    std = p.variance.sqrt()
    upper = torch.where(x0 > 1 - half, torch.inf, (x0 + half - p.mean) / std)
    lower = torch.where(x0 < -1 + half, -torch.inf, (x0 - half - p.mean) / std)
    # By symmetry, look at every bin from its tail: the difference of two log-cdfs that are not both close to 0.
    flip = lower + upper > 0
    upper, lower = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return log_upper + torch.log(-torch.expm1(log_lower - log_upper))


def _floored(variance: Tensor, floor: Tensor | None) -> Tensor:
    return variance if floor is None else torch.where(variance > 0, variance, like(floor, variance))
