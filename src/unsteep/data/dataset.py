"""A data set in memory, and the one rule by which every source chooses its examples.

Choosing goes in a fixed order: the split, then the classes, then the limit. Because the split comes first
and looks only at an example's position, an example held out for testing is held out whatever classes are
asked for, and a larger holdout contains every smaller one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Split = Literal["train", "test", "all"]

SHOWN_CLASSES = 12
SHOWN_SKIPPED = 3
SHOWN_CAPTIONS = 3


@dataclass(frozen=True, eq=False)
class DataSet:
    """Examples, with their classes and captions where they have any.

    x: uint8 pictures (n, c, h, w), or float32 vectors (n, d).
    labels: int64 (n,), each an index into `names`; None without classes.
    names: the classes' names, () without classes.
    files: names relative to the folder read, () for other sources.
    captions: a text for each example, () without.
    aligned: a picture beside each, uint8 (n, c', h, w) of the same size; None without.
    levels: how many grey values the source is taken to have.
    skipped: (file, reason) of what could not be read.
    source: one line telling where the examples came from.
    """

    x: Tensor
    labels: Tensor | None = None
    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    levels: int = 256
    skipped: tuple[tuple[str, str], ...] = ()
    source: str = ""
    captions: tuple[str, ...] = ()
    aligned: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def select(self, index: Tensor | slice | Sequence[int]) -> "DataSet":
        """The examples at `index` (positions, a mask or a slice), in that order; the classes stay as they are."""
        rows = torch.arange(len(self))[index].tolist()
        return replace(
            self,
            x=self.x[index],
            labels=None if self.labels is None else self.labels[index],
            files=tuple(self.files[row] for row in rows) if self.files else (),
            captions=tuple(self.captions[row] for row in rows) if self.captions else (),
            aligned=None if self.aligned is None else self.aligned[index],
        )

    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the examples, labels, class names, captions and aligned pictures."""
        head = [str(self.x.dtype), list(self.x.shape), self.labels is not None, self.names]
        if self.captions:
            head.append(self.captions)
        sha = hashlib.sha256(json.dumps(head).encode())
        for tensor in (self.x, self.labels, self.aligned):
            if tensor is not None:
                sha.update(tensor.contiguous().numpy().data)
        return sha.hexdigest()

    def summary(self) -> list[tuple[str, str]]:
        """Rows (name, text) to print before training: what was read, how much, of what kind."""
        low, high = self.x.min().item(), self.x.max().item()
        rows = [("source", self.source), ("count", f"{len(self):,}")]
        if self.x.ndim == 4:
            _, channels, height, width = self.x.shape
            kind = {1: "grey", 3: "colour"}.get(channels, "")
            rows += [
                ("size", f"{height} x {width} pixels (height x width)"),
                ("channels", f"{channels} ({kind})" if kind else str(channels)),
                ("value range", f"{low} to {high}, {self.levels} grey levels"),
            ]
        else:
            rows += [("size", f"{self.x.shape[1]} numbers"), ("value range", f"{low:.4g} to {high:.4g}")]
        if self.labels is not None:
            counts = torch.bincount(self.labels, minlength=len(self.names)).tolist()
            shares = [f"{name}: {count:,}" for name, count in zip(self.names, counts, strict=True)]
            rows.append(("classes", f"{len(counts):,} ({shorten(shares, SHOWN_CLASSES)})"))
        if self.captions:
            different = [f'"{caption}"' for caption in dict.fromkeys(self.captions)]
            rows.append(("captions", f"{len(different):,} different: {shorten(different, SHOWN_CAPTIONS)}"))
        if self.aligned is not None:
            rows.append(("aligned", "a picture beside each"))
        if self.skipped:
            reasons = [f"{file} ({reason})" for file, reason in self.skipped]
            rows.append(("skipped", f"{len(reasons):,}: {shorten(reasons, SHOWN_SKIPPED)}"))
        return rows


@dataclass(frozen=True, eq=False)
class Choice:
    """What `choose` kept: positions in the source, ascending, with labels (an index into `names`) for each."""

    index: np.ndarray
    labels: Tensor | None
    names: tuple[str, ...]


def choose(
    count: int,
    *,
    source: str,
    split: Split = "all",
    holdout: float = 0.0,
    numbers: np.ndarray | None = None,
    classes: Mapping[int, str] | None = None,
    labels: tuple[int, ...] = (),
    limit: int = 0,
) -> Choice:
    """Of `count` examples, those of the split, of the classes in `labels` (() is all), the first `limit` (0 is all).

    numbers: (count,), each example's class number in the source; classes: the name of every number.
    Kept classes are numbered 0, 1, ... in the order asked for.
    ValueError when nothing is left or a class does not exist.
    """
    index = split_index(count, split, holdout)
    if numbers is None or classes is None:
        if labels:
            raise ValueError(f"data.labels = {labels} chooses classes, but {source} has none: leave data.labels empty")
        if not len(index):
            raise ValueError(f"{source} holds no example: give it some")
        return Choice(index[: limit or None], None, ())

    kept = tuple(dict.fromkeys(labels)) or tuple(sorted(classes))
    missing = [number for number in kept if number not in classes]
    if missing:
        known = [name if name == str(number) else f"{number} ({name})" for number, name in sorted(classes.items())]
        raise ValueError(
            f"data.labels asks for class {missing[0]}, which {source} does not have: choose among {', '.join(known)}"
        )
    index = index[np.isin(numbers[index], kept)][: limit or None]
    if not len(index):
        raise ValueError(
            f"{source} holds no example of the classes asked for in split {split!r}: choose other data.labels"
        )
    place = {number: position for position, number in enumerate(kept)}
    renumbered = torch.tensor([place[number] for number in numbers[index].tolist()])
    return Choice(index, renumbered, tuple(classes[number] for number in kept))


def split_index(count: int, split: Split, holdout: float) -> np.ndarray:
    """Positions, ascending, of a split of `count` examples, of which the fraction `holdout` in [0, 1) is for testing.

    The examples held out are those with the smallest numbers in the raw stream of a Philox generator with
    key 0. The stream (unlike the methods that draw permutations) is the same in every version of NumPy.
    """
    if not 0 <= holdout < 1:
        raise ValueError(
            f"data.holdout is a fraction from 0 up to 1, got {holdout}: set, for example, data.holdout=0.1"
        )
    if split == "all":
        return np.arange(count)
    if split == "test" and holdout == 0:
        raise ValueError("no example is held out for testing: set data.holdout, for example data.holdout=0.1")
    held = round(holdout * count)
    order = np.argsort(np.random.Philox(key=0).random_raw(count), kind="stable")
    index = np.sort(order[:held] if split == "test" else order[held:])
    if count and not len(index):
        raise ValueError(f"data.holdout={holdout} of {count} examples leaves none to {split}: change data.holdout")
    return index


def shorten(items: Sequence[str], shown: int) -> str:
    """The first few items as a list in words, with the count of those left out."""
    more = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {more:,} more" if more > 0 else "")
