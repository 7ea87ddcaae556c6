"""Pictures or vectors in NumPy's own files: .npy (one array) and .npz (several, by name).

What an array means is decided by its type and shape alone: bytes are pictures, floats of two dimensions are
vectors, floats of more are pictures in [0, 1] or [-1, 1]. Nothing is rescaled by guesswork, and pickled objects
are refused.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from unsteep.data.dataset import DataSet, Split, choose

DATA_KEYS = ("images", "x", "data", "arr_0")
LABEL_KEYS = ("labels", "y")
ACCEPTED = "uint8 or float (n, h, w), (n, h, w, c) or (n, c, h, w) with c 1 or 3, or float (n, d)"


@dataclass(frozen=True, kw_only=True)
class Array:
    """Examples in a .npy or .npz file.

    path: the file; key, labels_key: which arrays of an npz hold the examples and their class numbers
    (empty: found by their usual names); labels: keep these class numbers; limit: keep the first so many;
    holdout: the fraction kept for testing.
    """

    path: str
    key: str = ""
    labels_key: str = ""
    labels: tuple[int, ...] = ()
    limit: int = 0
    holdout: float = 0.0

    def read(self, split: Split = "train") -> DataSet:
        """uint8 (n, c, h, w) or float32 (n, d). ValueError saying what was found where something else was expected."""
        path = Path(self.path).expanduser()
        array, numbers, name = _load(path, self.key, self.labels_key)
        x, meaning = _examples(array, name)  # all of them: the range must not depend on the split
        classes = None
        if numbers is not None:
            if numbers.shape != (len(x),) or numbers.dtype.kind not in "iu":
                raise ValueError(
                    f"{path}: labels are integers of shape ({len(x)},), got {_kind(numbers)}: set data.labels_key"
                )
            classes = {int(number): str(number) for number in np.unique(numbers)}
        chosen = choose(
            len(x),
            source=str(path),
            split=split,
            holdout=self.holdout,
            numbers=numbers,
            classes=classes,
            labels=self.labels,
            limit=self.limit,
        )
        return DataSet(torch.from_numpy(x[chosen.index]), chosen.labels, chosen.names, source=f"{name}, {meaning}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever NumPy raises on a file that is not of its kind, or broken, into one line."""
    try:
        yield
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = "pickled objects or junk, which are refused" if "pickle" in str(error) else str(error)
        raise ValueError(f"{path}: expected plain arrays, as np.save and np.savez write, got {reason}") from error


def _load(path: Path, key: str, labels_key: str) -> tuple[np.ndarray, np.ndarray | None, str]:
    """The array of examples, that of labels if there is one, and what to call the first."""
    if not path.is_file():
        raise ValueError(f"data.path: expected a .npy or .npz file, found none at {path}: give the file")
    with _reading(path):
        content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        if key or labels_key:
            raise ValueError(f"{path} is one array without a name: leave data.key and data.labels_key empty")
        return content, None, str(path)
    with content:
        chosen, labels = _choose_keys(path, content.files, key, labels_key)
        with _reading(path):
            return np.asarray(content[chosen]), np.asarray(content[labels]) if labels else None, f"{path}[{chosen}]"


def _choose_keys(path: Path, names: list[str], key: str, labels_key: str) -> tuple[str, str]:
    """The names of the examples and of the labels ("" for none) among the arrays of an npz."""
    there = ", ".join(names) or "no array at all"
    for field, name in (("data.key", key), ("data.labels_key", labels_key)):
        if name and name not in names:
            raise ValueError(f"{path} has no array {name!r}: set {field} to one of those it has: {there}")
    labels = labels_key or next((name for name in LABEL_KEYS if name in names and name != key), "")
    others = [name for name in names if name != labels]
    usual = [name for name in DATA_KEYS if name in others]
    candidates = [key] if key else others if len(others) == 1 else usual
    if not candidates:
        raise ValueError(f"{path}: none of its arrays has a usual name: set data.key to one of those it has: {there}")
    return candidates[0], labels


def _examples(array: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Pictures uint8 (n, c, h, w) or vectors float32 (n, d), and in words how they were understood."""
    if not array.size:
        raise ValueError(f"{name} is empty: expected {ACCEPTED}, got {_kind(array)}: check how it was saved")
    floating = array.dtype.kind == "f"
    if floating:
        _check_finite(array, name)
        if array.ndim == 2:
            return array.astype(np.float32), "float vectors"
    if array.ndim not in (3, 4) or not (floating or array.dtype == np.uint8):
        raise ValueError(f"{name}: expected {ACCEPTED}, got {_kind(array)}: convert it")
    pictures = _channels_first(array, name)
    if not floating:
        return pictures, "pictures of bytes"
    low, high = float(array.min()), float(array.max())
    if low < -1 or high > 1:
        raise ValueError(
            f"{name}: expected float pictures in [0, 1] or [-1, 1], got {low:.4g} to {high:.4g}: "
            "rescale them, or save bytes (uint8)"
        )
    if low < 0:
        return np.rint((pictures + 1.0) * 127.5).astype(np.uint8), "float pictures read as [-1, 1]"
    return np.rint(pictures * 255.0).astype(np.uint8), "float pictures read as [0, 1]"


def _channels_first(array: np.ndarray, name: str) -> np.ndarray:
    """(n, c, h, w) of any layout accepted; where both ends could be channels, the last is."""
    if array.ndim == 3:
        return array[:, None]
    if array.shape[3] in (1, 3):
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    if array.shape[1] in (1, 3):
        return array
    advice = "blend the transparency into a background first" if 4 in (array.shape[1], array.shape[3]) else "convert it"
    raise ValueError(f"{name}: expected {ACCEPTED}, got {_kind(array)}: {advice}")


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
