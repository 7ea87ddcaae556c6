"""The objective of a classifier of noisy data: the cross-entropy of x_t's class, at random times.

    x_t = alpha x0 + sigma eps,    loss = -log p(y | x_t)

Without noise (`noisy` false) it is the common classifier's, which is led astray as soon as it sees noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from unsteep.core.level import add_noise
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import AnySchedule, LinearBetas
from unsteep.data.batch import Batch
from unsteep.objectives.loss import Loss
from unsteep.objectives.times import LogitNormal, Stratified, Uniform


@dataclass(frozen=True, kw_only=True)
class Classification:
    """At times drawn by `times` on `schedule`."""

    schedule: AnySchedule = field(default_factory=LinearBetas)
    times: Uniform | Stratified | LogitNormal = field(default_factory=Uniform)
    noisy: bool = True

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        assert batch.condition is not None
        t = self.times(draw)
        level = self.schedule(t if self.noisy else torch.full_like(t, 1 / 1000))
        x_t = add_noise(batch.x, draw.normal(batch.x, Purpose.NOISE), level) if self.noisy else batch.x
        value = F.cross_entropy(module(x_t, level), batch.condition["label"], reduction="none")
        return Loss(value, t)
