"""What may be made again, kept between runs: the index of archives, the texts in them, and pictures
decoded to one size.

It lies where the system keeps such things (`~/.cache/unsteep` on Linux), or in the folder that the environment
variable UNSTEEP_CACHE names; UNSTEEP_CACHE=off, `allow(False)` and the command line's no-cache do without. Each entry
is a folder whose name is a hash of all that it depends on, whole or absent; what was not used for longest makes room.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from unsteep.pages.files import synced

VARIABLE, OFF = "UNSTEEP_CACHE", "off"
SHARE = 0.25  # of the space that is free: what one entry may take, and
MOST = 64 << 30  # bytes at most, of all together
KINDS = (
    "archives",
    "beside",
    "features",
    "pictures",
    "unpacked",
)  # the folders in it, in which nothing else is ever removed than
OURS = re.compile(r"[0-9a-f]{32}|\.new-\w+")  # what is called so
STALE = 24 * 3600.0  # seconds after which what nobody finished is swept away

_unused: ContextVar[bool] = ContextVar("_unused", default=False)


def allow(keep: bool) -> None:
    """Whether anything is kept, and taken from what was, in this context (see `contextvars`)."""
    _unused.set(not keep)


def root() -> Path | None:
    """The folder of the cache; None where there shall be none."""
    named = os.environ.get(VARIABLE, "")
    if _unused.get() or named == OFF:
        return None
    return Path(named).expanduser() if named else user_cache_path("unsteep")


def compiled() -> Path | None:
    """Where a compiler keeps what it makes, and itself removes what it will; None without a cache."""
    folder = root()
    return None if folder is None else folder / "compiled"


def room() -> int:
    """Bytes that one entry may take; 0 where nothing can be written."""
    folder = root()
    if folder is None:
        return 0
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return min(MOST, int(shutil.disk_usage(folder).free * SHARE)) if os.access(folder, os.W_OK) else 0
    return 0


@dataclass(frozen=True)
class Entry:
    """One folder of the cache, which may not be there yet."""

    folder: Path

    def holds(self, name: str) -> bool:
        """Whether a file of it is there. To ask is to use it."""
        with suppress(OSError):
            os.utime(self.folder)
        return (self.folder / name).is_file()

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A folder to write into, which becomes the entry at the end, in the place of one that will not do."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder.parent))
        try:
            yield beside
            for one in beside.iterdir():
                synced(one)
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # another process was faster
                beside.rename(self.folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def entry(kind: str, of: Any) -> Entry | None:
    """The entry of a kind for what `of` (anything JSON can say) describes; None without a cache."""
    folder = root()
    if folder is None or room() <= 0:
        return None
    try:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    _swept(folder)
    return Entry(folder / kind / hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:32])


def _swept(folder: Path) -> None:
    """Removes what was left behind, and what was not used for longest beyond the bound."""
    entries: list[tuple[float, int, Path]] = []
    for one in (one for kind in KINDS for one in (folder / kind).glob("*") if OURS.fullmatch(one.name)):
        with suppress(OSError):
            if one.is_symlink() or not one.is_dir():
                continue
            used = one.stat().st_mtime
            if one.name.startswith(".") and time.time() - used > STALE:
                shutil.rmtree(one, ignore_errors=True)
            elif not one.name.startswith("."):
                entries.append((used, sum(file.stat().st_size for file in one.iterdir()), one))
    total = sum(size for _, size, _ in entries)
    for _, size, one in sorted(entries):
        if total <= MOST:
            break
        shutil.rmtree(one, ignore_errors=True)
        total -= size
