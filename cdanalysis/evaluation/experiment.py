"""Runs experiments: trains the variants of a model, has them judged, and reports."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.labelled import LabelledSet, open_labelled
from ..data.photographs import Photographs
from ..files import write_whole
from ..importance import saliency_model
from ..model import Model
from ..observers.saliency import Remembered, Saliency
from ..training.trainer import Trainer
from ..zoo import load
from .baselines import baseline
from .coders import BaselineCoder, Coder, ModelCoder, PreviewCoder, level_at
from .experiment_config import CropsConfig, ExperimentConfig, MeasureConfig, variant_recipe
from .hardware import hardware
from .judges import RECOGNISERS, new_judge
from .metrics import bpp
from .points import Uncompressed
from .runner import versions
from .sheet import sheet

BASE = "base"
"""The variant of this name is the model that all start from, as it is."""


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


def variant_coders(config: ExperimentConfig, folder: Path, names: Sequence[str] = ()) -> list[Coder]:
    """Variants, by default all, that `run_experiment` has trained in ``folder``."""
    return [ModelCoder(n, _trained(config, n, folder, {}), config.semantic) for n in names or config.variants]


def crops_sheet(crops: CropsConfig, coders: Sequence[Coder]) -> Image.Image:
    """A contact sheet with a row for each window: the original, other codecs, and ``coders``.

    Raises:
        ValueError: if it names a photograph that is not there.
    """
    photographs, rows = Photographs(crops.path), []
    coders = [*(BaselineCoder(baseline(name)) for name in crops.baselines), *coders]
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
    rows = _rows_of_photographs(config, name, labelled, base, folder, track)
    maps = {"": None}  # maps of the same photographs, once for all rows
    for where in {*measure.importance.values(), config.saliency} - {""}:
        maps[where] = Remembered(saliency_model(where))
    for variant, where in measure.importance.items():
        coders.append(ModelCoder(variant, base, config.semantic, maps[where]))
    coders += [BaselineCoder(baseline(codec)) for codec in measure.baselines]
    for coder in coders:
        for rate in measure.bpp:
            work = partial(_row, config, measure, labelled, coder, rate, base, maps[config.saliency], track)
            rows.append(_once(folder, f"{name} {coder.name} {rate:g}", work))
    write_whole(folder / f"{name}.csv", _lines(rows))
    return {"title": measure.title, "data": labelled.title, "photographs": len(labelled), "rows": rows}


def _once(folder: Path, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A row, from its file if it was measured before."""
    kept = folder / "rows" / f"{name}.json".replace(" ", "-")
    if not kept.is_file():
        started = time.monotonic()
        row = work()
        write_whole(kept, json.dumps({**row, "seconds": round(time.monotonic() - started, 1)}))
    return json.loads(kept.read_text())


def _rows_of_photographs(
    config: ExperimentConfig,
    name: str,
    labelled: LabelledSet,
    base: Model,
    folder: Path,
    track: Callable[[Iterable], Iterable],
) -> list[dict[str, Any]]:
    """What networks that know nothing of compression make of the photographs themselves; no row where none is asked."""
    asked = [judge for judge in config.measures[name].judges if judge in RECOGNISERS]

    def work() -> dict[str, Any]:
        judges = [new_judge(judge, labelled, base, config.weights, None) for judge in asked]
        for index in track(range(len(labelled))):
            original = np.asarray(labelled.image(index))
            for judge in judges:
                judge.add(index, original, original, b"")
        row: dict[str, Any] = {"codec": Uncompressed.name, "wanted_bpp": None, "bpp": None}
        for judge in judges:
            row |= judge.figures()
        return row

    return [_once(folder, f"{name} {Uncompressed.name}", work)] if asked else []


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
