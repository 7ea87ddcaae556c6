"""What an objective is, what it returns, and how it is fitted to data and a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar, runtime_checkable

from torch import Tensor, nn

from unsteep.core.noise import Draw
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser

T = TypeVar("T")


@dataclass(frozen=True)
class Loss:
    """A loss for each example, never averaged: `value` (b,), its named parts `terms` {name: (b,)}, the times `t`
    (b,). `correction` (b,) is what the value was multiplied by for times that are not uniform: without it, it is what
    the terms add up to."""

    value: Tensor
    t: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    correction: Tensor | float = 1.0


class Objective(Protocol):
    """Anything that turns a module and a batch into a loss per example; all randomness comes from `draw`.

    One that depends on the data's space or the model has `fitted(space, denoiser) -> Self`, and one that learns from
    training `observe(loss)`, `state_dict()` and `load_state_dict(state)`, too.
    """

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss: ...


class Graded(Protocol):
    """A space, of which an objective asks this."""

    @property
    def levels(self) -> int | None:
        """How many equally spaced values its data take in [-1, 1]; None where they are continuous."""
        ...


@runtime_checkable
class Fitting(Protocol):
    """An objective that takes part."""

    def fitted(self, space: Graded, denoiser: Denoiser) -> Self: ...


def fitted(objective: T, space: Graded, denoiser: Denoiser) -> T:
    """The objective for data of this space and this model. ValueError where the model cannot follow it."""
    return objective.fitted(space, denoiser) if isinstance(objective, Fitting) else objective
