"""Studies and experiments as data: what is measured, of which data, of which models and codecs, and by whom."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from ..codec.budget import check_effort
from ..codecs.compressai import MODELS
from ..configs import check_known, made, merged, read_config, words_of
from ..data.labeled import LabeledSource
from ..registry import CODECS, EVALUATORS, METRICS
from ..stream.container import check_working
from ..training.recipe import Recipe, recipe_from
from ..training.retraining import retraining_recipe

BASE = "base"
"""The variant of this name is the model that all variants of an experiment start from, as it is."""


@dataclass
class StudyConfig:
    """A study: one data set, one task, and curves of this library beside those of other codecs.

    Attributes:
        name: of its files.
        title: of its report.
        task: classification, detection or segmentation; empty to look at reconstructions alone.
        model: zoo name or folder; its heads read latents, their counterparts read photographs.
        source: the data.
        every: use each so many-th photograph only.
        streams: qualities in [0, 1] of streams that end after the last layer that the task's head reads.
        semantic: quality of both semantic layers in whole streams.
        reconstructions: qualities of the detail layer in whole streams; the counterpart reads what they decode to.
        realistic: qualities of the detail layer in whole streams that are decoded at a realism of 1.
        fitted: qualities of the detail layer in whole streams that are encoded with effort.
        effort: how much: steps, see `Model.encode`.
        baselines: for other codecs their levels, 0..100, of CompressAI's models 1..8; the counterpart reads what they
            decode to.
        reduced: for other codecs their levels; files of the photograph reduced to the working size of the layer that
            the head reads, for anyone may send a small picture; the counterpart reads what they decode to.
        compressai: folder with weights of CompressAI's models; empty to download them.
        retrained: for other codecs, levels; a counterpart that learned on from photographs so compressed reads them.
        retraining: how it learned, as a stage of a recipe; see `retraining.retrained`.
        perception: what is measured of reconstructions: psnr, ms_ssim, lpips, or other `EVALUATORS`.
        weights: SqueezeNet's, for lpips; empty to download them.
        shares: of the score on uncompressed photographs, at which bits are compared.
        draws: resamples of the bootstrap; 0 for no intervals.
        preset: which of the file's presets changed it.
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
    realistic: list[float] = field(default_factory=list)
    fitted: list[float] = field(default_factory=list)
    effort: int = 32
    baselines: dict[str, list[int]] = field(default_factory=dict)
    reduced: dict[str, list[int]] = field(default_factory=dict)
    compressai: str = ""
    retrained: dict[str, list[int]] = field(default_factory=dict)
    retraining: dict[str, Any] = field(default_factory=dict)
    perception: list[str] = field(default_factory=lambda: ["psnr", "ms_ssim"])
    weights: str = ""
    shares: list[float] = field(default_factory=lambda: [0.99, 0.97, 0.95, 0.9])
    draws: int = 500
    preset: str = ""


@dataclass
class MeasureConfig:
    """One table of an experiment.

    Attributes:
        title: what it shows.
        task, source, every: as a study's.
        bpp: rates at which files are compared, approached from below.
        each: whether every photograph's file has the rate, and the report a line for it; otherwise all are made at one
            level, and the mean has it.
        preview: whether models whose decoder sees the semantic layers may write these alone where all layers take more
            than the rate.
        evaluators: who looks at the files; see `EVALUATORS`.
        variants: which variants; by default all.
        importance: more variants: the base with its detail layer's bits where this says: "saliency", or the ONNX file
            of a saliency network below ``CDANALYSIS_DATA``; empty for everywhere alike.
        baselines: which other codecs.
        probe: on how many photographs the level that gives a rate is sought.
        spatial_size: working size of the spatial layer; by default the models'. The smallest, 32, leaves pictures the
            bits.
    """

    title: str = MISSING
    task: str = ""
    source: LabeledSource = field(default_factory=LabeledSource)
    every: int = 1
    bpp: list[float] = field(default_factory=list)
    each: bool = False
    preview: bool = False
    evaluators: list[str] = field(default_factory=list)
    variants: list[str] = field(default_factory=list)
    importance: dict[str, str] = field(default_factory=dict)
    baselines: list[str] = field(default_factory=list)
    probe: int = 24
    spatial_size: int | None = None


@dataclass
class PlotConfig:
    """A figure of an experiment, with one curve, or point, a codec: of which table, and which of its figures."""

    table: str = MISSING
    x: str = "bpp"
    y: str = "psnr"


@dataclass
class CropsConfig:
    """Windows of photographs to look at, beside each other: the original, every variant, and other codecs.

    Attributes:
        path: of the photographs.
        windows: x, y, width, height in pixels, by the photograph's name.
        bpp: rates of every photograph's file, approached from below: a row for each.
        variants: which; by default all, and not the base.
        baselines: which other codecs.
    """

    path: str = ""
    windows: dict[str, list[int]] = field(default_factory=dict)
    bpp: list[float] = field(default_factory=lambda: [0.25])
    variants: list[str] = field(default_factory=list)
    baselines: list[str] = field(default_factory=list)


@dataclass
class ExperimentConfig:
    """An experiment: variants of a model that are trained alike but for one thing, and who evaluates them.

    Attributes:
        name, preset: as a study's.
        question: what it asks.
        base: zoo name or folder of the model that all variants start from; it also has the RGB detector.
        semantic: quality in [0, 1] of both semantic layers in all files.
        bases: more rows: the base with another quality of the semantic layers, by name.
        realism: more rows: the base, decoded at a realism above 0, by name.
        effort: steps of the encoder's effort for those rows, by name; it serves their realism. See `Model.encode`.
        weights: SqueezeNet's, for LPIPS and FID; empty to download them.
        saliency: U2-Net-P's ONNX file, for the evaluator of salient places; empty for spectral residuals.
        recipe: how variants are trained, but for what is the experiment's: name and ``init``.
        changes: of presets and of the command line, to the recipe.
        variants: for each variant's name its changes to the recipe (``key=value``).
        measures: the tables, by name.
        plots: the figures, side by side.
        crops: a contact sheet; none without windows.
    """

    name: str = MISSING
    question: str = MISSING
    base: str = "photo"
    semantic: float = 0.3
    bases: dict[str, float] = field(default_factory=dict)
    realism: dict[str, float] = field(default_factory=dict)
    effort: dict[str, int] = field(default_factory=dict)
    weights: str = ""
    saliency: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, list[str]] = field(default_factory=dict)
    measures: dict[str, MeasureConfig] = field(default_factory=dict)
    plots: list[PlotConfig] = field(default_factory=list)
    crops: CropsConfig = field(default_factory=CropsConfig)
    preset: str = ""


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study's YAML.

    Args:
        path: of the file.
        overrides: ``key=value`` words; ``preset=NAME`` picks one of the file's presets.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown preset or key, or a bad value.
    """
    where = str(path)
    config = made(StudyConfig, merged(where, *read_config(path, "study", overrides)), where)
    others = dict.fromkeys(("baselines", "reduced", "retrained"), ("codec", CODECS))
    _check_data(f"{where}: ", config, perception=("measure", EVALUATORS), **others)
    for key in others:
        for name, levels in getattr(config, key).items():
            least, most = (1, 8) if name in MODELS else (0, 100)
            right = all(least <= level <= most for level in levels)
            _check(f"{where}: {key}.{name} must have levels of {least} to {most}", right, levels)
    asked = {name: getattr(config, name) for name in ("streams", "reconstructions", "realistic", "fitted")}
    _check_qualities(where, **asked, semantic=[config.semantic])
    check_effort(config.effort)
    shares = all(0 < share <= 1 for share in config.shares)
    _check(f"{where}: shares must lie above 0 and at most at 1", shares, config.shares)
    _check(f"{where}: draws must be at least 0", config.draws >= 0, config.draws)
    if any(config.reduced.values()) and not config.task:
        raise ValueError(f"{where}: reduced photographs are for tasks, and this study has none")
    if config.retrained:
        retraining_recipe(config.model, config.task, config.retraining, f"{where}: retraining")
    return config


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment's YAML, as `load_study` does a study's.

    Args:
        path: of the file.
        overrides: ``key=value`` words; ``preset=NAME`` picks one of the file's presets.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown preset or key, or a bad value, also in the recipe of a variant.
    """
    where = str(path)
    tree, preset, words = read_config(path, "experiment", overrides)
    words = merged(where, preset, words)
    changes = words.pop("recipe", {})
    _check(f"{where}: recipe must be a mapping", isinstance(changes, (dict, DictConfig)), repr(changes))
    config = made(ExperimentConfig, merged(where, tree, words, {"changes": changes} if changes else {}), where)
    for name in config.variants or ([""] if config.recipe else []):
        variant_recipe(config, name, where)
    _check_qualities(where, semantic=[config.semantic], bases=list(config.bases.values()))
    _check_qualities(where, realism=list(config.realism.values()))
    check_known(f"{where}: effort", "row of realism", config.effort, config.realism)
    for steps in config.effort.values():
        check_effort(steps)
    variants = "variant", [*config.variants, BASE, *config.bases, *config.realism]
    for name, measure in config.measures.items():
        place = f"{where}: measures.{name}."
        names = {"evaluators": ("evaluator", EVALUATORS), "variants": variants, "baselines": ("baseline", CODECS)}
        _check_data(place, measure, **names)
        _check(f"{place}probe must be at least 1", measure.probe >= 1, measure.probe)
        if measure.spatial_size is not None:
            check_working(measure.spatial_size)
        _check(f"{place}bpp must hold rates, of bpp above 0", all(rate > 0 for rate in measure.bpp), measure.bpp)
    for number, plot in enumerate(config.plots):
        check_known(f"{where}: plots[{number}].table", "measure", [plot.table], config.measures)
    for name, window in config.crops.windows.items():
        _check(f"{where}: crops.windows.{name} must be four numbers x, y, width, height", len(window) == 4, window)
    check_known(f"{where}: crops.baselines", "codec", config.crops.baselines, CODECS)
    return config


def variant_recipe(config: ExperimentConfig, name: str, where: str = "") -> Recipe:
    """How a variant is trained; without a name, what all variants have in common.

    Args:
        config: of the experiment.
        name: of the variant; empty for what all have in common.
        where: names the source in messages.

    Raises:
        ValueError: for an unknown key or stage, or a bad value.
    """
    title = f"{where}: variants.{name}" if where and name else f"{where}: recipe" if where else f"variant {name!r}"
    words = merged(title, config.changes, words_of(config.variants[name] if name else [], title))
    tree = merged(title, {"name": f"{config.name}-{name}", "init": config.base}, config.recipe)
    return recipe_from(tree, words, title)


def _check(must: str, right: bool, got: Any) -> None:
    if not right:
        raise ValueError(f"{must}, got {got}")


def _check_qualities(where: str, **qualities: list[float]) -> None:
    for key, values in qualities.items():
        _check(f"{where}: {key}: quality must be a number in [0, 1]", all(0 <= value <= 1 for value in values), values)


def _check_data(place: str, config: StudyConfig | MeasureConfig, **names: tuple[str, Collection[str]]) -> None:
    """What a study and a table have in common; ``names``: by key, what its words name, and which there are."""
    check_known(f"{place}task", "task", [config.task] if config.task else [], METRICS)
    _check(f"{place}every must be at least 1", config.every >= 1, config.every)
    for key, (what, known) in names.items():
        check_known(f"{place}{key}", what, getattr(config, key), known)
