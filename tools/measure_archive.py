"""How well, and how fast, an archive is searched.

    CDANALYSIS_DATA=/path/to/data python tools/measure_archive.py photo          # recall, some minutes
    python tools/measure_archive.py photo speed                                  # a million drawn vectors
    python tools/measure_archive.py photo faiss --rows 100000

*Recall*: of the ten photographs of wide/val whose undecoded embeddings are nearest to a photograph's, how many are
among the ten that an archive of decoded embeddings gives; searched by the photograph, and by its stream. *Speed* and
*faiss*: an archive of drawn vectors on the disk, searched by comparing all of them, and with FAISS. Writes
``docs/results/archive.json`` and the tables of ``docs/archive.md``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measure_semantics import asked, embedded, keep
from rich.progress import track

from cdanalysis.archive import approximate
from cdanalysis.archive.store import PART_ROWS, Manifest, Row, Store
from cdanalysis.archive.vectors import center_of, directions, nearest, products, quantized
from cdanalysis.benchmarks.hardware import hardware
from cdanalysis.data.images import ImageSet
from cdanalysis.files import json_text
from cdanalysis.model import Model
from cdanalysis.reports.markdown import fill, table
from cdanalysis.zoo import load

ROOT = Path(__file__).parent.parent
RESULT, PAGE = ROOT / "docs" / "results" / "archive.json", ROOT / "docs" / "archive.md"
NEAREST, QUERIES = 10, 20


def recall(model: Model, rows: int) -> dict[str, Any]:
    """Recall at 10 of archives of streams at several qualities, against the embeddings that nobody has coded."""
    images, center = ImageSet("wide/val.tar"), center_of(model)
    own, streams = embedded(model, images, "recall")
    queries = directions(own.numpy(), center)
    truth = _others(queries @ queries.T)
    lines = []
    for each in streams:
        held = directions(each.embeddings.numpy(), center)
        row = {"quality": each.quality, "bytes": each.bytes}
        row["by photograph"] = _agreement(truth, _others(_compared(held, queries)))
        row["by stream"] = _agreement(truth, _others(held @ held.T))
        lines.append(row)
    uncoded = _agreement(truth, _others(_compared(queries, queries)))
    return {"images": len(images), "uncoded, 8 bits": uncoded, "streams": lines}


def _compared(held: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Products of queries (Q, E) with vectors (N, E), which are held in 8 bits as an archive holds them: (Q, N)."""
    return products(*quantized(held), queries).T


def _others(scores: np.ndarray) -> np.ndarray:
    """The ten of the largest scores of each of (N, N), itself left out."""
    np.fill_diagonal(scores, -2)
    return np.argsort(-scores, 1, kind="stable")[:, :NEAREST]


def _agreement(truth: np.ndarray, found: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(truth.tolist(), found.tolist(), strict=True)]))


def speed(model: Model, rows: int) -> dict[str, Any]:
    """Seconds for a query that is compared with all of the drawn vectors."""
    with _drawn_archive(model, rows) as (store, queries):
        size = sum(path.stat().st_size for path in store.folder.iterdir())
        row, _ = _timed(lambda q: nearest(store.blocks, q, NEAREST), queries)
    return {"numbers": queries.shape[1], "hardware": hardware(), "rows": [{"vectors": rows, "bytes": size, **row}]}


def faiss(model: Model, rows: int) -> dict[str, Any]:
    """Seconds for a query with FAISS, and what it finds of the ten nearest."""
    with _drawn_archive(model, rows) as (store, queries):
        exact, found = _timed(lambda q: nearest(store.blocks, q, NEAREST), queries)
        start = time.process_time()
        approximate.build(store)
        built = time.process_time() - start
        quick, close = _timed(lambda q: approximate.nearest(store, q, NEAREST), queries)
    quick |= {"recall at 10": _agreement(found, close), "built in, CPU s": built}
    lines = [{"search": "all vectors", **exact, "recall at 10": 1.0}, {"search": "FAISS", **quick}]
    return {"numbers": queries.shape[1], "vectors": rows, "hardware": hardware(), "rows": lines}


@contextmanager
def _drawn_archive(model: Model, rows: int) -> Iterator[tuple[Store, np.ndarray]]:
    """An archive of drawn vectors, mixtures of two of five thousand, and such vectors to search it by."""
    rng, center = np.random.default_rng(0), center_of(model)
    kinds = rng.standard_normal((5000, len(center)), np.float32)

    def drawn(count: int) -> np.ndarray:
        one, two = kinds[rng.integers(len(kinds), size=(2, count))]
        share = rng.random((count, 1), np.float32)
        vectors = share * one + (1 - share) * two
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    with tempfile.TemporaryDirectory() as folder:
        store = Store.new(Path(folder) / "archive.index", Manifest("drawn", "", "", (), {}, tuple(center.tolist())))
        for start in track(range(0, rows, PART_ROWS), "drawing"):
            vectors = drawn(min(PART_ROWS, rows - start))
            store.add([Row(f"{start + n}.cda", (0, 0, 0, ""), vector, 1, 1) for n, vector in enumerate(vectors)])
        yield store, drawn(QUERIES)


def _timed(search: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], queries: np.ndarray) -> Any:
    """Seconds of a query, by the clock and of the processor, and what all queries found; medians but for the first."""
    clock, busy, found = [], [], []
    for query in queries:
        start, spent = time.perf_counter(), time.process_time()
        found.append(search(query[None])[0][0])
        clock.append(time.perf_counter() - start)
        busy.append(time.process_time() - spent)
    row = {"first query, CPU s": busy[0], "query, CPU s": float(np.median(busy[1:]))}
    return {**row, "query, s": float(np.median(clock[1:]))}, np.stack(found)


PARTS = {"recall": recall, "speed": speed, "faiss": faiss}


def main() -> None:
    told = "drawn vectors (default: a million)"
    options = asked(__doc__, PARTS, ["recall"], "--rows", type=int, default=1_000_000, help=told)
    model = load(options.model)
    for name in options.parts:
        found = PARTS[name](model, options.rows)
        keep(RESULT, model, name, found)
        lines = found.get("streams") or found["rows"]
        print(json_text(found, indent=1))
        fill(PAGE, {name: table(lines)})


if __name__ == "__main__":
    main()
