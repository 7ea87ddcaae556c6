"""A folder of pictures, searched to any depth, or an archive of them, at one size.

Which files are read, and in which order, is settled before any of them is opened: sorted by path, then chosen
by split and class. Files that turn out to be no pictures are left out and counted, and only many of them are an
error.
"""

import sys
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from unsteep.core.protocols import Split
from unsteep.data.choosing import choose, shorten
from unsteep.data.decoding import Apart, Bad, Decoded, Form, chosen_of, decode
from unsteep.data.examples import BYTES, WORDS, Examples
from unsteep.data.pictures import Crop, Readable, converted, shape_of
from unsteep.data.places import SEVERAL, Places, places, together
from unsteep.data.searching import NAMELESS, settled
from unsteep.data.stored import Chosen, StoredPictures
from unsteep.storage.foreign import reading

LOOKED_AT = 100  # pictures, for whether texts beside them are their classes


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The pictures (png, jpg, webp, bmp, gif, tif, avif, heic) in a folder and its sub-folders (see `searching`), or in
    archives (see `places`).

    path: the folder, a .zip or .tar, or a row of them, a-{000..127}.tar; size: both sides of what is read; height,
    width: where they differ, else 0; crop: "center" cuts the largest centred part of this shape, "stretch"
    squeezes; channels: 1 grey, 3 colour, 4 colour and transparency; bits: 8, or 16 for grey pictures that have
    them; labelled: the first level of sub-folders are the classes, numbered in alphabetical order, or in archives
    what lies beside each, as 7.cls beside 7.jpg; labels: keep these class numbers; limit: keep the first so many,
    in order of path; holdout: the fraction kept for testing; max_bad: the fraction of unreadable files that is
    tolerated, and of pictures without an aligned one; aligned: a folder with a picture beside each, such as a mask
    or a skeleton, under the same name but for the suffix, or as many archives. Links to folders are not followed.
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
    def form(self) -> Form:
        """What the pictures are brought to."""
        sides = {"height": self.height or self.size, "width": self.width or self.size}
        return Form(channels=self.channels, crop=self.crop, bits=self.bits, **sides)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what is read."""
        return self.form.shape

    def sized(self, shape: tuple[int, ...]) -> "Folder":
        """The same, at the size of pictures (c, h, w) that a model is of."""
        channels, height, width = shape
        read: Literal[1, 3, 4] = channels if channels in (1, 3, 4) else 3  # type: ignore[assignment]
        sides = (0, 0) if height == width else (height, width)
        return replace(self, channels=read, size=max(height, width), height=sides[0], width=sides[1])

    def read(self, split: Split = "train") -> Examples | StoredPictures:
        """uint8 (n, channels, height, width), uint16 for 16 bits. ValueError for a folder that is missing, empty or
        full of junk."""
        there = places(self.path)
        at, skipped = np.arange(len(there.names)), list(there.left)
        numbers, classes = None, None
        if self.labelled:
            at, numbers, classes, outside = _classes(there)
            skipped += outside
        other, pairs = None, np.empty(0, np.int64)
        if self.aligned:
            other = _aligned(self.aligned)
            pairs, apart = self._beside(there, other, at)
            skipped += apart
            numbers = None if numbers is None else numbers[pairs >= 0]
            at, pairs = at[pairs >= 0], pairs[pairs >= 0]
        chosen = choose(
            len(at),
            source=there.where,
            split=split,
            holdout=self.holdout,
            numbers=numbers,
            classes=classes,
            labels=self.labels,
        )
        at = at[chosen.index]
        how = {"limit": self.limit, "max_bad": self.max_bad}
        found = decode(there, at, self.form, **how)  # type: ignore[arg-type]
        kept, x, bad, aligned = found.kept, found.x, found.bad, None
        if other is not None:
            small = replace(self.form, bits=8, channels=min(self.channels, 3))
            given = decode(other, pairs[chosen.index][kept], small, **how)  # type: ignore[arg-type]
            if len(given.kept) < len(kept):
                x, kept = _some(x, given.kept), kept[given.kept]
            bad, aligned = [*bad, *given.bad], given.x
        form = f"{'cropped' if self.crop == 'center' else 'stretched'} to {' x '.join(map(str, self.form.shape[1:]))}"
        done = converted(there.open(int(at[kept[0]])), channels=self.channels, bits=self.bits)
        told: dict[str, Any] = {
            "labels": None if chosen.labels is None else chosen.labels[torch.from_numpy(kept)],
            "names": chosen.names,
            "files": chosen_of(there.names, at[kept]),
            "skipped": (*skipped, *bad),
            "source": ", ".join([there.where, form, *done, *found.words]),
            "levels": BYTES if self.bits == 8 else WORDS,
        }
        return gathered(x, aligned, found, told)

    def _beside(self, there: Places, other: Places, at: np.ndarray) -> tuple[np.ndarray, Bad]:
        """The position of the aligned picture of each, -1 without, and (file, reason) of these; ValueError where they
        are too many.

        Where squares are cut out, a picture and the one beside it must have one shape: the cut is then the same. Of two
        rows of as many archives, names are those of each archive with its fellow; one that comes twice is of none.
        """
        rows = there.parts == other.parts

        def key(of: Places, i: int, name: str) -> tuple[int, str]:
            return of.part(i) if rows else 0, settled(name)

        names = [key(there, i, name) for i, name in enumerate(there.names)]
        once = together(names)
        known = together(key(other, j, _stem(name)) for j, name in enumerate(other.names))
        found = np.full(len(at), -1)
        apart: Bad = []
        for row, i in enumerate(at.tolist()):
            name = there.names[i]
            j = known.get(key(there, i, _stem(name)))
            if j is None:
                apart.append((name, f"none of its name in {self.aligned}"))
            elif SEVERAL in (j, once[names[i]]):
                apart.append((name, f"several of its name, here or in {self.aligned}"))
            elif self.crop == "center" and not _alike(there.open(i), other.open(j)):
                apart.append((name, f"another shape than {other.names[j]} in {self.aligned}"))
            else:
                found[row] = j
        if len(apart) > self.max_bad * len(at):
            named = shorten([f"{file} ({why})" for file, why in apart], 3)
            raise ValueError(
                f"data.aligned: {len(apart)} of {len(at)} pictures have no aligned one: {named}; "
                "add what is missing, or raise data.max_bad"
            )
        return found, apart


def gathered(
    x: Tensor | Apart, aligned: Tensor | Apart | None, found: Decoded, told: dict[str, Any]
) -> Examples | StoredPictures:
    """Pictures with what is told of them: in memory, or read when they are asked for."""
    if isinstance(x, Tensor) and (aligned is None or isinstance(aligned, Tensor)):
        return Examples(x, aligned=aligned, **told)
    rows = np.arange(x.shape[0])
    beside = None if aligned is None else Chosen(aligned, rows)
    return StoredPictures(Chosen(x, rows), aligned=beside, extremes=found.range, entry=found.entry, **told)


def _some(x: Tensor | Apart, at: np.ndarray) -> Tensor | Apart:
    return x[torch.from_numpy(at)] if isinstance(x, Tensor) else Chosen(x, at)


def _aligned(path: str) -> Places:
    try:
        return places(path)
    except ValueError as error:
        raise ValueError(str(error).replace("data.path", "data.aligned")) from None


def _classes(there: Places) -> tuple[np.ndarray, np.ndarray, dict[int, str], Bad]:
    """Positions of the pictures that have a class, its number, the names by number, and (file, reason) of the others:
    the first sub-folder, or where there is one, the text beside a picture, as 7.cls beside 7.jpg."""
    nameless = [name for name, why in there.left if why == NAMELESS and name.endswith("/")]
    if nameless:
        raise ValueError(f"data.labelled: the class folder {there.where}/{nameless[0]} has {NAMELESS}")
    told = any(there.beside(i, ".cls") is not None for i in range(min(LOOKED_AT, len(there.names))))
    beside = there.texts(".cls") if told else repeat(None)
    each = [
        sys.intern(_class(there, name, text) if told else settled(name.partition("/")[0]) * ("/" in name))
        for name, text in zip(there.names, beside, strict=False)
    ]
    names = sorted(set(each) - {""}, key=lambda one: (not one.isdecimal(), int(one) if one.isdecimal() else 0, one))
    if not told:
        names.sort()
    if not names:
        raise ValueError(
            f"data.labelled expects one folder of pictures for each class, as in {there.where}/cats/1.png, "
            f"but {there.where} has no such sub-folder: make them, or set data.labelled=false"
        )
    number = {name: i for i, name in enumerate(names)}
    numbers = np.array([number.get(one, -1) for one in each], np.int64)
    why = "no class beside it" if told else "outside every class folder"
    outside = [(there.names[i], why) for i in np.flatnonzero(numbers < 0).tolist()]
    return np.flatnonzero(numbers >= 0), numbers[numbers >= 0], dict(enumerate(names)), outside


def _class(there: Places, name: str, text: bytes | None) -> str:
    if text is None:
        return ""
    with reading(f"{there.where}: the class beside {name}", "UTF-8 text"):
        return " ".join(text.decode("utf-8").split())


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _alike(a: Readable, b: Readable) -> bool:
    """Whether two pictures have one shape, to a pixel of the smaller; True where that cannot be seen: whoever decodes
    them tells more."""
    try:
        (width, height), (w, h) = sorted((shape_of(a), shape_of(b)))
    except Exception:  # decoders raise nearly anything on damaged files
        return True
    return abs(w * height - h * width) <= max(w, h)
