"""Moments, likelihoods and guidance against closed forms.

On data N(0, c) the terms of the bound are quadratic in (x0, eps), so that the nodes +-1 with equal weights give their
expectation to all digits, in four rows. The gaps were computed in float64 from the definitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.checks.mathematics import largest, real
from unsteep.checks.rows import Check, Row, below, holds, near, published
from unsteep.core.chains import LinearBetas
from unsteep.core.condition import Condition
from unsteep.core.estimate import PREDICTIONS, Estimate, target
from unsteep.core.gaussian import Gaussian, Variance, discretized_log_prob, optimal_variance, posterior
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Flow, Karras
from unsteep.guidance import ClassifierFree
from unsteep.likelihood import Decoder, bound, flow_log_prob
from unsteep.sampling import grid

CLEAN = NoiseLevel(*real(0, math.inf, 1, 0))
LABELLED = Mixture(
    torch.stack([real(-1, 0.4), real(1, -0.5), real(0.2, 0.9)]), real(0.2, 0.1, 0.3), labels=torch.tensor([0, 1, 1])
)


def moments() -> list[Check]:
    return [
        ("kinds", _kinds),
        ("posterior", _posterior),
        ("entropy", _entropies),
        ("gaps", _gaps),
        ("decoder", _decoder),
        ("flow", _flow),
        ("score", _score),
    ]


def _kinds() -> Iterator[Row]:
    """An estimate of every kind, exact, read as every other."""
    x0, eps = NoiseSource([0, 1]).normal(torch.empty(2, 4, 3, dtype=torch.float64), draw=0)
    apart = 0.0
    for schedule in (LinearBetas(), Flow(), Karras()):
        level = schedule(torch.linspace(0.1, 0.9, 4, dtype=torch.float64))
        x_t, scale = add_noise(x0, eps, level), float(level.scale.max())
        said = {kind: target(kind, x0, eps, level) for kind in PREDICTIONS}
        for kind in PREDICTIONS:
            estimate = Estimate(kind, said[kind], x_t, level)
            apart = max(apart, *(largest(estimate.as_(other) - said[other]) / scale for other in PREDICTIONS))
    yield below(f"error of {len(PREDICTIONS)} kinds, read as each other", 1e-11, apart)


def _posterior() -> Iterator[Row]:
    """x_nxt drawn from q(x_nxt | x_now, x0), for x_now from q(x_now | x0), has the moments of q(x_nxt | x0)."""
    chain, x0 = LinearBetas(), real(0.8)
    apart = 0.0
    for now, nxt in ((1000, 999), (700, 100), (2, 1), (1, 0)):
        at, to = chain.levels[now], chain.levels[nxt]
        mean = posterior(x0, at.alpha * x0, at, to)
        shifted = posterior(x0, at.alpha * x0 + at.sigma, at, to).mean - mean.mean
        apart = max(apart, largest(mean.mean - to.alpha * x0), largest(shifted**2 + mean.variance - to.sigma**2))
    yield below("error of moments by the posterior", 1e-12, apart)


def _entropies() -> Iterator[Row]:
    """With the optimal variance the bound is the entropy, on any grid."""
    for c, entropy in ((0.25, 1.047096), (1.0, 2.047096)):
        optimal = optimal_variance(partial(_unknown, c))
        for steps in (2, 100):
            got = _bound(c, grid(LinearBetas(), steps), Decoder(levels=None), optimal)
            yield near(f"bound of N(0, {c:g}), optimal, {steps}", entropy, 1e-5, got)


def _unknown(c: float, level: NoiseLevel) -> Tensor:
    """The variance of x0 given x_t, for data N(0, c)."""
    return c * level.sigma**2 / (level.alpha**2 * c + level.sigma**2)


def _gaps() -> Iterator[Row]:
    """How far the bound on N(0, 0.25) lies above the entropy, in bits/dim, in both conventions for the decoder."""
    chain, entropy = LinearBetas(), 0.5 * math.log2(2 * math.pi * math.e * 0.25)
    for convention, variance, steps, expected in (
        ("pair", "beta", 100, "0.01558"),
        ("pair", "beta", 50, "0.03075"),
        ("pair", "beta_tilde", 100, "1.15346"),
        ("pair", "beta_tilde", 50, "1.15769"),
        ("ho", "beta", 1000, "0.16543"),
        ("ho", "beta", 50, "0.03142"),
        ("ho", "beta_tilde", 100, "13.818"),
        ("ho", "beta_tilde", 50, "41.81"),
    ):
        levels = grid(chain, steps, "trailing" if convention == "pair" else "linspace")
        decoder: Any = Decoder(levels=None, variance=convention)  # type: ignore[arg-type]
        got = _bound(0.25, levels, decoder, variance) - entropy  # type: ignore[arg-type]
        yield published(f"bound's gap, {variance}, {convention}, {steps}", expected, got)


def _bound(c: float, levels: NoiseLevel, decoder: Decoder, variance: Variance) -> float:
    """Expected bits/dim of data N(0, c) with the exact denoiser."""
    x0, eps = torch.cartesian_prod(real(-1, 1), real(-1, 1)).T[..., None]
    data = Mixture.gaussian(real(0), torch.tensor(c, dtype=torch.float64))
    return float(bound(data, math.sqrt(c) * x0, levels, decoder, variance, _Given(eps)).bits_per_dim().mean())


class _Given:
    """The same numbers whatever the draw."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers

    def normal(self, like: Tensor, draw: int) -> Tensor:
        return self.numbers


def _decoder() -> Iterator[Row]:
    values = torch.linspace(-1, 1, 256, dtype=torch.float64)
    apart = 0.0
    for mean, std in ((0.1, 0.3), (-0.99, 1e-3), (3.0, 0.5)):
        p = Gaussian(torch.full_like(values, mean), torch.full_like(values, std**2))
        apart = max(apart, abs(float(discretized_log_prob(p, values).exp().sum()) - 1))
    yield below("error of the decoder's total", 1e-12, apart)


def _flow() -> Iterator[Row]:
    """The flow's likelihood of a mixture in the plane, with the little noise of its cleanest level."""
    means, variances, weights = torch.stack([real(-1.5, 1), real(1.5, 0.3)]), real(0.4, 0.2), real(0.4, 0.6)
    schedule, x = LinearBetas().interpolated(), torch.stack([real(-1, 0.5), real(0.2, 0.2), real(2, 0.1)])
    mixture, first, end = Mixture(means, variances, weights), schedule.inverse(9.0), schedule(1.0)
    noisy = Mixture(means, variances + (first.sigma / first.alpha) ** 2, weights)
    got = flow_log_prob(mixture, x, schedule, first=first, prior=lambda at: mixture.log_prob(at, end), tolerance=1e-7)
    yield below("error of the flow's log-likelihood", 1e-6, largest(got.log_prob - noisy.log_prob(x, CLEAN)))
    places = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    line = Mixture(means[:, :1], variances, weights).log_prob(places[:, None], schedule(0.4)).exp()
    yield below("error of a mixture's total", 1e-9, float(torch.trapezoid(line, places)) - 1)


def _score() -> Iterator[Row]:
    """The score of the posterior mean is the gradient of the log-density (Tweedie's formula)."""
    x, level, _ = _labelled()
    yield below("error of score = gradient of log q", 1e-10, largest(LABELLED(x, level).score - _gradient(x, level)))


def guidance() -> list[Check]:
    return [("classifier-free guidance", _classifier_free)]


def _classifier_free() -> Iterator[Row]:
    x, level, condition = _labelled()
    calls: list[int] = []

    def told(x_t: Tensor, level: NoiseLevel, condition: Condition) -> Estimate:
        calls.append(len(x_t))
        return LABELLED(x_t, level, condition)

    for scale, name, chosen in ((1.0, "conditional", condition), (0.0, "unconditional", condition.null())):
        same = torch.equal(ClassifierFree(told, condition, scale)(x, level).value, LABELLED(x, level, chosen).value)
        same = same and calls == [len(x)]
        yield holds(f"scale {scale:g} is {name}, in one call", "bit-equal", "bit-equal" if same else "other", same)
        calls.clear()
    free, bound_to = _gradient(x, level), _gradient(x, level, condition)
    for scale in (0.5, 3.0):
        exact = free + scale * (bound_to - free)
        error = largest(ClassifierFree(LABELLED, condition, scale)(x, level).score - exact)
        yield below(f"error of the score at scale {scale:g}", 1e-9, error)


def _labelled() -> tuple[Tensor, NoiseLevel, Condition]:
    x = NoiseSource(range(6)).normal(torch.empty(6, 2, dtype=torch.float64), draw=0)
    return x, LinearBetas()(0.4), Condition(label=torch.tensor([0, 1, 0, 1, 0, 1]))


def _gradient(x: Tensor, level: NoiseLevel, condition: Condition | None = None) -> Tensor:
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(LABELLED.log_prob(leaf, level, condition).sum(), leaf)
    return gradient
