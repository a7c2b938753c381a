"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache


def release() -> None:
    """Give freed memory back to the system; glibc keeps it, after a large photograph most of a gibibyte."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@lru_cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (TypeError, OSError, AttributeError):  # no glibc
        return None
