"""Experiments as data: variants of a model that are trained alike but for one thing, and who evaluates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from ..configs import check_known, made, merged, read_mapping, take_preset, words_of
from ..data.labeled import LabeledSource
from ..registry import CODECS, EVALUATORS, METRICS
from ..training.recipe import Recipe, recipe_from

BASE = "base"
"""The variant of this name is the model that all start from, as it is."""


@dataclass
class MeasureConfig:
    """One table of an experiment.

    Attributes:
        title: what it shows.
        task: how the data are labeled: classification, detection, segmentation, or empty for photographs alone.
        source: the data.
        every: use each so many-th photograph only.
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


@dataclass
class PlotConfig:
    """A figure of an experiment: one curve, or point, a codec.

    Attributes:
        table: whose rows.
        x, y: which of their figures.
    """

    table: str = MISSING
    x: str = "bpp"
    y: str = "psnr"


@dataclass
class CropsConfig:
    """Windows of photographs to look at, beside each other: the original, every variant, and other codecs.

    Attributes:
        path: of the photographs.
        windows: x, y, width, height in pixels, by the photograph's name.
        bpp: rate of every photograph's file, approached from below.
        variants: which; by default all, and not the base.
        baselines: which other codecs.
    """

    path: str = ""
    windows: dict[str, list[int]] = field(default_factory=dict)
    bpp: float = 0.25
    variants: list[str] = field(default_factory=list)
    baselines: list[str] = field(default_factory=list)


@dataclass
class ExperimentConfig:
    """An experiment.

    Attributes:
        name: of its files.
        question: what it asks.
        base: zoo name or folder of the model that all variants start from; it also has the RGB detector.
        semantic: quality in [0, 1] of both semantic layers in all files.
        bases: more rows: the base with another quality of the semantic layers, by name.
        weights: SqueezeNet's, for LPIPS and FID; empty to download them.
        saliency: U2-Net-P's ONNX file, for the evaluator of salient places; empty for spectral residuals.
        recipe: how variants are trained, but for what is the experiment's: name and ``init``.
        changes: of presets and of the command line, to the recipe.
        variants: for each variant's name its changes to the recipe (``key=value``).
        measures: the tables, by name.
        plots: the figures, side by side.
        crops: a contact sheet; none without windows.
        preset: which of the file's presets changed it.
    """

    name: str = MISSING
    question: str = MISSING
    base: str = "photo"
    semantic: float = 0.3
    bases: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    saliency: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, list[str]] = field(default_factory=dict)
    measures: dict[str, MeasureConfig] = field(default_factory=dict)
    plots: list[PlotConfig] = field(default_factory=list)
    crops: CropsConfig = field(default_factory=CropsConfig)
    preset: str = ""


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment's YAML; ``preset=NAME`` picks one of its presets, ``key=value`` changes more.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown preset or key, or a bad value.
    """
    where = str(path)
    tree, words = read_mapping(path, "experiment"), words_of(overrides, where)
    words = merged(where, take_preset(tree, words.get("preset", tree.get("preset", "")), where), words)
    changes = words.pop("recipe", {})
    if not isinstance(changes, (dict, DictConfig)):
        raise ValueError(f"{where}: recipe must be a mapping, got {changes!r}")
    config = made(ExperimentConfig, merged(where, tree, words, {"changes": changes} if changes else {}), where)
    _check(config, where)
    return config


def _check(config: ExperimentConfig, where: str) -> None:
    """Raises `ValueError` for a value that means nothing."""
    for name in config.variants or {"": []}:
        if name or config.recipe:
            variant_recipe(config, name, where)
    for key, values in (("semantic", [config.semantic]), ("bases", list(config.bases.values()))):
        if not all(0 <= value <= 1 for value in values):
            raise ValueError(f"{where}: {key}: quality must lie in [0, 1], got {values}")
    for name, measure in config.measures.items():
        _check_measure(f"{where}: measures.{name}", measure, [*config.variants, BASE, *config.bases])
    for number, plot in enumerate(config.plots):
        check_known(f"{where}: plots[{number}].table", "measure", [plot.table], config.measures)
    for name, window in config.crops.windows.items():
        if len(window) != 4:
            raise ValueError(f"{where}: crops.windows.{name} must be four numbers x, y, width, height, got {window}")
    check_known(f"{where}: crops.baselines", "codec", config.crops.baselines, CODECS)


def _check_measure(place: str, measure: MeasureConfig, who: list[str]) -> None:
    check_known(f"{place}.task", "task", [measure.task] if measure.task else [], METRICS)
    for key, known in (("evaluators", EVALUATORS), ("variants", who), ("baselines", CODECS)):
        check_known(f"{place}.{key}", key[:-1], getattr(measure, key), known)
    if measure.every < 1 or measure.probe < 1 or any(rate <= 0 for rate in measure.bpp):
        raise ValueError(f"{place}: every and probe must be at least 1, and bpp above 0")


def variant_recipe(config: ExperimentConfig, name: str, where: str = "") -> Recipe:
    """How a variant is trained; without a name, what all variants have in common.

    Raises:
        ValueError: for an unknown key or stage, or a bad value.
    """
    title = f"{where}: variants.{name}" if where and name else f"{where}: recipe" if where else f"variant {name!r}"
    words = merged(title, config.changes, words_of(config.variants[name] if name else [], title))
    tree = merged(title, {"name": f"{config.name}-{name}", "init": config.base}, config.recipe)
    return recipe_from(tree, words, title)
