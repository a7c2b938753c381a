"""Which files a command works on, and who does them: this process, one process a core, or a cluster."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..faults import sentence
from ..files import LeftOut, files_below
from ..notices import collected
from ..outputs import BESIDE, Inputs, Ledgers, Origin, made_beside, other_source, refusal, settings_digest
from ..processes import cores, each
from .base import Work

MANY = 16
"""So many jobs are worth the seconds that every process takes to load its model."""
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""No other job would fare better."""
DIED = "the process that worked on it died, perhaps for want of memory"

Job = tuple[str, str]
"""(file to read, file to write)."""
Answer = tuple[int, dict[str, Any] | None, str]
"""A job's number, and its row, or else what went wrong."""
Runner = Callable[["Recorded", Sequence[tuple[int, Job]]], Iterable[Answer]]
"""Does jobs, in any order, and gives each one's answer when it is done."""


@dataclass
class Outcome:
    """Rows of the jobs that are done, in order, and what else there is to tell.

    Attributes:
        failures: what went wrong with other jobs.
        kept: how many were done before.
        again: how many were done before from something else, for each reason.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    kept: int = 0
    again: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorded:
    """A work whose results are recorded with what they were made from.

    Attributes:
        settings: digest of the work's settings.
    """

    work: Work
    settings: str

    def __call__(self, source: str, target: str) -> dict[str, Any]:
        return self.work(source, target, Origin.of(source, self.settings))


def jobs_of(
    inputs: Sequence[str],
    output: str | None,
    work: Work,
    suffix: str | None = None,
    left_out: LeftOut | None = None,
) -> list[Job]:
    """A job for every input; a folder stands for the files in it, and keeps their places below ``output``.

    Two files of one folder that differ in their suffix alone keep it in their results' names.

    Args:
        output: a file for a single input, else a folder; by default results lie beside their inputs.
        suffix: of what is written, if not that of the work.
        left_out: is told which files of folders are not worked on.

    Raises:
        FileNotFoundError: if an input does not exist.
        ValueError: if there is nothing to do in a folder, or two inputs would write one file.
    """
    left_out = LeftOut() if left_out is None else left_out
    suffix = suffix or (work.writes if output is not None else work.writes_beside)
    to_file = output is not None and not _as_folder(inputs, output)
    places: dict[tuple[str, str], str] = {}  # (source, target without suffix) to target
    for path in map(Path, inputs):
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        for file in _chosen(path, work, left_out) if path.is_dir() else [path]:
            inner = file.relative_to(path) if path.is_dir() else Path(file.name)
            target = file if output is None else Path(output) / inner
            places[str(file), str(target.with_suffix(""))] = str(target)
    if to_file:
        return [(source, str(output)) for source, _ in places]
    shared = Counter(bare for _, bare in places)
    jobs = [(source, (target if shared[bare] > 1 else bare) + suffix) for (source, bare), target in places.items()]
    _check_apart(jobs)
    return jobs


def _as_folder(inputs: Sequence[str], output: str) -> bool:
    folder = output.endswith((os.sep, "/")) or Path(output).is_dir() or not Path(output).suffix
    return folder or is_several(inputs)


def _chosen(folder: Path, work: Work, left_out: LeftOut) -> list[Path]:
    """The files of a folder that a work reads. What it made of photographs there before is no photograph to read."""
    failed, chosen, others = len(left_out.failures), [], LeftOut()
    files = files_below(folder, left_out)
    results = made_beside(files)
    for file in files:
        suffix = file.suffix.lower()
        if suffix in work.reads and (suffix == ".cda" or file not in results):
            chosen.append(file)
        elif suffix in work.reads:
            left_out.add(BESIDE, file)
        elif file not in results:
            others.add(work.why_not(suffix), file)
    if not chosen and len(left_out.failures) == failed:
        what = "; ".join([*others.lines(), *left_out.lines()]) or "it is empty"
        raise ValueError(f"nothing to do in {folder}: {what}")
    if work.tells_others:
        left_out.kinds |= {why: left_out.kinds.get(why, []) + paths for why, paths in others.kinds.items()}
    return chosen


def _check_apart(jobs: Sequence[Job]) -> None:
    targets: dict[str, str] = {}
    for source, target in jobs:
        if targets.setdefault(target, source) != source:
            raise ValueError(
                f"{targets[target]} and {source} would both be written to {target}; give each folder a run of its own"
            )


def is_several(inputs: Sequence[str]) -> bool:
    """Whether the inputs are a folder, or more than one."""
    return len(inputs) > 1 or Path(inputs[0]).is_dir()


def names_a_file(inputs: Sequence[str], output: str | None) -> bool:
    """Whether ``output`` is the file to write, and no folder."""
    return output is not None and not _as_folder(inputs, output)


def run_jobs(
    work: Work,
    jobs: Sequence[Job],
    runner: Runner,
    again: bool = True,
    strict: bool = False,
    track: Callable[[Iterable, int], Iterable] = lambda items, total: items,
    overwrite: bool = False,
    named: bool = False,
) -> Outcome:
    """Do every job; those that fail are reported at the end, and the rest is done.

    A result that is there already is kept if it was made from the same file with the same settings; it is made again if
    one of them has changed. What this library did not write is not overwritten: that job fails. An input never is.

    Args:
        again: make also those again that would be kept.
        strict: stop at the first one that fails.
        track: wraps the answers, of which there are so many, to show progress.
        overwrite: write over any file that is no input.
        named: the user named the file to write, so it may be a result of another input.

    Raises:
        ValueError: for the first failure, if ``strict``, and for what would be wrong with every job.
        OSError: if the disk is full, or cannot be written.
    """
    work.check()
    settings = settings_digest(work.settings())
    plan = _Plan(work, jobs, settings, again or overwrite, overwrite, named)
    rows, left, wrongs, reasons = {}, [], {}, {}
    outcome = Outcome()
    for number, job in enumerate(jobs):
        row, why, reason = plan.verdict(job)
        if row is not None:
            rows[number] = row
        elif why:
            wrongs[number] = why
        else:
            left.append((number, job))
            reasons[number] = reason
    outcome.kept = len(rows)
    if strict and wrongs:
        raise ValueError(next(iter(wrongs.values())))
    for number, row, wrong in track(runner(Recorded(work, settings), left), len(left)) if left else ():
        if row is not None:
            rows[number] = row
        elif strict:
            raise ValueError(f"{jobs[number][0]}: {wrong}")
        else:
            wrongs[number] = wrong
    outcome.again = dict(Counter(reason for number, reason in reasons.items() if reason and number in rows))
    outcome.rows = [rows[number] for number in sorted(rows)]
    outcome.failures = [{"file": jobs[number][0], "error": wrongs[number]} for number in sorted(wrongs)]
    return outcome


class _Plan:
    """Decides of each job whether it was done before, may be done, or must not be."""

    def __init__(self, work: Work, jobs: Sequence[Job], settings: str, again: bool, overwrite: bool, named: bool):
        self.work, self.settings, self.again, self.overwrite, self.named = work, settings, again, overwrite, named
        self.inputs, self.ledgers = Inputs([*(source for source, _ in jobs), *work.inputs()]), Ledgers()

    def verdict(self, job: Job) -> tuple[dict[str, Any] | None, str, str]:
        """(row of what was done before, why it must not be done, why it is done again); all empty: it is to do."""
        source, target = job
        files, missing = self.work.files(target), False
        for path in files:
            there = os.path.lexists(path)
            why = refusal(path, self.inputs, self.ledgers, self.overwrite)
            if why and not self._damaged(path):
                return None, why, ""
            missing |= not there or bool(why)
        entry, _ = self.ledgers.find(target)
        if not files or self.overwrite:
            return None, "", ""
        if why := self._of_another(files, source, target):
            return None, why, ""
        if missing or entry is None:
            return None, "", ""
        if self.again:
            return None, "", ""
        if entry.origin.settings != self.settings:
            return None, "", "were made with another model or other settings"
        if entry.origin.state is None or not entry.origin.state.holds(source):
            return None, "", "were made before their source changed"
        return self.work.done(*job), "", ""

    def _of_another(self, files: Sequence[str], source: str, target: str) -> str:
        """Why a job must not be done whose files are results of another source, if they are.

        A file that the user named is the user's to replace, and what was written along with it.
        """
        mine = other_source(target, source, self.ledgers) if self.named else ""
        for path in files:
            other = other_source(path, source, self.ledgers)
            if other and not (self.named and (path == target or other == mine)):
                return f"{path} was made from {other}; --overwrite replaces it"
        return ""

    def _damaged(self, path: str) -> bool:
        """Whether this library wrote the file, and a crash left a part of it, or nothing."""
        if self.ledgers.find(path)[0] is None or path in self.inputs or not os.path.isfile(path):
            return False
        try:
            self.work.check_whole(path)
        except (OSError, ValueError, SyntaxError):
            return True
        return False


def attempt(work: Recorded, number: int, job: Job) -> Answer:
    """One job's answer; notices about its file are in the row, under ``notices``.

    Whatever goes wrong with its file, memory included, is that job's failure alone.

    Raises:
        ValueError, OSError: for what would go wrong with every job: the model, or a disk that is full.
    """
    work.work.prepare()
    try:
        with collected() as notices:
            row = work(*job)
        return number, {**row, "notices": notices} if notices else row, ""
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FATAL:
            raise
        return number, None, sentence(error)


def _died(number: int, job: Job) -> Answer:
    return number, None, DIED


def in_process(work: Recorded, jobs: Sequence[tuple[int, Job]]) -> Iterator[Answer]:
    """One after the other, here, with all of torch's threads."""
    return (attempt(work, number, job) for number, job in jobs)


def in_processes(workers: int) -> Runner:
    """So many processes of one thread each: photographs are small, and threads would wait for each other."""
    return lambda work, jobs: each(partial(attempt, work), jobs, workers, _died)


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
