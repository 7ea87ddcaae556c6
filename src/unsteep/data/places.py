"""Where pictures lie: a folder, a zip, a tar, or a row of such archives. Each is read by position, in any order.

    photos/                       a folder, searched to any depth (see `searching`)
    photos.zip, photos.tar        members as they are named; a first folder of all pictures and tables is left out
    photos.tar.gz                 unpacked once, beside what else is kept (see `cache`)
    shards/a-{000..127}.tar       many archives, in this order; * and ? stand for names, too

Beside a picture may lie what belongs to it, under the same name: 7.jpg, 7.txt, 7.cls, 7.json, as in the layout of
WebDataset (there, up to the first dot).
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np

from unsteep.data import cache
from unsteep.data.archives import SUFFIXES, TABLES, Index, indexed, stems
from unsteep.data.choosing import shorten
from unsteep.data.searching import search

BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
SEVERAL = -1  # in the place of a position
TEXTS = "texts.json.z"

Opened = Path | io.BytesIO


class Places(Protocol):
    """Pictures by position, sorted by name, and (name, reason) of what else is there."""

    where: str
    names: Sequence[str]
    left: list[tuple[str, str]]
    parts: int

    def part(self, i: int) -> int:
        """In which of the archives a picture lies; 0 in a folder."""
        ...

    def open(self, i: int) -> Opened:
        """A picture, as Pillow opens it."""
        ...

    def beside(self, i: int, suffix: str) -> bytes | None:
        """What lies beside a picture under its name; None where there is nothing."""
        ...

    def texts(self, suffix: str) -> Iterable[bytes | None]:
        """The same for every picture, in order."""
        ...

    def tables(self) -> list[str]:
        """The names of the tables that lie at the top; of a row of archives none is read."""
        ...

    def read(self, name: str) -> bytes:
        """Another file, by name."""
        ...

    def stamp(self, chosen: np.ndarray) -> str:
        """SHA-256 of names, sizes and times of change of some pictures: another one where any was changed."""
        ...


def places(path: str | Path) -> Places:
    """What lies at `path`. ValueError where there is nothing, or no picture in it."""
    root = Path(path).expanduser()
    if root.is_dir():
        return Loose(root)
    shards = expanded(str(root))
    return Archived(shards) if shards else Loose(root)


def is_archive(path: str | Path) -> bool:
    """Whether a path names archives, or a row of them."""
    return bool(expanded(str(Path(path).expanduser())))


def expanded(path: str) -> list[Path]:
    """The archives that a path names, () where it names none. ValueError for a pattern that nothing fits."""
    if not path.lower().endswith(SUFFIXES) or Path(path).is_dir():
        return []
    if Path(path).exists():  # whatever its name holds
        return [Path(path)]
    parts: list[list[str]] = []
    at = 0
    for brace in BRACES.finditer(path):
        first, last, words = brace.groups()
        if first and int(first) > int(last):
            raise ValueError(f"data.path: {brace[0]} in {path} counts down; write the smaller number first")
        wide = len(first or "")
        numbers = [str(n).zfill(wide) for n in range(int(first), int(last) + 1)] if first else words.split(",")
        parts += [[path[at : brace.start()]], numbers]
        at = brace.end()
    named = ["".join(one) for one in product(*parts, [path[at:]])]
    found = [Path(file) for name in named for file in (sorted(glob.glob(name)) if glob.has_magic(name) else [name])]
    if not found:
        raise ValueError(f"data.path: no archive is called {path}; check the pattern")
    return found


class Loose:
    """The files of a folder."""

    parts = 1

    def __init__(self, root: Path) -> None:
        found = search(root)
        self.root, self.where = root, str(root)
        self.names: Sequence[str] = found.files
        self.left = found.left

    def part(self, i: int) -> int:
        return 0

    def open(self, i: int) -> Opened:
        return self.root / self.names[i]

    def beside(self, i: int, suffix: str) -> bytes | None:
        file = (self.root / self.names[i]).with_suffix(suffix)
        return file.read_bytes() if file.is_file() else None

    def texts(self, suffix: str) -> Iterable[bytes | None]:
        return (self.beside(i, suffix) for i in range(len(self.names)))

    def tables(self) -> list[str]:
        found = (file.name for file in self.root.iterdir() if file.suffix.lower() in TABLES and file.is_file())
        return sorted(name for name in found if not name.startswith("."))

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def stamp(self, chosen: np.ndarray) -> str:
        sha = hashlib.sha256(os.fsencode(self.root.resolve()))
        for i in chosen:
            known = os.stat(os.path.join(self.root, self.names[i]))
            when = f"{known.st_size}\0{known.st_mtime_ns}\0{known.st_ctime_ns}\0{known.st_ino}"
            sha.update(f"{self.names[i]}\0{when}\n".encode("utf-8", "surrogateescape"))
        return sha.hexdigest()


class Archived:
    """The members of archives. What can be had of them without reading a member is known from their index."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self.where = str(shards[0]) if len(shards) == 1 else f"{shards[0]} and {len(shards) - 1:,} more"
        self._index: Index = indexed(shards)
        known, at = self._index.names, self._index.pictures
        self.names: Sequence[str] = known if len(at) == len(known) else [known[i] for i in at]
        self.left = self._index.left
        self.parts = len(shards)
        if not self.names:
            others = shorten([f"{name} ({why})" for name, why in self.left], 3) or "nothing"
            raise ValueError(f"{self.where} holds no picture: got {others}; give another data.path")

    def part(self, i: int) -> int:
        return int(self._index.shard[self._index.pictures[i]])

    def open(self, i: int) -> Opened:
        return io.BytesIO(self._index.read(int(self._index.pictures[i])))

    def beside(self, i: int, suffix: str) -> bytes | None:
        at = int(self._index.pictures[i])
        for stem in stems(self._index.names[at]):
            found = self._index.find(stem + suffix, int(self._index.shard[at]))
            if found is not None:
                return self._index.read(found)
        return None

    def texts(self, suffix: str) -> Iterable[bytes | None]:
        """Read once, and kept: a million members are far apart."""
        entry = cache.entry("beside", {"files": self._index.stamp, "suffix": suffix, "form": 1})
        if entry is not None and entry.holds(TEXTS):
            with suppress(OSError, ValueError, zlib.error):
                kept = json.loads(zlib.decompress((entry.folder / TEXTS).read_bytes()))
                if len(kept) == len(self.names):
                    return (None if one is None else one.encode("latin-1") for one in kept)
        read = [self.beside(i, suffix) for i in range(len(self.names))]
        if entry is not None:
            plain = json.dumps([None if one is None else one.decode("latin-1") for one in read])
            with entry.writing() as folder:
                (folder / TEXTS).write_bytes(zlib.compress(plain.encode(), 1))
        return read

    def tables(self) -> list[str]:
        if len(self._index.shards) > 1:  # one for each, of names that may be the same
            return []
        return [name for name in self._index.names if "/" not in name and name.lower().endswith(TABLES)]

    def read(self, name: str) -> bytes:
        found = self._index.find(name, 0)
        if found is None:
            raise ValueError(f"{self.where}: no {name} in it; give another archive")
        return self._index.read(found)

    def stamp(self, chosen: np.ndarray) -> str:
        sha = hashlib.sha256(json.dumps(self._index.stamp).encode())
        for i in chosen:
            sha.update(f"{self.names[i]}\n".encode("utf-8", "surrogateescape"))
        return sha.hexdigest()


def together(keys: Iterable[Hashable]) -> dict[Hashable, int]:
    """The position of each key; SEVERAL for one that comes more than once, and so does not tell which."""
    known: dict[Hashable, int] = {}
    for i, key in enumerate(keys):
        known[key] = SEVERAL if key in known else i
    return known
