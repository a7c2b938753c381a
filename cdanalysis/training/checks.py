"""What is wrong with a recipe is found before its first step, not after hours of training."""

from __future__ import annotations

import copy

import torch
from lightning_fabric import Fabric

from ..data.images import ImageSet
from ..data.labeled import ClassFolders
from ..model import Model
from .head_data import open_sets
from .heads import CalibrationConfig, positions, prepare_head, starts_from_counterpart
from .recipe import Recipe, StageConfig, check_values
from .stages import CodecStage, moves, select


def check_recipe(recipe: Recipe, model: Model, first: int, fabric: Fabric, new: bool) -> None:
    """Go through a recipe's stages, on a copy of the model, without training.

    Args:
        model: as it is before the stage number ``first``.
        new: whether the model was made by this recipe, and so has weights that nothing has trained yet.

    Raises:
        FileNotFoundError: if data or weights are not there.
        ValueError: for a value that means nothing, a stage that cannot be run, or that would leave weights as they were
            drawn, and for a calibration that cannot be done.
    """
    check_values(recipe, f"recipe {recipe.name!r}")
    if new:
        _check_everything_learns(recipe, model)
    with torch.random.fork_rng(devices=[]):
        model = copy.deepcopy(model)
        for number in range(first, len(recipe.stages)):
            _check_stage(recipe, model, number, fabric)
        if recipe.calibration.source:
            _check_calibration(recipe.calibration, model)
        elif not any(_steps(stage) for stage in recipe.stages):
            raise ValueError(f"recipe {recipe.name!r} trains nothing: none of its stages has a step to do")


def _check_stage(recipe: Recipe, model: Model, number: int, fabric: Fabric) -> None:
    stage = recipe.stages[number]
    if stage.head is None:
        CodecStage(model, recipe, number, fabric)
        if stage.validation.source:
            ImageSet(stage.validation.source)
    else:
        sets = open_sets(stage.head)
        head = prepare_head(model, stage.head, sets[0].classes)
        if stage.head.task == "classification":
            positions(head.classes, sets[0].classes)
        if not stage.lr and stage.head.classes == "data" and not starts_from_counterpart(model, stage.head, head):
            raise ValueError(
                f"stage {stage.name!r} has lr 0, which would leave its new {stage.head.task} head as it was drawn"
            )
        if not _steps(stage) and stage.head.classes == "data":
            raise ValueError(
                f"stage {stage.name!r} has epochs 0, which would leave its new {stage.head.task} head as it was drawn"
            )
    select(model, stage)


def _steps(stage: StageConfig) -> int:
    """Steps of a stage, or epochs where it trains a head."""
    return stage.steps if stage.head is None else stage.head.epochs


def _check_everything_learns(recipe: Recipe, model: Model) -> None:
    """A new model has its backbone and its classifier from ImageNet; all else must be trained."""
    stages = [stage for stage in recipe.stages if _steps(stage)]
    for name, _ in model.named_parameters():
        given = name.startswith(("codec.backbone", "heads.classification"))
        if not given and not any(moves(stage, name) for stage in stages):
            part = ".".join(name.split(".")[:2]) if name.startswith("codec.") else name.split(".")[0]
            raise ValueError(
                f"recipe {recipe.name!r} starts from nothing, and would leave {part} as it was drawn: let a stage with "
                f"steps train it, or start from a model (init: photo)"
            )


def _check_calibration(config: CalibrationConfig, model: Model) -> None:
    if "classification" not in model.heads:
        raise ValueError("calibration: there is no classification head whose temperature could be fitted")
    try:
        positions(model.heads["classification"].classes, ClassFolders(config.source).every(config.every).classes)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"calibration: {error}") from None
