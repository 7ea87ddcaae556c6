"""From examples to a batch: the one way for everything that trains, as a function of the step.

Examples of the step's places, mirrored at random where that is asked for, in the model's units, with what a network
hears of them, hidden at random. Denoisers, classifiers and nets of features all train on these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from unsteep.core.condition import VALID, WEIGHT, Condition
from unsteep.core.noise import Draw, Purpose
from unsteep.core.protocols import DataSet, Hears, Rows, Space
from unsteep.data.batch import Batch, shuffled
from unsteep.hearing import condition_of
from unsteep.training.settings import TrainConfig


class Batches:
    """`batches(step)` yields (batch, draw) for each part of step 0, 1, ... `drop`: how often conditions are hidden."""

    def __init__(
        self,
        data: DataSet,
        space: Space,
        hears: Sequence[Hears],
        config: TrainConfig,
        *,
        drop: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.data, self.space, self.hears, self.config = data, space, hears, config
        self.drop, self.device = drop, torch.device(device)
        self._parts = torch.arange(config.batch).chunk(config.accumulate)
        self._asked: dict[tuple[int, int], Future[Rows]] = {}
        self._reader = ThreadPoolExecutor(1)  # starts no thread before it is used
        condition_of(hears, data.rows(torch.tensor([0])))  # refuses data that lack what is heard

    def __call__(self, step: int) -> Iterator[tuple[Batch, Draw]]:
        of = self.config
        for part, places in enumerate(self._parts):
            draw = Draw(of.seed, step, places, of.batch)
            yield self.batch(self._rows(step, part), draw).to(self.device), draw

    def _rows(self, step: int, part: int) -> Rows:
        """Of a part of a step. Those of the next steps are read meanwhile, where the data say that it takes time: which
        they are is known."""
        ahead = getattr(self.data, "AHEAD", 0)
        if not ahead:
            return self.data.rows(self._index(step, part))
        for later in range(step, max(step, min(step + ahead, self.config.steps - 1)) + 1):
            for each in range(len(self._parts)):
                if (later, each) >= (step, part) and (later, each) not in self._asked:
                    self._asked[later, each] = self._reader.submit(self.data.rows, self._index(later, each))
        return self._asked.pop((step, part)).result()

    def _index(self, step: int, part: int) -> Tensor:
        of = self.config
        return shuffled(step * of.batch + self._parts[part], len(self.data), of.seed)

    def batch(self, rows: Rows, draw: Draw) -> Batch:
        """Examples as a network sees them."""
        if self.config.flip:
            rows = rows.mirrored(draw.uniform(Purpose.FLIP) < 0.5)
        condition = condition_of(self.hears, rows, draw)
        beside = {VALID: rows.valid, WEIGHT: rows.weight}
        if beside := {name: one for name, one in beside.items() if one is not None and name not in (condition or ())}:
            nulls = None if condition is None else condition.nulls
            condition = Condition({**(condition or {}), **beside}, nulls=nulls)
        if condition is not None and self.drop:
            condition = condition.drop(draw.uniform(Purpose.DROP) < self.drop)
        assert rows.index is not None
        return Batch(self.space.encode(rows.x, rows.known), condition, rows.index)
