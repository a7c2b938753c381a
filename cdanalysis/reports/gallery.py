"""The photographs of a study that came out best and worst, with what was predicted drawn on them."""

from __future__ import annotations

from PIL import Image

from ..evaluation.study import DECODED, LATENTS, Study, StudyPoint
from ..metrics.image import LOWER, defined
from .predictions import drawn


def gallery(study: Study, main: str, each: int = 4) -> list[tuple[str, Image.Image]]:
    """Captions and pictures: the ``each`` worst photographs, then the best, at the middle of this library's curve.

    Args:
        main: the score, or without a task the measure, that tells worst from best.
    """
    series = {name: [point for point in study.points if point.series == name] for name in (LATENTS, DECODED)}
    own = series[LATENTS] or series[DECODED]
    if not own:
        return []
    point = own[len(own) // 2]
    scores = {index: point.score(index, main) for index in point.point.rows}
    known = {index: score for index, score in scores.items() if defined(score) is not None}
    order = sorted(known, key=lambda index: ((-1 if main in LOWER else 1) * known[index], index))
    chosen = [("worst", i) for i in order[:each]] + [("best", i) for i in order[each:][-each:][::-1]]
    captioned = []
    for place, index in chosen:
        row, name = point.point.rows[index], study.images.names[index]
        rate = f"{row['bytes']:,} bytes, {row['bpp']:.3f} bpp"
        captioned.append((f"{place}: {name}, {rate}, score {known[index]:.3f}", _image(study, point, index)))
    return captioned


def _image(study: Study, point: StudyPoint, index: int) -> Image.Image:
    """The photograph with the head's prediction from its stream; its reconstruction where there is no task."""
    image = study.images.image(index)
    stream = point.codec.encode(image, point.level)
    if not study.task:
        return study.model.decode(stream)
    return drawn(study.model.analyze(stream, (study.task,))[study.task], image)
