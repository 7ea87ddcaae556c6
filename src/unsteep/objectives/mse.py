"""L_simple: the squared error of the network's own prediction (Ho et al. 2020, eq. 14 and algorithm 1).

    x_t = alpha x0 + sigma eps,    loss = mean |value - target|^2

in the head's own kind: eps for Ho's, x0, v or flow for others. A score head's error is multiplied by sigma, which makes
it the error of its eps: the raw score of nearly clean data is unbounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from unsteep.core.estimate import target
from unsteep.core.level import add_noise, like
from unsteep.core.noise import Draw, Purpose
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser
from unsteep.objectives.loss import Loss, mean_over_valid
from unsteep.objectives.times import LogitNormal, Stratified, Uniform


@dataclass(frozen=True, kw_only=True)
class Simple:
    """The unweighted squared error, at times drawn by `times`."""

    times: Uniform | Stratified | LogitNormal = field(default_factory=Uniform)

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        assert isinstance(module, Denoiser)
        t = self.times(draw)
        level = module.schedule(t)
        eps = draw.normal(batch.x, Purpose.NOISE)
        estimate = module(add_noise(batch.x, eps, level), level, batch.condition)
        error = estimate.value - target(estimate.kind, batch.x, eps, level)
        if estimate.kind == "score":
            error = like(level.sigma, error) * error
        valid = None if batch.condition is None else batch.condition.valid
        return Loss(mean_over_valid(error**2, valid), t)
