"""A study: one data set, one task, and every way to get its answers from few bits, side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, OmegaConf

from ..benchmarks.hardware import hardware
from ..benchmarks.macs import costs
from ..codecs.base import Codec, open_codec
from ..codecs.ours import BaseLayerCodec, ModelCodec
from ..data.images import ImageSet
from ..data.labeled import LabeledSet, LabeledSource, open_labeled
from ..files import write_whole
from ..metrics.bjontegaard import Curve, bd_rate, bd_score, interval, resamples, saving
from ..metrics.image import LOWER, PERCEPTION
from ..metrics.tasks import Scorer
from ..model import Model
from ..zoo import load
from .points import Point, Reader, Track, Uncompressed, measure_point
from .retraining import retrained
from .runner import versions

UNCOMPRESSED = "uncompressed"
LATENTS, DECODED = OURS = ("heads on latents", "own reconstructions")
"""Series of a study that are this library's."""


@dataclass
class StudyConfig:
    """What is measured.

    Attributes:
        name: of its files.
        title: of its report.
        task: classification, detection or segmentation; empty to look at reconstructions alone.
        model: zoo name or folder; its heads read latents, their counterparts read photographs.
        source: the data.
        every: use each so many-th photograph only.
        streams: qualities in [0, 1] of streams of the semantic layer alone, which heads read.
        semantic: quality of the semantic layer in whole streams.
        reconstructions: qualities of the detail layer in whole streams; the counterpart reads what they decode to.
        baselines: for other codecs their levels, 0..100, of CompressAI's models 1..8; the counterpart reads what they
            decode to.
        compressai: folder with weights of CompressAI's models; empty to download them.
        retrained: for other codecs, levels; a counterpart that learned on from photographs so compressed reads them.
        retraining: how it learned, as a stage of a recipe; see `retraining.retrained`.
        perception: what is measured of reconstructions: psnr, ms_ssim, lpips.
        weights: SqueezeNet's, for lpips; empty to download them.
        shares: of the score on uncompressed photographs, at which bits are compared.
        draws: resamples of the bootstrap; 0 for no intervals.
    """

    name: str = MISSING
    title: str = MISSING
    task: str = ""
    model: str = "photo"
    source: LabeledSource = field(default_factory=LabeledSource)
    every: int = 1
    streams: list[float] = field(default_factory=list)
    semantic: float = 0.3
    reconstructions: list[float] = field(default_factory=list)
    baselines: dict[str, list[int]] = field(default_factory=dict)
    compressai: str = ""
    retrained: dict[str, list[int]] = field(default_factory=dict)
    retraining: dict[str, Any] = field(default_factory=dict)
    perception: list[str] = field(default_factory=lambda: ["psnr", "ms_ssim"])
    weights: str = ""
    shares: list[float] = field(default_factory=lambda: [0.99, 0.97, 0.95, 0.9])
    draws: int = 500


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study's YAML; ``preset=NAME`` picks one of its presets, ``key=value`` changes more.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown preset or key, or a bad value.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no study at {path}")
    try:
        tree, words = OmegaConf.load(path), OmegaConf.from_dotlist(list(overrides))
        presets, preset = tree.pop("presets", {}), words.pop("preset", "")
        if preset and preset not in presets:
            raise ValueError(f"no preset {preset!r}; there are: {', '.join(sorted(presets)) or 'none'}")
        small = presets[preset] if preset else {}
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(StudyConfig), tree, small, words))
    except Exception as error:  # OmegaConf's and YAML's errors share no base class
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None


@dataclass
class Measured:
    """What a study measured: its points, each with the scorer of its task (None without a task), of ``labeled``."""

    points: list[Point]
    scorers: list[Scorer | None]
    labeled: LabeledSet | ImageSet
    model: Model


def run_study(
    config: StudyConfig, folder: Path, command: str, track: Track = lambda items: items
) -> tuple[dict[str, Any], Measured]:
    """Measure what is not measured yet, and keep it in ``folder``.

    Returns:
        the report, as JSON holds it, and what it was made of.

    Raises:
        ValueError, FileNotFoundError, ModuleNotFoundError: where the data, the model or a codec is not what it must be.
    """
    model = load(config.model, counterparts=True)
    labeled = open_labeled(config.task, config.source) if config.task else ImageSet(config.source.path)
    labeled = labeled.every(config.every)
    points, scorers = [], []
    for name, codec, level, reader in _plan(config, model, folder, track):
        path = _file(folder, name, level)
        seen = (config.perception, config.weights)
        points.append(measure_point(name, codec, level, reader, labeled, *seen, path, track))
        scorers.append(reader.scorer(labeled))
    summary = summarize(config, points, scorers, len(labeled))
    write_whole(folder / "photographs.csv", table_of_images(points, labeled.names, scorers))
    report = {
        "config": asdict(config),
        "command": command,
        "hardware": hardware(),
        "versions": versions(),
        "codecs": {
            name: open_codec(name, config.compressai).facts() for name in (*config.baselines, *config.retrained)
        },
        "fingerprint": model.fingerprint,
        "data": labeled.title,
        "photographs": len(labeled),
        "macs": costs(model, np.asarray(labeled.image(0)), config.task),
        **summary,
    }
    return report, Measured(points, scorers, labeled, model)


def _plan(
    config: StudyConfig, model: Model, folder: Path, track: Track
) -> list[tuple[str, Codec | Uncompressed, int, Reader]]:
    """(series, codec, level, reader) of every point."""
    rgb = Reader(model, config.task, latents=False)
    plan: list[tuple[str, Codec | Uncompressed, int, Reader]] = []
    if config.task:
        plan.append((UNCOMPRESSED, Uncompressed(), 0, rgb))
        base = BaseLayerCodec(LATENTS, model)
        plan += [(LATENTS, base, base.level(q), Reader(model, config.task, latents=True)) for q in config.streams]
    whole = ModelCodec(DECODED, model, config.semantic)
    plan += [(DECODED, whole, whole.level(q), rgb) for q in config.reconstructions]
    for name, levels in config.baselines.items():
        plan += [(name, open_codec(name, config.compressai), level, rgb) for level in levels]
    for name, levels in config.retrained.items():
        codec = open_codec(name, config.compressai)
        for level in levels:
            place = folder / "retrained" / f"{name}-{level}".replace(" ", "-")
            learned = retrained(config.model, config.task, config.retraining, codec, level, place, track)
            reader = Reader(learned, config.task, latents=False)
            plan.append((f"{name}, retrained", codec, level, reader))
    return plan


def _file(folder: Path, series: str, level: int) -> Path:
    return folder / "points" / f"{series}-{level}.jsonl".replace(" ", "-").replace(",", "")


class Series:
    """All points of one curve, with their rates and scores on every resample of the photographs.

    Args:
        points: of one series, all on the same photographs.
        scorers: of the same points; None where there is no task, and the score is a measure of the reconstruction.
        main: the score.
        drawn: (1 + draws, photographs), of which the first row is all of them.

    Attributes:
        rates, scores: (1 + draws, points).
    """

    def __init__(self, points: list[Point], scorers: list[Scorer | None], main: str, drawn: np.ndarray):
        self.name, self.points, self.scorers, self.drawn = points[0].series, points, scorers, drawn
        self.rates = self._means("bpp")
        scores = []
        for point, scorer in zip(points, scorers, strict=True):
            if scorer is None:
                scores.append(_means(point, main, drawn))
                continue
            scorer.parts = {index: row["part"] for index, row in point.rows.items()}
            scores.append(np.array([scorer.compute(chosen)[main] for chosen in drawn]))
        self.scores = np.stack(scores, 1)

    def _means(self, name: str) -> np.ndarray:
        """Means of a measure on every resample, (1 + draws, points)."""
        return np.stack([_means(point, name, self.drawn) for point in self.points], 1)

    def curves(self, measure: str = "") -> list[Curve]:
        """The curve on all photographs, then on each resample; of a measure of reconstructions instead of the score."""
        scores = (-1 if measure in LOWER else 1) * self._means(measure) if measure else self.scores
        return [Curve(rates, row) for rates, row in zip(self.rates, scores, strict=True)]


def _means(point: Point, name: str, drawn: np.ndarray) -> np.ndarray:
    """Means of a column over the photographs that have it, (1 + draws,); where a resample has none, that of all."""
    column = np.array([point.rows[index].get(name) for index in sorted(point.rows)], np.float64)
    values = column[drawn]
    counts = (~np.isnan(values)).sum(1)
    means = np.nansum(values, 1) / np.maximum(counts, 1)
    return np.where(counts > 0, means, means[0])


def summarize(config: StudyConfig, points: list[Point], scorers: list[Scorer | None], images: int) -> dict[str, Any]:
    """Tables of what was measured: points, comparisons of curves, and bits at equal scores."""
    drawn = resamples(images, config.draws if images > 1 else 0)
    seen = [name for name in config.perception if all(point.mean(name) is not None for point in points)]
    if not (config.task or seen):
        raise ValueError(f"no photograph is large enough for {' or '.join(config.perception)}")
    main = scorers[0].main if scorers[0] is not None else seen[0]
    numbers: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        numbers.setdefault(point.series, []).append(number)
    series = [Series([points[i] for i in own], [scorers[i] for i in own], main, drawn) for own in numbers.values()]
    coded = [one for one in series if one.name != UNCOMPRESSED]
    measures = {main: ""} if config.task else {name: name for name in seen}
    curves = {measure: {one.name: one.curves(name) for one in coded} for measure, name in measures.items()}
    reference = next((one.scores[:, 0] for one in series if one.name == UNCOMPRESSED), None)
    return {
        "main": main,
        "points": [row for one in series for row in _point_rows(one)],
        "comparisons": [row for measure in curves for row in _comparisons(measure, curves[measure])],
        "savings": [] if reference is None else _savings(curves[main], reference, config.shares),
    }


def _point_rows(series: Series) -> list[dict[str, Any]]:
    rows = []
    for number, (point, scorer) in enumerate(zip(series.points, series.scorers, strict=True)):
        row = {
            "series": series.name,
            "level": point.level,
            "score": asdict(interval(series.scores[:, number].tolist(), biased=scorer is not None and scorer.biased)),
        }
        row |= {name: point.mean(name) for name in ("bytes", "bpp", *PERCEPTION)}
        row |= {name: point.median(name) for name in ("encode_s", "decode_s", "read_s")}
        if point.level is None:
            row |= {"bytes": None, "bpp": None}
        if scorer is not None:
            row["scores"] = scorer.compute()
        rows.append(row)
    return rows


def _pairs(curves: dict[str, list[Curve]]) -> Iterator[tuple[str, str]]:
    """(one of ours, any other)."""
    return ((ours, name) for ours in (LATENTS, DECODED) if ours in curves for name in curves if name != ours)


def _comparisons(measure: str, curves: dict[str, list[Curve]]) -> list[dict[str, Any]]:
    """BD-rate and BD-score (above 0 is better) of this library's curves against every other one."""
    rows = []
    for test, anchor in _pairs(curves):
        for title, figure in (("bd_rate_percent", bd_rate), ("bd_score", bd_score)):
            values = [figure(a, b) for a, b in zip(curves[anchor], curves[test], strict=True)]
            row = {"test": test, "anchor": anchor, "measure": measure, "figure": title}
            rows.append({**row, **asdict(interval(values))})
    return rows


def _savings(curves: dict[str, list[Curve]], reference: np.ndarray, shares: list[float]) -> list[dict[str, Any]]:
    """Bits saved, in percent, where both curves reach the same share of the score on uncompressed photographs."""
    rows = []
    for test, anchor in _pairs(curves):
        for share in shares:
            pairs = zip(curves[anchor], curves[test], share * reference, strict=True)
            values = [saving(a, b, float(wanted)) for a, b, wanted in pairs]
            rows.append({"test": test, "anchor": anchor, "share": share, **asdict(interval(values))})
    return rows


def table_of_images(points: list[Point], names: Sequence[str], scorers: list[Scorer | None]) -> str:
    """CSV with a line for every photograph at every point: bits, seconds, measures, and its own score."""
    columns = ["series", "level", "photograph", "bytes", "bpp", "encode_s", "decode_s", "read_s", *PERCEPTION, "score"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for point, scorer in zip(points, scorers, strict=True):
        for index, row in sorted(point.rows.items()):
            own = {} if scorer is None else {"score": scorer.compute([index])[scorer.main]}
            writer.writerow({"series": point.series, "level": point.level, "photograph": names[index], **row, **own})
    return buffer.getvalue()
