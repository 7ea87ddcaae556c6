"""Samples in NumPy's own format, as other tools read them, and back.

images (n, h, w, c)    pictures           x (n, d)    vectors          labels (n,)    where there are classes
x (n, frames, features), lengths (n,)     sequences, padded with zeros to the longest
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np

from unsteep.pages.files import PathLike, replacing
from unsteep.pages.ours import MARK


def write_samples(path: PathLike, samples: np.ndarray | Sequence[np.ndarray], labels: np.ndarray | None = None) -> None:
    """Pictures (n, c, h, w), vectors (n, d), or sequences, each (frames, features), with their labels (n,), whole or
    not at all."""
    if isinstance(samples, np.ndarray):
        write_parts(path, [samples], len(samples), labels)
        return
    lengths = [len(one) for one in samples]
    x = np.zeros((len(samples), max(lengths), *samples[0].shape[1:]), samples[0].dtype)
    for row, one in zip(x, samples, strict=True):
        row[: len(one)] = one
    arrays = {"x": x, "lengths": np.array(lengths), **({} if labels is None else {"labels": labels})}
    with replacing(path) as beside:
        np.savez(beside, **arrays)  # type: ignore[arg-type]  # the stub has no dict of arrays
        with zipfile.ZipFile(beside, "a") as stored:
            stored.comment = MARK.encode()


def write_parts(path: PathLike, parts: Iterable[np.ndarray], n: int, labels: np.ndarray | None = None) -> None:
    """The same of n pictures or vectors that come in parts, of which one at a time is held."""
    each = iter(parts)
    first = next(each)
    name = "images" if first.ndim == 4 else "x"
    with replacing(path) as beside, zipfile.ZipFile(beside, "w") as stored:
        stored.comment = MARK.encode()
        with stored.open(f"{name}.npy", "w", force_zip64=True) as file:
            for i, part in enumerate(itertools.chain([first], each)):
                rows = np.ascontiguousarray(part.transpose(0, 2, 3, 1) if part.ndim == 4 else part)
                if i == 0:
                    about = {"shape": (n, *rows.shape[1:]), "fortran_order": False, "descr": rows.dtype.str}
                    np.lib.format.write_array_header_1_0(file, about)
                file.write(rows.data)
        if labels is not None:
            with stored.open("labels.npy", "w") as file:
                np.lib.format.write_array(file, labels)


def read_samples(path: PathLike) -> tuple[np.ndarray, np.ndarray | None]:
    """What `write_samples` wrote of pictures (n, c, h, w) or vectors (n, d), and the labels, None without."""
    with np.load(path, allow_pickle=False) as stored:
        x = stored["images"].transpose(0, 3, 1, 2) if "images" in stored else stored["x"]
        return np.ascontiguousarray(x), stored.get("labels")
