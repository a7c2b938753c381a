"""Experiments as data: variants of a model that are trained alike but for one thing, and who judges them."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, OmegaConf
from PIL import Image

from ..data.labelled import LabelledSet, LabelledSource, open_labelled
from ..data.photographs import Photographs
from ..files import write_whole
from ..importance import saliency_model
from ..model import Model
from ..observers.saliency import Remembered, Saliency
from ..training.recipe import Recipe, recipe_from
from ..training.trainer import Trainer
from ..zoo import load
from .baselines import baseline
from .coders import BaselineCoder, Coder, ModelCoder, PreviewCoder, level_at
from .hardware import hardware
from .judges import new_judge
from .metrics import bpp
from .runner import versions
from .sheet import sheet

BASE = "base"
"""The variant of this name is the model that all start from, as it is."""


@dataclass
class MeasureConfig:
    """One table of an experiment.

    Attributes:
        title: what it shows.
        task: how the data are labelled: classification, detection, segmentation, or empty for photographs alone.
        source: the data.
        every: use each so many-th photograph only.
        bpp: rates at which files are compared, approached from below.
        each: whether every photograph's file has the rate, and the report a line for it; otherwise all are made at one
            level, and the mean has it.
        preview: whether models may write the semantic layer alone where both layers take more than the rate.
        judges: who judges; see `JUDGES`.
        variants: which variants; by default all.
        importance: more variants: the base with its detail layer's bits where this says: "saliency", or the ONNX file
            of a saliency network below ``CDANALYSIS_DATA``; empty for everywhere alike.
        baselines: which other codecs.
        probe: on how many photographs the level that gives a rate is sought.
    """

    title: str = MISSING
    task: str = ""
    source: LabelledSource = field(default_factory=LabelledSource)
    every: int = 1
    bpp: list[float] = field(default_factory=list)
    each: bool = False
    preview: bool = False
    judges: list[str] = field(default_factory=list)
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
        semantic: quality in [0, 1] of the semantic layer in all files.
        weights: SqueezeNet's, for the judges LPIPS and FID; empty to download them.
        saliency: U2-Net-P's ONNX file, for the judge of salient places; empty for spectral residuals.
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
    weights: str = ""
    saliency: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, list[str]] = field(default_factory=dict)
    measures: dict[str, MeasureConfig] = field(default_factory=dict)
    plots: list[PlotConfig] = field(default_factory=list)
    crops: CropsConfig = field(default_factory=CropsConfig)


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment's YAML; ``preset=NAME`` picks one of its presets, ``key=value`` changes more.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown preset or key, or a bad value.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no experiment at {path}")
    try:
        tree, words = OmegaConf.load(path), OmegaConf.from_dotlist(list(overrides))
        presets, preset = tree.pop("presets", {}), words.pop("preset", "")
        if preset and preset not in presets:
            raise ValueError(f"no preset {preset!r}; there are: {', '.join(sorted(presets)) or 'none'}")
        words = OmegaConf.merge(presets[preset] if preset else {}, words)
        changes = words.pop("recipe", {})
        merged = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), tree, words, {"changes": changes})
        config = OmegaConf.to_object(merged)
    except Exception as error:  # OmegaConf's and YAML's errors share no base class
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None
    for name in config.variants:
        variant_recipe(config, name)
    return config


def variant_recipe(config: ExperimentConfig, name: str) -> Recipe:
    """How a variant is trained.

    Raises:
        ValueError: for an unknown key or stage, or a bad value.
    """
    words = OmegaConf.merge(config.changes, OmegaConf.from_dotlist(config.variants[name]))
    tree = OmegaConf.merge({"name": f"{config.name}-{name}", "init": config.base}, config.recipe)
    return recipe_from(tree, words, f"variant {name!r}")


def run_experiment(
    config: ExperimentConfig, folder: Path, command: str, track: Callable[[Iterable], Iterable] = lambda items: items
) -> dict[str, Any]:
    """Train what is not trained yet, measure what is not measured yet, and give the report.

    What is done is kept in ``folder``; a run that was stopped goes on from there.
    """
    report: dict[str, Any] = {
        "name": config.name,
        "question": config.question,
        "command": command,
        "hardware": hardware(),
        "versions": versions(),
        "minutes": {},
        "tables": {},
    }
    models = {name: _trained(config, name, folder, report["minutes"]) for name in config.variants}
    base = load(config.base, counterparts=True)
    models[BASE] = base
    for name in config.measures:
        table = report["tables"][name] = _measured(config, name, models, base, folder, track)
        report["minutes"][f"measure {name}"] = round(sum(row["seconds"] for row in table["rows"]) / 60, 1)
    return report


def crops_sheet(config: ExperimentConfig, folder: Path) -> Image.Image:
    """The contact sheet of an experiment whose variants `run_experiment` has trained: a row for each window.

    Raises:
        ValueError: if it names a photograph that is not there.
    """
    crops, photographs = config.crops, Photographs(config.crops.path)
    variants = crops.variants or list(config.variants)
    models = [ModelCoder(name, _trained(config, name, folder, {}), config.semantic) for name in variants]
    coders: list[Coder] = [*(BaselineCoder(baseline(name)) for name in crops.baselines), *models]
    rows = []
    for name, (x, y, width, height) in crops.windows.items():
        if name not in photographs.names:
            raise ValueError(f"no photograph {name!r} in {crops.path}")
        image, box = photographs.named(name), (x, y, x + width, y + height)
        row, size = [(name, image.crop(box))], int(crops.bpp * image.width * image.height / 8)
        for coder in coders:
            data = coder.encode_near(image, size)
            title = f"{coder.name}, {bpp(len(data), image.width, image.height):.3f} bpp"
            row.append((title, Image.fromarray(coder.decode(data)).crop(box)))
        rows.append(row)
    return sheet(rows)


def _trained(config: ExperimentConfig, name: str, folder: Path, minutes: dict[str, float]) -> Model:
    """A variant, from its folder if it was finished before."""
    run, started = folder / name.replace(" ", "-"), time.monotonic()
    spent = run / "minutes.json"
    if not spent.is_file():
        Trainer(variant_recipe(config, name), run).run(resume=(run / "checkpoint.pt").is_file())
        write_whole(spent, json.dumps(round((time.monotonic() - started) / 60, 1)))
    minutes[f"train {name}"] = json.loads(spent.read_text())
    return load(run / "model")


def _measured(
    config: ExperimentConfig,
    name: str,
    models: dict[str, Model],
    base: Model,
    folder: Path,
    track: Callable[[Iterable], Iterable],
) -> dict[str, Any]:
    """One table; a row for every variant and baseline at every rate."""
    measure = config.measures[name]
    labelled = open_labelled(measure.task, measure.source) if measure.task else Photographs(measure.source.path)
    labelled = labelled.every(measure.every)
    variants = measure.variants or ([] if measure.importance else models)
    coders: list[Coder] = [ModelCoder(v, models[v], config.semantic) for v in variants]
    maps = {"": None}  # maps of the same photographs, once for all rows
    for where in {*measure.importance.values(), config.saliency} - {""}:
        maps[where] = Remembered(saliency_model(where))
    for variant, where in measure.importance.items():
        coders.append(ModelCoder(variant, base, config.semantic, maps[where]))
    coders += [BaselineCoder(baseline(codec)) for codec in measure.baselines]
    rows = []
    for coder in coders:
        for rate in measure.bpp:
            kept = folder / "rows" / f"{name} {coder.name} {rate:g}.json".replace(" ", "-")
            if not kept.is_file():
                started = time.monotonic()
                row = _row(config, measure, labelled, coder, rate, base, maps[config.saliency], track)
                write_whole(kept, json.dumps({**row, "seconds": round(time.monotonic() - started, 1)}))
            rows.append(json.loads(kept.read_text()))
    write_whole(folder / f"{name}.csv", _lines(rows))
    return {"title": measure.title, "data": labelled.title, "photographs": len(labelled), "rows": rows}


def _lines(rows: list[dict[str, Any]]) -> str:
    """CSV with a line for every photograph's file, which the rows then have no more."""
    own = [(row["codec"], row["wanted_bpp"], line) for row in rows for line in row.pop("photographs", [])]
    columns = dict.fromkeys(["codec", "wanted_bpp", *(name for *_, line in own for name in line)])
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for codec, rate, line in own:
        figures = {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in line.items()}
        writer.writerow({"codec": codec, "wanted_bpp": rate, **figures})
    return buffer.getvalue()


def _row(
    config: ExperimentConfig,
    measure: MeasureConfig,
    labelled: LabelledSet,
    coder: Coder,
    rate: float,
    base: Model,
    saliency: Saliency | None,
    track: Callable[[Iterable], Iterable],
) -> dict[str, Any]:
    """Figures of one coder at one rate, and under ``photographs`` those of each."""
    row: dict[str, Any] = {"codec": coder.name, "wanted_bpp": rate, "level": None}
    if isinstance(coder, ModelCoder):
        row["variant"] = coder.name
    if not measure.each:
        probe = [labelled.image(i) for i in range(0, len(labelled), max(1, len(labelled) // measure.probe))]
        row["level"] = level_at(coder, probe, rate)
        if measure.preview and isinstance(coder, ModelCoder):
            row["layers"] = "both"
            if row["level"] is None:
                coder, row["layers"] = PreviewCoder(coder.name, coder.model), "semantic"
                row["level"] = level_at(coder, probe, rate)
        if row["level"] is None:  # it cannot go so low
            return row
    judges = [new_judge(judge, labelled, base, config.weights, coder, saliency) for judge in measure.judges]
    judges, lines = [judge for judge in judges if judge is not None], []
    for index in track(range(len(labelled))):
        image = labelled.image(index)
        if measure.each:
            data = coder.encode_near(image, int(rate * image.width * image.height / 8))
        else:
            data = coder.encode(image, row["level"])
        original, decoded = np.asarray(image), coder.decode(data)
        line = {"photograph": labelled.names[index], "bytes": len(data)}
        lines.append(line | {"bpp": bpp(len(data), image.width, image.height)})
        for judge in judges:
            lines[-1] |= judge.add(index, original, decoded, data)
    row["bpp"] = float(np.mean([line["bpp"] for line in lines]))
    for judge in judges:
        row |= judge.figures()
    return row | {"photographs": lines}
