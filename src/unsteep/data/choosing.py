"""The one rule by which every source chooses its examples.

Choosing goes in a fixed order: the split, then the classes, then the limit. Because the split comes first
and looks only at an example's position, an example held out for testing is held out whatever classes are
asked for, and a larger holdout contains every smaller one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unsteep.core.protocols import Split


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

    numbers: (count,), each example's class number in the source; classes: the name of every number, by default itself.
    Kept classes are numbered 0, 1, ... in the order asked for.
    ValueError when nothing is left or a class does not exist.
    """
    index = split_index(count, split, holdout)
    if numbers is None:
        if labels:
            raise ValueError(f"data.labels = {labels} chooses classes, but {source} has none: leave data.labels empty")
        if not len(index):
            raise ValueError(f"{source} holds no example: give it some")
        return Choice(index[: limit or None], None, ())

    if classes is None:
        classes = {int(number): str(number) for number in np.unique(numbers)}
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
