"""Memory that was freed: kept for the next photograph, or given back to the system. With glibc alone."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache

KEPT = 2**28
"""Bytes of freed memory that a process keeps at most, until `release`."""
LARGEST = 2**25
"""Bytes of a tensor from which on it has memory of its own, cleared anew each time: as many as glibc allows."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's numbers of these two settings."""
SET_BY_USERS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables that say what glibc keeps: then nothing is changed."""


@lru_cache
def keep() -> None:
    """Keep freed memory, which the system would clear anew for every photograph."""
    library = _libc()
    if library is not None and not any(name in os.environ for name in SET_BY_USERS):
        library.mallopt(TRIM_THRESHOLD, KEPT)
        library.mallopt(MMAP_THRESHOLD, LARGEST)


def release() -> None:
    """Give freed memory back to the system; glibc keeps it, after a large photograph most of a gibibyte."""
    library = _libc()
    if library is not None:
        library.malloc_trim(0)


@lru_cache
def _libc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
    except (TypeError, OSError):
        return None
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
