"""Pictures or vectors in NumPy's own files: .npy (one array) and .npz (several, by name); and arrays in memory.

What an array means is decided by its type and shape alone: whole numbers are pictures, floats of two dimensions are
vectors, floats of more are pictures in [0, 1], or in [-1, 1] where they go well below 0; what rounding left beyond is
brought back, and other ranges are refused. Float pictures whose values all lie on the grid of bytes are
taken for bytes; others stay as they are, continuous. Nothing is rescaled by guesswork, and pickled objects are refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unsteep.core.protocols import Split
from unsteep.data.choosing import choose, shorten
from unsteep.data.examples import BYTES, WORDS, Examples
from unsteep.data.streamed import Streamed, by_pieces, opened
from unsteep.storage.foreign import reading

DATA_KEYS = ("images", "x", "data", "X", "x_train", "X_train", "train_images", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "y_train", "train_labels", "arr_1")
NO_LABELS = "none"
MOST_CHANNELS = 16
ACCEPTED = "uint8, uint16 or float (n, h, w), (n, h, w, c) or (n, c, h, w) with c from 1 to 16, or float (n, d)"
ROUNDED = 1e-4  # how far beyond their range a resize or a transform leaves values; they are brought back
BELOW = 0.2  # how far below 0 pictures in [-1, 1] reach at least
GRID = 1e-4  # how far from a whole number of 255ths a float may lie and still be taken for a byte


@dataclass(frozen=True, eq=False)
class Understood:
    """What an array means: pictures or vectors, how many values they take, their range, and all that in words."""

    stored: Streamed
    levels: int | None
    range: tuple[float, float]
    meaning: str
    laid: Callable[[np.ndarray], np.ndarray] = lambda rows: rows
    valued: Callable[[np.ndarray], np.ndarray] | None = None

    def at(self, index: np.ndarray | None = None) -> np.ndarray:
        """Pictures (n, c, h, w) or vectors (n, d): those at positions that rise, or all."""
        x = self.laid(self.stored.rows(index))
        return x if self.valued is None else by_pieces(self.valued, x)


@dataclass(frozen=True, kw_only=True)
class Array:
    """Examples in a .npy or .npz file.

    path: the file; key, labels_key: which arrays of an npz hold the examples and their class numbers
    (empty: found by their usual names; labels_key "none": no labels are read); labels: keep these class numbers;
    limit: keep the first so many;
    holdout: the fraction kept for testing.
    """

    path: str
    key: str = ""
    labels_key: str = ""
    labels: tuple[int, ...] = ()
    limit: int = 0
    holdout: float = 0.0

    def read(self, split: Split = "train") -> Examples:
        """Pictures (n, c, h, w) of uint8, uint16 or float32, or vectors float32 (n, d). ValueError saying what was
        found where something else was expected."""
        path = Path(self.path).expanduser()
        stored, numbers, unread = _load(path, self.key, self.labels_key)
        found = understood(stored)  # all of them: the range must not depend on the split
        classes = None
        if numbers is not None:
            numbers, classes = _classes(numbers, len(stored), path)
        chosen = choose(
            len(stored),
            source=str(path),
            split=split,
            holdout=self.holdout,
            numbers=numbers,
            classes=classes,
            labels=self.labels,
            limit=self.limit,
        )
        return Examples(
            torch.from_numpy(found.at(chosen.index)),
            chosen.labels,
            chosen.names,
            levels=found.levels,
            range=found.range,
            source=f"{stored.name}, {found.meaning}{unread}",
        )


def _classes(labels: np.ndarray, n: int, path: Path) -> tuple[np.ndarray, dict[int, str] | None]:
    """The class numbers (n,) in labels as the field stores them: whole numbers (n,) or in a column (n, 1), one-hot
    (n, classes), or texts, and then the name of each. ValueError for others."""
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.shape == (n,) and flat.dtype.kind in "iu":
        return flat.astype(np.int64), None
    if flat.shape == (n,) and flat.dtype.kind in "US":
        if flat.dtype.kind == "S":
            with reading(path, "labels in UTF-8", "save them as texts"):
                flat = np.char.decode(flat, "utf-8")
        names, numbers = np.unique(flat.astype(str), return_inverse=True)
        return numbers.astype(np.int64), dict(enumerate(names.tolist()))
    if labels.ndim == 2 and len(labels) == n and labels.dtype.kind in "iufb":
        whole = labels.astype(np.float64)
        if bool(np.isin(whole, (0, 1)).all()) and bool((whole.sum(1) == 1).all()):
            return whole.argmax(1).astype(np.int64), {i: str(i) for i in range(labels.shape[1])}
    raise ValueError(
        f"{path}: expected labels as whole numbers ({n},) or ({n}, 1), one-hot ({n}, classes), or texts, got "
        f"{Streamed.of(labels, str(path)).kind}: set data.labels_key, or data.labels_key=none for no labels"
    )


def understood(array: Streamed, tensor: bool = False) -> Understood:
    """What an array of examples means; `tensor`: it is one of torch, which puts channels first. ValueError where it
    means nothing."""
    name, axes = array.name, len(array.shape)
    if not prod(array.shape):
        raise ValueError(f"{name} is empty: expected {ACCEPTED}, got {array.kind}: check how it was saved")
    floating = array.dtype.kind == "f"
    if floating and axes:
        low, high = _finite_range(array)
        if axes == 2:
            return Understood(array, None, (low, high), "float vectors", valued=lambda rows: rows.astype(np.float32))
    if axes not in (3, 4) or not (floating or array.dtype in (np.uint8, np.uint16)):
        raise ValueError(f"{name}: expected {ACCEPTED}, got {array.kind}: convert it")
    if axes == 3 and array.shape[-1] in (3, 4) and min(array.shape[:2]) > MOST_CHANNELS:
        raise ValueError(
            f"{name}: expected {ACCEPTED}, got {array.kind}, which looks like one colour picture: save it as x[None]"
        )
    moved = axes == 4 and _channels_last(array, tensor)
    last = ", channels last" if moved else ""

    def laid(rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(rows.transpose(0, 3, 1, 2)) if moved else rows[:, None] if axes == 3 else rows

    if array.dtype == np.uint16:
        return Understood(array, WORDS, (0, WORDS - 1), f"16-bit pictures{last}", laid)
    if not floating:
        return Understood(array, BYTES, (0, BYTES - 1), f"pictures of bytes{last}", laid)
    unsigned = low >= -ROUNDED
    if high > 1 + ROUNDED or low < -1 - ROUNDED or (not unsigned and low > -BELOW):
        raise ValueError(
            f"{name}: expected float pictures in [0, 1] or [-1, 1], got {low:.4g} to {high:.4g}: "
            "rescale or clip them, or save bytes (uint8); sequences are unsteep.Examples(x, levels=None, valid=...)"
        )
    ends, words = ((0.0, 1.0), "[0, 1]") if unsigned else ((-1.0, 1.0), "[-1, 1]")

    def in_255ths(rows: np.ndarray) -> np.ndarray:
        return (rows.clip(*ends).astype(np.float64) - ends[0]) * ((BYTES - 1) / (ends[1] - ends[0]))

    parts = (in_255ths(rows) for rows in array.pieces())
    if all(float(np.abs(part - np.rint(part)).max()) < GRID * (BYTES - 1) for part in parts):
        meaning = f"float pictures read as {words}{last}"
        return Understood(
            array, BYTES, (0, BYTES - 1), meaning, laid, lambda rows: np.rint(in_255ths(rows)).astype(np.uint8)
        )
    meaning = f"continuous float pictures in {words}{last}"
    return Understood(array, None, ends, meaning, laid, lambda rows: rows.clip(*ends).astype(np.float32))


def _channels_last(array: Streamed, tensor: bool) -> bool:
    """Whether pictures (n, ., ., .) have their channels last, not first. A `tensor` of torch has them first, but for
    square pictures of one or three last, and for more channels than there can be. Elsewhere, where both ends could be
    channels, grey and colour go before others, and then the last axis before the second."""
    first, across, last = array.shape[1:]
    able = range(1, MOST_CHANNELS + 1)
    if tensor:
        if first in able and not (first == across and last in (1, 3) and first not in (1, 3)):
            return False
        if last in (1, 3, 4):
            return True
    elif first in able and last in able and not {first, last} & {1, 3} and across == last != first:
        return False  # square pictures, channels first
    else:
        for counts in ((1, 3), (4, 2), able):
            if first in counts or last in counts:
                return last in counts
    raise ValueError(f"{array.name}: expected {ACCEPTED}, got {array.kind}: convert it")


def examples_of(x: Tensor | np.ndarray, source: str = "an array in memory", *, axes: int | None = None) -> Examples:
    """An array or a tensor in memory as examples; `axes`: of one example, where that is known. Sequences, of two axes,
    are all of one length. ValueError where it means nothing."""
    if isinstance(x, Tensor):
        array = (x.float() if x.is_floating_point() else x).detach().cpu().numpy()  # NumPy has no bfloat16
    else:
        array = np.asarray(x)
    if axes == 2 and array.ndim == 3:
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{source}: expected finite floats (n, frames, features), got {array.dtype}; convert it")
        frames = torch.from_numpy(np.require(array, np.float32, ["C", "W"]))
        valid = torch.ones(frames.shape[:2], dtype=torch.bool)
        return Examples(frames, levels=None, valid=valid, source=f"{source}, sequences of one length")
    found = understood(Streamed.of(array, source), isinstance(x, Tensor))
    return Examples(
        torch.from_numpy(np.require(found.at(), requirements=["C", "W"])),
        levels=found.levels,
        range=found.range,
        source=f"{source}, {found.meaning}",
    )


def _load(path: Path, key: str, labels_key: str) -> tuple[Streamed, np.ndarray | None, str]:
    """The array of examples, that of labels if there is one, and which are not read."""
    if not path.is_file():
        raise ValueError(f"data.path: expected a .npy or .npz file, found none at {path}: give the file")
    content = opened(path)
    if isinstance(content, Streamed):
        if key or labels_key:
            raise ValueError(f"{path} is one array without a name: leave data.key and data.labels_key empty")
        return content, None, ""
    chosen, labels = _choose_keys(path, list(content), key, labels_key)
    others = shorten([name for name in content if name not in (chosen, labels)], 4)
    unread = f"; not read: {others}" if others else ""
    return content[chosen](), content[labels]().rows(None) if labels else None, unread


def _choose_keys(path: Path, names: list[str], key: str, labels_key: str) -> tuple[str, str]:
    """The names of the examples and of the labels ("" for none) among the arrays of an npz."""
    there = ", ".join(names) or "no array at all"
    for field, name in (("data.key", key), ("data.labels_key", labels_key)):
        if name and name not in names and not (name == NO_LABELS and field == "data.labels_key"):
            raise ValueError(f"{path} has no array {name!r}: set {field} to one of those it has: {there}")
    labels = (
        ""
        if labels_key == NO_LABELS
        else labels_key or next((name for name in LABEL_KEYS if name in names and name != key), "")
    )
    others = [name for name in names if name != labels]
    usual = [name for name in DATA_KEYS if name in others]
    candidates = [key] if key else others if len(others) == 1 else usual
    if not candidates:
        raise ValueError(f"{path}: none of its arrays has a usual name: set data.key to one of those it has: {there}")
    return candidates[0], labels


def _finite_range(array: Streamed) -> tuple[float, float]:
    """The smallest and the largest value, as float32. ValueError where some are not finite."""
    broken, ends, first = [], [], 0
    for rows in array.pieces():
        with np.errstate(over="ignore"):  # a number too large for float32 is as bad as an infinite one
            some = rows.astype(np.float32).reshape(len(rows), -1)
        broken += (first + np.flatnonzero(~np.isfinite(some).all(1))).tolist()
        ends.append((float(some.min()), float(some.max())))
        first += len(rows)
    if broken:
        raise ValueError(
            f"{array.name}: {len(broken)} of {len(array)} examples hold NaN, infinite values or such beyond float32, "
            f"the first at {', '.join(map(str, broken[:5]))}: remove them"
        )
    return min(low for low, _ in ends), max(high for _, high in ends)
