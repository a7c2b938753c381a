"""Checks of a recipe before its first step, so that errors do not show after hours of training."""

from __future__ import annotations

import copy

import torch
from lightning_fabric import Fabric

from ..codec.derived import TEACHERS
from ..codec.layered import LayeredCodec
from ..data.images import ImageSet
from ..data.labeled import ClassFolders
from ..model import Model
from .head_data import HeadConfig, open_sets
from .heads import CalibrationConfig, positions, prepare_head, starts_from_counterpart
from .recipe import Recipe, StageConfig, check_values, moves, touches
from .stages import CodecStage, check_features, layer_of, select


def check_recipe(recipe: Recipe, model: Model, first: int, fabric: Fabric, new: bool) -> None:
    """Check all stages of a recipe, on a copy of the model, without training.

    Args:
        recipe: to check.
        model: as it is before stage ``first``.
        first: index of the first stage to check.
        fabric: that the stages will run on.
        new: whether the model has random weights, which the recipe must train.

    Raises:
        FileNotFoundError: if data or weights do not exist.
        ValueError: for an invalid value, a stage that cannot run, random weights that no stage would train, or a
            calibration that is impossible.
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
            raise ValueError(f"recipe {recipe.name!r} trains nothing: set steps, or epochs, of a stage above 0")


def check_learnable(recipe: Recipe, model: Model) -> None:
    """Raises `ValueError` where a stage trains the codec of a model whose codec is another library's."""
    if isinstance(model.codec, LayeredCodec):
        return
    for stage in recipe.stages:
        if stage.head is None:
            raise ValueError(
                f"stage {stage.name!r} trains the codec, which is another library's network here ({recipe.init}): on "
                "its latents heads alone can be trained"
            )


def _check_stage(recipe: Recipe, model: Model, number: int, fabric: Fabric) -> None:
    stage = recipe.stages[number]
    if stage.features is not None:
        if stage.head is not None:
            raise ValueError(f"stage {stage.name!r} trains a head or, on features, a layer; not both")
        check_features(stage, model)
    elif stage.head is None:
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
                f"stage {stage.name!r} has lr 0, which would leave its new {stage.head.task} head untrained"
            )
        if not _steps(stage) and stage.head.classes == "data":
            raise ValueError(
                f"stage {stage.name!r} has epochs 0, which would leave its new {stage.head.task} head untrained"
            )
    select(model, stage)
    if stage.head is not None:
        _check_head_moves(stage, stage.head, model)


def _check_head_moves(stage: StageConfig, config: HeadConfig, model: Model) -> None:
    """Raises `ValueError` unless a head's stage lets that head move, and nothing of the codec."""
    name = f"{'counterparts' if config.input == 'features' else 'heads'}.{config.task}"
    if not touches(stage, name) or touches(stage, "codec"):
        raise ValueError(f"stage {stage.name!r} trains {name} and nothing of the codec: its trains must say so")


def _steps(stage: StageConfig) -> int:
    """Steps of a stage, or epochs where it trains a head."""
    return stage.steps if stage.head is None else stage.head.epochs


def _check_everything_learns(recipe: Recipe, model: Model) -> None:
    """A new model has its teachers, and heads that are theirs; all else must be trained."""
    stages = [stage for stage in recipe.stages if _steps(stage)]
    for name, _ in model.named_parameters():
        given = name.startswith((*TEACHERS, "heads.classification", "heads.detection"))
        if not given and not any(_learns(stage, name) for stage in stages):
            part = ".".join(name.split(".")[:2])
            raise ValueError(
                f"recipe {recipe.name!r} has no init, and would leave {part} untrained: let a stage with steps "
                f"train it, or start from a model (init: photo)"
            )


def _learns(stage: StageConfig, name: str) -> bool:
    """Whether a stage leaves that parameter other than it was drawn."""
    starts = stage.features is not None and stage.features.start and name.startswith(f"{layer_of(stage)}.")
    return starts or moves(stage, name)


def _check_calibration(config: CalibrationConfig, model: Model) -> None:
    if "classification" not in model.heads:
        raise ValueError("calibration needs a classification head, and the model has none")
    try:
        positions(model.heads["classification"].classes, ClassFolders(config.source).every(config.every).classes)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"calibration: {error}") from None
