"""Which files a command works on, and who does them: this process, one process a core, or a cluster."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..processes import cores, each
from .work import Work

MANY = 16
"""So many jobs are worth the seconds that every process takes to load its model."""
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""No other job would fare better."""

Job = tuple[str, str]
"""(file to read, file to write)."""
Answer = tuple[int, dict[str, Any] | None, str]
"""A job's number, and its row, or else what went wrong."""
Runner = Callable[[Work, Sequence[tuple[int, Job]]], Iterable[Answer]]
"""Does jobs, in any order, and gives each one's answer when it is done."""


@dataclass
class Outcome:
    """Rows of the jobs that are done, in order; what went wrong with others; and how many were done before."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    kept: int = 0


def jobs_of(inputs: Sequence[str], output: str | None, work: Work, suffix: str | None = None) -> list[Job]:
    """A job for every input; a folder stands for the files in it, and keeps their places below ``output``.

    Args:
        output: a file for a single input, else a folder; by default results lie beside their inputs.
        suffix: of what is written, if not that of the work.

    Raises:
        FileNotFoundError: if an input does not exist.
        ValueError: if there is nothing to do in a folder, or two inputs would write one file.
    """
    several = is_several(inputs)
    as_folder = output is not None and (several or Path(output).is_dir() or not Path(output).suffix)
    jobs = []
    for path in map(Path, inputs):
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        files = [path]
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in work.reads)
            if not files:
                raise ValueError(f"nothing to do in {path}: no {' or '.join(sorted(work.reads)[:3])} files")
        for file in files:
            inner = file.relative_to(path) if path.is_dir() else Path(file.name)
            target = file if output is None else Path(output) / inner if as_folder else Path(output)
            rename = output is None or as_folder
            jobs.append((str(file), str(target.with_suffix(suffix or work.writes) if rename else target)))
    targets: dict[str, str] = {}
    for source, written in jobs:
        if targets.setdefault(written, source) != source:
            raise ValueError(f"{targets[written]} and {source} would both be written to {written}")
    return jobs


def is_several(inputs: Sequence[str]) -> bool:
    """Whether the inputs are a folder, or more than one."""
    return len(inputs) > 1 or Path(inputs[0]).is_dir()


def run_jobs(
    work: Work,
    jobs: Sequence[Job],
    runner: Runner,
    again: bool = True,
    strict: bool = False,
    track: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> Outcome:
    """Do every job; those that fail are told at the end, and the rest is done.

    Args:
        again: do also those whose target is there already.
        strict: stop at the first one that fails.
        track: wraps the answers, of which there are so many, to show progress.

    Raises:
        ValueError: for the first failure, if ``strict``.
        OSError: if the disk is full, or cannot be written.
    """
    before = {} if again else {i: row for i, job in enumerate(jobs) if (row := _done(work, job)) is not None}
    left = [(number, job) for number, job in enumerate(jobs) if number not in before]
    rows, outcome = dict(before), Outcome(kept=len(before))
    for number, row, wrong in track(runner(work, left), len(left)) if left else ():
        if row is not None:
            rows[number] = row
        elif strict:
            raise ValueError(f"{jobs[number][0]}: {wrong}")
        else:
            outcome.failures.append({"file": jobs[number][0], "error": wrong})
    outcome.rows = [rows[number] for number in sorted(rows)]
    return outcome


def _done(work: Work, job: Job) -> dict[str, Any] | None:
    """The row of a job that was done before: its target is there, not older than its source, and fits."""
    source, target = map(Path, job)
    try:
        if target.stat().st_mtime < source.stat().st_mtime:
            return None
        return work.done(*job)
    except (OSError, ValueError):
        return None


def attempt(work: Work, number: int, job: Job) -> Answer:
    """One job's answer.

    Raises:
        OSError: if the disk is full, or cannot be written.
    """
    try:
        return number, work(*job), ""
    except OSError as error:
        if error.errno in FATAL:
            raise
        text = f"{error.strerror}: {error.filename}" if error.strerror else str(error)
        return number, None, text
    except ValueError as error:
        return number, None, str(error)


def in_process(work: Work, jobs: Sequence[tuple[int, Job]]) -> Iterator[Answer]:
    """One after the other, here, with all of torch's threads."""
    return (attempt(work, number, job) for number, job in jobs)


def in_processes(workers: int) -> Runner:
    """So many processes of one thread each: photographs are small, and threads would wait for each other."""
    return lambda work, jobs: each(partial(attempt, work), jobs, workers)


def local_runner(jobs: int, device: str = "cpu", workers: int | None = None) -> Runner:
    """The runner for so many jobs on this machine; ``workers`` processes where it is given.

    Raises:
        ValueError: if there is not at least one worker.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers is None:
        workers = cores() if jobs >= MANY and device == "cpu" else 1
    return in_process if workers == 1 else in_processes(min(workers, max(1, jobs)))
