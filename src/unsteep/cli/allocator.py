"""The C library's allocator, told what to keep of what a step frees for the next one.

glibc gives memory back when 64 MB lie free at the end of its heap, and the next step asks for it again, page by page: 4
to 6% of the CPU time of training a small network. Large blocks lie on their own and go back at once, or the holes that
they leave cost large networks half as much memory again: from 16 MB where Linux lends pages of 2 MB, of which a step
asks for few; else from 32 MB, since asking for small pages costs a fifth of the time. Elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT, LARGE, LARGE_ON_LARGE_PAGES = 512 * 2**20, 32 * 2**20, 16 * 2**20
PAGES = "THP_MEM_ALLOC_ENABLE"  # read by torch when it first allocates: it then asks for large pages
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
OWN = (PAGES, "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed() -> bool:
    """Sets the thresholds of this process; whether it did: not on another C library, nor over a user's own."""
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in OWN):
        return False
    set_to = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_to is None:
        return False
    large = LARGE
    if large_pages():
        os.environ[PAGES], large = "1", LARGE_ON_LARGE_PAGES
    return bool(set_to(MMAP, large)) and bool(set_to(TRIM, KEPT))


def large_pages() -> bool:
    """Whether Linux lends pages of 2 MB to whoever asks."""
    try:
        return "[never]" not in OFFERED.read_text(encoding="ascii")
    except OSError:  # it is no Linux
        return False
