"""Streams into an archive that can be searched: only what is new or has changed is read."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import zoo
from ..archive import approximate
from ..archive.store import LEAST, MANIFEST, Manifest, Row, Store, check_place, locked
from ..archive.vectors import center_of, directions
from ..files import LeftOut
from ..outputs import FileState, Origin, file_digest, settings_digest
from ..structures.latents import LAYERS
from .run import Answer, Job, Recorded, Runner, is_several, jobs_of, run_jobs
from .work import ModelWork

if TYPE_CHECKING:
    from ..structures.predictions import Classification, Detection

TASKS = ("classification", "detection")
"""Tasks whose predictions an archive can hold."""
FLUSH_ROWS, FLUSH_SECONDS = 4_096, 30.0
"""After so many rows, or so long, what was read is put into the archive: a run that is stopped loses no more."""


@dataclass(frozen=True)
class IndexWork(ModelWork):
    """A stream to its row of an archive.

    Attributes:
        tasks: whose predictions to keep, of `TASKS`; without "detection" nothing but the global layer is read.
    """

    writes_beside: ClassVar[str] = ".json"  # never written; jobs have a target

    tasks: tuple[str, ...] = TASKS[:1]

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        from ..heads.base import layers_of, predict

        model = self.loaded()
        heads = {task: model.heads[task] for task in self.tasks}
        features = model.features(Path(source).read_bytes(), LAYERS[: layers_of(heads.values())])
        result, (height, width) = predict(heads, features)[0], features.sizes[0]
        embedding = features.embedding[0].float().cpu().numpy()
        return {
            "file": source,
            "state": astuple(origin.state) if origin.state else None,
            "embedding": base64.b64encode(embedding.tobytes()).decode(),
            "width": width,
            "height": height,
            "labels": [] if result.classification is None else _labels(result.classification),
            "objects": [] if result.detection is None else _objects(result.detection),
        }

    def check(self) -> None:
        """As `Work.check`; a task that the model or an archive does not have is an invalid setting, too."""
        there = zoo.describe(zoo.find(self.model))["heads"]
        for task in self.tasks:
            if task not in TASKS or task not in there:
                known = [name for name in TASKS if name in there]
                raise ValueError(f"an archive of model {self.model!r} can hold {' and '.join(known)}, and not {task!r}")

    def settings(self) -> dict[str, Any]:
        """As `Work.settings`."""
        folder = zoo.find(self.model)
        weights = file_digest(folder / zoo.WEIGHTS) if self.tasks else ""
        return {"verb": "index", "model": zoo.describe(folder)["fingerprint"], "heads": weights, "tasks": self.tasks}

    def files(self, target: str) -> tuple[str, ...]:
        """As `Work.files`: none, rows go into an archive."""
        return ()


@dataclass
class Indexed:
    """What came of a run.

    Attributes:
        streams: number of the archive's rows.
        added: streams that were read, new ones and changed ones.
        kept: streams that were there, and have not changed.
        dropped: rows whose stream is gone, has changed, or was made by another model or for other tasks.
        failures: streams that could not be read, as ``{"file", "error"}``.
        notices: warnings about streams.
    """

    streams: int = 0
    added: int = 0
    kept: int = 0
    dropped: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def index_streams(
    work: IndexWork,
    inputs: Sequence[str],
    folder: str | Path,
    runner_of: Callable[[int], Runner],
    *,
    overwrite: bool = False,
    strict: bool = False,
    faiss: bool = False,
    track: Callable[[Iterable, int], Iterable] = lambda items, total: items,
    left_out: LeftOut | None = None,
) -> Indexed:
    """Put streams into an archive.

    Only new and changed streams are read. Rows of streams that are no longer in a folder among the inputs are dropped;
    rows of other folders stay. What was read is in the archive within half a minute, also if the run is stopped then.

    Args:
        work: of the model, for the tasks.
        inputs: ``.cda`` files, and folders of them.
        folder: of the archive; made where it does not exist.
        runner_of: gives the runner for a number of streams, see `cdanalysis.batch.run.local_runner`.
        overwrite: read all streams again.
        strict: stop at the first stream that fails.
        faiss: also make FAISS's index, and from then on whenever the archive changes.
        track: wraps the streams to show progress; gets their number.
        left_out: collects the files of folders that are not read.

    Returns:
        what was added, kept and dropped, and the streams that could not be read.

    Raises:
        FileNotFoundError: if an input or the model does not exist.
        ValueError: if there is no stream among the inputs, the folder is there and no archive or one of another
            model, another command is writing to it; for the first failure, if ``strict``.
        ModuleNotFoundError: if FAISS is asked for, and not installed.
    """
    if not inputs:
        raise ValueError("there are no streams to index")
    work.check()
    check_place(folder)
    left_out = LeftOut() if left_out is None else left_out
    jobs = {os.path.abspath(source): (source, target) for source, target in jobs_of(inputs, None, work, None, left_out)}
    with locked(folder):
        outcome = Indexed()
        store = _opened(work, folder, overwrite, faiss, outcome)
        kept, gone = _compared(store, jobs, [os.path.abspath(path) for path in inputs if Path(path).is_dir()])
        store.drop(gone)
        outcome.kept, outcome.dropped = len(kept), outcome.dropped + len(gone)
        left = [job for file, job in jobs.items() if file not in kept]
        with _filled(store) as rows:
            runner = _kept(runner_of(len(left)), store, rows)
            shown = track if is_several(inputs) else (lambda items, total: items)
            done = run_jobs(work, left, runner, strict=strict, track=shown)
        store.merge()
        if store.manifest.wants_faiss:
            approximate.build(store)
    outcome.streams, outcome.added = len(store), len(done.rows)
    outcome.failures, outcome.notices = [*left_out.failures, *done.failures], done.notices
    return outcome


def _opened(work: IndexWork, folder: str | Path, overwrite: bool, faiss: bool, outcome: Indexed) -> Store:
    """The archive that is there, if its rows are what this work would make; else a new one."""
    place, settings, before = zoo.find(work.model), settings_digest(work.settings()), _there(folder, overwrite)
    fingerprint = zoo.describe(place)["fingerprint"]
    faiss = faiss or (before is not None and before.manifest.wants_faiss)
    if faiss:
        approximate.faiss_module()  # known to be there before anything is replaced
    if before is None or overwrite or before.manifest.settings != settings:
        if before is not None and before.manifest.fingerprint != fingerprint and not overwrite:
            raise ValueError(
                f"{folder} is an archive of model {before.manifest.fingerprint} and model {work.model!r} is "
                f"{fingerprint}: name the other model, write elsewhere with -o, or replace the archive with --overwrite"
            )
        outcome.dropped = 0 if before is None else len(before)
        before = Store.new(folder, _manifest(work, place, fingerprint, settings))
    if faiss:
        before.want_faiss()
    return before


def _there(folder: str | Path, overwrite: bool) -> Store | None:
    """The archive that is there; none if it is damaged, and to be replaced."""
    if not (Path(folder) / MANIFEST).exists():
        return None
    try:
        return Store(folder)
    except ValueError:  # damaged
        if not overwrite:
            raise
        return None


def _manifest(work: IndexWork, place: Path, fingerprint: str, settings: str) -> Manifest:
    """Of an archive without rows, of the model whose folder is ``place``."""
    model = work.loaded()  # the very one that jobs in this process will have
    classes = {task: list(model.heads[task].classes) for task in work.tasks}
    name = work.model if place.parent == zoo.zoo_folder() else os.path.abspath(place)
    return Manifest(name, fingerprint, settings, work.tasks, classes, tuple(center_of(model).tolist()))


def _compared(store: Store, jobs: dict[str, Job], folders: Sequence[str]) -> tuple[set[str], list[int]]:
    """Files whose rows are current, and the numbers of the rows that are to be dropped."""
    kept: set[str] = set()
    gone: list[int] = []
    for number, line in enumerate(store.all_lines()):
        file = os.path.abspath(line["file"])
        if file in jobs and FileState(*line["state"]).holds(file):
            kept.add(file)
        elif file in jobs or any(file.startswith(os.path.join(folder, "")) for folder in folders):
            gone.append(number)
    return kept, gone


@contextmanager
def _filled(store: Store) -> Iterator[list[Row]]:
    """Rows that are put into the archive at the end, whatever happens before it."""
    rows: list[Row] = []
    try:
        yield rows
    finally:
        store.add(rows)


def _kept(runner: Runner, store: Store, rows: list[Row]) -> Runner:
    """A runner whose rows go into the archive as they come, and out of memory."""

    def run(work: Recorded, jobs: Sequence[tuple[int, Job]]) -> Iterator[Answer]:
        last = time.monotonic()
        for number, found, wrong in runner(work, jobs):
            if found is not None:
                rows.append(_row(store, found))
                found = {name: found[name] for name in ("file", "notices") if name in found}
            if len(rows) >= FLUSH_ROWS or (rows and time.monotonic() - last > FLUSH_SECONDS):
                store.add(rows)
                rows.clear()
                last = time.monotonic()
            yield number, found, wrong

    return run


def _labels(label: Classification) -> list[tuple[int, float]]:
    """(number of the class, probability): a name would not do, ImageNet has two classes of the name "crane"."""
    return [(number, score) for number, (_, score) in zip(label.class_ids, label.top5, strict=True)]


def _objects(detection: Detection) -> list[tuple[int, float, list[float]]]:
    """(number of the class, score, box) of the objects that are kept; boxes to a tenth of a pixel."""
    found = zip(detection.class_ids.tolist(), detection.scores.tolist(), detection.boxes.tolist(), strict=True)
    return [(number, score, [round(side, 1) for side in box]) for number, score, box in found if score >= LEAST]


def _row(store: Store, found: dict[str, Any]) -> Row:
    embedding = np.frombuffer(base64.b64decode(found["embedding"]), np.float32)
    vector = directions(embedding[None], np.asarray(store.manifest.center, np.float32))[0]
    labels = [(number, round(score, 4)) for number, score in found["labels"]]
    objects = [(number, round(score, 4), tuple(box)) for number, score, box in found["objects"]]
    state = tuple(found["state"])
    return Row(store.stored(found["file"]), state, vector, found["width"], found["height"], labels, objects)
