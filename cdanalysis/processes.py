"""A function of many things, on several processes of one thread each."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .faults import WorkerDied

GIVEN_UP = 5
"""So many processes that die one after the other, and nothing done between, are no matter of what they worked on."""
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""How processes start. A fork of this one would lack the threads that hold its locks; but on Linux all are forks of one
new process, which has imported once what takes them longest, and share its memory."""
IMPORTED = ("cdanalysis.zoo", "cdanalysis.batch.work")
"""What that process imports."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    function: Callable[..., Any], items: Sequence[tuple], workers: int, died: Callable[..., Any] | None = None
) -> Iterator[Any]:
    """``function(*item)`` of every item, in the order in which they are done; what one raises ends it all.

    Args:
        function: what can be pickled, as must be its arguments and what it gives.
        workers: how many processes. Each has one thread: what is small would have threads wait for each other. They end
            with this process, however it ends.
        died: ``died(*item)`` is given for an item that a process died of. When one dies, what was in hand is tried
            again, one at a time, to find out which it was.

    Raises:
        WorkerDied: if a process died, and there is no ``died``; or if one died after the other.
    """
    left, deaths = dict(enumerate(items)), 0
    suspects: list[int] = []
    while left:
        group = {number: left[number] for number in suspects or left}
        lost: list[int] = []
        for number, answer in _pool(function, group, 1 if suspects else workers, 1 if suspects else 2 * workers, lost):
            del left[number]
            deaths = 0
            yield answer
        deaths += bool(lost)
        if lost and (died is None or deaths >= GIVEN_UP):
            raise WorkerDied(
                "a worker process died, perhaps for want of memory; run the same command again, with fewer "
                "--workers: what is done is kept"
            )
        if len(lost) == 1 and died is not None:
            yield died(*left.pop(lost[0]))
        suspects = [number for number in suspects or lost if number in left]


def _pool(
    function: Callable[..., Any], items: dict[int, tuple], workers: int, ahead: int, lost: list[int]
) -> Iterator[tuple[int, Any]]:
    """(number, answer) of items until a process dies; ``lost`` then has the numbers, at most ``ahead``, in hand."""
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    waiting = iter(items.items())
    inhand: dict[Future, int] = {}
    context = get_context(METHOD)
    if METHOD == "forkserver":
        context.set_forkserver_preload(list(IMPORTED))
    with ProcessPoolExecutor(min(workers, len(items)), context, _start, (dict(os.environ),)) as pool:
        try:
            while True:
                while len(inhand) < ahead and (item := next(waiting, None)) is not None:
                    inhand[pool.submit(function, *item[1])] = item[0]
                if not inhand:
                    return
                for future in wait(inhand, return_when=FIRST_COMPLETED).done:
                    answer = future.result()
                    yield inhand.pop(future), answer
        except BrokenProcessPool:
            lost += sorted(inhand.values()) or ([item[0]] if item else [])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(environment: dict[str, str]) -> None:
    """What a worker does first: it has one thread, ends at an interrupt silently, and never outlives its parent.

    Args:
        environment: of its parent, which may have changed since the server of forks was started.
    """
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
