"""Samples in NumPy's own format, as other tools read them, and back.

images (n, h, w, c)    pictures           x (n, d)    vectors          labels (n,)    where there are classes
x (n, frames, features), lengths (n,)     sequences, padded with zeros to the longest
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unsteep.pages.files import PathLike, replacing


def write_samples(path: PathLike, samples: np.ndarray | Sequence[np.ndarray], labels: np.ndarray | None = None) -> None:
    """Pictures (n, c, h, w), vectors (n, d), or sequences, each (frames, features), with their labels (n,), whole or
    not at all."""
    arrays: dict[str, np.ndarray] = {}
    if not isinstance(samples, np.ndarray):
        lengths = [len(one) for one in samples]
        x = np.zeros((len(samples), max(lengths), *samples[0].shape[1:]), samples[0].dtype)
        for row, one in zip(x, samples, strict=True):
            row[: len(one)] = one
        arrays |= {"x": x, "lengths": np.array(lengths)}
    elif samples.ndim == 4:
        arrays["images"] = samples.transpose(0, 2, 3, 1)
    else:
        arrays["x"] = samples
    if labels is not None:
        arrays["labels"] = labels
    with replacing(path) as beside:
        np.savez(beside, **arrays)  # type: ignore[arg-type]  # the stub has no dict of arrays


def read_samples(path: PathLike) -> tuple[np.ndarray, np.ndarray | None]:
    """What `write_samples` wrote of pictures (n, c, h, w) or vectors (n, d), and the labels, None without."""
    with np.load(path, allow_pickle=False) as stored:
        x = stored["images"].transpose(0, 3, 1, 2) if "images" in stored else stored["x"]
        return np.ascontiguousarray(x), stored.get("labels")
