"""What a model knows that a solver may want to know, and how it is told.

A solver with a method `fitted(known) -> Self` comes back with what it takes from there; any other stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar, runtime_checkable

from unsteep.core.gaussian import ReverseVariance, Variance
from unsteep.sampling.frame import Frame

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Known:
    """`frame`: that of the data that is sampled, None where nothing was measured. `variance`: of the model's reverse
    steps by name, or by None the model's own; ValueError for one that the model cannot have. `atoms`: whether data take
    the values of a grid, as pixels do, or have a density."""

    frame: Frame | None
    variance: Callable[[ReverseVariance | None], Variance]
    atoms: bool = True


@runtime_checkable
class Listening(Protocol):
    """A solver that takes part."""

    def fitted(self, known: Known) -> Self: ...


def fitted(solver: S, known: Known) -> S:
    """The solver, told what is `known` if it listens."""
    return solver.fitted(known) if isinstance(solver, Listening) else solver
