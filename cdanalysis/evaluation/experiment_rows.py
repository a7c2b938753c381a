"""The rows of an experiment's tables: every variant and every other codec, at every rate, before its evaluators."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..codecs.base import Codec, level_at, open_codec
from ..codecs.ours import ModelCodec, PreviewCodec
from ..data.images import ImageSet
from ..data.labeled import LabeledSet, open_labeled, source_key
from ..files import json_text, json_value, key_of, write_whole
from ..metrics.image import bpp
from ..model import Model
from ..roi.importance import saliency_model
from ..roi.saliency import Remembered, Saliency
from ..training.recipe import Recipe
from ..training.trainer import Trainer
from ..version import __version__
from ..zoo import identity, load
from .evaluators import RECOGNIZERS, Context, new_evaluator
from .experiment_config import BASE, ExperimentConfig, MeasureConfig, variant_recipe
from .points import Uncompressed


class Models(dict[str, Model]):
    """Variants, and the base, by name: loaded when first asked for, and trained where that was not done before.

    Args:
        folder: where trained variants are kept.
    """

    def __init__(self, config: ExperimentConfig, folder: Path):
        super().__init__()
        self.config, self.folder = config, folder
        self._identities: dict[str, str] = {}
        self._data: dict[tuple[str, str], str] = {}

    def __missing__(self, name: str) -> Model:
        if name == BASE:
            self[name] = load(self.config.base, counterparts=True)
        else:
            self.train(name)
            self[name] = load(self._run(name) / "model")
        return self[name]

    def identity(self, name: str) -> str:
        """Digits of a model's weights."""
        if name not in self._identities:
            self._identities[name] = identity(self[name])
        return self._identities[name]

    def data_key(self, measure: str) -> str:
        """Digits of the data of a table."""
        source = self.config.measures[measure].source
        where = (source.path, source.annotations)
        if where not in self._data:
            self._data[where] = source_key(source)
        return self._data[where]

    def train(self, name: str) -> None:
        """Train a variant, or what is left of it to do."""
        run, recipe, started = self._run(name), variant_recipe(self.config, name), time.monotonic()
        _check_begun(name, run, recipe, self.identity(BASE))
        if not (run / "minutes.json").is_file():
            Trainer(recipe, run).run(resume=(run / "checkpoint.pt").is_file())
            write_whole(run / "minutes.json", json_text(round((time.monotonic() - started) / 60, 1)))

    def minutes(self, name: str) -> float:
        """What a variant's training took, or its last part."""
        return json_value((self._run(name) / "minutes.json").read_text())

    def _run(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-")


def _check_begun(name: str, run: Path, recipe: Recipe, base: str) -> None:
    """Note what a variant is trained by and from; raises `ValueError` if its folder holds one of something else."""
    begun = {"recipe": asdict(recipe), "base": base}
    note = run / "begun.json"
    if not note.is_file():
        if not (run / "checkpoint.pt").is_file():
            write_whole(note, json_text(begun))
        return
    before = json_value(note.read_text())
    for what, text in (("recipe", "by another recipe"), ("base", f"from another model than {recipe.init!r} is now")):
        if before[what] != json_value(json_text(begun[what])):
            raise ValueError(
                f"variant {name!r} in {run} was trained {text}: give this run another folder (-o), or remove that one"
            )


@dataclass
class Row:
    """One row of a table, to be measured.

    Attributes:
        who: the variant or codec that it is about.
        place: gives where it is kept, a file for all that it depends on; models are loaded for that.
        work: measures it.
    """

    who: str
    place: Callable[[], Path]
    work: Callable[[], dict[str, Any]]

    def get(self) -> dict[str, Any]:
        """The row, from its file if it was measured before."""
        file = self.place()
        if not file.is_file():
            started = time.monotonic()
            row = self.work()
            write_whole(file, json_text({**row, "seconds": round(time.monotonic() - started, 1)}))
        return json_value(file.read_text())


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
    labeled = _data(config, name)
    rows = [row.get() for row in _rows(config, name, labeled, models, track)]
    write_whole(models.folder / f"{name}.csv", _lines(rows))
    return {"title": config.measures[name].title, "data": labeled.title, "photographs": len(labeled), "rows": rows}


def _data(config: ExperimentConfig, name: str) -> LabeledSet:
    measure = config.measures[name]
    labeled = open_labeled(measure.task, measure.source) if measure.task else ImageSet(measure.source.path)
    return labeled.every(measure.every)


def _rows(
    config: ExperimentConfig,
    name: str,
    labeled: LabeledSet,
    models: Models,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> Iterator[Row]:
    """The rows of a table, of which none is measured yet."""
    measure = config.measures[name]

    def file(title: str, who: str) -> Path:
        key = _row_key(config, name, models, who)
        return models.folder / "rows" / f"{name} {title}-{key}.json".replace(" ", "-")

    asked = [evaluator for evaluator in measure.evaluators if evaluator in RECOGNIZERS]
    if asked:
        work = partial(_row_of_images, config, labeled, models, asked, track)
        yield Row(Uncompressed.name, partial(file, Uncompressed.name, BASE), work)
    maps: dict[str, Saliency | None] = {"": None}  # maps of the same photographs, once for all rows
    for where in {*measure.importance.values(), config.saliency} - {""}:
        maps[where] = Remembered(saliency_model(where))
    for who, make in _codecs(config, measure, models, maps).items():
        for rate in measure.bpp:
            work = partial(_row, config, measure, labeled, models, make, rate, maps[config.saliency], track)
            yield Row(who, partial(file, f"{who} {rate:g}", who), work)


def _row_key(config: ExperimentConfig, name: str, models: Models, who: str) -> str:
    """Of all that a row of a table depends on: the data, what codes them, and who evaluates what comes out."""
    measure = {key: value for key, value in asdict(config.measures[name]).items() if key not in ("title", "bpp")}
    others = {"variants": 0, "baselines": 0}  # those have rows of their own
    coded = (
        open_codec(who).facts()
        if who in measure["baselines"]
        else models.identity(who if who in config.variants else BASE)
    )
    parts = (config.semantic, config.bases.get(who), config.weights, config.saliency, models.identity(BASE), coded)
    return key_of(__version__, models.data_key(name), {**measure, **others}, *parts)


def _codecs(
    config: ExperimentConfig, measure: MeasureConfig, models: Models, maps: dict[str, Saliency | None]
) -> dict[str, Callable[[], Codec]]:
    """What makes each coder of a table, by name; a model is loaded when it is made."""
    makers: dict[str, Callable[[], Codec]] = {}
    for who in measure.variants or ([] if measure.importance else [*config.variants, BASE, *config.bases]):
        model, semantic = (BASE, config.bases[who]) if who in config.bases else (who, config.semantic)
        makers[who] = lambda who=who, model=model, semantic=semantic: ModelCodec(who, models[model], semantic)
    for who, where in measure.importance.items():
        makers[who] = lambda who=who, where=where: ModelCodec(who, models[BASE], config.semantic, maps[where])
    for who in measure.baselines:
        makers[who] = lambda who=who: open_codec(who)
    return makers


def _row_of_images(
    config: ExperimentConfig,
    labeled: LabeledSet,
    models: Models,
    asked: list[str],
    track: Callable[[Iterable], Iterable],
) -> dict[str, Any]:
    """What networks that know nothing of compression make of the photographs themselves."""
    context = Context(labeled, models[BASE], config.weights)
    evaluators = [e for e in (new_evaluator(name, context) for name in asked) if e is not None]
    for index in track(range(len(labeled))):
        original = np.asarray(labeled.image(index))
        for evaluator in evaluators:
            evaluator.update(index, original, original, b"")
    row: dict[str, Any] = {"codec": Uncompressed.name, "wanted_bpp": None, "bpp": None}
    for evaluator in evaluators:
        row |= evaluator.compute()
    return row


def _row(
    config: ExperimentConfig,
    measure: MeasureConfig,
    labeled: LabeledSet,
    models: Models,
    make: Callable[[], Codec],
    rate: float,
    saliency: Saliency | None,
    track: Callable[[Iterable], Iterable],
) -> dict[str, Any]:
    """Figures of one coder at one rate, and under ``images`` those of each."""
    codec = make()
    row: dict[str, Any] = {"codec": codec.name, "wanted_bpp": rate, "level": None}
    if isinstance(codec, ModelCodec):
        row["variant"] = codec.name
    if not measure.each:
        probe = [labeled.image(i) for i in range(0, len(labeled), max(1, len(labeled) // measure.probe))]
        row["level"] = level_at(codec, probe, rate)
        if measure.preview and isinstance(codec, ModelCodec):
            row["layers"] = "both"
            if row["level"] is None:
                codec, row["layers"] = PreviewCodec(codec.name, codec.model), "semantic"
                row["level"] = level_at(codec, probe, rate)
        if row["level"] is None:  # it cannot go so low
            return row
    context, lines = Context(labeled, models[BASE], config.weights, codec, saliency), []
    evaluators = [e for e in (new_evaluator(name, context) for name in measure.evaluators) if e is not None]
    for index in track(range(len(labeled))):
        image = labeled.image(index)
        if measure.each:
            data = codec.encode_near(image, int(rate * image.width * image.height / 8))
        else:
            data = codec.encode(image, row["level"])
        original, decoded = np.asarray(image), codec.decode(data)
        line = {"photograph": labeled.names[index], "bytes": len(data)}
        lines.append(line | {"bpp": bpp(len(data), image.width, image.height)})
        for evaluator in evaluators:
            lines[-1] |= evaluator.update(index, original, decoded, data)
    row["bpp"] = float(np.mean([line["bpp"] for line in lines]))
    for evaluator in evaluators:
        row |= evaluator.compute()
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
