"""The probability-flow equation with its linear part integrated exactly.

With l = log(alpha / sigma), half the log-SNR, and scale^2 = alpha^2 + sigma^2, every schedule's flow is one of

    x0     d(x / sigma) / dl =  e^l x0                DPM-Solver++ (Lu et al. 2022b)
    eps    d(x / alpha) / dl = -e^-l eps              DPM-Solver (Lu et al. 2022a), DEIS (Zhang & Chen 2023)
    v      d(x / scale) / dl = -v / (2 cosh l)        the angle phi = atan(sigma / alpha) as time: d/dphi = v

so that a step from `now` to `nxt`, with the term interpolated by a polynomial through its values at some nodes, is

    x_nxt = carried x_now + sum_i weight_i value_i

Where one end lies at infinity, the step is DDIM's: from alpha = 0 in the form of x0, to sigma = 0 the denoiser itself.

Two rules for grids with a step much longer than those before it, as the last of a grid even in t; neither is met where
steps are refined. Values are extrapolated by as many nodes as keep sum |weight| <= 2 k |sum weight| for k nodes: beyond
it, errors in them grow more than the formula gains. And where alpha grows e^5-fold, stages between are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like

Form = Literal["x0", "eps", "v"]
LONG = 5.0  # in l: a difference of two eps counts e^5 times in x
POINTS, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(32))


def at_an_end(now: NoiseLevel, nxt: NoiseLevel) -> bool:
    """Whether the step begins without signal or ends without noise."""
    return bool(now.alpha == 0) or bool(nxt.sigma == 0)


def overlong(now: NoiseLevel, nxt: NoiseLevel) -> bool:
    """Whether alpha / sigma grows more than LONG allows in one step."""
    return float(half_logsnr(nxt) - half_logsnr(now)) > LONG


def first_order(estimate: Estimate, nxt: NoiseLevel) -> Tensor:
    """alpha_nxt x0 + sigma_nxt eps: DDIM's step, which every form is to first order, finite at both ends."""
    x = estimate.x_t
    if bool(nxt.sigma == 0):
        return like(nxt.alpha, x) * estimate.x0
    return like(nxt.alpha, x) * estimate.x0 + like(nxt.sigma, x) * estimate.eps


def half_logsnr(level: NoiseLevel) -> Tensor:
    """l = log(alpha / sigma)."""
    return level.logsnr / 2


def weights(
    form: Form,
    nodes: Sequence[Tensor],
    now: NoiseLevel,
    nxt: NoiseLevel,
    variable: Callable[[Tensor], Tensor] = lambda half: half,
) -> Tensor:
    """The weights (k,), float64, of the values at `nodes` (k values of l), for the polynomial through them in
    `variable`(l): its exact integral over the step, by Gauss-Legendre quadrature."""
    start, end = half_logsnr(now), half_logsnr(nxt)
    half = (start + end) / 2 + (end - start) / 2 * POINTS
    match form:
        case "x0":
            kernel = nxt.alpha * torch.exp(half - end)
        case "eps":
            kernel = -nxt.sigma * torch.exp(end - half)
        case "v":
            kernel = -nxt.scale / (2 * torch.cosh(half))
    basis = lagrange(variable(torch.stack([*nodes])), variable(half))
    return (end - start) / 2 * (basis * kernel) @ WEIGHTS


def steady(weigh: Callable[[Sequence[Tensor]], Tensor], nodes: Sequence[Tensor]) -> Tensor:
    """weigh(the last k nodes), (k,), for the largest k whose weights do not make more of errors than of values."""
    for k in range(len(nodes), 1, -1):
        shares = weigh(nodes[-k:])
        if bool(shares.abs().sum() <= 2 * k * shares.sum().abs()):
            return shares
    return weigh(nodes[-1:])


def lagrange(nodes: Tensor, places: Tensor) -> Tensor:
    """The values (k, p, ...) at `places` (p, ...) of the k polynomials that are 1 at one of k nodes and 0 at the
    others. `nodes` (k,), or (k, p): others for each row of places."""
    nodes = nodes.reshape(*nodes.shape, *(1,) * (places.ndim - nodes.ndim + 1))
    polynomials = []
    for j, node in enumerate(nodes):
        others = [other for i, other in enumerate(nodes) if i != j]
        above = math.prod((places - other for other in others), start=torch.ones_like(places))
        polynomials.append(above / math.prod((node - other for other in others), start=torch.ones_like(node)))
    return torch.stack(polynomials)


def combine(x: Tensor, kept: Tensor, values: Sequence[Tensor], shares: Tensor) -> Tensor:
    """kept x + sum_i shares_i values_i: the step itself."""
    out = like(kept, x) * x
    for share, value in zip(shares, values, strict=True):
        out = out + like(share, x) * value
    return out


def advance(estimate: Estimate, nxt: NoiseLevel, here: Tensor, others: Sequence[Tensor], shares: Tensor) -> Tensor:
    """The same step in the form of x0 or eps, from the estimate's value `here` and the `shares` of `others`: DDIM's
    step, and what they say beyond `here`. Where alpha grows a thousandfold, single precision keeps more digits so."""
    out = first_order(estimate, nxt)
    for share, value in zip(shares, others, strict=True):
        out = out + like(share, out) * (value - here)
    return out
