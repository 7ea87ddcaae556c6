"""Training on the variational bound (Ho et al. 2020, eq. 5), and on a mix of it and L_simple (Nichol & Dhariwal 2021,
eq. 16).

    Bound    T L_{t-1} at a random step t, or T L_0 at the first: an unbiased estimate of the bound without L_T
    Hybrid   L_simple + weight bound, where the bound's gradient reaches the learned variance alone

in nats per dimension. On a schedule that is no chain the steps have length 1/1000.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn

from unsteep.core import masked
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import decoder_log_prob, step_term
from unsteep.core.level import NoiseLevel, like, preserving_level
from unsteep.core.noise import Draw
from unsteep.core.open import Components
from unsteep.core.schedules import steps_of
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser, unwrapped
from unsteep.objectives.loss import Graded, Loss, Objective
from unsteep.objectives.motion import Motion
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

    def fitted(self, space: Graded, denoiser: Denoiser) -> Self:
        """For data of this space, and a model that has learned a variance where one is asked for."""
        if self.variance == "learned":
            check_learned(self, denoiser)
        return replace(self, values=values_of(self.values, space))

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        t, correction = corrected(self.times, draw)
        estimate, _ = estimated(module, batch, t, draw)
        term = bound_term(unwrapped(module), estimate, batch, self.variance, self.values)
        return Loss(term * correction.to(term), t, {"bound": term}, correction)


@dataclass(frozen=True, kw_only=True)
class Hybrid(WithTimes):
    """L_simple for the mean and `scale` times the bound for a learned variance."""

    scale: float = 0.001
    values: Values = "data"
    weight: AnyWeight = field(default_factory=Native)
    times: AnyTimes = field(default_factory=Uniform)

    def fitted(self, space: Graded, denoiser: Denoiser) -> Self:
        """For data of this space, and a model that has learned a variance."""
        check_learned(self, denoiser)
        return replace(self, values=values_of(self.values, space))

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        denoiser = unwrapped(module)
        check_learned(self, denoiser)
        t, correction = corrected(self.times, draw)
        estimate, eps = estimated(module, batch, t, draw)
        simple = weighted_error(denoiser, estimate, batch, eps, self.weight)
        detached = replace(estimate, value=estimate.value.detach())
        term = bound_term(denoiser, detached, batch, "learned", self.values)
        loss = (simple + self.scale * term) * correction.to(term)
        return Loss(loss, t, {"simple": simple, "bound": term}, correction)


AnyObjective = Annotated[Objective, Components(Simple, Bound, Hybrid, Motion)]


def values_of(values: Values, space: Graded) -> Values:
    """As many as the data of this space take, where that was left to them."""
    return values if values != "data" else space.levels or "continuous"


def check_learned(objective: object, denoiser: Denoiser) -> None:
    """ValueError where the model has no variance that this objective could train."""
    if not denoiser.learn_variance:
        raise ValueError(
            f"objective: {type(objective).__name__} trains a learned variance, and this model has none: set "
            "model.variance=learned"
        )


def bound_term(denoiser: Denoiser, estimate: Estimate, batch: Batch, variance: Which, values: Values) -> Tensor:
    """T times the example's term of the bound, nats per dimension, (b,): the KL of its step, or L_0 if the step ends
    clean.

    Rows of both kinds stand in one batch, so each formula is evaluated on all rows: on those of the other kind at an
    estimate and a level where it is finite. The decoder's variance, where the model's is 0, is the pair's own beta.
    """
    if values == "data":
        raise ValueError(
            "objective.values: state how many values the data take, or continuous; a run fills it from its data"
        )
    x0, now, nxt = batch.x, estimate.level, denoiser.previous(estimate.level)
    last = nxt.sigma == 0
    ends = like(last, x0).bool()
    x0_estimate = estimate.x0

    def at(level: NoiseLevel, rows: Tensor) -> Estimate:
        return replace(estimate, kind="x0", value=torch.where(rows, x0_estimate, x0), level=level)

    kl = step_term(x0, at(_where(last, _SAFE[0], now), ~ends), _where(last, _SAFE[1], nxt), variance)
    noisy, clean = _where(last, now, _SAFE[0]), denoiser.schedule(torch.zeros_like(now.t))
    pair = NoiseLevel(*(torch.stack([getattr(level, part) for level in (noisy, clean)]) for part in _PARTS))
    bins = None if values == "continuous" else values
    decoder = -decoder_log_prob(x0, at(noisy, ends), pair, variance, values=bins)
    term = torch.where(ends, decoder, kl)
    return steps_of(denoiser.schedule) * masked.mean(term, estimate.valid)


_PARTS = ("t", "logsnr", "alpha", "sigma")
_SAFE = preserving_level(torch.tensor([1.0, 0.5]).double(), torch.tensor([0.0, 1.0]).double())  # for masked rows


def _where(mask: Tensor, chosen: NoiseLevel, otherwise: NoiseLevel) -> NoiseLevel:
    return NoiseLevel(*(torch.where(mask, getattr(chosen, part), getattr(otherwise, part)) for part in _PARTS))
