"""Pictures or vectors in NumPy's own files: .npy (one array) and .npz (several, by name); and arrays in memory.

What an array means is decided by its type and shape alone: whole numbers are pictures, floats of two dimensions are
vectors, floats of more are pictures in [0, 1], or in [-1, 1] where they go well below 0; what rounding left beyond is
brought back, and other ranges are refused. Float pictures whose values all lie on the grid of bytes are
taken for bytes; others stay as they are, continuous. Nothing is rescaled by guesswork, and pickled objects are refused.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unsteep.core.budget import fits
from unsteep.core.protocols import Split
from unsteep.data.choosing import choose, shorten
from unsteep.data.examples import BYTES, WORDS, Examples
from unsteep.storage.foreign import reading

DATA_KEYS = ("images", "x", "data", "X", "x_train", "X_train", "train_images", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "y_train", "train_labels", "arr_1")
NO_LABELS = "none"
MOST_CHANNELS = 16
ACCEPTED = "uint8, uint16 or float (n, h, w), (n, h, w, c) or (n, c, h, w) with c from 1 to 16, or float (n, d)"
ROUNDED = 1e-4  # how far beyond their range a resize or a transform leaves values; they are brought back
BELOW = 0.2  # how far below 0 pictures in [-1, 1] reach at least
GRID = 1e-4  # how far from a whole number of 255ths a float may lie and still be taken for a byte


class Understood(NamedTuple):
    """Pictures (n, c, h, w) or vectors (n, d), how many values they take, their range, and all that in words."""

    x: np.ndarray
    levels: int | None
    range: tuple[float, float]
    meaning: str


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
        array, numbers, name, unread = _load(path, self.key, self.labels_key)
        found = understood(array, name)  # all of them: the range must not depend on the split
        classes = None
        if numbers is not None:
            numbers, classes = _classes(numbers, len(found.x), path)
        chosen = choose(
            len(found.x),
            source=str(path),
            split=split,
            holdout=self.holdout,
            numbers=numbers,
            classes=classes,
            labels=self.labels,
            limit=self.limit,
        )
        return Examples(
            torch.from_numpy(found.x[chosen.index]),
            chosen.labels,
            chosen.names,
            levels=found.levels,
            range=found.range,
            source=f"{name}, {found.meaning}{unread}",
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
        f"{_kind(labels)}: set data.labels_key, or data.labels_key=none for no labels"
    )


def understood(array: np.ndarray, name: str, tensor: bool = False) -> Understood:
    """What an array of examples means; `tensor`: it is one of torch, which puts channels first. ValueError where it
    means nothing."""
    if not array.size:
        raise ValueError(f"{name} is empty: expected {ACCEPTED}, got {_kind(array)}: check how it was saved")
    floating = array.dtype.kind == "f"
    if floating:
        _check_finite(array, name)
        if array.ndim == 2:
            x = array.astype(np.float32)
            return Understood(x, None, (float(x.min()), float(x.max())), "float vectors")
    if array.ndim not in (3, 4) or not (floating or array.dtype in (np.uint8, np.uint16)):
        raise ValueError(f"{name}: expected {ACCEPTED}, got {_kind(array)}: convert it")
    if array.ndim == 3 and array.shape[-1] in (3, 4) and min(array.shape[:2]) > MOST_CHANNELS:
        raise ValueError(
            f"{name}: expected {ACCEPTED}, got {_kind(array)}, which looks like one colour picture: save it as x[None]"
        )
    pictures = channels_first(array, name, tensor)
    last = ", channels last" if array.ndim == 4 and pictures is not array else ""
    if array.dtype == np.uint16:
        return Understood(pictures, WORDS, (0, WORDS - 1), f"16-bit pictures{last}")
    if not floating:
        return Understood(pictures, BYTES, (0, BYTES - 1), f"pictures of bytes{last}")
    low, high = float(array.min()), float(array.max())
    unsigned = low >= -ROUNDED
    if high > 1 + ROUNDED or low < -1 - ROUNDED or (not unsigned and low > -BELOW):
        raise ValueError(
            f"{name}: expected float pictures in [0, 1] or [-1, 1], got {low:.4g} to {high:.4g}: "
            "rescale or clip them, or save bytes (uint8); sequences are unsteep.Examples(x, levels=None, valid=...)"
        )
    ends, words = ((0.0, 1.0), "[0, 1]") if unsigned else ((-1.0, 1.0), "[-1, 1]")
    pictures = pictures.clip(*ends)
    values = (pictures.astype(np.float64) - ends[0]) * ((BYTES - 1) / (ends[1] - ends[0]))
    whole = np.rint(values)
    if float(np.abs(values - whole).max()) < GRID * (BYTES - 1):
        return Understood(whole.astype(np.uint8), BYTES, (0, BYTES - 1), f"float pictures read as {words}{last}")
    meaning = f"continuous float pictures in {words}{last}"
    return Understood(np.ascontiguousarray(pictures, np.float32), None, ends, meaning)


def channels_first(array: np.ndarray, name: str, tensor: bool = False) -> np.ndarray:
    """(n, c, h, w) of any layout accepted. A `tensor` of torch has channels first, but for square pictures of one or
    three last, and for more channels than there can be. Elsewhere, where both ends could be channels, grey and colour
    go before others, and then the last axis before the second."""
    if array.ndim == 3:
        return array[:, None]
    first, across, last = array.shape[1:]
    able = range(1, MOST_CHANNELS + 1)
    if tensor:
        if first in able and not (first == across and last in (1, 3) and first not in (1, 3)):
            return array
        if last in (1, 3, 4):
            return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
        raise ValueError(f"{name}: expected {ACCEPTED}, got {_kind(array)}: convert it")
    if first in able and last in able and not {first, last} & {1, 3} and across == last != first:
        return array  # square pictures, channels first
    for counts in ((1, 3), (4, 2), able):
        if first in counts and last not in counts:
            return array
        if last in counts:
            return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    raise ValueError(f"{name}: expected {ACCEPTED}, got {_kind(array)}: convert it")


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
    found = understood(array, source, isinstance(x, Tensor))
    return Examples(
        torch.from_numpy(np.require(found.x, requirements=["C", "W"])),
        levels=found.levels,
        range=found.range,
        source=f"{source}, {found.meaning}",
    )


@contextmanager
def plain_arrays(path: Path) -> Iterator[None]:
    """Turn whatever NumPy raises on a file that is not of its kind, or broken, into one line."""
    with reading(path, "plain arrays, as np.save and np.savez write", "save it anew"):
        try:
            yield
        except ValueError as error:
            if "pickle" in str(error) or "Python objects" in str(error):
                raise ValueError("pickled objects or junk, which are refused") from error
            raise


def _load(path: Path, key: str, labels_key: str) -> tuple[np.ndarray, np.ndarray | None, str, str]:
    """The array of examples, that of labels if there is one, what to call the first, and which are not read."""
    if not path.is_file():
        raise ValueError(f"data.path: expected a .npy or .npz file, found none at {path}: give the file")
    with plain_arrays(path):
        content = opened(path)
    if isinstance(content, np.ndarray):
        if key or labels_key:
            raise ValueError(f"{path} is one array without a name: leave data.key and data.labels_key empty")
        return content, None, str(path), ""
    with content:
        chosen, labels = _choose_keys(path, content.files, key, labels_key)
        others = shorten([name for name in content.files if name not in (chosen, labels)], 4)
        unread = f"; not read: {others}" if others else ""
        with plain_arrays(path):
            numbers = np.asarray(content[labels]) if labels else None
            return np.asarray(content[chosen]), numbers, f"{path}[{chosen}]", unread


def opened(path: Path) -> Any:
    """What np.load gives, of sizes that are there and may be used: a .npy is mapped, and the arrays of a .npz are
    looked at before they are unpacked."""
    if not zipfile.is_zipfile(path):
        return np.load(path, mmap_mode="c", allow_pickle=False)
    with zipfile.ZipFile(path) as archive:
        most = max((info.file_size for info in archive.infolist()), default=0)
    fits(most, f"{path}: the largest of its arrays", "save it as .npy, which is read where it lies")
    return np.load(path, allow_pickle=False)


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


def _check_finite(array: np.ndarray, name: str) -> None:
    array = np.atleast_1d(array)
    with np.errstate(over="ignore"):  # a number too large for float32 is as bad as an infinite one
        broken = ~np.isfinite(array.astype(np.float32)).reshape(len(array), -1).all(1)
    if broken.any():
        first = ", ".join(map(str, np.flatnonzero(broken)[:5].tolist()))
        raise ValueError(
            f"{name}: {int(broken.sum())} of {len(array)} examples hold NaN, infinite values or such beyond float32, "
            f"the first at {first}: remove them"
        )


def _kind(array: np.ndarray) -> str:
    span = f", values {array.min()} to {array.max()}" if array.dtype.kind in "iufb" and array.size else ""
    return f"{array.dtype} of shape {array.shape}{span}"
