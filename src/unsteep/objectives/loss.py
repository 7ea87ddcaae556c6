"""What an objective returns, and the mean that padding never enters."""

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


def mean_over_valid(error: Tensor, valid: Tensor | None) -> Tensor:
    """The mean of `error` (b, ...) over each example's entries: (b,). `valid` (b, frames) bool leaves padding out."""
    if valid is None:
        return error.flatten(1).mean(1)
    mask = valid.reshape(valid.shape + (1,) * (error.ndim - valid.ndim)).expand_as(error)
    return error.masked_fill(~mask, 0).flatten(1).sum(1) / mask.flatten(1).sum(1)
