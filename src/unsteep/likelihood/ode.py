"""Exact likelihood by the probability-flow equation (Song et al. 2021, appendix D; Chen et al. 2018).

In coordinates Y = x / sqrt(alpha^2 + sigma^2) the flow of every schedule is

    dY/du = alpha sigma / (alpha^2 + sigma^2) v,        u = log(sigma / alpha)
    log p(Y_0) = log p(Y_1) + integral of div_Y(dY/du) du

from the data, at a small sigma, to the prior N(0, I) at the noisiest level; at both ends Y hardly moves, and steps are
long. The divergence is exact (one gradient a dimension) or Hutchinson's estimate with fixed random signs. The integral
is taken with the Dormand-Prince pair of order 5(4) and adaptive steps, all in the dtype of x: use float64 for exact
answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unsteep.core import masked, runge_kutta
from unsteep.core.level import NoiseLevel, like, wide
from unsteep.core.noise import NoiseSource
from unsteep.core.precision import arithmetic
from unsteep.core.schedules import Schedule, continuous, finite_range
from unsteep.denoiser import Denoise
from unsteep.likelihood.bound import check_some


@dataclass(frozen=True)
class FlowLikelihood:
    """`log_prob` (b,) of a density, nats, float64; `latent` (b, ...), where each x ends at the noisiest level; `nfe`,
    network evaluations for each example, rejected steps included."""

    log_prob: Tensor
    latent: Tensor
    nfe: int


@arithmetic()
def flow_log_prob(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    *,
    divergence: Literal["exact", "hutchinson"] = "exact",
    noise: NoiseSource | None = None,
    tolerance: float | None = None,
    first: NoiseLevel | None = None,
    prior: Callable[[Tensor], Tensor] | None = None,
) -> FlowLikelihood:
    """log p(x) for continuous data x (b, ...), dequantized where the data are discrete. A chain is interpolated.

    `first`: the cleanest level, default t = 1/1000 or step 1 of a chain; the answer is the density of data with that
    little noise. `tolerance` of a step: default 1e-8 in float64, which leaves a log_prob within 1e-6, and 1e-5 in other
    types, which hold no more digits. `noise`: for Hutchinson's signs. `prior`: log-density of x at t = 1 if it is not
    the standard one.
    """
    check_some(x)
    tolerance = (1e-8 if x.dtype == torch.float64 else 1e-5) if tolerance is None else tolerance
    schedule = continuous(schedule)
    low = schedule.inverse(finite_range(schedule)[1]) if first is None else first
    high = schedule(1.0)
    if float(high.alpha) == 0:
        high = schedule.inverse(-40.0)  # what is left of the data there, 2e-9 of it, moves no digit that is asked for
    signs = None
    if divergence == "hutchinson":
        if noise is None:
            raise ValueError(
                "noise: Hutchinson's estimate draws random signs; give a NoiseSource with a seed for each row"
            )
        signs = torch.sign(noise.normal(x, draw=0))
    valid: Tensor | None = None

    def field(u: float, state: Tensor) -> Tensor:
        """(dY/du, divergence) for a state (b, d + 1) of Y and the integral. Padding stays where it is."""
        nonlocal valid
        level = schedule.inverse(-2 * u)
        with torch.enable_grad():
            flat = state[:, :-1].detach().requires_grad_(True)
            speed = level.alpha * level.sigma / level.scale**2
            x_t = (like(level.scale, flat) * flat).reshape(x.shape)
            estimate = denoise(x_t, level)
            valid = estimate.valid
            slope = like(speed, flat) * masked.kept(estimate.v, valid).flatten(1)
            trace = _exact(slope, flat) if signs is None else _hutchinson(slope, flat, signs.flatten(1))
        return torch.cat([slope.detach(), trace.detach()[:, None]], 1)

    def norm(error: Tensor) -> Tensor:
        """Over what is valid of (b, d + 1), the integral among it."""
        if valid is None:
            return masked.rms(error)
        return masked.rms(error, F.pad(masked.mask(x, valid).flatten(1), (0, 1), value=True))

    clean, noisy = float(low.scale / low.alpha), float(high.scale)  # x has the scale of data: alpha = 1
    start = torch.cat([x.flatten(1) / clean, x.new_zeros(len(x), 1)], 1)
    end, nfe = integrate(field, start, -float(low.logsnr) / 2, -float(high.logsnr) / 2, tolerance, norm)
    y, d = end[:, :-1].reshape(x.shape), masked.count(x, valid).cpu().double()
    latent = noisy * y
    if prior is None:
        log_p = -0.5 * (masked.sum(y**2, valid) + (d * math.log(2 * math.pi)).to(x))
    else:
        log_p = prior(latent) + (d * math.log(noisy)).to(x)
    return FlowLikelihood(wide(log_p - (d * math.log(clean)).to(x) + end[:, -1]), latent, nfe)


def dequantize(x: Tensor, levels: int, noise: NoiseSource) -> tuple[Tensor, float]:
    """x, on a grid of `levels` values from -1 to 1, with uniform noise over each value's bin; and the log-volume of
    one element's bin, which turns a density into a lower bound on a probability: log P(x) >= E[log p(x + u)] + d
    log_volume."""
    width = 2 / (levels - 1)
    return x + width * (noise.uniform(x, draw=1) - 0.5), math.log(width)


def integrate(
    field: Callable[[float, Tensor], Tensor],
    y: Tensor,
    start: float,
    end: float,
    tolerance: float,
    norm: Callable[[Tensor], Tensor] = masked.rms,
) -> tuple[Tensor, int]:
    """y(end) of dy/du = field(u, y) from y(start), by the pair of Dormand & Prince 1980, and the evaluations it took.

    The worst example decides on the steps of all, to a tolerance of 1 + |y|. ValueError if 10,000 steps do not
    suffice, or no step is short enough.
    """
    first, last = (torch.tensor(u, dtype=torch.float64) for u in (start, end))
    pair = runge_kutta.DORMAND_PRINCE
    walk = runge_kutta.integrate(
        lambda u, y: field(float(u), y), y, first, last, pair, tolerance, max_calls=60_001, norm=norm
    )
    if bool(walk.lost):
        raise ValueError(
            f"the flow could not be integrated beyond log sigma/alpha = {float(walk.time):.3f} of {end:.3f} in 10,000 "
            f"steps or by the shortest ones; raise the tolerance"
        )
    return walk.y, int(walk.calls)


def _exact(slope: Tensor, x: Tensor) -> Tensor:
    columns = [torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])]
    return torch.stack(columns, 1).sum(1)


def _hutchinson(slope: Tensor, x: Tensor, signs: Tensor) -> Tensor:
    (product,) = torch.autograd.grad((slope * signs).sum(), x)
    return (product * signs).sum(1)
