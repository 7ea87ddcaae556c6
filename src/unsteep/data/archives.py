"""The index of zip and tar archives: which members there are, and at which offset each begins, so that any can be read
at any time without what lies before it. Made once by reading the heads, and kept in the cache.

A member is read from its bytes alone; nothing is unpacked to a path that an archive names.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unsteep.core.budget import in_words, share
from unsteep.data import cache
from unsteep.data.searching import name_left, suffix_left
from unsteep.pages.progress import bar
from unsteep.storage.foreign import reading

PACKED: dict[str, Any] = {
    **{".gz": gzip.open, ".tgz": gzip.open},
    **{".bz2": bz2.open, ".tbz2": bz2.open, ".xz": lzma.open, ".txz": lzma.open},
}
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TABLES = (".csv", ".tsv", ".jsonl")  # they name pictures from where they lie
LONE = (".txt", ".cls", ".json")  # of one picture, under its name, or of none
BESIDE = (*LONE, *TABLES)  # members that are kept beside the pictures
UNPACKED = "unpacked.tar"
AT_ONCE = 8  # members that threads hold unpacked
MOST = 1 << 29  # bytes of a member
STORED, DEFLATED, PLAIN = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, -1
LOCAL_HEAD = struct.Struct("<4s22xHH")  # of a member of a zip: its mark, the lengths of its name and of what follows


class _Member(NamedTuple):
    name: str
    offset: int
    size: int
    packed: int
    method: int


@dataclass(frozen=True, eq=False)
class Index:
    """Members sorted by archive and name: `shard` (n,) says in which archive, `offset`, `size` and `packed` (n,) where,
    how large, and how large as it lies there; `method` (n,): how it is packed. `pictures`: positions of those named as
    pictures. `left`: (name, reason) of what is not read. `stamp`: which files these were."""

    shards: list[Path]
    names: list[str]
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    packed: np.ndarray
    method: np.ndarray
    pictures: np.ndarray
    left: list[tuple[str, str]]
    stamp: list[Any]

    def find(self, name: str, shard: int) -> int | None:
        """The position of a member; None without."""
        low, high = (int(at) for at in np.searchsorted(self.shard, [shard, shard + 1]))
        at = bisect_left(self.names, name, low, high)
        return at if at < high and self.names[at] == name else None

    def read(self, i: int) -> bytes:
        """A member. ValueError where the archive was changed or is broken."""
        path, size = self.shards[self.shard[i]], int(self.size[i])
        if size > share(size, AT_ONCE):
            raise ValueError(f"{in_words(size)} unpacked, more than 1/{AT_ONCE} of the memory that may be used")
        with path.open("rb") as file:
            file.seek(int(self.offset[i]))
            if self.method[i] != PLAIN:
                mark, *lengths = LOCAL_HEAD.unpack(file.read(LOCAL_HEAD.size).ljust(LOCAL_HEAD.size, b"\0"))
                if mark != b"PK\3\4":
                    raise ValueError(f"{path} was changed while it was read; start again")
                file.seek(sum(lengths), 1)
            content = file.read(int(self.packed[i]))
        if self.method[i] == DEFLATED:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
            except zlib.error as error:
                raise ValueError(f"broken in its archive ({error})") from None
        if len(content) != size:
            raise ValueError("cut short in its archive")
        return content


def stems(name: str) -> Iterator[str]:
    """A member's name up to the last dot of its last part, and then up to the first."""
    folder, slash, last = name.rpartition("/")
    yield folder + slash + last.rpartition(".")[0]
    yield folder + slash + last.partition(".")[0]


def indexed(shards: Sequence[Path]) -> Index:
    """The index of archives, from the cache where it was kept. ValueError for what is no archive."""
    for path in shards:
        if not path.is_file():
            raise ValueError(f"data.path: expected an archive, found none at {path}: check the path")
    files = [_plain(path) for path in shards]
    stamp = [_stamp(path) for path in shards]
    entry = cache.entry("archives", {"files": stamp, "form": 3})
    kept = _kept(entry, files, stamp) if entry is not None and entry.holds("index.npz") else None
    if kept is not None:
        return kept
    made = _scanned(files, shards, stamp)
    if entry is not None:
        with suppress(OSError), entry.writing() as folder:  # where it cannot be kept, it is made again
            _keep(made, folder)
    return made


def _stamp(path: Path) -> list[Any]:
    """Which file it is, and when it was changed: also one whose times were set back."""
    known = path.stat()
    return [str(path.resolve()), known.st_size, known.st_mtime_ns, known.st_ctime_ns, known.st_ino]


def _scanned(files: list[Path], shards: Sequence[Path], stamp: list[Any]) -> Index:
    members: list[tuple[int, _Member]] = []
    left: list[tuple[str, str]] = []
    with bar(len(files) > 1, len(files), "reading archives") as advance:
        for number, (file, shown) in enumerate(zip(files, shards, strict=True)):
            walked = list(_walked(file, shown, left))
            common = _common([one.name for one in walked if not one.name.lower().endswith(LONE)])
            members += [(number, one._replace(name=one.name.removeprefix(common))) for one in walked]
            advance()
    members.sort(key=lambda one: (one[0], one[1].name))
    numbers = np.array([[one.offset, one.size, one.packed] for _, one in members], np.int64).reshape(-1, 3)
    names = [one.name for _, one in members]
    return Index(
        files,
        names,
        np.array([number for number, _ in members], np.int32),
        numbers[:, 0],
        numbers[:, 1],
        numbers[:, 2],
        np.array([one.method for _, one in members], np.int8),
        np.array([i for i, name in enumerate(names) if not name.lower().endswith(BESIDE)], np.int64),
        sorted(left),
        stamp,
    )


def _common(names: list[str]) -> str:
    """The first folder of all pictures and tables of an archive, with its slash; empty where they share none."""
    first = names[0].partition("/")[0] + "/" if names and "/" in names[0] else ""
    while first and all(name.startswith(first) for name in names):
        return first
    return ""


def _walked(path: Path, shown: Path, left: list[tuple[str, str]]) -> Iterator[_Member]:
    """The members of one archive that may be read; `left` grows by the others."""
    with reading(shown, "a zip or tar archive that is whole"):
        for one, why in _zipped(path) if shown.suffix.lower() == ".zip" else _tarred(path):
            whole = why or next((why for part in one.name.split("/") if (why := name_left(part))), "")
            if not one.name.lower().endswith(BESIDE):
                whole = whole or suffix_left(one.name)
            if one.size > MOST:
                whole = whole or "too large"
            if whole:
                left.append((one.name, whole))
            else:
                yield one


def _zipped(path: Path) -> Iterator[tuple[_Member, str]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            known = info.compress_type in (STORED, DEFLATED)
            why = "encrypted" if info.flag_bits & 1 else "" if known else "packed in a way that is not read"
            name = info.filename.replace("\\", "/")
            yield _Member(name, info.header_offset, info.file_size, info.compress_size, info.compress_type), why


def _tarred(path: Path) -> Iterator[tuple[_Member, str]]:
    with tarfile.open(path, "r:") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps every head
            if info.isdir():
                continue
            why = "" if info.isreg() and not info.issparse() else "a link or no regular file"
            yield _Member(info.name.removeprefix("./"), info.offset_data, info.size, info.size, PLAIN), why
        _check_end(path, archive.offset)


def _check_end(path: Path, offset: int) -> None:
    """ValueError where a tar does not end where its last member does, in blocks of zeros: a damaged head, or what was
    cut off, looks like its end, and so does what was joined to it."""
    with path.open("rb") as file:
        file.seek(offset)
        rest = iter(partial(file.read, 1 << 20), b"")
        first = next(rest, b"")
        if len(first) < tarfile.BLOCKSIZE:
            raise ValueError("an archive that was cut short")
        if first.strip(b"\0") or any(piece.strip(b"\0") for piece in rest):
            raise ValueError(f"a damaged head, or a second archive, at byte {offset:,}")


def _plain(path: Path) -> Path:
    """A tar whose members can be found: `path`, or what it unpacks to, once."""
    opener = PACKED.get(path.suffix.lower())
    if opener is None:
        return path
    stamp = _stamp(path)
    entry = cache.entry("unpacked", stamp)
    if entry is None:
        raise ValueError(f"{path}: a packed tar is unpacked to the cache, which is off; unpack it, or allow the cache")
    if entry.holds(UNPACKED):
        return entry.folder / UNPACKED
    with (
        reading(path, "a packed tar that is whole"),
        entry.writing() as folder,
        opener(path, "rb") as packed,
        (folder / UNPACKED).open("wb") as tar,
    ):
        for piece in iter(partial(packed.read, 1 << 22), b""):
            if tar.tell() > shutil.disk_usage(folder).free:
                raise ValueError(f"{path}: the disk of the cache has no room to unpack it; unpack it elsewhere")
            tar.write(piece)
    return entry.folder / UNPACKED


def _keep(made: Index, folder: Path) -> None:
    (folder / "names.txt").write_text("\n".join(made.names), encoding="utf-8", errors="surrogateescape")
    (folder / "left.json").write_text(json.dumps(made.left), encoding="utf-8")
    columns = {name: getattr(made, name) for name in ("shard", "offset", "size", "packed", "method", "pictures")}
    np.savez(folder / "index.npz", **columns)


def _kept(entry: cache.Entry, files: list[Path], stamp: list[Any]) -> Index | None:
    """What `_keep` wrote; None where it cannot be read."""
    try:
        names = (entry.folder / "names.txt").read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        left = [(str(name), str(why)) for name, why in json.loads((entry.folder / "left.json").read_text("utf-8"))]
        with np.load(entry.folder / "index.npz", allow_pickle=False) as columns:
            found = Index(files, names, **dict(columns), left=left, stamp=stamp)
        return found if len(names) == len(found.shard) else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
