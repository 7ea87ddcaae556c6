"""L_simple: the squared error of the network's prediction (Ho et al. 2020, eq. 14 and algorithm 1), with any weight.

    x_t = alpha x0 + sigma eps,    loss = w(level) mean |value - target|^2

By default in the head's own kind and unweighted: eps for Ho's, x0, v, flow or the posterior mean for others. A score
head's error is multiplied by sigma, which makes it the error of its eps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from unsteep.core import masked
from unsteep.core.estimate import Estimate, target
from unsteep.core.level import add_noise
from unsteep.core.noise import Draw, Purpose
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser, unwrapped
from unsteep.objectives.loss import Loss
from unsteep.objectives.times import AnyTimes, Uniform, WithTimes, corrected
from unsteep.objectives.weights import AnyWeight, Native, in_kind


@dataclass(frozen=True, kw_only=True)
class Simple(WithTimes):
    """The squared error with `weight`, at times drawn by `times`."""

    weight: AnyWeight = field(default_factory=Native)
    """Of each noise level in the loss."""
    times: AnyTimes = field(default_factory=Uniform)
    """How training draws noise levels."""

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        t, correction = corrected(self.times, draw)
        estimate, eps = estimated(module, batch, t, draw)
        error = weighted_error(unwrapped(module), estimate, batch, eps, self.weight)
        return Loss(error * correction.to(error), t, {"simple": error}, correction)


def estimated(module: nn.Module, batch: Batch, t: Tensor, draw: Draw) -> tuple[Estimate, Tensor]:
    """The network's estimate at the noised batch, and the noise that is in it. `module`: a Denoiser, or its wrapper."""
    level = unwrapped(module).schedule(t)
    eps = draw.normal(batch.x, Purpose.NOISE)
    return module(add_noise(batch.x, eps, level), level, batch.condition), eps


def weighted_error(
    denoiser: Denoiser,
    estimate: Estimate,
    batch: Batch,
    eps: Tensor,
    weight: AnyWeight,
    counts: Tensor | None = None,
) -> Tensor:
    """The mean squared error of each example, (b,), in the estimate's kind, times `weight` converted to that kind.
    `counts`: how much each number does, where it is not as the batch says."""
    aim = target(estimate.kind, batch.x, eps, estimate.level)
    return weighed(denoiser, estimate, aim, weight, batch.weight if counts is None else counts)


def weighed(
    denoiser: Denoiser, estimate: Estimate, aim: Tensor, weight: AnyWeight, counts: Tensor | None = None
) -> Tensor:
    """The same for any `aim` in the estimate's kind, (b, ...)."""
    error = masked.mean((estimate.value - aim) ** 2, estimate.valid, counts)
    return error * in_kind(weight, estimate.kind, estimate.level, denoiser).to(error)
