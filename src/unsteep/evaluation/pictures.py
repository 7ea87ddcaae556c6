"""Pictures to be measured, as bytes: of any tool, in a folder or an array; 16-bit and continuous ones are rounded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from unsteep.core.protocols import DataSet, Split
from unsteep.data import Array, Folder, Idx
from unsteep.data.examples import Examples
from unsteep.data.idx import idx_files
from unsteep.data.places import Places, is_archive, places
from unsteep.data.reading import in_memory
from unsteep.data.searching import formats


def bytes_of(pictures: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Raw pictures as uint8, which metrics are of: 16 bits and floats from `low` to `high` rounded to 256 values."""
    if pictures.dtype == torch.uint8:
        return pictures
    share = pictures.float() / 65535 if pictures.dtype == torch.uint16 else (pictures.float() - low) / (high - low)
    return (share * 255).round().clamp(0, 255).to(torch.uint8)


def in_bytes(data: DataSet) -> Examples:
    """Pictures in memory, as `bytes_of` has them; other examples as they are."""
    whole = in_memory(data)
    if whole.x.ndim != 4 or whole.x.dtype == torch.uint8:
        return whole
    return replace(whole, x=bytes_of(whole.x, *whole.range), levels=256, range=(0.0, 1.0))


def open_pictures(path: Path, split: Split = "all", size: int | None = None) -> Examples:
    """Pictures of any tool at `path`: a folder of idx files, a .npy or .npz file, or a folder of pictures.

    `size`: resize the pictures of a folder to it; without it, ones of several sizes are refused. Sub-folders that all
    pictures lie in are their classes.
    """
    if path.suffix in (".npz", ".npy"):
        return in_memory(Array(path=str(path)).read("all"))
    if not path.is_dir() and not is_archive(path):
        raise ValueError(
            f"{path}: expected a run, a folder or an archive of pictures, idx files, or a .npz file; found none there"
        )
    if path.is_dir() and idx_files(path):
        return in_memory(Idx(path=str(path)).read(split))
    there = places(path)
    (height, width), channels = _sizes(there, size)
    labelled = all("/" in name for name in there.names)
    return in_memory(
        Folder(path=str(path), height=height, width=width, channels=channels, labelled=labelled).read("all")  # type: ignore[arg-type]
    )


def _sizes(there: Places, size: int | None) -> tuple[tuple[int, int], int]:
    """Height and width of all pictures, and their channels; from their heads, without decoding."""
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for i in range(len(there.names)):
        try:
            with Image.open(there.open(i), formats=formats()) as opened:
                sizes[opened.size] += 1
                grey = grey and opened.mode in ("L", "1", "I;16", "LA")
        except Exception:  # decoders raise nearly anything on damaged files; they are counted when they are read
            continue
    if size is None and len(sizes) > 1:
        most = ", ".join(f"{n} of {width} x {height}" for (width, height), n in sizes.most_common(3))
        raise ValueError(f"{there.where}: pictures of {len(sizes)} sizes ({most}); bring them to one with resize=SIZE")
    width, height = next(iter(sizes), (0, 0))
    return (size or height, size or width), 1 if grey else 3
