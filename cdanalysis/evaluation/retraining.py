"""Heads for pixels that were trained on compressed photographs: what a careful user of another codec would do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from omegaconf import OmegaConf

from ..codecs.compressai import CompressAI
from ..codecs.pillow import Baseline
from ..data.images import ImageSet
from ..data.labeled import LabeledSource, source_key
from ..files import key_of, write_whole
from ..model import Model
from ..training.recipe import Recipe, recipe_from
from ..training.trainer import Trainer
from ..version import __version__
from ..zoo import identity, load

STAGE = "retrain"


def retrained(
    model: str,
    task: str,
    stage: dict[str, Any],
    codec: Baseline | CompressAI,
    level: int,
    folder: Path,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> Model:
    """A model whose counterpart of a task learned on from photographs that a codec compressed at a level.

    Args:
        model: zoo name or folder of the model to start from.
        stage: how, as a recipe's stage: ``lr``, ``batch``, and under ``head`` ``sources``, ``epochs``, ``flip``...
        folder: where compressed photographs and the finished model are kept; what is there is not made again. It
            must be for these arguments alone: see `retraining_key`.

    Raises:
        ValueError: for an unknown key of ``stage``, or a bad value.
    """
    recipe = retraining_recipe(model, task, stage)
    finished = folder / "finished"
    if not finished.is_file():
        head = recipe.stages[0].head
        head.sources = [
            compressed(source, codec, level, folder / "photographs" / str(number), track)
            for number, source in enumerate(head.sources)
        ]
        Trainer(recipe, folder).run(resume=(folder / "checkpoint.pt").is_file())
        write_whole(finished, "")
        shutil.rmtree(folder / "photographs")
    return load(folder / "model", counterparts=True)


def retraining_key(model: str, task: str, stage: dict[str, Any], codec: Baseline | CompressAI, level: int) -> str:
    """Of all that a retrained counterpart depends on; arguments as `retrained` takes them."""
    recipe = retraining_recipe(model, task, stage)
    sources = [source_key(source) for source in recipe.stages[0].head.sources]
    start = identity(load(model, counterparts=True))
    return key_of(__version__, start, asdict(recipe), sources, codec.name, codec.facts(), level)


def retraining_recipe(model: str, task: str, stage: dict[str, Any], where: str = "retraining") -> Recipe:
    """How a counterpart learns on; ``stage`` as `retrained` takes it.

    Raises:
        ValueError: for an unknown key of ``stage``, or a bad value; the message says ``where``.
    """
    head = stage.get("head", {})
    if not isinstance(head, dict):
        raise ValueError(f"{where}: head must be a mapping, got {head!r}")
    own = {**stage, "head": {**head, "task": task, "input": "features", "classes": "keep"}}
    tree = {"name": STAGE, "init": model, "stages": [{"name": STAGE, "trains": [f"counterparts.{task}"], **own}]}
    return recipe_from(OmegaConf.create(tree), OmegaConf.create({}), where)


def compressed(
    source: LabeledSource,
    codec: Baseline | CompressAI,
    level: int,
    folder: Path,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> LabeledSource:
    """A copy of a labeled set, in the same layout and under the same names, whose photographs are the codec's files.

    Label pictures are copied as they are. What ``folder`` has already is not compressed again.
    """
    files = ImageSet(source.path)
    for index in track(range(len(files))):
        name = files.names[index]
        path = folder / name
        if path.is_file():
            continue
        label = PurePosixPath(name).parent.name == "labels"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, files.read(index) if label else codec.encode(files.image(index), level))
    classes = (files.root if files.root.is_dir() else files.root.parent) / "classes.json"
    if classes.is_file():
        shutil.copyfile(classes, folder / classes.name)
    return LabeledSource(**{**asdict(source), "path": str(folder)})
