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

from .. import zoo
from ..archive import approximate
from ..archive.store import LEAST, MANIFEST, Manifest, Row, Store, check_place, locked
from ..files import LeftOut
from ..outputs import FileState, Origin, file_digest, settings_digest
from .base import Work
from .run import Answer, Job, Recorded, Runner, is_several, jobs_of, run_jobs
from .work import _model, _model_files

if TYPE_CHECKING:
    from ..structures.predictions import Detection

TASKS = ("classification", "detection")
"""Tasks whose predictions an archive can hold."""
FLUSH_ROWS, FLUSH_SECONDS = 4_096, 30.0
"""After so many rows, or so long, what was read is put into the archive: a run that is stopped loses no more."""


@dataclass(frozen=True)
class IndexWork(Work):
    """A stream to its row of an archive.

    Attributes:
        tasks: whose predictions to keep, of `TASKS`; without "detection" nothing but the global layer is read.
    """

    writes: ClassVar[str] = ".json"  # never written; jobs have a target
    writes_beside: ClassVar[str] = ".json"
    columns: ClassVar[tuple[str, ...]] = ("file",)

    model: str
    device: str = "cpu"
    tasks: tuple[str, ...] = TASKS[:1]
    max_pixels: int | None = None

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        import numpy as np

        from ..archive.vectors import center_of, directions
        from ..heads.base import layers_of, predict
        from ..stream.container import LAYERS, unpack

        model = _model(self.model, self.device, self.max_pixels)
        heads = {task: model.heads[task] for task in self.tasks}
        data = Path(source).read_bytes()
        features, stream = model.features(data, LAYERS[: layers_of(heads.values())]), unpack(data, model.max_pixels)
        result = predict(heads, features)[0]
        embedding = features.embedding.float().cpu().numpy()
        vector = directions(embedding, center_of(model))[0]
        return {
            "file": source,
            "state": astuple(origin.state) if origin.state else None,
            "vector": base64.b64encode(vector.astype(np.float32).tobytes()).decode(),
            "width": stream.width,
            "height": stream.height,
            "labels": result.classification.top5 if result.classification else [],
            "objects": [] if result.detection is None else _objects(result.detection),
        }

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        return None

    def check(self) -> None:
        there = zoo.describe(zoo.find(self.model))["heads"]
        for task in self.tasks:
            if task not in TASKS or task not in there:
                known = [name for name in TASKS if name in there]
                raise ValueError(f"an archive of model {self.model!r} can hold {' and '.join(known)}, and not {task!r}")

    def prepare(self) -> None:
        _model(self.model, self.device, self.max_pixels)

    def settings(self) -> dict[str, Any]:
        folder = zoo.find(self.model)
        weights = file_digest(folder / zoo.WEIGHTS) if self.tasks else ""
        return {"verb": "index", "model": zoo.describe(folder)["fingerprint"], "heads": weights, "tasks": self.tasks}

    def inputs(self) -> Sequence[Path]:
        return _model_files(self.model)

    def files(self, target: str) -> tuple[str, ...]:
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

    Raises:
        FileNotFoundError: if an input or the model does not exist.
        ValueError: if there is no stream among the inputs, the folder is there and no archive or one of another
            model, another command is writing to it; for the first failure, if ``strict``.
        ModuleNotFoundError: if FAISS is asked for, and not installed.
    """
    work.check()
    check_place(folder)
    left_out = LeftOut() if left_out is None else left_out
    jobs = {os.path.abspath(source): (source, target) for source, target in jobs_of(inputs, None, work, None, left_out)}
    with locked(folder):
        outcome = Indexed()
        store = _opened(work, folder, overwrite, outcome)
        faiss = faiss or bool(store.manifest.faiss)
        if faiss:
            approximate.faiss_module()
        kept, gone = _compared(store, jobs, [os.path.abspath(path) for path in inputs if Path(path).is_dir()])
        outcome.kept, outcome.dropped = len(kept), outcome.dropped + (store.drop(gone) if gone else 0)
        left = [job for file, job in jobs.items() if file not in kept]
        with _filled(store) as rows:
            runner = _kept(runner_of(len(left)), store, rows)
            shown = track if is_several(inputs) else (lambda items, total: items)
            done = run_jobs(work, left, runner, strict=strict, track=shown)
        store.merge()
        if faiss:
            approximate.build(store)
    outcome.streams, outcome.added = len(store), len(done.rows)
    outcome.failures = [*left_out.failures, *done.failures]
    outcome.notices = list(dict.fromkeys(text for row in done.rows for text in row.get("notices", ())))
    return outcome


def _opened(work: IndexWork, folder: str | Path, overwrite: bool, outcome: Indexed) -> Store:
    """The archive that is there, if its rows are what this work would make; else a new one."""
    settings, before = settings_digest(work.settings()), 0
    if (Path(folder) / MANIFEST).exists():
        try:
            store = Store(folder)
        except ValueError:  # damaged
            if not overwrite:
                raise
        else:
            if store.manifest.settings == settings and not overwrite:
                return store
            own = zoo.describe(zoo.find(work.model))["fingerprint"]
            if store.manifest.fingerprint != own and not overwrite:
                raise ValueError(
                    f"{folder} is an archive of model {store.manifest.fingerprint} and model {work.model!r} is {own}: "
                    "name the other model, write elsewhere with -o, or replace the archive with --overwrite"
                )
            before = len(store)
    from ..archive.vectors import center_of

    place = zoo.find(work.model)
    about = zoo.describe(place)
    model = _model(work.model, work.device, work.max_pixels)  # the very one that jobs in this process will have
    classes = {task: list(model.heads[task].classes) for task in work.tasks}
    center = tuple(center_of(model).tolist())
    name = work.model if place.parent == zoo.zoo_folder() else os.path.abspath(place)
    outcome.dropped = before
    return Store.new(folder, Manifest(name, about["fingerprint"], settings, work.tasks, classes, center))


def _compared(store: Store, jobs: dict[str, Job], folders: Sequence[str]) -> tuple[set[str], set[str]]:
    """Files whose rows are current, and files whose rows are to be dropped."""
    kept: set[str] = set()
    gone: set[str] = set()
    for line in store.all_lines():
        file = os.path.abspath(line["file"])
        if file in jobs:
            (kept if FileState(*line["state"]).holds(file) else gone).add(file)
        elif any(file.startswith(os.path.join(folder, "")) for folder in folders):
            gone.add(file)
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


def _objects(detection: Detection) -> list[tuple[str, float, list[float]]]:
    """(class, score, box) of the objects that are kept; boxes to a tenth of a pixel."""
    found = zip(detection.labels, detection.scores.tolist(), detection.boxes.tolist(), strict=True)
    return [(label, score, [round(side, 1) for side in box]) for label, score, box in found if score >= LEAST]


def _row(store: Store, found: dict[str, Any]) -> Row:
    import numpy as np

    vector = np.frombuffer(base64.b64decode(found["vector"]), np.float32)
    numbers = {task: {name: n for n, name in enumerate(names)} for task, names in store.manifest.classes.items()}
    labels = [(numbers["classification"][name], round(score, 4)) for name, score in found["labels"]]
    objects = [(numbers["detection"][name], round(score, 4), tuple(box)) for name, score, box in found["objects"]]
    state = tuple(found["state"])
    return Row(store.stored(found["file"]), state, vector, found["width"], found["height"], labels, objects)
