"""Runs experiments: trains the variants of a model, has every codec evaluated at every rate, and reports."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..benchmarks.hardware import hardware, versions
from ..codecs.base import Codec, level_at
from ..codecs.ours import ModelCodec, PreviewCodec
from ..codecs.pillow import baseline
from ..data.images import ImageSet
from ..data.labeled import open_labeled
from ..files import write_whole
from ..model import Model
from ..processes import each
from ..roi.importance import saliency_model
from ..roi.saliency import Remembered, Saliency
from ..training.trainer import Trainer
from ..zoo import load
from .engine import UNCOMPRESSED, Case, Images, Point, Track, measure, no_track
from .evaluators import RECOGNIZERS, Context, new_evaluators
from .experiment_config import ExperimentConfig, MeasureConfig, variant_recipe

BASE = "base"
"""The variant of this name is the model that all start from, as it is."""
KEPT = ("encode_s", "decode_s", "read_s")
"""What tables of every photograph leave out."""


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

    def train(self, name: str) -> float:
        """Train a variant, or what is left of it to do; gives the minutes that it took, or its last part."""
        run, started = self._run(name), time.monotonic()
        if not (run / "minutes.json").is_file():
            Trainer(variant_recipe(self.config, name), run).run(resume=(run / "checkpoint.pt").is_file())
            write_whole(run / "minutes.json", json.dumps(round((time.monotonic() - started) / 60, 1)))
        return json.loads((run / "minutes.json").read_text())

    def _run(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-")


@dataclass
class Row:
    """One row of a table, to be measured.

    Attributes:
        who: the variant or codec that it is about.
        rate: the wanted bpp; None for photographs themselves.
        measure: by the engine, what is not measured yet.
    """

    who: str
    rate: float | None
    measure: Callable[[], Point]


class Table:
    """One table of an experiment: a row for every variant and every other codec at every rate."""

    def __init__(self, config: ExperimentConfig, name: str, models: Models, track: Track = no_track):
        self.config, self.name, self.models, self.track = config, name, models, track
        self.measure: MeasureConfig = config.measures[name]
        task, source = self.measure.task, self.measure.source
        images = open_labeled(task, source) if task else ImageSet(source.path)
        self.images: Images = images.every(self.measure.every)
        self.maps: dict[str, Saliency | None] = {"": None}  # of the same photographs, once for all rows
        for where in {*self.measure.importance.values(), config.saliency} - {""}:
            self.maps[where] = Remembered(saliency_model(where))

    def rows(self) -> Iterator[Row]:
        """The rows, of which none is measured yet."""

        def row(who: str, rate: float | None, case: Callable[[], Case]) -> Row:
            name = f"{self.name} {who}.jsonl" if rate is None else f"{self.name} {who} {rate:g}.jsonl"
            path = self.models.folder / "rows" / name.replace(" ", "-")
            return Row(who, rate, lambda: measure(self.images, case, path, self.track))

        if asked := [name for name in self.measure.evaluators if name in RECOGNIZERS]:
            yield row(UNCOMPRESSED, None, lambda: Case(lambda index, image: b"", None, self.evaluators(asked, None)))
        for who, make in self.codecs().items():
            for rate in self.measure.bpp:
                yield row(who, rate, partial(self.case, make, rate))

    def codecs(self) -> dict[str, Callable[[], Codec]]:
        """What makes each codec, by name; a model is loaded when its codec is made."""
        config, measure = self.config, self.measure
        makers: dict[str, Callable[[], Codec]] = {}
        for who in measure.variants or ([] if measure.importance else [*config.variants, BASE, *config.bases]):
            makers[who] = partial(self.codec, who, BASE if who in config.bases else who)
        for who, where in measure.importance.items():
            makers[who] = partial(self.codec, who, BASE, where)
        return makers | {who: partial(baseline, who) for who in measure.baselines}

    def codec(self, who: str, model: str, where: str = "") -> ModelCodec:
        """A model's codec; ``where`` its detail layer's bits go."""
        semantic = self.config.bases.get(who, self.config.semantic)
        return ModelCodec(who, self.models[model], semantic, self.maps[where])

    def evaluators(self, names: Sequence[str], codec: Codec | None) -> list:
        """Those of that name, for what a codec makes."""
        config = self.config
        saliency = self.maps[config.saliency]
        return new_evaluators(names, Context(self.images, self.models[BASE], config.weights, codec, saliency))

    def case(self, make: Callable[[], Codec], rate: float) -> Case:
        """A codec at a rate, of every photograph or in the mean; nothing is measured where it cannot go so low."""
        codec, images = make(), self.images
        facts = {"level": None} | ({"variant": codec.name} if isinstance(codec, ModelCodec) else {})
        encode = lambda index, image: codec.encode_near(image, int(rate * image.width * image.height / 8))  # noqa: E731
        if not self.measure.each:
            probe = [images.image(i) for i in range(0, len(images), max(1, len(images) // self.measure.probe))]
            level = level_at(codec, probe, rate)
            if self.measure.preview and isinstance(codec, ModelCodec):
                facts["layers"] = "both"
                if level is None:
                    codec, facts["layers"] = PreviewCodec(codec.name, codec.model), "semantic"
                    level = level_at(codec, probe, rate)
            facts["level"] = level
            encode = None if level is None else lambda index, image: codec.encode(image, level)
        return Case(encode, codec.decode, self.evaluators(self.measure.evaluators, codec) if encode else (), facts)

    def report(self) -> dict[str, Any]:
        """The measured table; a CSV file with a line for every photograph's file is written beside the models."""
        rows, lines = [], []
        for row in self.rows():
            point = row.measure()
            made = {"codec": row.who, "wanted_bpp": row.rate, **point.summary["facts"]}
            if point.rows:
                made["bpp"] = None if row.rate is None else point.mean("bpp")
            rows.append({**made, **point.summary["figures"], "seconds": point.summary["seconds"]})
            for index, own in sorted(point.rows.items()) if row.rate is not None else ():
                figures = {k: v for k, v in own.items() if k not in KEPT and not k.startswith("_")}
                lines.append(
                    {"codec": row.who, "wanted_bpp": row.rate, "photograph": self.images.names[index], **figures}
                )
        write_whole(self.models.folder / f"{self.name}.csv", _csv(lines))
        return {
            "title": self.measure.title, "data": self.images.title, "photographs": len(self.images), "rows": rows,
        }  # fmt: skip


def _csv(lines: list[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    columns = dict.fromkeys(["codec", "wanted_bpp", *(name for line in lines for name in line)])
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        short = {k: f"{v:.5g}" if isinstance(v, float) and k != "wanted_bpp" else v for k, v in line.items()}
        writer.writerow(short)
    return buffer.getvalue()


def measure_one(config: ExperimentConfig, folder: Path, who: str) -> None:
    """Train a variant, and measure its rows of all tables; or those of another codec."""
    models = Models(config, folder)
    if who in config.variants:
        models.train(who)
    for name in config.measures:
        for row in Table(config, name, models).rows():
            if row.who == who:
                row.measure()


def run_experiment(
    config: ExperimentConfig, folder: Path, command: str, workers: int = 1, track: Track = no_track
) -> dict[str, Any]:
    """Train what is not trained yet, measure what is not measured yet, and give the report.

    What is done is kept in ``folder``; a run that was stopped goes on from there.

    Args:
        workers: so many processes of one thread each; 1 is this process, with all of torch's threads.
    """
    models = Models(config, folder)
    tables = {name: Table(config, name, models, track) for name in config.measures}
    if workers > 1:  # they leave nothing to do below but to read what they kept
        everyone = dict.fromkeys([*config.variants, *(row.who for table in tables.values() for row in table.rows())])
        for _ in track(each(partial(measure_one, config, folder), [(who,) for who in everyone], workers)):
            pass
    minutes = {f"train {name}": models.train(name) for name in config.variants}
    found = {name: table.report() for name, table in tables.items()}
    for name, table in found.items():
        minutes[f"measure {name}"] = round(sum(row["seconds"] for row in table["rows"]) / 60, 1)
    return {
        "name": config.name,
        "question": config.question,
        "command": command,
        "hardware": hardware(),
        "workers": workers,
        "versions": versions(),
        "minutes": minutes,
        "tables": found,
    }


def variant_codecs(config: ExperimentConfig, folder: Path, names: Sequence[str] = ()) -> list[Codec]:
    """Variants, by default all, from ``folder``; those that `run_experiment` has not trained there yet are trained."""
    models = Models(config, folder)
    return [ModelCodec(name, models[name], config.semantic) for name in names or config.variants]
