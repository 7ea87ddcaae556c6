"""Training on the variational bound (Ho et al. 2020, eq. 5), and on a mix of it and L_simple (Nichol & Dhariwal 2021,
eq. 16).

    Bound    T L_{t-1} at a random step t, or T L_0 at the first: an unbiased estimate of the bound without L_T
    Hybrid   L_simple + weight bound, where the bound's gradient reaches the learned variance alone

in nats per dimension. On a schedule that is no chain the steps have length 1/1000.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from unsteep.core import masked
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import decoder_log_prob, step_term
from unsteep.core.level import NoiseLevel, like, preserving_level
from unsteep.core.noise import Draw
from unsteep.core.schedules import steps_of
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser
from unsteep.objectives.loss import Loss
from unsteep.objectives.mse import Simple, estimated, weighted_error
from unsteep.objectives.times import AnyTimes, Uniform, WithTimes, corrected
from unsteep.objectives.weights import AnyWeight, Native

Which = Literal["beta", "beta_tilde", "learned"]
Values = int | Literal["data", "continuous"]
"""How many equally spaced values data take in [-1, 1]; "data": filled in by the run; "continuous": L_0 is a density."""


@dataclass(frozen=True, kw_only=True)
class Bound(WithTimes):
    """The variational bound. `variance`: that of the model's steps."""

    variance: Which = "beta"
    values: Values = "data"
    times: AnyTimes = field(default_factory=Uniform)

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        assert isinstance(module, Denoiser)
        t, correction = corrected(self.times, draw)
        estimate, _ = estimated(module, batch, t, draw)
        term = bound_term(module, estimate, batch, self.variance, self.values)
        return Loss(term * correction.to(term), t, {"bound": term})


@dataclass(frozen=True, kw_only=True)
class Hybrid(WithTimes):
    """L_simple for the mean and `scale` times the bound for a learned variance."""

    scale: float = 0.001
    values: Values = "data"
    weight: AnyWeight = field(default_factory=Native)
    times: AnyTimes = field(default_factory=Uniform)

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        assert isinstance(module, Denoiser)
        if not module.learn_variance:
            raise ValueError(
                "objective Hybrid trains a learned variance, and this model has none: set model.variance=learned"
            )
        t, correction = corrected(self.times, draw)
        estimate, eps = estimated(module, batch, t, draw)
        simple = weighted_error(module, estimate, batch, eps, self.weight)
        detached = replace(estimate, value=estimate.value.detach())
        term = bound_term(module, detached, batch, "learned", self.values)
        loss = (simple + self.scale * term) * correction.to(term)
        return Loss(loss, t, {"simple": simple, "bound": term})


AnyObjective = Simple | Bound | Hybrid


def fill_values(objective: AnyObjective, levels: int | None) -> AnyObjective:
    """The objective for data of so many values; None: continuous. Others than those on the bound come back as they
    are."""
    if isinstance(objective, Bound | Hybrid) and objective.values == "data":
        return replace(objective, values="continuous" if levels is None else levels)
    return objective


def needs_learned_variance(objective: AnyObjective) -> bool:
    """Whether the objective trains a variance that the model must have learned."""
    return isinstance(objective, Hybrid) or (isinstance(objective, Bound) and objective.variance == "learned")


def bound_term(module: Denoiser, estimate: Estimate, batch: Batch, variance: Which, values: Values) -> Tensor:
    """T times the example's term of the bound, nats per dimension, (b,): the KL of its step, or L_0 if the step ends
    clean.

    Rows of both kinds stand in one batch, so each formula is evaluated on all rows: on those of the other kind at an
    estimate and a level where it is finite. The decoder's variance, where the model's is 0, is the pair's own beta.
    """
    if values == "data":
        raise ValueError(
            "objective.values: state how many values the data take, or continuous; a run fills it from its data"
        )
    x0, now, nxt = batch.x, estimate.level, module.previous(estimate.level)
    last = nxt.sigma == 0
    ends = like(last, x0).bool()
    x0_estimate = estimate.x0

    def at(level: NoiseLevel, rows: Tensor) -> Estimate:
        return replace(estimate, kind="x0", value=torch.where(rows, x0_estimate, x0), level=level)

    kl = step_term(x0, at(_where(last, _SAFE[0], now), ~ends), _where(last, _SAFE[1], nxt), variance)
    noisy, clean = _where(last, now, _SAFE[0]), module.schedule(torch.zeros_like(now.t))
    pair = NoiseLevel(*(torch.stack([getattr(level, part) for level in (noisy, clean)]) for part in _PARTS))
    bins = None if values == "continuous" else values
    decoder = -decoder_log_prob(x0, at(noisy, ends), pair, variance, values=bins)
    term = torch.where(ends, decoder, kl)
    return steps_of(module.schedule) * masked.mean(term, estimate.valid)


_PARTS = ("t", "logsnr", "alpha", "sigma")
_SAFE = preserving_level(torch.tensor([1.0, 0.5]).double(), torch.tensor([0.0, 1.0]).double())  # for masked rows


def _where(mask: Tensor, chosen: NoiseLevel, otherwise: NoiseLevel) -> NoiseLevel:
    return NoiseLevel(*(torch.where(mask, getattr(chosen, part), getattr(otherwise, part)) for part in _PARTS))
