"""Reading any `DataSet`: in batches, in part, and what is known of all its examples without looking at each."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unsteep.core.arguments import shown
from unsteep.core.budget import share
from unsteep.core.protocols import DataSet, Rows
from unsteep.data.examples import Examples

AT_ONCE = 256
IN_MEMORY = 2 << 30  # bytes


def batches(data: DataSet, size: int = AT_ONCE) -> Iterator[Rows]:
    """All examples in their order, `size` at a time."""
    for index in torch.arange(len(data)).split(size):
        yield data.rows(index)


def every(data: DataSet) -> Rows:
    """All examples at once."""
    return data.rows(torch.arange(len(data)))


def some(data: DataSet, index: Tensor | slice) -> Any:
    """A `DataSet` of the examples at `index`, in that order."""
    select = getattr(data, "select", None)
    return Some(data, torch.arange(len(data))[index]) if select is None else select(index)


def in_memory(data: DataSet, index: Tensor | None = None) -> Examples:
    """The examples at `index`, or all, held in memory."""
    if isinstance(data, Examples):
        return data if index is None else data.select(index)
    rows = _joined(data, torch.arange(len(data)) if index is None else index)
    return Examples(
        rows.x,
        rows.label,
        data.names,
        levels=data.levels,
        skipped=tuple(data.skipped),
        source=data.source,
        captions=rows.caption or (),
        aligned=rows.beside,
        valid=rows.valid,
        range=getattr(data, "range", (0.0, 1.0)),
        weight=rows.weight,
    )


def _joined(data: DataSet, index: Tensor) -> Rows:
    """The examples at `index`. Many bytes of pictures lie in a file that vanishes with them, paged in as needed."""
    first = data.rows(index[:1])
    if first.beside is not None or first.valid is not None or first.x.nbytes * len(index) <= share(IN_MEMORY):
        return data.rows(index)
    x = torch.from_numpy(vanishing((len(index), *first.x.shape[1:]), first.x.numpy().dtype))
    labels: list[Tensor | None] = []
    captions: list[str] = []
    for places in torch.arange(len(index)).split(AT_ONCE):
        rows = data.rows(index[places])
        x[places] = rows.x
        labels.append(rows.label)
        captions += rows.caption or ()
    label = None if first.label is None else torch.cat([one for one in labels if one is not None])
    return Rows(x, label=label, caption=tuple(captions) or None, index=index)


def vanishing(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    """Numbers of this shape to be filled, in a file that vanishes with the array. ValueError where it has no place."""
    with tempfile.TemporaryFile() as file:  # the mapping keeps it open
        x = np.memmap(file, dtype, mode="w+", shape=shape)
        if not taken(file.fileno(), x.nbytes):
            raise ValueError(
                f"{tempfile.gettempdir()}: expected {x.nbytes / 1e9:.1f} GB of free space for what does not fit in "
                "memory, got a full disk; free some, or set TMPDIR to another place"
            )
        return x


def taken(descriptor: int, size: int) -> bool:
    """Takes the space of a file before it is mapped, since a full disk would end the process without a word; False
    where there is none."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except AttributeError:  # not of this system
        return True
    except OSError:
        return False
    return True


def labels_of(data: DataSet) -> Tensor | None:
    """The label of every example, int64 (n,), None without classes: as the data know them, else by reading all."""
    if hasattr(data, "labels"):
        known: Tensor | None = data.labels
        return known
    found = [rows.label for rows in batches(data)]
    given = [label for label in found if label is not None]
    return torch.cat(given) if given else None


def captions_of(data: DataSet) -> Sequence[str]:
    """The caption of every example, () without: as the data know them, else by reading all."""
    if hasattr(data, "captions"):
        known: Sequence[str] = data.captions
        return known
    return [caption for rows in batches(data) for caption in rows.caption or ()]


def shape_of(data: DataSet) -> tuple[int, ...]:
    """The shape of one raw example. ValueError where there is none, and for what is no data set."""
    if not callable(getattr(data, "rows", None)):
        raise ValueError(f"data: expected read() to give a DataSet, with rows(index), got {shown(data)}; return one")
    if len(data) == 0:
        raise ValueError(f"data: expected at least one example, got none ({data.source}); give some")
    return tuple(data.rows(torch.tensor([0])).x.shape[1:])


@dataclass(frozen=True, eq=False)
class Some:
    """Some of the examples of `data`, by position."""

    data: DataSet
    index: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        return self.data.names

    @property
    def source(self) -> str:
        return self.data.source

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        return self.data.skipped

    @property
    def levels(self) -> int | None:
        return self.data.levels

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data.digest.encode() + self.index.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, index: Tensor) -> Rows:
        return self.data.rows(self.index[index])

    def summary(self) -> list[tuple[str, str]]:
        return [("count", f"{len(self):,}"), *(row for row in self.data.summary() if row[0] != "count")]
