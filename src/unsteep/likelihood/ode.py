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
from torch import Tensor

from unsteep.core.chains import Chain
from unsteep.core.level import NoiseLevel, like
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Schedule, steps_of
from unsteep.denoiser import Denoise


@dataclass(frozen=True)
class FlowLikelihood:
    """`log_prob` (b,) of a density, nats, float64; `latent` (b, ...), where each x ends at the noisiest level; `nfe`,
    network evaluations for each example, rejected steps included."""

    log_prob: Tensor
    latent: Tensor
    nfe: int


def flow_log_prob(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    *,
    divergence: Literal["exact", "hutchinson"] = "exact",
    noise: NoiseSource | None = None,
    tolerance: float = 1e-5,
    first: NoiseLevel | None = None,
    prior: Callable[[Tensor], Tensor] | None = None,
) -> FlowLikelihood:
    """log p(x) for continuous data x (b, ...), dequantized where the data are discrete. A chain is interpolated.

    `first`: the cleanest level, default t = 1/1000 or step 1 of a chain; the answer is the density of data with that
    little noise. `noise`: for Hutchinson's signs. `prior`: log-density of x at t = 1 if it is not the standard one.
    """
    if isinstance(schedule, Chain):
        schedule = schedule.interpolated()
    low = schedule(1 / steps_of(schedule)) if first is None else first
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

    def field(u: float, state: Tensor) -> Tensor:
        """(dY/du, divergence) for a state (b, d + 1) of Y and the integral."""
        level = schedule.inverse(-2 * u)
        with torch.enable_grad():
            flat = state[:, :-1].detach().requires_grad_(True)
            speed = level.alpha * level.sigma / level.scale**2
            x_t = (like(level.scale, flat) * flat).reshape(x.shape)
            slope = like(speed, flat) * denoise(x_t, level).v.flatten(1)
            trace = _exact(slope, flat) if signs is None else _hutchinson(slope, flat, signs.flatten(1))
        return torch.cat([slope.detach(), trace.detach()[:, None]], 1)

    d = x[0].numel()
    clean, noisy = float(low.scale / low.alpha), float(high.scale)  # x has the scale of data: alpha = 1
    start = torch.cat([x.flatten(1) / clean, x.new_zeros(len(x), 1)], 1)
    end, nfe = integrate(field, start, -float(low.logsnr) / 2, -float(high.logsnr) / 2, tolerance)
    latent = (noisy * end[:, :-1]).reshape(x.shape)
    if prior is None:
        log_p = -0.5 * ((end[:, :-1] ** 2).sum(1) + d * math.log(2 * math.pi))
    else:
        log_p = prior(latent) + d * math.log(noisy)
    return FlowLikelihood((log_p - d * math.log(clean) + end[:, -1]).double(), latent, nfe)


def dequantize(x: Tensor, levels: int, noise: NoiseSource) -> tuple[Tensor, float]:
    """x, on a grid of `levels` values from -1 to 1, with uniform noise over each value's bin; and the log-volume of
    one element's bin, which turns a density into a lower bound on a probability: log P(x) >= E[log p(x + u)] + d
    log_volume."""
    width = 2 / (levels - 1)
    return x + width * (noise.uniform(x, draw=1) - 0.5), math.log(width)


def integrate(
    field: Callable[[float, Tensor], Tensor], y: Tensor, start: float, end: float, tolerance: float
) -> tuple[Tensor, int]:
    """y(end) of dy/du = field(u, y) from y(start), by Dormand & Prince 1980, and the evaluations it took.

    A step is accepted if the worst example's error, RMS relative to tolerance (1 + |y|), is at most 1; the next
    step's size follows a PI controller (Hairer, Norsett & Wanner 1993, section IV.2). ValueError if 10,000 steps do
    not suffice, or no step is short enough.
    """
    u, size, last, nfe = start, (end - start) / 100, 1.0, 1
    slope = field(u, y)
    for _ in range(10_000):
        size = min(size, end - u)
        if u + size == u:
            break
        slopes = [slope]
        for c, row in _STAGES:
            slopes.append(field(u + c * size, y + size * _combine(row, slopes)))
        nfe += len(_STAGES)
        new = y + size * _combine(_STAGES[-1][1], slopes)
        scale = tolerance * (1 + torch.maximum(y.abs(), new.abs()))
        error = float(((size * _combine(_ERROR, slopes) / scale) ** 2).mean(1).sqrt().max())
        if error <= 1:
            u, y, slope = u + size, new, slopes[-1]
            if u >= end:
                return y, nfe
            size *= min(5.0, 0.9 * max(error, 1e-8) ** -0.14 * last**0.08)
            last = max(error, 1e-4)
        else:
            size *= max(0.2, 0.9 * error**-0.2)
    raise ValueError(
        f"the flow could not be integrated beyond log sigma/alpha = {u:.3f} of {end:.3f} in 10,000 steps or by the "
        f"shortest ones; raise the tolerance"
    )


_STAGES: tuple[tuple[float, tuple[float, ...]], ...] = (
    (1 / 5, (1 / 5,)),
    (3 / 10, (3 / 40, 9 / 40)),
    (4 / 5, (44 / 45, -56 / 15, 32 / 9)),
    (8 / 9, (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729)),
    (1.0, (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656)),
    (1.0, (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def _combine(row: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return sum((a * k for a, k in zip(row, slopes, strict=False) if a), start=torch.zeros_like(slopes[0]))


def _exact(slope: Tensor, x: Tensor) -> Tensor:
    columns = [torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])]
    return torch.stack(columns, 1).sum(1)


def _hutchinson(slope: Tensor, x: Tensor, signs: Tensor) -> Tensor:
    (product,) = torch.autograd.grad((slope * signs).sum(), x)
    return (product * signs).sum(1)
