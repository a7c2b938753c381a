"""Times of several ways to do something, taken in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

PRECISIONS = ("float32", "bfloat16")
"""The second is torch's autocast."""


def least(ways: dict[Any, Callable[[], object]], repeats: int, precision: str = "float32") -> dict[Any, float]:
    """Least seconds of each way, after once to warm up. They take turns, so that a slow moment is everybody's."""
    found = dict.fromkeys(ways, float("inf"))
    with torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16, precision == "bfloat16"):
        for turn in range(repeats + 1):
            for name, work in ways.items():
                seconds = timed(work)
                found[name] = min(found[name], seconds) if turn else found[name]
    return found


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes once."""
    started = now()
    work()
    return now() - started


def now() -> float:
    """Seconds on a clock, when the accelerator is done with what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
