"""The C library's allocator, told to keep what a step frees for the next one.

glibc gives memory back when 64 MB lie free at the end of its heap, and the next step asks for it again, page by page: 4
to 6% of the CPU time of training a small network. Blocks of 32 MB and more go back at once, as they do anyway by
default: large networks would otherwise take half as much memory again. Elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import platform

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT, LARGE = 512 * 2**20, 32 * 2**20
OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed() -> bool:
    """Sets the thresholds of this process; whether it did: not on another C library, nor over a user's own."""
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in OWN):
        return False
    set_to = getattr(ctypes.CDLL(None), "mallopt", None)
    return set_to is not None and bool(set_to(MMAP, LARGE)) and bool(set_to(TRIM, KEPT))
