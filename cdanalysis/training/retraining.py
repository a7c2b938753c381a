"""RGB heads for studies: one that a model lacks, and those fine-tuned on photographs that another codec compressed."""

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
from ..data.segmentation import LISTING
from ..files import write_whole
from ..model import Model
from ..zoo import RECIPE, find, load
from .recipe import Recipe, load_recipe, recipe_from, touches
from .trainer import Trainer

STAGE = "retrain"


def retrained(
    model: str,
    task: str,
    stage: dict[str, Any],
    codec: Codec | None,
    level: int,
    folder: Path,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> Model:
    """Fine-tune a model's counterpart (its RGB head) on photographs compressed by a codec at a level.

    A head without a counterpart has one thereafter: it starts as that head, and learns from photographs.

    Args:
        model: zoo name or folder of the model to start from.
        task: of the head.
        stage: settings of a recipe's stage: ``lr``, ``batch``, and under ``head`` ``sources``, ``epochs``, ``flip``...
        codec: compresses the photographs; None leaves them as they are.
        level: of the codec.
        folder: where compressed photographs and the finished model are kept; existing ones are used.
        track: wraps an iterable to show progress.

    Returns:
        the model, with its fine-tuned counterpart.

    Raises:
        ValueError: for an unknown key of ``stage``, or an invalid value.
        FileNotFoundError: if the model or the photographs do not exist.
    """
    recipe = retraining_recipe(model, task, stage)
    finished = folder / "finished"
    if not finished.is_file():
        head = recipe.stages[0].head
        assert head is not None  # `retraining_recipe` has made one
        copies = folder / "photographs"
        if codec is not None:
            packed = {"": head.sources, "val": head.val}
            head.sources, head.val = (
                [compressed(source, codec, level, copies / f"{kind}{n}", track) for n, source in enumerate(sources)]
                for kind, sources in packed.items()
            )
        Trainer(recipe, folder).run(resume=(folder / "checkpoint.pt").is_file())
        write_whole(finished, "")
        shutil.rmtree(copies, ignore_errors=True)
    return load(folder / "model", counterparts=True)


def with_counterpart(
    model: str,
    task: str,
    stage: dict[str, Any],
    folder: Path,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> Model:
    """Train the counterpart that a model lacks, on photographs as they are, as its head was trained on streams.

    Args:
        model: zoo name or folder of the model.
        task: of the head.
        stage: as of `retrained`; where it is empty, the stage of the model's own recipe that trained the head.
        folder: as of `retrained`.
        track: as of `retrained`.

    Raises:
        ValueError: if the model's recipe does not say how its head was trained; otherwise as `retrained`.
        FileNotFoundError: as `retrained`.
    """
    return retrained(model, task, stage or _own_stage(model, task), None, 0, folder, track)


def _own_stage(model: str, task: str) -> dict[str, Any]:
    """The last stage that trained a model's head, in its own recipe or in those of the models that it started from."""
    folder, seen = find(model), set[Path]()
    while folder not in seen and (folder / RECIPE).is_file():
        seen.add(folder)
        recipe = load_recipe(folder / RECIPE)
        own = [asdict(each) for each in recipe.stages if each.head is not None and touches(each, f"heads.{task}")]
        if own:
            stage = {key: value for key, value in own[-1].items() if key not in ("name", "trains")}
            return {**stage, "head": {**stage["head"], "distill": 0.0}}
        folder = find(recipe.init) if recipe.init else folder
    raise ValueError(f"{find(model) / RECIPE} does not say how its {task} head was trained: set retraining")


def retraining_recipe(model: str, task: str, stage: dict[str, Any], where: str = "retraining") -> Recipe:
    """The recipe of `retrained`.

    Args:
        model: as of `retrained`.
        task: as of `retrained`.
        stage: as of `retrained`.
        where: names the source in messages.

    Raises:
        ValueError: for an unknown key of ``stage``, or an invalid value.
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
    """Copy a labeled set, with the same layout and names, and compress its photographs.

    Label maps, and photographs that cannot be read, are copied. Files that exist in ``folder`` are kept.

    Args:
        source: the labeled set.
        codec: compresses the photographs; the copies are its files.
        level: of the codec.
        folder: of the copy.
        track: wraps an iterable to show progress.

    Returns:
        the copy.
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
    if listing := files.companion(LISTING):
        write_whole(folder / LISTING, listing[0])
    return LabeledSource(**{**asdict(source), "path": str(folder)})
