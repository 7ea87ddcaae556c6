"""Sequences of numbers in a .npz: `x` (n, frames, features), and `lengths` (n,), how many frames of each are real.

Beside them `labels` (n,), whole numbers, where there are classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from unsteep.core.protocols import Split
from unsteep.data.choosing import choose
from unsteep.data.examples import Examples
from unsteep.data.streamed import Streamed, opened


@dataclass(frozen=True, kw_only=True)
class Timelines:
    """path: the .npz; labels: keep these class numbers; limit: keep the first so many; holdout: the fraction kept for
    testing."""

    path: str
    labels: tuple[int, ...] = ()
    limit: int = 0
    holdout: float = 0.0
    axes: ClassVar[int] = 2  # of one example

    def read(self, split: Split = "train") -> Examples:
        """float32 (n, frames, features) with `valid`. ValueError saying what was found where something else was
        expected."""
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise ValueError(f"data.path: expected a .npz file, found none at {path}: give the file")
        stored, arrays = opened(path), {}
        if not isinstance(stored, Streamed):
            arrays = {name: stored[name]().rows(None) for name in ("x", "lengths", "labels") if name in stored}
        if "x" not in arrays or "lengths" not in arrays:
            there = "one array without a name" if isinstance(stored, Streamed) else ", ".join(stored) or "none"
            raise ValueError(f"{path}: expected arrays x (n, frames, features) and lengths (n,), got {there}")
        x, lengths, numbers = arrays["x"], arrays["lengths"], arrays.get("labels")
        if x.ndim != 3 or x.dtype.kind != "f" or not x.size:
            raise ValueError(f"{path}: expected floats x (n, frames, features), got {x.dtype} {x.shape}")
        whole = lengths.shape == (len(x),) and lengths.dtype.kind in "iu"
        if not whole or lengths.min() < 1 or lengths.max() > x.shape[1]:
            span = f", {lengths.min()} to {lengths.max()}" if lengths.size else ""
            raise ValueError(
                f"{path}: expected lengths ({len(x)},) from 1 to {x.shape[1]}, got {lengths.dtype} {lengths.shape}"
                f"{span}: set them"
            )
        valid = np.arange(x.shape[1]) < lengths[:, None]
        if not np.isfinite(x[valid]).all():
            raise ValueError(f"{path}: some frames within their lengths hold NaN or infinite values: remove them")
        if numbers is not None and (numbers.shape != (len(x),) or numbers.dtype.kind not in "iu"):
            raise ValueError(
                f"{path}: expected labels ({len(x)},) of whole numbers, got {numbers.dtype} {numbers.shape}"
            )
        chosen = choose(
            len(x),
            source=str(path),
            split=split,
            holdout=self.holdout,
            numbers=numbers,
            labels=self.labels,
            limit=self.limit,
        )
        return Examples(
            torch.from_numpy(x[chosen.index].astype(np.float32)),
            chosen.labels,
            chosen.names,
            levels=None,
            valid=torch.from_numpy(valid[chosen.index]),
            source=f"{path}, sequences",
        )
