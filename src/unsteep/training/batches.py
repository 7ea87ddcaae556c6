"""The batches of a run, as a function of the step: examples in the model's units, mirrored at random, with what the
model hears of them, hidden at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from unsteep.core.noise import Draw, Purpose
from unsteep.data import DataSet
from unsteep.data.batch import Batch, shuffled
from unsteep.model import Description
from unsteep.training.conditions import Conditions

if TYPE_CHECKING:
    from unsteep.training.run import Run


class Batches:
    """`batches(step)` yields (batch, draw) for each part of step 0, 1, ..."""

    def __init__(self, run: Run, data: DataSet, description: Description, device: torch.device) -> None:
        self.run, self.data, self.space, self.device = run, data, description.space, device
        self.conditions = Conditions(description, data)

    def __call__(self, step: int) -> Iterator[tuple[Batch, Draw]]:
        of = self.run.train
        for places in torch.arange(of.batch).chunk(of.accumulate):
            draw = Draw(of.seed, step, places, of.batch)
            index = shuffled(step * of.batch + places, len(self.data), of.seed)
            yield self._batch(index, draw).to(self.device), draw

    def _batch(self, index: torch.Tensor, draw: Draw) -> Batch:
        x, mirrored = self.space.encode(self.data.x[index]), None
        if self.run.train.flip:
            mirrored = draw.uniform(Purpose.FLIP) < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
        condition = self.conditions(index, draw, mirrored)
        if condition is not None:
            condition = condition.drop(draw.uniform(Purpose.DROP) < self.run.condition.drop)
        return Batch(x, condition, index)
