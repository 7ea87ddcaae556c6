"""Data that a program gives from Python: a `DataSet`, a torch `Dataset`, a tensor or an array in memory.

run.toml then says `data.type = "Given"`, how many examples there were, of which shape, and their digest: such a run
goes on from Python alone, given the same data again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from unsteep.core.arguments import shown
from unsteep.core.level import NoiseLevel
from unsteep.core.protocols import DataSet, Rows, Split
from unsteep.data.arrays import examples_of, understood
from unsteep.data.choosing import shorten, split_index
from unsteep.data.examples import minds, shaped
from unsteep.data.reading import shape_of, some
from unsteep.data.streamed import Streamed

LOOKED_AT = 256  # items that decide what float pictures mean


@dataclass(frozen=True, kw_only=True)
class Given:
    """`shape` of an example, `count` and `digest` of all: they say which data a run was trained on. `holdout`: the
    fraction kept for testing."""

    shape: tuple[int, ...] = ()
    count: int = 0
    digest: str = ""
    holdout: float = 0.0
    data: DataSet | None = field(default=None, metadata={"setting": False}, compare=False, repr=False)

    @classmethod
    def of(cls, data: Any, holdout: float = 0.0, axes: int | None = None) -> Self:
        """Of anything that `as_dataset` takes."""
        return cls(holdout=holdout).holding(as_dataset(data, axes))

    @property
    def axes(self) -> int | None:
        """Of one example; None before it is known."""
        return len(self.shape) or None

    def holding(self, data: Any) -> Self:
        """The same, with the data at hand. ValueError where a run knows others."""
        whole = as_dataset(data, self.axes)
        told: dict[str, Any] = {"shape": shape_of(whole), "count": len(whole), "digest": whole.digest}
        if self.digest and told["digest"] != self.digest:
            raise ValueError(
                f"data: expected the {self.count:,} examples {self.shape} that the run was trained on, got "
                f"{told['count']:,} {told['shape']}, or the same changed; give the same data"
            )
        return replace(self, **told, data=whole)

    def read(self, split: Split = "train") -> DataSet:
        """The examples of a split. ValueError where the data are not at hand."""
        if self.data is None:
            raise ValueError(
                "data: these were given from Python and lie in no file; go on from there, with "
                "unsteep.train(..., data=..., resume=True)"
            )
        if self.holdout == 0 and split != "test":
            return self.data
        chosen: DataSet = some(self.data, torch.from_numpy(split_index(len(self.data), split, self.holdout)))
        return chosen


def as_dataset(data: Any, axes: int | None = None) -> DataSet:
    """A `DataSet` as it is; a tensor or an array as examples in memory, read as the files of `Array` are; a torch
    `Dataset`, whose item is x, (x, label), or a dict of the fields of `Rows`, one example each, read as it is asked
    for. `axes`: of one example, where that is known: an array (n, a, b) is pictures, but sequences where they have two.
    ValueError for anything else."""
    if isinstance(data, DataSet):
        return data
    if isinstance(data, Tensor | np.ndarray):
        if isinstance(data, Tensor) and (data.layout != torch.strided or data.is_complex()):
            raise ValueError(f"data: expected a dense tensor of real numbers, got {shown(data)}; convert it")
        return examples_of(data, axes=axes)
    items = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if items and not isinstance(data, type | str | bytes | Mapping | range | NoiseLevel):
        return Items(data)
    raise ValueError(
        f"data: expected a tensor, an array, a torch Dataset or a DataSet, got {type(data).__name__}; make it one of "
        "these, or name a file or a folder"
    )


def tensor_of(x: Any) -> Tensor:
    """A tensor as it is, and anything else that NumPy reads, copied where it may not be written to, as a picture."""
    return x if isinstance(x, Tensor) else torch.from_numpy(np.require(x, requirements="W"))


def numbered(label: Any, name: str) -> Tensor:
    """The number of a class, int64 (1,). ValueError for what is no whole number of at least 0."""
    number = (
        label.item() if isinstance(label, Tensor | np.ndarray | np.generic) and np.prod(label.shape) == 1 else label
    )
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"{name}: expected the number of a class, from 0, got {shown(label)}; number the classes")
    return torch.tensor([number])


@dataclass(frozen=True, eq=False)
class Items:
    """A torch `Dataset`, or any sequence of items, by position. Float pictures are read by what the first of them say,
    as those of an array."""

    items: Any

    def __post_init__(self) -> None:
        if len(self.items) == 0:
            raise ValueError("data: expected at least one example, got none; give some")
        self._read(0)  # refuses at once what is no example

    def __len__(self) -> int:
        return len(self.items)

    @property
    def source(self) -> str:
        return f"{type(self.items).__name__}, given from Python"

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        return ()

    @cached_property
    def levels(self) -> int | None:
        """How many values pictures take; None where data are continuous."""
        return self._meaning[0]

    @cached_property
    def range(self) -> tuple[float, float]:
        """Of continuous pictures."""
        return self._meaning[1]

    @cached_property
    def labels(self) -> Tensor | None:
        """Of all, int64 (n,): by `targets`, where the data have them, else by reading every item."""
        if self._read(0).label is None:
            return None
        known = getattr(self.items, "targets", None)
        if known is not None and len(known) == len(self):
            return torch.cat(
                [numbered(one, "targets") for one in (known.tolist() if hasattr(known, "tolist") else known)]
            )
        return torch.cat([self._labelled(i) for i in range(len(self))])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the classes: by `classes`, where the data have them, else their numbers."""
        if self.labels is None:
            return ()
        known = getattr(self.items, "classes", None)
        most = int(self.labels.max()) + 1
        return tuple(map(str, known)) if known is not None and len(known) >= most else tuple(map(str, range(most)))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of every item, read once."""
        sha = hashlib.sha256(repr((len(self), self.names)).encode())
        for i in range(len(self)):
            one = self._read(i)
            for part in (getattr(one, f.name) for f in fields(one)):
                content = part.contiguous().numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode()
                sha.update(content)
        return sha.hexdigest()

    def rows(self, index: Tensor) -> Rows:
        """The items at `index`. ValueError where they have different shapes."""
        read = [self._read(i) for i in index.tolist()]
        shapes = {tuple(one.x.shape[1:]) for one in read}
        if len(shapes) > 1:
            raise ValueError(f"data: expected examples of one shape, got {shorten(sorted(map(str, shapes)), 3)}")

        def column(name: str) -> Any:
            parts = [getattr(one, name) for one in read]
            if parts[0] is None:
                return None
            return torch.cat(parts) if isinstance(parts[0], Tensor) else tuple(text for part in parts for text in part)

        whole = {f.name: column(f.name) for f in fields(Rows) if f.name != "index"}
        whole["x"] = self._converted(whole["x"])
        return Rows(**whole, index=index)

    def summary(self) -> list[tuple[str, str]]:
        rows = [("source", self.source), ("count", f"{len(self):,}"), *shaped(shape_of(self))]
        rows += self._meaning[2]
        return [*rows, ("classes", f"{len(self.names)} ({shorten(self.names, 12)})")] if self.names else rows

    def _labelled(self, i: int) -> Tensor:
        label = self._read(i).label
        if label is None:
            raise ValueError(f"data: the first item has a label and item {i} has none; give each one")
        return label

    def _read(self, i: int) -> Rows:
        """Item i as rows of one, its x raw (1, ...)."""
        item = self.items[i]
        given: dict[str, Any] = {}
        if isinstance(item, Mapping):
            unknown = sorted(set(item) - {f.name for f in fields(Rows)})
            if unknown or "x" not in item:
                raise ValueError(
                    f"data: expected items with the fields {', '.join(f.name for f in fields(Rows))}, x among them, "
                    f"got {', '.join(map(str, item))}"
                )
            given = dict(item)
        elif isinstance(item, tuple | list):
            if len(item) > 2:
                raise ValueError(f"data: expected items x or (x, label), got {len(item)} parts; give a dict of fields")
            given = dict(zip(("x", "label"), item, strict=False))
        else:
            given = {"x": item}
        try:
            x = tensor_of(given["x"])
            label = given.get("label")
            return Rows(
                x=self._laid(x)[None],
                valid=None if given.get("valid") is None else tensor_of(given["valid"])[None].bool(),
                label=None if label is None else numbered(label, "label"),
                caption=None if given.get("caption") is None else (str(given["caption"]),),
                beside=None if given.get("beside") is None else tensor_of(given["beside"])[None],
                weight=None if given.get("weight") is None else tensor_of(given["weight"])[None].float(),
            )
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"data: item {i} is no example: {error}") from None

    def _laid(self, x: Tensor) -> Tensor:
        """A picture with its channels first: (h, w) is grey, (h, w, c) of bytes is how pictures are opened."""
        if x.ndim == 2 and not x.is_floating_point():
            return x[None]
        if x.ndim == 3 and x.shape[2] in (1, 3, 4) and x.shape[0] not in (1, 3, 4):
            return x.permute(2, 0, 1)
        return x

    def _converted(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or not x.is_floating_point():
            return x.float() if x.is_floating_point() else x
        low, high = self.range
        if bool((x < low - 1e-6).any()) or bool((x > high + 1e-6).any()):
            raise ValueError(
                f"data: expected float pictures from {low:g} to {high:g}, as the first ones, got {float(x.min()):.4g} "
                f"to {float(x.max()):.4g}; rescale them"
            )
        return ((x - low) * (255 / (high - low))).round().to(torch.uint8) if self.levels else x.float()

    @cached_property
    def _meaning(self) -> tuple[int | None, tuple[float, float], list[tuple[str, str]]]:
        """How many values pictures take, their range, and what to mind: from items all over the data."""
        places = torch.linspace(0, len(self) - 1, min(LOOKED_AT, len(self))).round().long().unique().tolist()
        found = [self._read(i).x for i in places]
        if found[0].ndim != 4:
            return None, (0.0, 1.0), []
        if len({one.shape for one in found}) > 1:
            raise ValueError("data: expected pictures of one size, got several; resize them")
        told = understood(Streamed.of(torch.cat(found).numpy(), "data"))
        x = told.at()
        odd = minds(x.min().item(), x.max().item(), told.levels, told.range)
        if told.levels is None or not found[0].is_floating_point():
            return told.levels, told.range, odd
        low = min(float(one.min()) for one in found)
        return told.levels, (-1.0, 1.0) if low < 0 else (0.0, 1.0), odd
