"""Studies as data: what is measured, of which data, by which model, beside which codecs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from ..codecs.compressai import MODELS
from ..configs import check_known, made, merged, read_mapping, take_preset, words_of
from ..data.labeled import LabeledSource
from ..registry import CODECS, EVALUATORS, METRICS
from ..training.retraining import retraining_recipe


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
        streams: qualities in [0, 1] of streams that end after the last layer that the task's head reads.
        semantic: quality of both semantic layers in whole streams.
        reconstructions: qualities of the detail layer in whole streams; the counterpart reads what they decode to.
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


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study's YAML; ``preset=NAME`` picks one of its presets, ``key=value`` changes more.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown preset or key, or a bad value.
    """
    where = str(path)
    tree, words = read_mapping(path, "study"), words_of(overrides, where)
    preset = take_preset(tree, words.get("preset", tree.get("preset", "")), where)
    config = made(StudyConfig, merged(where, tree, preset, words), where)
    _check(config, where)
    return config


def _check(config: StudyConfig, where: str) -> None:
    """Raises `ValueError` for a value that means nothing."""
    check_known(f"{where}: perception", "measure", config.perception, EVALUATORS)
    check_known(f"{where}: task", "task", [config.task] if config.task else [], METRICS)
    for key in ("baselines", "reduced", "retrained"):
        _check_levels(f"{where}: {key}", getattr(config, key))
    qualities = {"streams": config.streams, "reconstructions": config.reconstructions, "semantic": [config.semantic]}
    for key, values in qualities.items():
        if not all(0 <= value <= 1 for value in values):
            raise ValueError(f"{where}: {key}: quality must lie in [0, 1], got {values}")
    if not all(0 < share <= 1 for share in config.shares):
        raise ValueError(f"{where}: shares must lie above 0 and at most at 1, got {config.shares}")
    for key, least in (("every", 1), ("draws", 0)):
        if getattr(config, key) < least:
            raise ValueError(f"{where}: {key} must be at least {least}, got {getattr(config, key)}")
    if any(config.reduced.values()) and not config.task:
        raise ValueError(f"{where}: reduced photographs are for tasks, and this study has none")
    if config.retrained:
        retraining_recipe(config.model, config.task, config.retraining, f"{where}: retraining")


def _check_levels(where: str, codecs: dict[str, list[int]]) -> None:
    check_known(where, "codec", codecs, CODECS)
    for name, levels in codecs.items():
        least, most = (1, 8) if name in MODELS else (0, 100)
        if not all(least <= level <= most for level in levels):
            raise ValueError(f"{where}.{name} must have levels of {least} to {most}, got {levels}")
