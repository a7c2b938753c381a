"""Which files a command processes, and where: in this process, in one process per core, or on a cluster."""

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
"""Jobs from which several processes are faster, although each must load its model."""
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that all further jobs would have as well."""
DIED = "the process that worked on it died, possibly for lack of memory"

Job = tuple[str, str]
"""(file to read, file to write)."""
Answer = tuple[int, dict[str, Any] | None, str]
"""A job's number, its row or None, and its error or ""."""
Runner = Callable[["Recorded", Sequence[tuple[int, Job]]], Iterable[Answer]]
"""Does jobs, in any order, and yields the answer of each when it is done."""


@dataclass
class Outcome:
    """The outcome of a command.

    Attributes:
        rows: of the jobs that are done, in order.
        failures: errors of the other jobs, as ``{"file", "error"}``.
        kept: number of results that were current, and kept.
        again: numbers of results that were outdated, and made again, by reason.
        notices: warnings about files, each once.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    kept: int = 0
    again: dict[str, int] = field(default_factory=dict)

    @property
    def notices(self) -> list[str]:
        """Warnings about files, each once."""
        return list(dict.fromkeys(text for row in self.rows for text in row.get("notices", ())))


@dataclass(frozen=True)
class Recorded:
    """Work whose results are recorded with their origin.

    Attributes:
        work: the work.
        settings: digest of its settings.
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
    """List the jobs of a command: one for every input file, and for every file in an input folder.

    Files of a folder keep their relative paths below ``output``. Two files of a folder that differ only in their suffix
    keep it in the names of their results.

    Args:
        inputs: files and folders.
        output: a file for a single input, otherwise a folder; None to write results next to their inputs.
        work: reads the inputs.
        suffix: of the results; by default that of the work.
        left_out: collects the files of folders that are not processed.

    Returns:
        (file to read, file to write) of each job, in the order of the inputs.

    Raises:
        FileNotFoundError: if an input does not exist.
        ValueError: for an empty name; if a folder has no files to process, or two inputs would be written to the same
            file.
    """
    left_out = LeftOut() if left_out is None else left_out
    suffix = suffix or (work.writes if output is not None else work.writes_beside)
    to_file = names_a_file(inputs, output)
    places: dict[tuple[str, str], str] = {}  # (source, target without suffix) to target
    if "" in (*inputs, output):  # a variable of the shell's that is not set; as a path it is the working directory
        raise ValueError("the name of an input, or of the output, is empty")
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
        raise ValueError(f"no files to process in {folder}: {what}")
    if work.tells_others:
        left_out.kinds |= {why: left_out.kinds.get(why, []) + paths for why, paths in others.kinds.items()}
    return chosen


def _check_apart(jobs: Sequence[Job]) -> None:
    targets: dict[str, str] = {}
    for source, target in jobs:
        if targets.setdefault(target, source) != source:
            raise ValueError(
                f"{targets[target]} and {source} would both be written to {target}; process their folders separately"
            )


def is_several(inputs: Sequence[str]) -> bool:
    """Whether the inputs are a folder, or several files.

    Args:
        inputs: files and folders of a command.
    """
    return len(inputs) > 1 or Path(inputs[0]).is_dir()


def names_a_file(inputs: Sequence[str], output: str | None) -> bool:
    """Whether ``output`` is a file to write, not a folder.

    Args:
        inputs: files and folders of a command.
        output: as of `jobs_of`.
    """
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
    """Do all jobs; those that fail do not stop the others.

    An existing result is kept if it was made from the same file with the same settings, and made again if not. Files
    that this library did not write are not overwritten: their jobs fail. Inputs are never overwritten.

    Args:
        work: to do.
        jobs: see `jobs_of`.
        runner: where to do it.
        again: also redo results that would be kept.
        strict: stop at the first failure.
        track: wraps the answers to show progress; gets their number.
        overwrite: overwrite any file that is not an input.
        named: the user named the file to write, so it may be the result of another input.

    Returns:
        the rows of the jobs that are done, and the errors of the others.

    Raises:
        ValueError: for the first failure, if ``strict``, and for errors that would affect all jobs.
        OSError: if the disk is full or cannot be written.
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
    """Decides for each job whether its result is kept, made, or must not be overwritten."""

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
        if not files or self.overwrite:
            return None, "", ""
        entry, _ = self.ledgers.find(target)
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
                return f"{path} was made from {other}; use --overwrite to replace it"
        return ""

    def _damaged(self, path: str) -> bool:
        """Whether this library wrote the file, and a crash left a part of it, or nothing; not what somebody edited."""
        entry, _ = self.ledgers.find(path)
        if entry is None or path in self.inputs or not os.path.isfile(path) or os.path.getsize(path) >= entry.size:
            return False
        try:
            self.work.check_whole(path)
        except (OSError, ValueError, SyntaxError):
            return True
        return False


def attempt(work: Recorded, number: int, job: Job) -> Answer:
    """Do one job; any error, running out of memory included, is this job's failure.

    Args:
        work: to do.
        number: of the job.
        job: (file to read, file to write).

    Returns:
        the answer; warnings about the file are in the row, under ``notices``.

    Raises:
        ValueError: if the model cannot be loaded.
        OSError: if the disk is full or cannot be written.
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
    """A `Runner`: one job after the other, in this process, with all of torch's threads.

    Args:
        work: to do.
        jobs: with their numbers.

    Returns:
        the answers, each computed when it is asked for.

    Raises:
        ValueError: as `attempt`, when an answer is asked for.
        OSError: as `attempt`, when an answer is asked for.
    """
    return (attempt(work, number, job) for number, job in jobs)


def in_processes(workers: int) -> Runner:
    """A `Runner` of several processes with one thread each, which is faster than threads for small photographs.

    Args:
        workers: number of processes.
    """
    return lambda work, jobs: each(partial(attempt, work), jobs, workers, _died)


def local_runner(jobs: int, device: str = "cpu", workers: int | None = None) -> Runner:
    """The runner for this machine.

    Args:
        jobs: number of jobs.
        device: torch device; several processes are used on "cpu" only, unless ``workers`` is given.
        workers: number of processes; by default one per core for many jobs, otherwise one.

    Raises:
        ValueError: if ``workers`` is below 1.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers is None:
        workers = cores() if jobs >= MANY and device == "cpu" else 1
    return in_process if workers == 1 else in_processes(min(workers, max(1, jobs)))
