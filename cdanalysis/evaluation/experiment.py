"""Runs experiments: trains the variants of a model, has every codec evaluated at every rate, and reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from ..benchmarks.hardware import hardware, versions
from ..codecs.base import Codec, level_at, open_codec
from ..codecs.ours import ModelCodec, PreviewCodec
from ..data.labeled import contents_digest
from ..files import csv_text, json_text, json_value, key_of, write_whole
from ..model import Model
from ..outputs import changes
from ..processes import each
from ..roi.importance import Importance, saliency_model
from ..roi.saliency import Remembered, Saliency
from ..training.trainer import Trainer
from ..version import __version__
from ..zoo import identity, load
from . import engine
from .configs import BASE, ExperimentConfig, MeasureConfig, variant_recipe
from .evaluators import RECOGNIZERS, Context, Evaluator, new_evaluators
from .weights import needed, parts_in, parts_of


class Models(dict[str, Model]):
    """Variants, and the base, by name: loaded when first asked for, and trained where that was not done before.

    Args:
        config: of the experiment.
        folder: where trained variants are kept.
    """

    def __init__(self, config: ExperimentConfig, folder: Path):
        super().__init__()
        self.config, self.folder = config, folder
        self.identity = cache(lambda name: identity(self[name]))  # digits of a model's weights
        self.parts = cache(parts_of)

    def __missing__(self, name: str) -> Model:
        if name == BASE:
            self[name] = load(self.config.base, counterparts=True)
        else:
            self.train(name)
            self[name] = load(self._run(name) / "model")
        return self[name]

    def train(self, name: str) -> None:
        """Train a variant, or what is left of it to do; nothing where it was trained before.

        Args:
            name: of the variant.

        Raises:
            ValueError: if it was trained by another recipe, or from another model; also as `Trainer`.
            FileNotFoundError: as `Trainer`.
        """
        run, recipe, started = self._run(name), variant_recipe(self.config, name), time.monotonic()
        begun = {"recipe": asdict(recipe), "base": self.identity(BASE)}
        note, checkpoint = run / "begun.json", run / "checkpoint.pt"
        if changed := changes(note, begun):
            by = "by another recipe" if "recipe" in changed else f"from another model than {recipe.init!r} is now"
            raise ValueError(
                f"variant {name!r} in {run} was trained {by}: give this run another folder (-o), or remove that one"
            )
        if changed is None and not checkpoint.is_file():
            write_whole(note, json_text(begun))
        if not (run / "minutes.json").is_file():
            Trainer(recipe, run).run(resume=checkpoint.is_file())
            write_whole(run / "minutes.json", json_text(round((time.monotonic() - started) / 60, 1)))

    def codec(self, who: str, importance: Importance | None = None, spatial_size: int | None = None) -> ModelCodec:
        """A variant as a codec; under any other name, the base: as it is, or as the experiment says of that name.

        Args:
            who: name of the codec.
            importance: where the detail layer's bits go, see `Model.encode`.
            spatial_size: working size of the spatial layer, see `Model.encode`.
        """
        config, model = self.config, self[who if who in self.config.variants else BASE]
        semantic = config.bases.get(who, config.semantic)
        realism, effort = config.realism.get(who, 0.0), config.effort.get(who, 0)
        return ModelCodec(who, model, semantic, importance, realism, spatial_size, effort)

    def minutes(self, name: str) -> float:
        """What a variant's training took, or its last part.

        Args:
            name: of the variant.

        Returns:
            minutes.

        Raises:
            FileNotFoundError: if it is not trained.
        """
        return json_value((self._run(name) / "minutes.json").read_text())

    def _run(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-")


class Table:
    """One table of an experiment: a row for every variant and every other codec at every rate.

    Args:
        config: of the experiment.
        name: of the table.
        models: of the experiment.
        track: wraps an iterable to show progress.

    Raises:
        FileNotFoundError: if the data, or a saliency model's file, do not exist.
        ValueError: if they cannot be used.
        ModuleNotFoundError: as `saliency_model`.
    """

    def __init__(self, config: ExperimentConfig, name: str, models: Models, track: engine.Track = engine.no_track):
        self.config, self.name, self.models, self.track = config, name, models, track
        self.asked: MeasureConfig = config.measures[name]
        self.images: engine.Images = engine.open_images(self.asked.task, self.asked.source, self.asked.every)
        self.maps: dict[str, Saliency | None] = {"": None}  # of the same photographs, once for all rows
        for where in {*self.asked.importance.values(), config.saliency} - {""}:
            self.maps[where] = Remembered(saliency_model(where))

    def rows(self) -> Iterator[tuple[str, float | None, Callable[[], engine.Point]]]:
        """(variant or codec, wanted bpp or None for photographs themselves, what measures) of every row."""
        if any(name in RECOGNIZERS for name in self.asked.evaluators):
            yield engine.UNCOMPRESSED, None, partial(self._measured, engine.UNCOMPRESSED, lambda: None)
        for who, make in self._codecs().items():
            for rate in self.asked.bpp:
                yield who, rate, partial(self._measured, f"{who} {rate:g}", make, rate)

    def _measured(self, title: str, make: Callable[[], Codec | None], rate: float = 0) -> engine.Point:
        """Kept in a file for all that it depends on: the data, what codes them, and who evaluates what comes out."""
        config, models, codec = self.config, self.models, make()
        others = {"title": "", "bpp": 0, "variants": 0, "baselines": 0}  # titles aside, those have rows of their own
        own: list[object] = [] if codec is None else [codec.facts()]
        if isinstance(codec, ModelCodec):
            own.append(needed(models.parts(codec.model), parts_in(codec)))
        judged = (config.weights, config.saliency, needed(models.parts(models[BASE])))
        asked = {name: value for name, value in asdict(self.asked).items() if value is not None}
        key = key_of(engine.ROWS, __version__, self.contents, {**asked, **others}, *judged, own)
        path = models.folder / "rows" / f"{self.name} {title}-{key}.jsonl".replace(" ", "-")
        return engine.measure(self.images, partial(self._case, codec, rate), path, self.track)

    @cached_property
    def contents(self) -> str:
        """Digits of the data."""
        return contents_digest(self.images, self.asked.source)

    def report(self) -> dict[str, Any]:
        """The measured table; a CSV file with a line for every photograph's file is written beside the models."""
        rows, lines = [], []
        for who, rate, work in self.rows():
            point, row = work(), {"codec": who, "wanted_bpp": rate}
            for index, own in sorted(point.rows.items()) if rate is not None else ():
                shown = {name: v for name, v in own.items() if not name.endswith("_s") and not name.startswith("_")}
                short = {name: f"{v:.5g}" if isinstance(v, float) else v for name, v in shown.items()}
                lines.append({**row, "photograph": self.images.names[index], **short})
            mean = {"bpp": None if rate is None else point.mean("bpp")} if point.rows else {}
            summary = point.summary
            rows.append(row | summary["facts"] | mean | summary["figures"] | {"seconds": summary["seconds"]})
        write_whole(self.models.folder / f"{self.name}.csv", csv_text(lines))
        facts = {"title": self.asked.title, "data": self.images.title, "photographs": len(self.images)}
        return facts | {"rows": rows}

    def _codecs(self) -> dict[str, Callable[[], Codec]]:
        """What makes each codec, by name; a model is loaded when its codec is made."""
        config, asked = self.config, self.asked

        def own(who: str, where: str = "") -> ModelCodec:
            return self.models.codec(who, self.maps[where], asked.spatial_size)

        more = (BASE, *config.bases, *config.realism)
        names = asked.variants or ([] if asked.importance else [*config.variants, *more])
        makers: dict[str, Callable[[], Codec]] = {who: partial(open_codec, who) for who in asked.baselines}
        steered = {who: partial(own, who, where) for who, where in asked.importance.items()}
        return {who: partial(own, who) for who in names} | steered | makers

    def _evaluators(self, names: Sequence[str], codec: Codec | None) -> list[Evaluator]:
        config, rgb = self.config, self.models[BASE]
        return new_evaluators(names, Context(self.images, rgb, config.weights, codec, self.maps[config.saliency]))

    def _case(self, codec: Codec | None, rate: float) -> engine.Case:
        """A codec at a rate: of every photograph, or of their mean. Nothing is measured where it cannot go so low.

        Without a codec, photographs themselves, by those who know what is in them.
        """
        asked = self.asked
        if codec is None:
            known = [name for name in asked.evaluators if name in RECOGNIZERS]
            return engine.at_level(None, 0, self._evaluators(known, None))
        facts: dict[str, Any] = {"level": None} | ({"variant": codec.name} if isinstance(codec, ModelCodec) else {})
        if asked.each:
            near = lambda index, image: codec.encode_near(image, int(rate * image.width * image.height / 8))  # noqa: E731
            return engine.Case(near, codec.decode, self._evaluators(asked.evaluators, codec), facts)
        probe = [self.images.image(i) for i in range(0, len(self.images), max(1, len(self.images) // asked.probe))]
        level = level_at(codec, probe, rate)
        if asked.preview and isinstance(codec, ModelCodec):
            facts["layers"] = "all"
            if level is None and codec.model.codec.config.fused:
                codec, facts["layers"] = PreviewCodec(codec.name, codec.model), "semantic"
                level = level_at(codec, probe, rate)
        if level is None:
            return engine.Case(None, facts=facts)
        return engine.at_level(codec, level, self._evaluators(asked.evaluators, codec), facts | {"level": level})


def measure_one(config: ExperimentConfig, folder: Path, who: str) -> None:
    """Train a variant, and measure its rows of all tables; or those of another codec.

    Args:
        config: of the experiment.
        folder: where all is kept that is done.
        who: name of the variant or codec.
    """
    models = Models(config, folder)
    if who in config.variants:
        models.train(who)
    for name in config.measures:
        for own, _, work in Table(config, name, models).rows():
            if own == who:
                work()


def run_experiment(
    config: ExperimentConfig, folder: Path, command: str, workers: int = 1, track: engine.Track = engine.no_track
) -> dict[str, Any]:
    """Train what is not trained yet, measure what is not measured yet, and give the report.

    What is done is kept in ``folder``; a run that was stopped goes on from there.

    Args:
        config: of the experiment.
        folder: of the run.
        command: by which it was started, for the report.
        workers: so many processes of one thread each; 1 is this process, with all of torch's threads.
        track: wraps an iterable to show progress.

    Returns:
        the report, as JSON holds it.

    Raises:
        ValueError: as `Models.train` and `Table`.
        FileNotFoundError: as `Models.train` and `Table`.
        ModuleNotFoundError: as `Table`, and if a codec is not installed.
    """
    models = Models(config, folder)
    tables = {name: Table(config, name, models, track) for name in config.measures}
    if workers > 1:  # they leave nothing to do below but to read what they kept
        everyone = dict.fromkeys([*config.variants, *(who for table in tables.values() for who, *_ in table.rows())])
        for _ in track(each(partial(measure_one, config, folder), [(who,) for who in everyone], workers)):
            pass
    minutes = {}
    for name in config.variants:
        models.train(name)
        minutes[f"train {name}"] = models.minutes(name)
    found = {name: table.report() for name, table in tables.items()}
    for name, table in found.items():
        minutes[f"measure {name}"] = round(sum(row["seconds"] for row in table["rows"]) / 60, 1)
    return {
        "name": config.name,
        "question": config.question,
        "model": {"name": models[BASE].name, "fingerprint": models[BASE].fingerprint},
        "command": command,
        "hardware": hardware(),
        "workers": workers,
        "versions": versions(),
        "minutes": minutes,
        "tables": found,
    }


def variant_codecs(config: ExperimentConfig, folder: Path, names: Sequence[str] = ()) -> list[Codec]:
    """Variants as codecs; those that `run_experiment` has not trained yet are trained.

    Args:
        config: of the experiment.
        folder: of its run.
        names: of the variants; by default all.

    Raises:
        ValueError: as `Models.train`.
        FileNotFoundError: as `Models.train`.
    """
    models = Models(config, folder)
    return [models.codec(name) for name in names or config.variants]
