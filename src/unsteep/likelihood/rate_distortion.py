"""Rate and distortion along the reverse process (Ho et al. 2020, section 4.3 and Table 4).

Whoever has received x_T and the steps down to x_t has paid L_T plus the KLs so far, and can show the estimate of x0
from x_t:

    rate(t)       = L_T + sum of L_{s-1} over the steps s already taken
    distortion(t) = sqrt(mean (x0 - x0_estimate(x_t))^2)

For Gaussian data N(0, c) with the exact denoiser and the optimal variance, the rate is the mutual information of x0
and x_t and the curve is the Gaussian rate-distortion function, R(D) = log(c / D^2) / 2, at every point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel
from unsteep.likelihood.bound import BoundTerms


@dataclass(frozen=True)
class RateDistortion:
    """`t` (k,) of the levels, noisiest first; `rate` (k,), bits per dimension paid on arriving there; `distortion`
    (k,), the root mean squared error of x0 in the model's units. Means over the examples, float64 on the CPU."""

    t: Tensor
    rate: Tensor
    distortion: Tensor


def rate_distortion(terms: BoundTerms, levels: NoiseLevel) -> RateDistortion:
    """The curve of a bound whose every term was computed over `levels`; ValueError if terms were left out."""
    if terms.steps.ndim != 1 or len(terms.steps) != len(levels) - 2:
        raise ValueError("rate and distortion need every term of the bound; do not sub-sample them")
    paid = torch.cat([terms.prior[:, None], terms.kl], 1).cumsum(1)
    return RateDistortion(levels.t[:-1], terms.per_dim(paid).mean(0).cpu(), terms.distortion.mean(0).sqrt().cpu())
