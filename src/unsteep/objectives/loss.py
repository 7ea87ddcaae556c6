"""What an objective is, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from unsteep.core.noise import Draw
from unsteep.data.batch import Batch


@dataclass(frozen=True)
class Loss:
    """A loss for each example, never averaged: `value` (b,), its named parts `terms` {name: (b,)}, the times `t`
    (b,)."""

    value: Tensor
    t: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """Anything that turns a module and a batch into a loss per example; all randomness comes from `draw`.

    One that learns from training has `observe(loss)`, `state_dict()` and `load_state_dict(state)`, too.
    """

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss: ...
