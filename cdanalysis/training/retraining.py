"""Heads for pixels that were trained on compressed photographs: what a careful user of another codec would do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from omegaconf import OmegaConf

from ..codecs.base import Codec
from ..data.images import ImageSet
from ..data.labeled import LabeledSource
from ..files import write_whole
from ..model import Model
from ..zoo import load
from .recipe import Recipe, recipe_from
from .trainer import Trainer

STAGE = "retrain"


def retrained(
    model: str,
    task: str,
    stage: dict[str, Any],
    codec: Codec,
    level: int,
    folder: Path,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> Model:
    """A model whose counterpart of a task learned on from photographs that a codec compressed at a level.

    Args:
        model: zoo name or folder of the model to start from.
        stage: how, as a recipe's stage: ``lr``, ``batch``, and under ``head`` ``sources``, ``epochs``, ``flip``...
        folder: where compressed photographs and the finished model are kept; what is there is not made again.

    Raises:
        ValueError: for an unknown key of ``stage``, or a bad value.
    """
    recipe = retraining_recipe(model, task, stage)
    finished = folder / "finished"
    if not finished.is_file():
        head = recipe.stages[0].head
        assert head is not None  # `_recipe` has made one
        head.sources = [
            compressed(source, codec, level, folder / "photographs" / str(number), track)
            for number, source in enumerate(head.sources)
        ]
        Trainer(recipe, folder).run(resume=(folder / "checkpoint.pt").is_file())
        write_whole(finished, "")
        shutil.rmtree(folder / "photographs")
    return load(folder / "model", counterparts=True)


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


def _compressed(files: ImageSet, index: int, codec: Codec, level: int) -> bytes:
    """A photograph's file; one that cannot be read stays as it is, for training to leave it out."""
    try:
        image = files.image(index)
    except ValueError:
        return files.read(index)
    return codec.encode(image, level)


def compressed(
    source: LabeledSource,
    codec: Codec,
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
        write_whole(path, files.read(index) if label else _compressed(files, index, codec, level))
    classes = files.beside("classes.json")
    if classes.is_file():
        shutil.copyfile(classes, folder / classes.name)
    return LabeledSource(**{**asdict(source), "path": str(folder)})
