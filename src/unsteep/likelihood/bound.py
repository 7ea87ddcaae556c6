"""The variational bound, term by term (Ho et al. 2020, eq. 5): -log p(x0) <= L_T + sum_t L_{t-1} + L_0.

    L_T      KL(q(x_T | x0) || N(0, (alpha_T^2 + sigma_T^2) I))      prior
    L_{t-1}  KL(q(x_nxt | x_now, x0) || p(x_nxt | x_now))            kl, one for each pair of levels but the last
    L_0      -log p(x0 | x_now) at the last pair                     decoder

with x_now ~ q(x_now | x0) drawn anew for every term. Any grid of levels has a bound of its own; the model is the chain of
that grid. Everything is in nats per example, bits per dimension only where a method says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unsteep.core.gaussian import Gaussian, Variance, kl, step_term
from unsteep.core.level import NoiseLevel, add_noise, like
from unsteep.denoiser import Denoise
from unsteep.likelihood.decoder import Decoder


class Normals(Protocol):
    """Where the bound takes its noise from: a NoiseSource, or quadrature nodes."""

    def normal(self, like: Tensor, draw: int) -> Tensor: ...


@dataclass(frozen=True)
class Bound:
    """The terms of the bound for b examples, float64, nats.

    `prior` (b,), `kl` (b, k), `decoder` (b,). `steps` (k,): which pairs of the grid the columns of `kl` are, 0 the noisiest;
    `weights` (k,): what each counts in the sum, 1 unless terms were sub-sampled. `distortion` (b, k + 1): the mean squared
    error of the x0 estimate at the `now` of those pairs and, last, of the decoder's. `dimensions`: numbers in an example.
    """

    prior: Tensor
    kl: Tensor
    decoder: Tensor
    steps: Tensor
    weights: Tensor
    distortion: Tensor
    dimensions: int

    def total(self) -> Tensor:
        """The bound on -log p(x0): nats, (b,)."""
        return self.prior + self.kl @ self.weights + self.decoder

    def bits_per_dim(self) -> Tensor:
        """The bound in bits per dimension, (b,)."""
        return self.total() / (self.dimensions * math.log(2))


def bound(
    denoise: Denoise,
    x0: Tensor,
    levels: NoiseLevel,
    decoder: Decoder,
    variance: Variance,
    noise: Normals,
    steps: Tensor | None = None,
) -> Bound:
    """Every term for x0 (b, ...), over `levels`, noise first and clean last, with one draw of noise a term.

    `variance`: that of the model's steps. `steps` (k,) int64: only these pairs of the len(levels) - 2 with a KL, uniformly
    chosen by the caller; their weights make the sum unbiased. Draw i of `noise` is pair i's.
    """
    pairs = len(levels) - 2
    chosen = torch.arange(pairs) if steps is None else steps
    terms, errors = [], []
    with torch.no_grad():
        for i in [*chosen.tolist(), pairs]:
            now, nxt = levels[i], levels[i + 1]
            estimate = denoise(add_noise(x0, noise.normal(x0, draw=i), now), now)
            errors.append(((estimate.x0 - x0) ** 2).flatten(1).double().mean(1))
            if i < pairs:
                terms.append(_sum(step_term(x0, estimate, nxt, variance)))
            else:
                last = _sum(-decoder.log_prob(x0, estimate, levels, variance))
        prior = prior_term(x0, levels[0])
    return Bound(
        prior=prior,
        kl=torch.stack(terms, 1) if terms else prior.new_zeros(len(x0), 0),
        decoder=last,
        steps=chosen,
        weights=torch.full((len(chosen),), pairs / max(1, len(chosen)), dtype=torch.float64, device=prior.device),
        distortion=torch.stack(errors, 1),
        dimensions=x0[0].numel(),
    )


def prior_term(x0: Tensor, first: NoiseLevel) -> Tensor:
    """L_T: KL(q(x_T | x0) || N(0, (alpha^2 + sigma^2) I)) in nats, float64 (b,)."""
    x0 = x0.double()
    at = first.like(x0)
    q = Gaussian(at.alpha * x0, (at.sigma**2).expand_as(x0))
    p = Gaussian(torch.zeros_like(x0), like(first.scale, x0) ** 2)
    return _sum(kl(q, p))


def _sum(term: Tensor) -> Tensor:
    """Elements to examples, accumulated in float64."""
    return term.double().flatten(1).sum(1)
