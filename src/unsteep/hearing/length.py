"""How long a sequence is: `sample(..., length=60)`; what is drawn is cut to it.

A network sees `valid` bool (b, frames), which frames are real. That is no condition that could be hidden: padding stays
padding, guided or not. Beside it goes the `weight` of the numbers of examples, where these have one.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from unsteep.core.arguments import shown
from unsteep.core.condition import VALID, WEIGHT
from unsteep.core.noise import NoiseSource
from unsteep.core.protocols import DataSet, Rows
from unsteep.data.reading import batches

if TYPE_CHECKING:
    from unsteep.core.noise import Draw

STREAM = -5  # where a sample draws its own length


@dataclass(frozen=True, kw_only=True)
class Length:
    """`counts`: how many sequences of the data have 0, 1, 2, ... frames; `frames`: inside the model, padding and all.
    () and 0: filled from the data."""

    counts: tuple[int, ...] = ()
    frames: int = 0
    name: ClassVar[str] = "length"
    lacks: ClassVar[str] = "makes no sequences; leave it out"

    @property
    def most(self) -> int:
        """The longest there is."""
        return len(self.counts) - 1

    def fitted(self, data: DataSet) -> Self:
        """With the lengths of the data."""
        found = [(_lengths(rows), rows.x.shape[1]) for rows in batches(data)]
        lengths, frames = torch.cat([one for one, _ in found]), max(count for _, count in found)
        if int(lengths.min()) < 1:
            raise ValueError(f"data: expected sequences of a frame or more, got one of none ({data.source})")
        return replace(self, counts=tuple(torch.bincount(lengths).tolist()), frames=frames)

    def of(self, rows: Rows, draw: Draw | None = None) -> dict[str, Tensor]:
        """The masks of examples, and how much their numbers count."""
        found = self._valid(_lengths(rows)) if rows.valid is None else {VALID: self._padded(rows.valid)}
        return found if rows.weight is None else {**found, WEIGHT: self._padded(rows.weight)}

    def asked(self, value: Any, n: int, seeds: Sequence[int]) -> dict[str, Tensor]:
        """`value`: one length for all, one for each, or None to draw them as the data have them."""
        if value is None:
            u = NoiseSource(seeds, STREAM).uniform(torch.empty(n, 1, dtype=torch.float64), 0).squeeze(1)
            shares = torch.tensor(self.counts, dtype=torch.float64).cumsum(0)
            return self._valid(torch.searchsorted(shares, u * shares[-1], right=True).clamp(max=self.most))
        if isinstance(value, str | bytes):
            raise ValueError(f"length: expected a whole number of frames, or one for each sample, got {shown(value)}")
        each = value.tolist() if hasattr(value, "tolist") else value
        each = list(each) if hasattr(each, "__len__") else [each] * n
        if len(each) != n:
            raise ValueError(f"length: expected one or {n}, one for each sample; got {len(each)}")
        return self._valid(torch.tensor([self._checked(one) for one in each]))

    def null(self, n: int) -> dict[str, Tensor]:
        """There is no sequence without a length."""
        return {}

    @property
    def conditioning(self) -> dict[str, Any]:
        """How a run's `condition` asks for it."""
        return {}

    @property
    def meaning(self) -> object:
        """What decides whether two models mean the same."""
        return self.name, self.most

    def describe(self) -> str:
        return "length"

    def _checked(self, value: Any) -> int:
        try:
            length = 0 if isinstance(value, bool) else operator.index(value)
        except (TypeError, RuntimeError):
            length = 0
        if not 1 <= length <= self.most:
            raise ValueError(f"length: expected a whole number from 1 to {self.most} frames, got {value!r}")
        return length

    def _padded(self, of: Tensor) -> Tensor:
        missing = max(0, self.frames - of.shape[1])
        return torch.cat([of, of.new_zeros(len(of), missing, *of.shape[2:])], 1)

    def _valid(self, lengths: Tensor) -> dict[str, Tensor]:
        return {VALID: torch.arange(self.frames) < lengths[:, None]}


def _lengths(rows: Rows) -> Tensor:
    return torch.full((len(rows),), rows.x.shape[1]) if rows.valid is None else rows.valid.sum(1)
