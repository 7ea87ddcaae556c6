"""How much memory may be used, so that no file decides it.

A share of what the machine has, or the control group that the process runs in; UNSTEEP_MEMORY, as 4GB, or `allowed`
says another number. What a file's head declares is held against it before anything is made of that size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

VARIABLE = "UNSTEEP_MEMORY"
SHARE = 0.75
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
UNKNOWN = 8 << 30  # bytes, where nobody tells what the machine has


def memory() -> int:
    """Bytes that may be used. ValueError for a variable that says no number."""
    asked = os.environ.get(VARIABLE, "").strip().lower()
    if asked:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", asked)
        if found is None:
            raise ValueError(f"{VARIABLE}: expected bytes, as 4GB or 500MB, got {asked!r}; set another, or none")
        return int(float(found[1]) * UNITS[found[2]])
    return int(SHARE * min([_machine(), *_groups()]))


@contextmanager
def allowed(said: str) -> Iterator[None]:
    """Inside it, and in what is started there, `said`, as 4GB, may be used. ValueError where it is no number."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = said
    try:
        memory()
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def share(most: int, part: int = 4) -> int:
    """Bytes for one thing among several: a part of what may be used, and no more than `most`."""
    return min(most, memory() // part)


def fits(size: int, what: str, advice: str) -> None:
    """ValueError where something takes more bytes than may be used."""
    if size > memory():
        raise ValueError(
            f"{what} takes {in_words(size)} of memory, and {in_words(memory())} may be used: {advice}, or set "
            f"{VARIABLE}"
        )


def in_words(size: float) -> str:
    """Bytes, as 4.2 GB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1000:.0f} kB"


def _machine() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN


def _groups() -> Iterator[int]:
    for name in GROUPS:
        try:
            yield int(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # there is none, or it has no bound
            continue


class Room:
    """Bytes that several threads share, a part of what may be used: each waits until what it needs is free. One that
    needs more gets all."""

    def __init__(self, most: int) -> None:
        self._whole, self._used, self._changed = most, 0, Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        most = share(self._whole)
        size = min(size, most)
        with self._changed:
            self._changed.wait_for(lambda: self._used + size <= most)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()
