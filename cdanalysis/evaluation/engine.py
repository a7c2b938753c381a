"""The evaluation engine: a codec's files of photographs, before evaluators, become rows, of which figures are made.

The evaluation of a folder, studies and experiments are lists of cases for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..codecs.base import Codec
from ..data.images import ImageSet
from ..data.labeled import LabeledSet, LabeledSource, open_labeled
from ..files import json_text, json_value, write_whole
from ..metrics.image import bpp, defined, mean_of
from .evaluators import Evaluator

UNCOMPRESSED = "uncompressed"
"""What tables call photographs that no codec has touched."""
ROWS = 2
"""Counts up when rows that were measured before hold something else than those of now."""
Images = ImageSet | LabeledSet
Track = Callable[[Iterable], Iterable]
"""Wraps an iterable to show progress."""


def open_images(task: str, source: LabeledSource, every: int) -> Images:
    """The photographs to be measured: the labeled set of a task, or without one photographs alone.

    Args:
        task: of the labels; empty for photographs alone.
        source: of the data.
        every: use each so many-th photograph, the first included; at least 1.

    Raises:
        FileNotFoundError: as `open_labeled` and `ImageSet`.
        ValueError: as `open_labeled` and `ImageSet`.
    """
    return (open_labeled(task, source) if task else ImageSet(source.path)).every(every)


def no_track(items: Iterable) -> Iterable:
    """Shows nothing.

    Args:
        items: to be tracked.

    Returns:
        the same.
    """
    return items


@dataclass
class Case:
    """What a point is measured of, and by whom.

    Attributes:
        encode: (number of a photograph, photograph) to a file; None to measure nothing, because nothing can be.
        decode: a file to uint8 (H, W, 3), asked where an evaluator looks at reconstructions; None for the original.
        evaluators: who looks at the files.
        facts: what else is known of the files, plain data.
    """

    encode: Callable[[int, Image.Image], bytes] | None
    decode: Callable[[bytes], np.ndarray] | None = None
    evaluators: Sequence[Evaluator] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def at_level(
    codec: Codec | None, level: int | None, evaluators: Sequence[Evaluator], facts: dict[str, Any] | None = None
) -> Case:
    """A codec's files, all at one level; without one photographs as they are, whose bytes nobody counts.

    Args:
        codec: makes the files; None for photographs as they are.
        level: of the codec; does not count without one.
        evaluators: who looks at the files.
        facts: what else is known of the files, plain data; does not count without a codec.
    """
    if codec is None:
        return Case(untouched, None, evaluators)
    return Case(lambda index, image: codec.encode(image, level), codec.decode, evaluators, facts or {})


def untouched(index: int, image: Image.Image) -> bytes:
    """The file of a photograph as it is, whose bytes nobody counts.

    Args:
        index: of the photograph; does not count.
        image: the photograph; does not count.

    Returns:
        no bytes.
    """
    return b""


@dataclass
class Point:
    """What came out of a data set.

    Attributes:
        rows: by the photograph's number: ``bytes``, ``bpp``, seconds (``encode_s``, ``decode_s``), and what evaluators
            keep of it: figures, and under names that begin with "_" what figures of many photographs are made of.
        summary: ``facts`` and ``figures`` of all photographs, and the ``seconds`` that it took.
    """

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    def mean(self, name: str) -> float | None:
        """Mean of a column over the photographs that have it (some are too small for MS-SSIM); None where none has.

        Args:
            name: of the column.
        """
        return mean_of(name, (row.get(name) for row in self.rows.values()))[name]

    def left_out(self, name: str) -> int:
        """How many photographs of which a measure was asked do not have it.

        Args:
            name: of the measure's column.
        """
        return sum(name in row and defined(row[name]) is None for row in self.rows.values())

    def median(self, name: str) -> float:
        """Median of a column: of times, which a busy machine spoils now and then.

        Args:
            name: of the column; photographs without it count as 0, as where times were not taken.
        """
        return float(np.median([row.get(name, 0.0) for row in self.rows.values()]))


def measure(images: Images, make: Callable[[], Case], path: Path | None = None, track: Track = no_track) -> Point:
    """Measure what is not measured yet.

    Args:
        images: what is measured, photograph by photograph.
        make: gives the case, with evaluators that have seen nothing; not asked where all is measured.
        path: where every photograph's row is written at once (JSON lines), and the summary at the end. A file that was
            cut off is gone on with from there, unless an evaluator cannot take back what it has seen.
        track: wraps an iterable to show progress.

    Returns:
        rows and summary; without rows where the case has nothing to be encoded.

    Raises:
        ValueError: if a photograph cannot be read; also what the case's codec and evaluators raise.
    """
    point = _kept(path, images.names) if path else Point()
    if point.summary:
        return point
    case, started = make(), time.monotonic()
    if not all(hasattr(evaluator, "restore") for evaluator in case.evaluators):
        point = Point()
    for index, row in list(point.rows.items()):
        try:
            for evaluator in case.evaluators:
                evaluator.restore(index, row)
        except KeyError:  # the row was written for other evaluators
            del point.rows[index]
    missing = [index for index in range(len(images)) if index not in point.rows] if case.encode else []
    for index in track(missing) if missing else ():
        point.rows[index] = {"_name": images.names[index], **_row(case, index, images.image(index))}
        _keep(path, {"photograph": index, **point.rows[index]})
    figures = {name: v for evaluator in case.evaluators for name, v in evaluator.compute().items()}
    point.summary = {"facts": case.facts, "figures": figures, "seconds": round(time.monotonic() - started, 1)}
    _keep(path, point.summary)
    return point


def _row(case: Case, index: int, image: Image.Image) -> dict[str, Any]:
    original = np.asarray(image)
    times = [time.perf_counter()]
    data = case.encode(index, image)
    times.append(time.perf_counter())
    looked = any(getattr(evaluator, "decodes", True) for evaluator in case.evaluators)
    decoded = original if case.decode is None else case.decode(data) if looked else None
    times.append(time.perf_counter())
    row: dict[str, Any] = {"bytes": len(data), "bpp": bpp(len(data), image.width, image.height)}
    row |= dict(zip(("encode_s", "decode_s"), np.diff(times).round(6).tolist(), strict=True))
    for evaluator in case.evaluators:
        row |= evaluator.update(index, original, decoded, data)
    return row


def _keep(path: Path | None, line: dict[str, Any]) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            file.write(json_text(line) + "\n")


def _kept(path: Path, names: Sequence[str]) -> Point:
    """What is in the file, but for rows of other photographs, as other settings leave them, and for the summary if it
    is not of these. What a killed run left of a line is cut off.
    """
    rows, summary, whole = dict[int, dict[str, Any]](), dict[str, Any](), 0
    data = path.read_bytes() if path.is_file() else b""
    for line in data.splitlines(keepends=True):
        try:
            row = json_value(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        whole += len(line)
        if "photograph" in row:
            rows[int(row.pop("photograph"))] = row
        else:
            summary = row
    if whole < len(data):
        write_whole(path, data[:whole])
    known = dict(enumerate(names))
    own = {index: row for index, row in rows.items() if row.get("_name") == known.get(index)}
    return Point(own, summary if len(own) == len(rows) and len(own) in (0, len(names)) else {})
