"""The rows of an experiment's tables: every variant and every other codec, at every rate, before its judges."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..codecs.ours import BaselineCoder, Coder, ModelCoder, PreviewCoder, level_at
from ..codecs.pillow import baseline
from ..data.images import Photographs
from ..data.labeled import LabelledSet, open_labelled
from ..files import write_whole
from ..metrics.image import bpp
from ..model import Model
from ..roi.importance import saliency_model
from ..roi.saliency import Remembered, Saliency
from ..training.trainer import Trainer
from ..zoo import load
from .evaluators import RECOGNISERS, new_judge
from .experiment_config import ExperimentConfig, MeasureConfig, variant_recipe
from .points import Uncompressed

BASE = "base"
"""The variant of this name is the model that all start from, as it is."""


class Models(dict[str, Model]):
    """Variants, and the base, by name: loaded when first asked for, and trained where that was not done before.

    Args:
        folder: where trained variants are kept.
    """

    def __init__(self, config: ExperimentConfig, folder: Path):
        super().__init__()
        self.config, self.folder = config, folder

    def __missing__(self, name: str) -> Model:
        if name == BASE:
            self[name] = load(self.config.base, counterparts=True)
        else:
            self.train(name)
            self[name] = load(self._run(name) / "model")
        return self[name]

    def train(self, name: str) -> None:
        """Train a variant, or what is left of it to do."""
        run, started = self._run(name), time.monotonic()
        if not (run / "minutes.json").is_file():
            Trainer(variant_recipe(self.config, name), run).run(resume=(run / "checkpoint.pt").is_file())
            write_whole(run / "minutes.json", json.dumps(round((time.monotonic() - started) / 60, 1)))

    def minutes(self, name: str) -> float:
        """What a variant's training took, or its last part."""
        return json.loads((self._run(name) / "minutes.json").read_text())

    def _run(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-")


@dataclass
class Row:
    """One row of a table, to be measured.

    Attributes:
        who: the variant or codec that it is about.
        file: where it is kept.
        work: measures it.
    """

    who: str
    file: Path
    work: Callable[[], dict[str, Any]]

    def get(self) -> dict[str, Any]:
        """The row, from its file if it was measured before."""
        if not self.file.is_file():
            started = time.monotonic()
            row = self.work()
            write_whole(self.file, json.dumps({**row, "seconds": round(time.monotonic() - started, 1)}))
        return json.loads(self.file.read_text())


def everyone(config: ExperimentConfig) -> list[str]:
    """Variants, then everyone else who has rows: what can be trained and measured apart from the others."""
    models = Models(config, Path())
    own = (row.who for name in config.measures for row in _rows(config, name, _data(config, name), models))
    return list(dict.fromkeys([*config.variants, *own]))


def measure_one(config: ExperimentConfig, folder: Path, who: str) -> None:
    """Train a variant, and measure its rows of all tables; or those of another codec."""
    models = Models(config, folder)
    if who in config.variants:
        models.train(who)
    for name in config.measures:
        for row in _rows(config, name, _data(config, name), models):
            if row.who == who:
                row.get()


def measured(
    config: ExperimentConfig,
    name: str,
    models: Models,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> dict[str, Any]:
    """One table; a row for every variant and every other codec at every rate."""
    labelled = _data(config, name)
    rows = [row.get() for row in _rows(config, name, labelled, models, track)]
    write_whole(models.folder / f"{name}.csv", _lines(rows))
    return {"title": config.measures[name].title, "data": labelled.title, "photographs": len(labelled), "rows": rows}


def _data(config: ExperimentConfig, name: str) -> LabelledSet:
    measure = config.measures[name]
    labelled = open_labelled(measure.task, measure.source) if measure.task else Photographs(measure.source.path)
    return labelled.every(measure.every)


def _rows(
    config: ExperimentConfig,
    name: str,
    labelled: LabelledSet,
    models: Models,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> Iterator[Row]:
    """The rows of a table, of which none is measured yet."""
    measure = config.measures[name]

    def file(title: str) -> Path:
        return models.folder / "rows" / f"{name} {title}.json".replace(" ", "-")

    asked = [judge for judge in measure.judges if judge in RECOGNISERS]
    if asked:
        work = partial(_row_of_photographs, config, labelled, models, asked, track)
        yield Row(Uncompressed.name, file(Uncompressed.name), work)
    maps: dict[str, Saliency | None] = {"": None}  # maps of the same photographs, once for all rows
    for where in {*measure.importance.values(), config.saliency} - {""}:
        maps[where] = Remembered(saliency_model(where))
    for who, make in _coders(config, measure, models, maps).items():
        for rate in measure.bpp:
            work = partial(_row, config, measure, labelled, models, make, rate, maps[config.saliency], track)
            yield Row(who, file(f"{who} {rate:g}"), work)


def _coders(
    config: ExperimentConfig, measure: MeasureConfig, models: Models, maps: dict[str, Saliency | None]
) -> dict[str, Callable[[], Coder]]:
    """What makes each coder of a table, by name; a model is loaded when it is made."""
    makers: dict[str, Callable[[], Coder]] = {}
    for who in measure.variants or ([] if measure.importance else [*config.variants, BASE, *config.bases]):
        model, semantic = (BASE, config.bases[who]) if who in config.bases else (who, config.semantic)
        makers[who] = lambda who=who, model=model, semantic=semantic: ModelCoder(who, models[model], semantic)
    for who, where in measure.importance.items():
        makers[who] = lambda who=who, where=where: ModelCoder(who, models[BASE], config.semantic, maps[where])
    for who in measure.baselines:
        makers[who] = lambda who=who: BaselineCoder(baseline(who))
    return makers


def _row_of_photographs(
    config: ExperimentConfig,
    labelled: LabelledSet,
    models: Models,
    asked: list[str],
    track: Callable[[Iterable], Iterable],
) -> dict[str, Any]:
    """What networks that know nothing of compression make of the photographs themselves."""
    judges = [new_judge(judge, labelled, models[BASE], config.weights, None) for judge in asked]
    for index in track(range(len(labelled))):
        original = np.asarray(labelled.image(index))
        for judge in judges:
            judge.add(index, original, original, b"")
    row: dict[str, Any] = {"codec": Uncompressed.name, "wanted_bpp": None, "bpp": None}
    for judge in judges:
        row |= judge.figures()
    return row


def _row(
    config: ExperimentConfig,
    measure: MeasureConfig,
    labelled: LabelledSet,
    models: Models,
    make: Callable[[], Coder],
    rate: float,
    saliency: Saliency | None,
    track: Callable[[Iterable], Iterable],
) -> dict[str, Any]:
    """Figures of one coder at one rate, and under ``photographs`` those of each."""
    coder = make()
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
    judges = [new_judge(judge, labelled, models[BASE], config.weights, coder, saliency) for judge in measure.judges]
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
