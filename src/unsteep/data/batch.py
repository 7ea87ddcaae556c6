"""Batches, and the order in which training meets the examples, as a function of counters.

Training runs along one endless row of positions; step s takes positions s b .. (s + 1) b - 1. Each n of them are one
epoch, a permutation that depends on (seed, epoch) alone, so a loader has no state: any batch can be had at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from unsteep.core.arguments import floats, integers, kind
from unsteep.core.condition import WEIGHT, Condition
from unsteep.core.noise import permutation


@dataclass(frozen=True)
class Batch:
    """Examples as the model sees them: `x` (b, ...), their condition, and their places `index` (b,) in the data set."""

    x: Tensor
    condition: Condition | None
    index: Tensor

    def __post_init__(self) -> None:
        floats("x", self.x)
        if self.condition is not None:
            kind("condition", self.condition, Condition, "a Condition or none", "make one, as Condition(label=...)")
        if len(integers("index", self.index)) != len(self.x):
            raise ValueError(f"index: expected one for each of {len(self.x)} examples, got {len(self.index)}")
        if self.condition and self.condition.count != len(self.x):
            raise ValueError(f"condition: expected {len(self.x)} rows, one each, got {self.condition.count}")

    @property
    def weight(self) -> Tensor | None:
        """How much each number of x counts, (b, frames, features); None: all alike."""
        return None if self.condition is None else self.condition.get(WEIGHT)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        condition = None if self.condition is None else self.condition.to(device)
        return Batch(self.x.to(device), condition, self.index)


def shuffled(positions: Tensor, n: int, seed: int) -> Tensor:
    """The example at each position (b,) of an endless sequence of shuffled epochs of n examples: int64 (b,)."""
    epochs, places, index = positions // n, positions % n, torch.empty_like(positions)
    for epoch in epochs.unique().tolist():
        rows = epochs == epoch
        index[rows] = _order(n, seed, epoch)[places[rows]]
    return index


_order = lru_cache(maxsize=4)(permutation)
