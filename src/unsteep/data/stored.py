"""Pictures that stay where they are stored, and are read when they are asked for: the `DataSet` of large folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from unsteep.core.protocols import Rows
from unsteep.data.cache import Entry
from unsteep.data.decoding import Apart, in_pieces
from unsteep.data.examples import BYTES, check_positions, digest_of, summary_of


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some of the pictures of `of`, by position."""

    of: Apart | Tensor
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.index), *self.of.shape[1:]

    @property
    def where(self) -> str:
        return "" if isinstance(self.of, Tensor) else self.of.where

    def take(self, index: np.ndarray) -> Tensor:
        at = self.index[index]
        return self.of[torch.from_numpy(at)] if isinstance(self.of, Tensor) else self.of.take(at)


@dataclass(frozen=True, eq=False)
class StoredPictures:
    """As `Examples`, but x and aligned are read by position. `extremes`: the smallest and the largest value. `entry`:
    where what is known of all can be kept."""

    x: Chosen
    labels: Tensor | None = None
    names: tuple[str, ...] = ()
    files: Sequence[str] = ()
    levels: int | None = BYTES
    skipped: tuple[tuple[str, str], ...] = ()
    source: str = ""
    captions: tuple[str, ...] = ()
    aligned: Chosen | None = None
    extremes: tuple[int, int] = (0, BYTES - 1)
    entry: Entry | None = None

    AHEAD = 2  # steps that are read while one trains

    def __len__(self) -> int:
        return self.x.shape[0]

    def rows(self, index: Tensor) -> Rows:
        """The examples at `index` (b,) int64. ValueError for positions that there are not."""
        check_positions(index, len(self))
        at = index.numpy()
        return Rows(
            x=self.x.take(at),
            label=None if self.labels is None else self.labels[index],
            caption=tuple(self.captions[i] for i in at) if self.captions else None,
            beside=None if self.aligned is None else self.aligned.take(at),
            index=index,
        )

    def select(self, index: Tensor | slice | Sequence[int]) -> StoredPictures:
        """The examples at `index` (positions, a mask or a slice), in that order; the classes stay as they are."""
        at = torch.arange(len(self))[index].numpy()
        return replace(
            self,
            x=Chosen(self.x, at),
            labels=None if self.labels is None else self.labels[torch.from_numpy(at)],
            files=tuple(self.files[i] for i in at) if self.files else (),
            captions=tuple(self.captions[i] for i in at) if self.captions else (),
            aligned=None if self.aligned is None else Chosen(self.aligned, at),
            entry=None,
        )

    @cached_property
    def digest(self) -> str:
        """That of the same examples in memory. All of them are read for it, once where it can be kept."""
        known = hashlib.sha256(json.dumps([self.names, self.captions, self.aligned is None]).encode())
        known.update(b"" if self.labels is None else self.labels.numpy().data)
        kept = self.entry is not None and self.aligned is None
        note = self.entry.folder / f"{known.hexdigest()}.txt" if self.entry is not None and kept else None
        if note is not None and note.is_file():
            return note.read_text("utf-8").strip()
        dtype = "torch.uint8" if self.levels == BYTES else "torch.uint16"
        found = digest_of(self, dtype, in_pieces(self.x), in_pieces(self.aligned) if self.aligned else [])
        if note is not None:
            with suppress(OSError):
                note.write_text(found, encoding="utf-8")
        return found

    def summary(self) -> list[tuple[str, str]]:
        """Rows (name, text) to print before training."""
        return [*summary_of(self, *self.extremes), ("reading", self.x.where)]
