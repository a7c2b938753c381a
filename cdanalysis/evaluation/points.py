"""One point of a rate-accuracy curve: every photograph through one codec at one level, and what came out of each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..codecs.base import Codec
from ..data.labeled import LabeledSet
from ..metrics import image as metrics
from ..metrics.tasks import Scorer
from ..model import Model
from ..registry import METRICS
from .evaluators import LPIPSEvaluator

Track = Callable[[Iterable], Iterable]


class Uncompressed:
    """No codec: photographs as they are, whose bytes nobody counts."""

    name, max_level = "uncompressed", 0

    def encode(self, image: Image.Image, level: int) -> bytes:
        return b""


class Reader:
    """What reads files: a head on latents, or its counterpart on decoded photographs; nothing where there is no task.

    Args:
        model: has both.
        task: what is read; empty for nothing.
        latents: whether the head on latents reads, which needs no photograph.
    """

    def __init__(self, model: Model, task: str, latents: bool):
        self.model, self.task, self.latents = model, task, latents

    def scorer(self, labeled: LabeledSet) -> Scorer | None:
        """What scores this reader's predictions."""
        if not self.task:
            return None
        head = self.model.heads[self.task] if self.latents else self.model.counterpart(self.task)
        return METRICS[self.task](labeled, head.classes)

    def __call__(self, data: bytes, decoded: np.ndarray | None) -> Any:
        """The prediction: logits for classification, else what the head's ``predict`` gives."""
        model = self.model
        if self.task == "classification":
            return model.class_logits([data])[0] if self.latents else model.reference.logits([decoded])[0]
        results = (
            model.analyze(data, (self.task,)) if self.latents else model.reference.analyze([decoded], (self.task,))[0]
        )
        return results[self.task]


@dataclass
class Point:
    """What came out of a data set at one level.

    Attributes:
        series: name of the curve.
        level: of the codec; None for uncompressed photographs.
        rows: by the photograph's number: ``bytes``, ``bpp``, seconds (``encode_s``, ``decode_s``, ``read_s``), measures
            of the reconstruction where there is one, and ``part``, what the scorer kept.
    """

    series: str
    level: int | None
    rows: dict[int, dict[str, Any]]

    def mean(self, name: str) -> float | None:
        """Mean of a column over the photographs that have it (some are too small for MS-SSIM); None where none has."""
        values = [value for row in self.rows.values() if (value := row.get(name)) is not None]
        return float(np.mean(values)) if values else None

    def median(self, name: str) -> float:
        """Median of a column that all photographs have: of times, which a busy machine spoils now and then."""
        return float(np.median([row[name] for row in self.rows.values()]))


def measure_point(
    series: str,
    codec: Codec | Uncompressed,
    level: int,
    reader: Reader,
    labeled: LabeledSet,
    perception: Iterable[str],
    weights: str,
    path: Path,
    track: Track,
) -> Point:
    """Measure what is not measured yet; every photograph's row is written to ``path`` (JSON lines) at once.

    A file whose last line was cut off is gone on with from there.
    """
    rows = _known(path)
    scorer, lpips = reader.scorer(labeled), None
    path.parent.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(len(labeled)) if index not in rows]
    with open(path, "a") as file:
        for index in track(missing) if missing else ():
            if "lpips" in perception and lpips is None and not _plain(codec, reader):
                lpips = LPIPSEvaluator(weights)
            rows[index] = _row(codec, level, reader, labeled, index, scorer, perception, lpips)
            file.write(json.dumps({"photograph": index, **rows[index]}) + "\n")
            file.flush()
    return Point(series, None if isinstance(codec, Uncompressed) else level, rows)


def _plain(codec: Codec | Uncompressed, reader: Reader) -> bool:
    """Whether there is no reconstruction to look at."""
    return isinstance(codec, Uncompressed) or reader.latents


def _row(
    codec: Codec | Uncompressed,
    level: int,
    reader: Reader,
    labeled: LabeledSet,
    index: int,
    scorer: Scorer | None,
    perception: Iterable[str],
    lpips: LPIPSEvaluator | None,
) -> dict[str, Any]:
    image = labeled.image(index)
    original = np.asarray(image)
    times = [time.perf_counter()]
    data = codec.encode(image, level)
    times.append(time.perf_counter())
    decoded = original if isinstance(codec, Uncompressed) else None if reader.latents else codec.decode(data)
    times.append(time.perf_counter())
    if scorer is not None:
        prediction = reader(data, decoded)
    times.append(time.perf_counter())
    row: dict[str, Any] = {"bytes": len(data), "bpp": metrics.bpp(len(data), image.width, image.height)}
    row |= dict(zip(("encode_s", "decode_s", "read_s"), np.diff(times).round(6).tolist(), strict=True))
    if not _plain(codec, reader):
        row |= _seen(original, decoded, perception, lpips)
    if scorer is not None:
        scorer.update(index, prediction)
        row["part"] = scorer.parts[index]
    return row


def _seen(
    original: np.ndarray, decoded: np.ndarray, perception: Iterable[str], lpips: LPIPSEvaluator | None
) -> dict[str, float | None]:
    found = {name: getattr(metrics, name)(original, decoded) for name in perception if name != "lpips"}
    if lpips is not None:
        lpips.update(0, original, decoded, b"")
        found["lpips"] = lpips.values[-1]
    return found


def _known(path: Path) -> dict[int, dict[str, Any]]:
    """Rows that are in the file; what a killed run left of a line is cut off."""
    if not path.is_file():
        return {}
    rows, whole = {}, []
    for line in path.read_text().splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not line.endswith("\n"):
            break
        whole.append(line)
        rows[int(row.pop("photograph"))] = row
    part = path.with_name(path.name + ".part")
    part.write_text("".join(whole))
    part.replace(path)
    return rows
