"""A folder of pictures, searched to any depth, as one array of pictures of one size.

Which files are read, and in which order, is settled before any of them is opened: sorted by path, then chosen
by split and class. Files that turn out to be no pictures are left out and counted, and only many of them are an
error. Pillow frees the interpreter while it decodes, so a pool of threads is enough.
"""

import tempfile
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from unsteep.core.protocols import Split
from unsteep.data.choosing import choose, shorten
from unsteep.data.examples import BYTES, WORDS, Examples
from unsteep.data.pictures import DRAWN, Crop, converted, load_picture, reason, shape_of
from unsteep.data.searching import NAMELESS, search
from unsteep.pages.progress import bar

IN_MEMORY = 2 << 30  # bytes; a larger array lies in a temporary file, which the system pages in as needed
CHUNK = 512  # pictures decoded ahead of the one being stored

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The pictures (png, jpg, webp, bmp, gif, tif, avif, heic) in a folder and its sub-folders (see `searching`).

    path: the folder; size: both sides of what is read; height, width: where they differ, else 0; crop: "center" cuts
    the largest centred part of this shape, "stretch" squeezes; channels: 1 grey, 3 colour, 4 colour and transparency;
    bits: 8, or 16 for grey
    pictures that have them; labelled: the first level of sub-folders are the classes, numbered in
    alphabetical order; labels: keep these class numbers; limit: keep the first so many, in order of path;
    holdout: the fraction kept for testing; max_bad: the fraction of unreadable files that is tolerated, and
    of pictures without an aligned one; aligned: a folder with a picture beside each, such as a mask or a skeleton,
    under the same name but for the suffix. Links to folders are not followed.
    """

    path: str
    size: int = 64
    height: int = 0
    width: int = 0
    crop: Crop = "center"
    channels: Literal[1, 3, 4] = 3
    bits: Literal[8, 16] = 8
    labelled: bool = False
    labels: tuple[int, ...] = ()
    limit: int = 0
    holdout: float = 0.0
    max_bad: float = 0.1
    aligned: str = ""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: expected at least 1 pixel, got {self.size}")
        for name in ("height", "width"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 1 pixel, or 0 for size, got {getattr(self, name)}")
        if self.bits == 16 and self.channels != 1:
            raise ValueError(f"bits: 16 are read of grey pictures, and channels is {self.channels}; set channels=1")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what is read."""
        return self.channels, self.height or self.size, self.width or self.size

    def sized(self, shape: tuple[int, ...]) -> "Folder":
        """The same, at the size of pictures (c, h, w) that a model is of."""
        channels, height, width = shape
        read: Literal[1, 3, 4] = channels if channels in (1, 3, 4) else 3  # type: ignore[assignment]
        sides = (0, 0) if height == width else (height, width)
        return replace(self, channels=read, size=max(height, width), height=sides[0], width=sides[1])

    def read(self, split: Split = "train") -> Examples:
        """uint8 (n, channels, height, width), uint16 for 16 bits. ValueError for a folder that is missing, empty or
        full of junk."""
        root = Path(self.path).expanduser()
        found = search(root)
        files, skipped = found.files, list(found.left)
        numbers, classes = None, None
        nameless = [name for name, why in skipped if why == NAMELESS and name.endswith("/")]
        if self.labelled and nameless:
            raise ValueError(f"data.labelled: the class folder {root}/{nameless[0]} has {NAMELESS}")
        if self.labelled:
            skipped += [(file, "outside every class folder") for file in files if "/" not in file]
            files = [file for file in files if "/" in file]
            folders = sorted({file.split("/")[0] for file in files})
            if not folders:
                raise ValueError(
                    f"data.labelled expects one folder of pictures for each class, as in {root}/cats/1.png, "
                    f"but {root} has no such sub-folder: make them, or set data.labelled=false"
                )
            classes = dict(enumerate(folders))
        beside: dict[str, str] = {}
        if self.aligned:
            beside, apart = self._beside(root, files)
            skipped += apart
            files = [file for file in files if file in beside]
        if classes is not None:
            numbers = np.array([list(classes.values()).index(file.split("/")[0]) for file in files])
        chosen = choose(
            len(files),
            source=str(root),
            split=split,
            holdout=self.holdout,
            numbers=numbers,
            classes=classes,
            labels=self.labels,
        )
        x, kept, bad = self.decode(root, [files[i] for i in chosen.index])
        aligned = None
        if self.aligned:
            given, whole, bad_beside = replace(self, bits=8, channels=min(self.channels, 3)).decode(
                Path(self.aligned).expanduser(), [beside[files[i]] for i in chosen.index[kept]]
            )
            if len(whole) < len(kept):
                x, kept = x[whole], [kept[i] for i in whole]
            bad, aligned = [*bad, *bad_beside], torch.from_numpy(given)
        size = " x ".join(map(str, self.shape[1:]))
        done = converted(root / files[chosen.index[kept[0]]], channels=self.channels, bits=self.bits)
        return Examples(
            torch.from_numpy(x),
            None if chosen.labels is None else chosen.labels[kept],
            chosen.names,
            files=tuple(files[i] for i in chosen.index[kept]),
            skipped=(*skipped, *bad),
            source=", ".join([str(root), f"{'cropped' if self.crop == 'center' else 'stretched'} to {size}", *done]),
            levels=BYTES if self.bits == 8 else WORDS,
            aligned=aligned,
        )

    def _beside(self, root: Path, files: list[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
        """The aligned picture of each file, and (file, reason) of those without; ValueError where these are too many.

        Where squares are cut out, a picture and the one beside it must have one shape: the cut is then the same.
        """
        where = Path(self.aligned).expanduser()
        try:
            there = {str(Path(file).with_suffix("")): file for file in picture_files(where)}
        except ValueError as error:
            raise ValueError(str(error).replace("data.path", "data.aligned")) from None
        found: dict[str, str] = {}
        apart: list[tuple[str, str]] = []
        for file in files:
            other = there.get(str(Path(file).with_suffix("")))
            if other is None:
                apart.append((file, f"none of its name in {self.aligned}"))
            elif self.crop == "center" and not _alike(root / file, where / other):
                apart.append((file, f"another shape than {other} in {self.aligned}"))
            else:
                found[file] = other
        if len(apart) > self.max_bad * len(files):
            named = shorten([f"{file} ({why})" for file, why in apart], 3)
            raise ValueError(
                f"data.aligned: {len(apart)} of {len(files)} pictures have no aligned one: {named}; "
                "add what is missing, or raise data.max_bad"
            )
        return found, apart

    def decode(self, root: Path, files: list[str]) -> tuple[np.ndarray, list[int], list[tuple[str, str]]]:
        """Pictures (n, c, h, w), the positions in `files` they have, and (file, reason) of the bad ones met.

        At most `limit` of them. ValueError where none can be read, or more than the share `max_bad` cannot.
        """

        channels, height, width = self.shape

        def attempt(file: str) -> np.ndarray | str:
            try:
                return load_picture(
                    root / file,
                    height=height,
                    width=width,
                    crop=self.crop,
                    channels=channels,
                    bits=self.bits,
                    ours=False,
                )
            except Exception as error:  # decoders raise nearly anything on damaged files
                return reason(error)

        wanted = min(self.limit, len(files)) if self.limit else len(files)
        x = _room((wanted, channels, height, width), np.uint8 if self.bits == 8 else np.uint16)
        kept: list[int] = []
        bad: list[tuple[str, str]] = []
        ours: list[tuple[str, str]] = []
        chunks = (files[at : at + CHUNK] for at in range(0, len(files), CHUNK))
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module="PIL")  # what cannot be read is told once, in `skipped`
            pool = ThreadPoolExecutor()
            stack.callback(pool.shutdown, cancel_futures=True)  # at the limit, or interrupted: no more is decoded
            results = (result for chunk in chunks for result in pool.map(attempt, chunk))
            for position, result in enumerate(_watched(results, wanted)):
                if isinstance(result, str):
                    (ours if result == DRAWN else bad).append((files[position], result))
                    continue
                x[len(kept)] = result
                kept.append(position)
                if len(kept) == wanted:
                    break
        examples = shorten([f"{file} ({why})" for file, why in bad], 3)
        if not kept and not bad:
            raise ValueError(f"{root}: all {len(ours)} pictures in it were {DRAWN}: give a folder of data")
        if not kept:
            raise ValueError(f"{root}: none of its {len(bad)} picture files can be read, {examples}: check the folder")
        if len(bad) > self.max_bad * (len(bad) + len(kept)):
            raise ValueError(
                f"{root}: {len(bad)} of {len(bad) + len(kept)} picture files cannot be read, {examples}: "
                "mend or remove them, or raise data.max_bad"
            )
        return x[: len(kept)], kept, [*ours, *bad]


def _alike(a: Path, b: Path) -> bool:
    """Whether two pictures have one shape, to a pixel of the smaller; True where that cannot be seen: whoever decodes
    them tells more."""
    try:
        (width, height), (w, h) = sorted((shape_of(a), shape_of(b)))
    except Exception:  # decoders raise nearly anything on damaged files
        return True
    return abs(w * height - h * width) <= max(w, h)


def picture_files(root: Path) -> list[str]:
    """Paths, relative to `root` with forward slashes and sorted, of the files named as pictures (see `searching`).

    ValueError where there is no folder, or none of its files is named as a picture.
    """
    return search(root).files


def _room(shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> np.ndarray:
    """Whole numbers of this shape to be filled, in memory or, if too large, in a file that vanishes with the array."""
    if np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    return vanishing(shape, dtype)


def vanishing(shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> np.ndarray:
    """Numbers of this shape to be filled, in a file that vanishes with the array."""
    with tempfile.TemporaryFile() as file:  # the mapping keeps it open
        return np.memmap(file, dtype, mode="w+", shape=shape)


def _watched(items: Iterable[T], total: int) -> Iterator[T]:
    """Pass items on, and show how far it has come."""
    with bar(True, total, "reading pictures") as advance:
        for item in items:
            advance()
            yield item
