"""The variational bound, term by term (Ho et al. 2020, eq. 5): -log p(x0) <= L_T + sum_t L_{t-1} + L_0.

    L_T      KL(q(x_T | x0) || N(0, (alpha_T^2 + sigma_T^2) I))      prior
    L_{t-1}  KL(q(x_nxt | x_now, x0) || p(x_nxt | x_now))            kl, one for each pair of levels but the last
    L_0      -log p(x0 | x_now) at the last pair                     decoder

with x_now ~ q(x_now | x0) drawn anew for every term. Any grid of levels has a bound of its own; the model is the
chain of that grid. Everything is in nats per example, bits per dimension only where a method says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import Gaussian, Variance, kl, step_term
from unsteep.core.level import NoiseLevel, add_noise, like, wide
from unsteep.core.precision import arithmetic
from unsteep.denoiser import Denoise
from unsteep.likelihood.decoder import Decoder


class Normals(Protocol):
    """Where the bound takes its noise from: a NoiseSource, or quadrature nodes."""

    def normal(self, like: Tensor, draw: int) -> Tensor: ...


@dataclass(frozen=True)
class BoundTerms:
    """The terms of the bound for b examples, float64, nats, on the CPU where the device has no float64.

    `prior` (b,), `kl` (b, k), `decoder` (b,). `steps` (k,) or (b, k): which pairs of the grid the columns of `kl` are,
    0 the noisiest; `weights` (k,): what each counts in the sum, 1 unless terms were sub-sampled. `distortion`
    (b, k + 1): the mean squared error of the x0 estimate at the `now` of those pairs and, last, of the decoder's.
    `dimensions` (b,): numbers in each example, padding apart.
    """

    prior: Tensor
    kl: Tensor
    decoder: Tensor
    steps: Tensor
    weights: Tensor
    distortion: Tensor
    dimensions: Tensor

    def total(self) -> Tensor:
        """The bound on -log p(x0): nats, (b,)."""
        return self.prior + (self.kl * self.weights).sum(1) + self.decoder

    def bits_per_dim(self) -> Tensor:
        """The bound in bits per dimension, (b,)."""
        return self.per_dim(self.total())

    def per_dim(self, nats: Tensor) -> Tensor:
        """Nats of each example, (b, ...), in bits per dimension."""
        return nats / like(self.dimensions * math.log(2), nats)

    @staticmethod
    def of_examples(parts: Sequence[BoundTerms]) -> BoundTerms:
        """The bound of all examples from those of successive batches of them."""
        check_some(parts)
        first = parts[0]
        return replace(
            first,
            prior=torch.cat([p.prior for p in parts]),
            kl=torch.cat([p.kl for p in parts]),
            decoder=torch.cat([p.decoder for p in parts]),
            steps=first.steps if first.steps.ndim == 1 else torch.cat([p.steps for p in parts]),
            distortion=torch.cat([p.distortion for p in parts]),
            dimensions=torch.cat([p.dimensions for p in parts]),
        )

    @staticmethod
    def of_draws(parts: Sequence[BoundTerms]) -> BoundTerms:
        """The mean of bounds of the same examples with independent noise: every term averaged, or, where each
        sub-sampled terms of its own, all of them with a smaller weight."""
        check_some(parts)
        n, first = len(parts), parts[0]
        decoder = torch.stack([p.decoder for p in parts]).mean(0)
        if first.steps.ndim == 1:
            kl, distortion = (torch.stack([getattr(p, name) for p in parts]).mean(0) for name in ("kl", "distortion"))
            return replace(first, kl=kl, decoder=decoder, distortion=distortion)
        last = torch.stack([p.distortion[:, -1:] for p in parts]).mean(0)
        return replace(
            first,
            kl=torch.cat([p.kl for p in parts], 1),
            decoder=decoder,
            steps=torch.cat([p.steps for p in parts], 1),
            weights=torch.cat([p.weights for p in parts]) / n,
            distortion=torch.cat([*(p.distortion[:, :-1] for p in parts), last], 1),
        )


@arithmetic()
def bound(
    denoise: Denoise,
    x0: Tensor,
    levels: NoiseLevel,
    decoder: Decoder,
    variance: Variance,
    noise: Normals,
    steps: Tensor | None = None,
    weights: Tensor | None = None,
) -> BoundTerms:
    """Every term for x0 (b, ...), over `levels`, noise first and clean last, with one draw of noise a term.

    `variance`: that of the model's steps. `steps` (k,) or (b, k) int64: only these pairs of the len(levels) - 2 with a
    KL, and `weights` (k,) what each stands for (see `strata` and `spread`); default, all of them alike. Draw j of
    `noise` is column j's. Padding, by the `valid` of the estimates, has no part in any number.
    """
    check_some(x0)
    pairs = len(levels) - 2
    chosen = torch.arange(pairs) if steps is None else steps
    columns = chosen.shape[-1]
    if weights is None:
        weights = torch.full((columns,), pairs / max(1, columns), dtype=torch.float64)
    terms, errors = [], []

    def estimated(level: NoiseLevel, draw: int) -> Estimate:
        estimate = denoise(add_noise(x0, noise.normal(x0, draw=draw), level), level)
        errors.append(masked.mean(wide((estimate.x0 - x0) ** 2), estimate.valid))
        return estimate

    with torch.no_grad():
        for column in range(columns):
            pair = chosen[..., column]
            estimate = estimated(levels[pair], column)
            terms.append(_sum(step_term(x0, estimate, levels[pair + 1], variance), estimate.valid))
        estimate = estimated(levels[-2], columns)
        last = _sum(-decoder.log_prob(x0, estimate, levels, variance), estimate.valid)
        prior = prior_term(x0, levels[0], estimate.valid)
    return BoundTerms(
        prior=prior,
        kl=torch.stack(terms, 1) if terms else prior.new_zeros(len(x0), 0),
        decoder=last,
        steps=chosen,
        weights=weights.to(prior),
        distortion=torch.stack(errors, 1),
        dimensions=wide(masked.count(x0, estimate.valid)),
    )


def check_some(examples: Sequence[object] | Tensor) -> None:
    """ValueError where there are no examples to be measured."""
    if not len(examples):
        raise ValueError("examples: expected at least one to measure, got none; see where they come from")


def strata(levels: NoiseLevel, terms: int) -> Tensor:
    """The pairs of a grid with a KL cut into `terms` strata of nearly equal width in log-SNR, each of at least one
    pair: int64 (terms + 1,), where each begins and the last ends.

    Terms of one stratum are alike, and most of the bits lie near the clean end, where the log-SNR changes fastest.
    """
    pairs = len(levels) - 2
    assert 1 <= terms <= pairs
    logsnr = levels.logsnr[: pairs + 1].clamp(min=float(levels.logsnr[1]) - 1)  # a grid may begin at -inf
    ideal = torch.linspace(float(logsnr[0]), float(logsnr[-1]), terms + 1, dtype=torch.float64)
    edges = torch.searchsorted(logsnr.contiguous(), ideal)
    edges[0], edges[-1] = 0, pairs
    for i in range(1, terms):
        edges[i] = edges[i].clamp(int(edges[i - 1]) + 1, pairs - terms + i)
    return edges


def spread(u: Tensor, edges: Tensor) -> Tensor:
    """One pair of each stratum for each example, at the same place in every one: int64 (b, terms), for u (b,) in (0,
    1).

    Within its stratum every pair is as likely as any other: weighted by the strata's lengths the sum is unbiased.
    """
    return edges[:-1] + (u[:, None] * edges.diff()).long()


def prior_term(x0: Tensor, first: NoiseLevel, valid: Tensor | None = None) -> Tensor:
    """L_T: KL(q(x_T | x0) || N(0, (alpha^2 + sigma^2) I)) in nats, float64 (b,)."""
    x0 = wide(x0)
    at = first.like(x0)
    q = Gaussian(at.alpha * x0, (at.sigma**2).expand_as(x0))
    p = Gaussian(torch.zeros_like(x0), like(first.scale, x0) ** 2)
    return _sum(kl(q, p), valid)


def _sum(term: Tensor, valid: Tensor | None) -> Tensor:
    """Elements to examples, accumulated in float64."""
    return masked.sum(wide(term), valid)
