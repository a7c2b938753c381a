"""A function of many things, on several processes of one thread each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(function: Callable[..., Any], items: Sequence[tuple], workers: int) -> Iterator[Any]:
    """``function(*item)`` of every item, in the order in which they are done; what one raises ends it all.

    Args:
        function: what can be pickled, as must be its arguments and what it gives.
        workers: how many processes. Each has one thread: what is small would have threads wait for each other.

    Raises:
        RuntimeError: if a process died.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool:
        waiting = [pool.submit(function, *item) for item in items]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                "a worker process died, perhaps for want of memory; run the same command again, with fewer "
                "--workers: what is done is kept"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
