"""Checks of a recipe before its first step, so that errors do not show after hours of training."""

from __future__ import annotations

import copy
import logging

import torch
from lightning_fabric import Fabric

from ..codec.derived import TEACHERS
from ..codec.layered import LayeredCodec
from ..data.images import ImageSet
from ..data.labeled import ClassFolders, LabeledSet
from ..model import Model
from ..registry import METRICS
from .head_data import HeadConfig, held_out, open_sets, validation_sets
from .heads import CalibrationConfig, positions, prepare_head, starts_from_counterpart
from .recipe import Recipe, StageConfig, check_values, moves, touches
from .stages import CodecStage, check_features, layer_of, select

log = logging.getLogger(__name__)


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
        else:
            _say_uncalibrated(recipe)


def check_learnable(recipe: Recipe, model: Model) -> None:
    """Refuse to train a codec that is another library's.

    Args:
        recipe: whose stages are looked at.
        model: that it starts from.

    Raises:
        ValueError: where a stage trains the codec of a model whose codec is another library's.
    """
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
        _check_head(stage, stage.head, model, recipe.seed)
    select(model, stage)
    if stage.head is not None:
        _check_head_moves(stage, stage.head)


def _check_head(stage: StageConfig, config: HeadConfig, model: Model, seed: int) -> None:
    """Raises `ValueError` or `FileNotFoundError` where a head cannot be trained so, or not be validated."""
    sets = open_sets(config, seed)
    head = prepare_head(model, config, sets[0].classes)
    if config.task == "classification":
        positions(head.classes, sets[0].classes)
    if not stage.lr and config.classes == "data" and not starts_from_counterpart(model, config, head):
        raise ValueError(f"stage {stage.name!r} has lr 0, which would leave its new {config.task} head untrained")
    if not _steps(stage) and config.classes == "data":
        raise ValueError(f"stage {stage.name!r} has epochs 0, which would leave its new {config.task} head untrained")
    if config.val and config.task not in METRICS:
        raise ValueError(
            f"stage {stage.name!r} cannot be validated: no metric is registered for the task {config.task!r}"
        )
    held = validation_sets(config, seed, sets) if config.task in METRICS else []
    if config.patience and not held:
        raise ValueError(
            f"stage {stage.name!r} has a patience, and nothing to validate on: name val, or a holdout that leaves "
            "photographs out, or set patience to 0"
        )
    for labeled in held:
        METRICS[config.task](labeled, head.classes)


def _check_head_moves(stage: StageConfig, config: HeadConfig) -> None:
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


def calibration_sets(recipe: Recipe) -> list[LabeledSet]:
    """What the classification head is calibrated on: what the recipe names, or what the head was validated on.

    Args:
        recipe: of whose stages the last one counts that trains the head on streams, where it names nothing.

    Raises:
        FileNotFoundError, ValueError: as `validation_sets`.
    """
    source, every = recipe.calibration.source, recipe.calibration.every
    if source:  # as `HeadConfig.holdout` counts, but not none of a small set
        labeled = ClassFolders(source)
        return [labeled.chosen(held_out(len(labeled), every, recipe.seed) or held_out(len(labeled), every, 0))]
    heads = list(_classifiers(recipe).values())
    return validation_sets(heads[-1], recipe.seed) if heads else []


def _classifiers(recipe: Recipe) -> dict[str, HeadConfig]:
    """The stages that train a classification head on streams, by name."""
    heads = {stage.name: stage.head for stage in recipe.stages if stage.head is not None}
    return {name: h for name, h in heads.items() if (h.task, h.input) == ("classification", "streams")}


def _say_uncalibrated(recipe: Recipe) -> None:
    """Say so where a classification head is trained, and nothing is there to calibrate its scores on."""
    names = list(_classifiers(recipe))
    if names and not calibration_sets(recipe):
        log.warning(
            "the scores of the classification head of stage %r will not be calibrated: set calibration.source, or "
            "holdout, to photographs that it does not learn from",
            names[-1],
        )


def _check_calibration(config: CalibrationConfig, model: Model) -> None:
    if "classification" not in model.heads:
        raise ValueError("calibration needs a classification head, and the model has none")
    try:
        positions(model.heads["classification"].classes, ClassFolders(config.source).every(config.every).classes)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"calibration: {error}") from None
