"""The photographs of a study that came out best and worst, with what was predicted drawn on them."""

from __future__ import annotations

from typing import Any

from PIL import Image

from ..data.labeled import LabeledSet
from ..evaluation.points import Point
from ..evaluation.study import OURS
from ..metrics.image import LOWER
from ..metrics.tasks import Scorer
from ..model import Model
from ..structures.latents import QUALITY_LEVELS
from .predictions import drawn


def gallery(
    points: list[Point],
    scorers: list[Scorer | None],
    labeled: LabeledSet,
    model: Model,
    task: str,
    main: str,
    each: int = 4,
) -> list[tuple[str, Image.Image]]:
    """Captions and pictures: the ``each`` worst photographs, then the best, at the middle of this library's curve.

    Args:
        main: the measure that tells worst from best where there is no task.
    """
    for name in OURS:
        own = [(p, s) for p, s in zip(points, scorers, strict=True) if p.series == name]
        if own:
            break
    else:
        return []
    point, scorer = own[len(own) // 2]
    score, sign = _by_score(point, scorer, main), -1 if main in LOWER else 1
    order = sorted(score, key=lambda index: (sign * score[index], index))
    chosen = [("worst", i) for i in order[:each]] + [("best", i) for i in order[each:][-each:][::-1]]
    return [
        (f"{place}: {_caption(labeled, index, point.rows[index], score[index])}", image)
        for place, index in chosen
        for image in [_image(labeled.image(index), model, task, name == OURS[0], point.level)]
    ]


def _by_score(point: Point, scorer: Scorer | None, main: str) -> dict[int, float]:
    if scorer is None:
        return {index: row[main] for index, row in point.rows.items() if row[main] is not None}
    return {index: scorer.compute([index])[scorer.main] for index in point.rows}


def _caption(labeled: LabeledSet, index: int, row: dict[str, Any], score: float) -> str:
    return f"{labeled.names[index]}, {row['bytes']:,} bytes, {row['bpp']:.3f} bpp, score {score:.3f}"


def _image(image: Image.Image, model: Model, task: str, base: bool, level: int | None) -> Image.Image:
    """The photograph with the head's prediction from its stream; its reconstruction where there is no task."""
    quality = (level or 0) / QUALITY_LEVELS
    stream = model.encode(image, quality, layers=("semantic",) if base else ("semantic", "detail"))
    if not task:
        return model.decode(stream)
    result = model.analyze(stream, (task,))
    return drawn(result[task], image)
