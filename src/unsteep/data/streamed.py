"""Arrays that may be larger than what is wanted of them, read a few rows at a time from where they lie: in memory, in a
.npy, which is mapped, or packed in a .npz, of which nothing is unpacked but the rows that pass by.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np

from unsteep.core.budget import fits, share
from unsteep.storage.foreign import reading

AT_ONCE = 1 << 24  # bytes of rows that are held at once, at most
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, eq=False)
class Streamed:
    """An array of `shape` (n, ...). `pieces` walks over its rows, in order; `rows` are those at positions that rise, or
    all, of None."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Callable[[], Iterator[np.ndarray]]
    rows: Callable[[np.ndarray | None], np.ndarray]

    def __len__(self) -> int:
        return self.shape[0]

    @classmethod
    def of(cls, array: np.ndarray, name: str) -> Self:
        """One that is there, or mapped."""

        def pieces() -> Iterator[np.ndarray]:
            yield from (array[first : first + at_once(array)] for first in range(0, len(array), at_once(array)))

        return cls(name, array.shape, array.dtype, pieces, lambda index: array if index is None else array[index])

    @property
    def kind(self) -> str:
        """What it is, in words."""
        span = ""
        if self.dtype.kind in "iufb" and 0 not in self.shape:
            ends = [(piece.min(), piece.max()) for piece in self.pieces()] if self.shape else []
            span = f", values {min(low for low, _ in ends)} to {max(high for _, high in ends)}" if ends else ""
        return f"{self.dtype} of shape {self.shape}{span}"


def at_once(array: np.ndarray | Streamed) -> int:
    """How many rows are held at once."""
    return max(1, share(AT_ONCE) // max(1, prod(array.shape[1:]) * array.dtype.itemsize))


def by_pieces(of: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """What a function makes of each row of x (n, ...), n >= 1, where what it holds meanwhile is much larger than x."""
    parts = map(of, Streamed.of(x, "").pieces())
    first = next(parts)
    found, have = np.empty((len(x), *first.shape[1:]), first.dtype), len(first)
    found[:have] = first
    for part in parts:
        found[have : have + len(part)] = part
        have += len(part)
    return found


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


def opened(path: Path) -> Streamed | dict[str, Callable[[], Streamed]]:
    """The array of a .npy, which is mapped, or those of a .npz by their names, of which none is read yet."""
    with plain_arrays(path):
        if not zipfile.is_zipfile(path):
            return Streamed.of(np.load(path, mmap_mode="c", allow_pickle=False), str(path))
        with np.load(path, allow_pickle=False) as archive:
            return {key: partial(_packed, path, key) for key in archive.files}


def _packed(path: Path, key: str) -> Streamed:
    """The array called `key` in a .npz."""
    name = f"{path}[{key}]"
    with plain_arrays(path), zipfile.ZipFile(path) as archive:
        member = key if key in archive.namelist() else f"{key}.npy"
        size = archive.getinfo(member).file_size
        with archive.open(member) as file:
            read_header = HEADERS.get(np.lib.format.read_magic(file))
            shape, by_columns, dtype = read_header(file) if read_header else ((), True, np.dtype(object))
            start = file.tell()
    if not shape or by_columns or dtype.hasobject or size - start < prod(shape) * dtype.itemsize:
        fits(size, f"{name}", "save it as .npy, which is read where it lies")
        with plain_arrays(path), np.load(path, allow_pickle=False) as archive:
            return Streamed.of(np.asarray(archive[key]), name)

    def pieces() -> Iterator[np.ndarray]:
        with plain_arrays(path), zipfile.ZipFile(path) as archive, archive.open(member) as file:
            file.read(start)
            left, each = shape[0], at_once(stored)
            while left:
                n = min(left, each)
                rows = file.read(n * prod(shape[1:]) * dtype.itemsize)
                yield np.frombuffer(rows, dtype).reshape(n, *shape[1:])
                left -= n
            file.read()  # to the end, where the checksum is

    def rows(index: np.ndarray | None) -> np.ndarray:
        index = np.arange(shape[0]) if index is None else index
        fits(len(index) * prod(shape[1:]) * dtype.itemsize, name, "set data.limit")
        found, first, have = np.empty((len(index), *shape[1:]), dtype), 0, 0
        for piece in pieces():
            some = index[have : np.searchsorted(index, first + len(piece))]
            found[have : have + len(some)] = piece[some - first]
            first, have = first + len(piece), have + len(some)
            if have == len(index) and first < shape[0] - at_once(stored):
                break
        return found

    stored = Streamed(name, shape, dtype, pieces, rows)
    return stored
