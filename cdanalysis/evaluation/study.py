"""A study: one data set, one task, and every way to get its answers from few bits, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..benchmarks.hardware import hardware, versions
from ..benchmarks.macs import costs
from ..codecs.base import Codec, open_codec
from ..codecs.ours import ModelCodec, SemanticCodec
from ..codecs.reduced import ReducedCodec
from ..data.labeled import contents_digest
from ..data.readable import readable
from ..files import csv_text, key_of
from ..heads.base import layers_of
from ..metrics.bjontegaard import Curve, comparisons, interval, rate_differences, resamples
from ..metrics.image import LEFT_OUT, LOWER, PERCEPTION
from ..metrics.tasks import Scorer
from ..model import Model
from ..notices import notice
from ..outputs import write_result
from ..training.retraining import retrained, with_counterpart
from ..version import __version__
from ..zoo import identity, load
from . import engine
from .configs import StudyConfig
from .evaluators import Context, TaskEvaluator, head_of, new_evaluators
from .weights import REST, needed, parts_in, parts_of

LATENTS, DECODED, REALISTIC, FITTED = OURS = (
    "heads on latents",
    "own reconstructions",
    "own reconstructions, realism 1",
    "own reconstructions, with effort",
)
"""Series of a study that are this library's."""
TIMES = ("encode_s", "decode_s", "read_s")


class Known(NamedTuple):
    """What points have in common: the study's folder, digits of its data, and what tells those of models' parts."""

    folder: Path
    contents: str
    parts: Callable[[Model], dict[str, str]]


@dataclass
class StudyPoint:
    """One point of a curve: how it is measured, and once it was, what came out.

    Attributes:
        series: name of the curve.
        codec: what makes the files; None for uncompressed photographs.
        level: of the codec; None likewise.
        model: reads what the files decode to, or with ``LATENTS`` the files.
        point: what came out; without rows before `measure`.
        scorer: of the task; None without one, and before `measure`.
    """

    series: str
    codec: Codec | None
    level: int | None
    model: Model
    point: engine.Point = field(default_factory=engine.Point)
    scorer: Scorer | None = None

    def measure(self, config: StudyConfig, images: engine.Images, known: Known, track: engine.Track) -> None:
        """Measure what is not measured yet; rows are kept in a file for all that they depend on.

        Args:
            config: of the study.
            images: its photographs.
            known: what its points have in common.
            track: wraps an iterable to show progress.
        """
        latents = self.series == LATENTS
        blind = latents or self.codec is None or isinstance(self.codec, ReducedCodec)
        tasks = [TaskEvaluator(self.model, config.task, images, latents)] if config.task else []

        def case() -> engine.Case:
            names = [] if blind else config.perception
            seen = new_evaluators(names, Context(images, self.model, config.weights, self.codec))
            return engine.at_level(self.codec, self.level, [*seen, *tasks])

        weights = needed(known.parts(self.model), parts_in(self.codec))
        asked: dict[str, Any] = {} if blind else {"perception": config.perception, "weights": config.weights}
        facts = {} if self.codec is None else self.codec.facts()
        key = key_of(engine.ROWS, __version__, known.contents, config.task, asked, facts, weights)
        name = f"{self.series}-{self.level or 0}-{key}.jsonl".replace(" ", "-").replace(",", "")
        self.point = engine.measure(images, case, known.folder / "points" / name, track)
        for evaluator in tasks:
            for index, row in self.point.rows.items():
                evaluator.restore(index, row)
            self.scorer = evaluator.scorer

    def score(self, index: int, main: str) -> float | None:
        """The score of one photograph, or its measure where there is no task; None where it has none.

        Args:
            index: of the photograph.
            main: name of the score or measure.
        """
        return self.point.rows[index].get(main) if self.scorer is None else self.scorer.compute([index])[main]

    def scores(self, drawn: np.ndarray, main: str) -> np.ndarray:
        """The score on every resample.

        Args:
            drawn: (1 + draws, N) indices of photographs, as `resamples` gives them.
            main: name of the score, or of the measure where there is no task.

        Returns:
            (1 + draws,); NaN where it is not defined.
        """
        if self.scorer is None:
            return self.means(main, drawn)
        return np.array([self.scorer.compute(chosen)[main] for chosen in drawn], np.float64)

    def means(self, name: str, drawn: np.ndarray) -> np.ndarray:
        """Means of a column over the photographs that have it.

        Args:
            name: of the column.
            drawn: (1 + draws, N) indices of photographs, as `resamples` gives them.

        Returns:
            (1 + draws,); where a resample has no photograph with the column, the mean of all.
        """
        rows = self.point.rows
        column = np.array([rows[index].get(name) for index in sorted(rows)], np.float64)
        values = np.where(np.isfinite(column), column, np.nan)[drawn]  # equal pictures have an infinite PSNR
        counts = (~np.isnan(values)).sum(1)
        means = np.nansum(values, 1) / np.maximum(counts, 1)
        return np.where(counts > 0, means, means[0])


@dataclass
class Study:
    """What a study measured."""

    points: list[StudyPoint]
    images: engine.Images
    task: str


def run_study(
    config: StudyConfig, folder: Path, command: str, track: engine.Track = engine.no_track, device: str = "cpu"
) -> tuple[dict[str, Any], Study]:
    """Measure what is not measured yet, and keep it in ``folder``.

    Args:
        config: of the study.
        folder: of the run.
        command: by which it was started, for the report.
        track: wraps an iterable to show progress.
        device: torch device of the model.

    Returns:
        the report, as JSON holds it, and what it was made of.

    Raises:
        ValueError, FileNotFoundError, ModuleNotFoundError: where the data, the model or a codec is not what it must be.
    """
    model = load(config.model, device, counterparts=True)
    images, failures = readable(engine.open_images(config.task, config.source, config.every), track)
    missing = model.reference.missing(config.task) if config.task and head_of(model, config.task) else ""
    known = Known(folder, contents_digest(images, config.source), cache(parts_of))
    if missing:
        model, missing = _trained_counterpart(config, model, missing, folder, track)
    planned = list(_plan(config, model, known, track))
    refused = [each for each in planned if missing and each.series != LATENTS and each.model is model]
    points = [each for each in planned if each not in refused]
    if not points:
        raise ValueError(missing or f"study {config.name!r} asks for nothing to be measured")
    if refused:
        notice(f"not measured: {'; '.join(dict.fromkeys(each.series for each in refused))}: {missing}")
    for each in points:
        each.measure(config, images, known, track)
    summary = summarize(config, points, len(images))
    write_result(folder / "photographs.csv", table_of_images(points, images.names, summary))
    others = (*config.baselines, *config.reduced, *config.retrained)
    report = {
        "config": asdict(config),
        "command": command,
        "hardware": hardware(),
        "versions": versions(),
        "codecs": {name: open_codec(name, config.compressai).facts() for name in others},
        "fingerprint": model.fingerprint,
        "data": images.title,
        "photographs": len(images),
        "failures": failures,
        "macs": costs(model, np.asarray(images.image(0)), config.task),
        "refused": {each.series: missing for each in refused},
        **summary,
    }
    return report, Study(points, images, config.task)


def _trained_counterpart(
    config: StudyConfig, model: Model, missing: str, folder: Path, track: engine.Track
) -> tuple[Model, str]:
    """The model with a counterpart that is trained here; else as it is, and why."""
    place = folder / f"counterpart-{key_of(config.retraining, identity(model))}"
    try:
        learned = with_counterpart(config.model, config.task, config.retraining, place, track)
    except (ValueError, FileNotFoundError) as error:
        return model, f"{missing}; a study trains one, but {error}"
    return learned.to(model.device), ""


def _plan(config: StudyConfig, model: Model, known: Known, track: engine.Track) -> Iterator[StudyPoint]:
    """Every point, to be measured."""
    if config.task:
        yield StudyPoint(engine.UNCOMPRESSED, None, None, model)
        base = SemanticCodec(LATENTS, model, layers_of([head_of(model, config.task)]))
        yield from [StudyPoint(LATENTS, base, base.level(quality), model) for quality in config.streams]
    whole = ModelCodec(DECODED, model, config.semantic)
    yield from [StudyPoint(DECODED, whole, whole.level(quality), model) for quality in config.reconstructions]
    codec = ModelCodec(REALISTIC, model, config.semantic, realism=1.0)
    yield from [StudyPoint(REALISTIC, codec, codec.level(quality), model) for quality in config.realistic]
    codec = ModelCodec(FITTED, model, config.semantic, effort=config.effort)
    yield from [StudyPoint(FITTED, codec, codec.level(quality), model) for quality in config.fitted]
    for name, levels in config.baselines.items():
        yield from [StudyPoint(name, open_codec(name, config.compressai), level, model) for level in levels]
    for name, levels in config.reduced.items() if config.task else ():
        size = partial(model.codec.config.working_size, layers=layers_of([head_of(model, config.task)]))
        codec = ReducedCodec(open_codec(name, config.compressai), size)
        yield from [StudyPoint(codec.name, codec, level, model) for level in levels]
    for name, levels in config.retrained.items():
        codec = open_codec(name, config.compressai)
        for level in levels:
            key = key_of(config.retraining, known.parts(model)[REST], codec.facts())
            place = known.folder / "retrained" / f"{name}-{level}-{key}".replace(" ", "-")
            learned = retrained(config.model, config.task, config.retraining, codec, level, place, track)
            yield StudyPoint(f"{name}, retrained", codec, level, learned.to(model.device))


def summarize(config: StudyConfig, points: list[StudyPoint], images: int) -> dict[str, Any]:
    """Tables of what was measured: points, comparisons of curves, and bits at equal scores.

    Args:
        config: of the study.
        points: all of them, measured; uncompressed photographs come first, if they were measured.
        images: number of photographs.

    Returns:
        ``main``, the name of the score; ``measures``; and ``points``, ``comparisons`` and ``rate_differences``, lists
        of rows.

    Raises:
        ValueError: if no measure that the study asks for is defined at all points, and it has no task.
    """
    drawn = resamples(images, config.draws if images > 1 else 0)
    seen = [name for name in config.perception if all(each.point.mean(name) is not None for each in points)]
    if not (config.task or seen):
        wanted = " or ".join(config.perception)
        raise ValueError(f"no photograph is large enough for {wanted}, or all are decoded without any error")
    main = points[0].scorer.main if points[0].scorer is not None else seen[0]
    scores = [each.scores(drawn, main) for each in points]
    measures = {main: scores}
    if not config.task:
        measures = {name: [(-1 if name in LOWER else 1) * each.means(name, drawn) for each in points] for name in seen}
    curves = {measure: _curves(points, drawn, values) for measure, values in measures.items()}
    names = list(dict.fromkeys([*PERCEPTION, *config.perception]))
    return {
        "main": main,
        "measures": names,
        "points": [_point_row(each, own, names) for each, own in zip(points, scores, strict=True)],
        "comparisons": [{**row, "measure": name} for name in curves for row in comparisons(curves[name], OURS)],
        "rate_differences": (
            rate_differences(curves[main], OURS, scores[0], config.shares) if points[0].codec is None else []
        ),
    }


def _curves(points: list[StudyPoint], drawn: np.ndarray, scores: list[np.ndarray]) -> dict[str, list[Curve | None]]:
    """For each series the curve on all photographs, then on each resample.

    None where a score is not defined, as on a resample in which no photograph has an object.
    """
    series: dict[str, list[int]] = {}
    for number, each in enumerate(points):
        if each.codec is not None:
            series.setdefault(each.series, []).append(number)
    rates = np.stack([each.means("bpp", drawn) for each in points], 1)
    rows = np.stack(scores, 1)
    return {
        name: [Curve(x, y) if np.isfinite(y).all() else None for x, y in zip(rates[:, own], rows[:, own], strict=True)]
        for name, own in series.items()
    }


def _point_row(each: StudyPoint, scores: np.ndarray, measures: Sequence[str]) -> dict[str, Any]:
    known = [None if np.isnan(value) else float(value) for value in scores]
    score = asdict(interval(known, biased=each.scorer is not None and each.scorer.biased))
    row: dict[str, Any] = {"series": each.series, "level": each.level, "score": score}
    row |= {name: None if each.codec is None else each.point.mean(name) for name in ("bytes", "bpp")}
    row |= {name: each.point.mean(name) for name in measures}
    row |= {name + LEFT_OUT: count for name in measures if (count := each.point.left_out(name))}
    row |= {name: each.point.median(name) for name in TIMES}
    return row if each.scorer is None else {**row, "scores": each.scorer.compute()}


def table_of_images(points: list[StudyPoint], names: Sequence[str], summary: dict[str, Any]) -> str:
    """CSV with a line for every photograph at every point: bits, seconds, measures, and its own score.

    Args:
        points: all of them, measured.
        names: of the photographs.
        summary: what `summarize` gives.
    """
    lines = []
    for each in points:
        for index, row in sorted(each.point.rows.items()):
            own = {} if each.scorer is None else {"score": each.score(index, summary["main"])}
            lines.append({"series": each.series, "level": each.level, "photograph": names[index], **row, **own})
    return csv_text(lines, ["series", "level", "photograph", "bytes", "bpp", *TIMES, *summary["measures"], "score"])
