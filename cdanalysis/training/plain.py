"""Recipes for the usual: a head for one's own classes, from data in a usual layout.

The recipes that ship (``configs/classify.yaml``, ``detect.yaml``, ``segment.yaml``) with their values filled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data.layouts import TRAIN, find_layout
from .recipe import Recipe, load_recipe

RECIPES = {"classification": "classify.yaml", "detection": "detect.yaml", "segmentation": "segment.yaml"}
"""Tasks to the recipes that ship. A recipe's stage has the name of its task."""


def config_folder() -> Path:
    """The folder of the recipes that ship: inside the package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "configs"


def plain_recipe(
    task: str,
    data: str,
    *,
    annotations: str = "",
    val: str = "",
    val_annotations: str = "",
    epochs: int | None = None,
    name: str = "",
    start: str = "",
    overrides: Sequence[str] = (),
) -> Recipe:
    """The recipe of a head for the classes of a data set.

    Args:
        task: classification, detection or segmentation.
        data: to learn from, see `find_layout`.
        annotations: COCO file of ``data``, if it is not found by itself.
        val: to validate on, like ``data``; by default the data's own ``val``, or the part of ``data`` that the recipe
            holds out.
        val_annotations: COCO file of ``val``, if it is not found by itself.
        epochs: at most so many; by default the recipe's.
        name: of the model; by default that of the data.
        start: zoo name or folder of the model to start from; by default the recipe's.
        overrides: ``key=value`` words, as for any recipe.

    Raises:
        FileNotFoundError: if data do not exist.
        ValueError: for data in no layout of the task, an unknown task, or an invalid value.
    """
    if task not in RECIPES:
        raise ValueError(f"there is no recipe for the task {task!r}; there are recipes for {', '.join(RECIPES)}")
    found = find_layout(task, data, annotations)
    held = found.val
    if val:
        other = find_layout(task, val, val_annotations)
        held = other.val or other.train
    elif val_annotations:
        raise ValueError("--val-annotations is of the photographs that --val names")
    head: dict[str, Any] = {"sources": [asdict(found.train)]}
    if held is not None:
        head |= {"val": [asdict(held)], "holdout": 0}
    if epochs is not None:
        head["epochs"] = epochs
    values: dict[str, Any] = {"name": name or name_of(data), "stages": {task: {"head": head}}}
    if start:
        values["init"] = start
    return load_recipe(config_folder() / RECIPES[task], overrides, values)


def name_of(data: str) -> str:
    """The name of a data set: of its folder, archive or file; with the folder above where that says only which split.

    Args:
        data: path of the data; it need not exist.

    >>> name_of("my/pets"), name_of("pets/train.tar"), name_of("boxes/annotations.json")
    ('pets', 'pets-train', 'boxes')
    """
    path = Path(data).expanduser().resolve()
    own = path.name.partition(".")[0] or "model"
    if path.suffix == ".json":
        return path.parent.name or own
    return f"{path.parent.name}-{own}" if own in TRAIN and path.parent.name else own
