"""How long a sequence is: `sample(..., length=60)`; what is drawn is cut to it.

Where nobody says it, it is drawn as the data have lengths: with texts or classes, as they last (see `lasting`).

A network sees `valid` bool (b, frames), which frames are real. That is no condition that could be hidden: padding stays
padding, guided or not. Beside it goes the `weight` of the numbers of examples, where these have one.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from unsteep.core.arguments import shown
from unsteep.core.condition import VALID, WEIGHT
from unsteep.core.noise import NoiseSource
from unsteep.core.protocols import DataSet, Rows
from unsteep.data.reading import batches
from unsteep.hearing.lasting import Lasting

if TYPE_CHECKING:
    from unsteep.core.noise import Draw

STREAM = -5  # where a sample draws its own length


@dataclass(frozen=True, kw_only=True)
class Length:
    """`counts`: how many sequences of the data have 0, 1, 2, ... frames; `frames`: inside the model, padding and all.
    () and 0: filled from the data. `by`: what else a user asks by that says how long it lasts, prompt or label;
    `lasting`: how it does, filled from the data."""

    counts: tuple[int, ...] = ()
    frames: int = 0
    by: tuple[str, ...] = ()
    lasting: Lasting | None = None
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
        texts = [text for rows in batches(data) for text in self._texts(rows, data.names)] if self.by else []
        lasting = Lasting.learned(texts, lengths)
        return replace(self, counts=tuple(torch.bincount(lengths).tolist()), frames=frames, lasting=lasting)

    def of(self, rows: Rows, draw: Draw | None = None) -> dict[str, Tensor]:
        """The masks of examples, and how much their numbers count."""
        found = self._valid(_lengths(rows)) if rows.valid is None else {VALID: self._padded(rows.valid)}
        return found if rows.weight is None else {**found, WEIGHT: self._padded(rows.weight)}

    def asked(self, value: Any, n: int, seeds: Sequence[int]) -> dict[str, Tensor]:
        """`value`: one length for all, one for each, or None to draw them as the data have them."""
        if value is None:
            u = _shares(n, seeds)
            shares = torch.tensor(self.counts, dtype=torch.float64).cumsum(0)
            return self._valid(torch.searchsorted(shares, u * shares[-1], right=True).clamp(max=self.most))
        if isinstance(value, str | bytes):
            raise ValueError(f"length: expected a whole number of frames, or one for each sample, got {shown(value)}")
        each = value.tolist() if hasattr(value, "tolist") else value
        each = list(each) if hasattr(each, "__len__") else [each] * n
        if len(each) != n:
            raise ValueError(f"length: expected one or {n}, one for each sample; got {len(each)}")
        return self._valid(torch.tensor([self._checked(one) for one in each]))

    def usual(self, told: Mapping[str, Sequence[str]], n: int, seeds: Sequence[int]) -> list[int] | None:
        """The lengths of n samples that are asked for by these texts, drawn by their seeds; None where nothing is known
        of how long such last. `told`: by the names of the kinds of condition."""
        texts = self._joined(told, n)
        if self.lasting is None or not any(texts):
            return None
        return self._whole(self.lasting.at(texts, _shares(n, seeds)))

    def between(self, told: Mapping[str, Sequence[str]], share: float = 0.8) -> list[tuple[int, int, int]]:
        """The length in the middle, and the two between which a `share` of them lie, for each that is asked for: none
        where it is not known how long such last."""
        texts = self._joined(told, max(map(len, told.values()), default=0))
        if self.lasting is None or not any(texts):
            return []
        ends = (torch.full((len(texts),), at) for at in (0.5, 0.5 - share / 2, 0.5 + share / 2))
        middle, low, high = (self._whole(self.lasting.at(texts, at)) for at in ends)
        return list(zip(middle, low, high, strict=True))

    def _joined(self, told: Mapping[str, Sequence[str]], n: int) -> list[str]:
        known = [_named(name, told[name]) for name in self.by if name in told]
        return [" ".join(parts).strip() for parts in zip(*known, strict=True)] if known else [""] * n

    def _texts(self, rows: Rows, names: Sequence[str]) -> list[str]:
        told: dict[str, Sequence[str]] = {}
        if rows.caption is not None:
            told["prompt"] = rows.caption
        if rows.label is not None and names:
            told["label"] = [names[i] for i in rows.label.tolist()]
        return self._joined(told, len(rows))

    def _whole(self, frames: Tensor) -> list[int]:
        whole: list[int] = frames.round().long().clamp(1, self.most).tolist()
        return whole

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


def _named(kind: str, texts: Sequence[str]) -> list[str]:
    """Texts of a kind of condition; the name of a class is one word, and no other's."""
    return list(texts) if kind == "prompt" else [f"{kind}:{'-'.join(text.split())}" if text else "" for text in texts]


def _shares(n: int, seeds: Sequence[int]) -> Tensor:
    """From 0 to 1, each by its seed: float64 (n,)."""
    return NoiseSource(seeds, STREAM).uniform(torch.empty(n, 1, dtype=torch.float64), 0).squeeze(1)


def _lengths(rows: Rows) -> Tensor:
    return torch.full((len(rows),), rows.x.shape[1]) if rows.valid is None else rows.valid.sum(1)
