"""Recipes: a model and its training as data, read from YAML."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from ..codec.layered import CodecConfig
from ..configs import made, merged, nearest, read_mapping, take_preset, words_of
from ..data.crops import Source
from .auxiliary import AuxiliaryConfig
from .distortion import ObserverConfig
from .head_data import HeadConfig
from .heads import CalibrationConfig
from .objective import ObjectiveConfig
from .validation import ValidationConfig


@dataclass
class StageConfig:
    """One stage of training.

    Attributes:
        name: of the stage, in logs and overrides.
        trains: prefixes of the names of the parameters to train; all others are frozen.
        objective: what is minimized.
        head: trains a head, on these examples; ``objective``, ``sources``, ``steps`` and ``crop`` are then not used.
        sources: photographs that crops are drawn from.
        steps, batch, crop: number of steps, crops per step (over all processes), side of a crop in pixels.
        lr, warmup: peak learning rate (AdamW), steps of linear warm-up.
        decay: fraction of the steps, at the end, over which the learning rate falls to a hundredth by a cosine; before,
            it stays at its peak. 1 for a cosine from the start.
        average: decay, in [0, 1), of an exponential moving average of the weights, which replaces them at the end of
            the stage; 0 for none.
        validation: photographs to measure rate and distortion on while the stage runs; none if ``source`` is empty.
        semantics: whether detail layer and fusion decoder get the semantic layer. If not, they are trained alone, and
            the backbone does not run.
        principal: number of batches for the principal components that initialize semantic layer and neck; 0 to keep
            their weights.
        rate_warmup: steps over which the weight of the semantic rate grows to its full value, so that the layer does
            not collapse early.
        weight_decay: of AdamW.
        clip: maximum norm of the gradient.
        varied: fraction of crops whose detail quality varies over the image.
        blank: fraction of crops decoded without their detail layer, which previews need.
        semantic_quality, detail_quality: [lowest, highest] of the qualities that are drawn.
        target_bpp: rate of both layers together that a controller holds by scaling the rates' weights; 0 for none.
        control_speed: see `RateController`.
        auxiliary: labeled crops, for heads that are trained jointly; ``trains`` must include these heads.
    """

    name: str = MISSING
    trains: list[str] = field(default_factory=list)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    head: HeadConfig | None = None
    sources: list[Source] = field(default_factory=list)
    steps: int = 1000
    batch: int = 8
    crop: int = 256
    lr: float = 1e-3
    warmup: int = 200
    decay: float = 1.0
    average: float = 0.0
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    semantics: bool = True
    principal: int = 0
    rate_warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    varied: float = 0.25
    blank: float = 0.0
    semantic_quality: list[float] = field(default_factory=lambda: [0.0, 1.0])
    detail_quality: list[float] = field(default_factory=lambda: [0.0, 1.0])
    target_bpp: float = 0.0
    control_speed: float = 0.02
    auxiliary: list[AuxiliaryConfig] = field(default_factory=list)


@dataclass
class Recipe:
    """Everything that a training run depends on.

    Attributes:
        name: of the model.
        init: model to start from, a zoo name or folder; empty for a new one. It replaces ``codec``, except that
            ``codec.fused: false`` removes the semantic layer from its fusion decoder.
        seed: of all random numbers.
        codec: shape of a new model's codec.
        neck_hidden: width of a new model's neck.
        neck_layers: layers that the neck, and so all heads, read; empty for those of ``init``.
        stages: run one after the other.
        calibration: of the classification head, after the last stage.
        precision: of Lightning Fabric, such as "32-true" or "bf16-mixed".
        workers: processes that load data; 0 for none.
        checkpoint_minutes: between checkpoints.
        preset: name of a preset of the recipe's file.
    """

    name: str = MISSING
    init: str = ""
    seed: int = 0
    codec: CodecConfig = field(default_factory=CodecConfig)
    neck_hidden: int = 160
    neck_layers: list[str] = field(default_factory=list)
    stages: list[StageConfig] = field(default_factory=list)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    precision: str = "bf16-mixed"
    workers: int = 1
    checkpoint_minutes: float = 5.0
    preset: str = ""


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML recipe.

    Args:
        path: of the file.
        overrides: ``key=value`` words; ``preset=NAME`` selects one of the file's presets, and
            ``stages.NAME.key=value`` changes a stage.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown key (the message suggests the nearest one) or an invalid value.
    """
    where = str(path)
    tree, words = read_mapping(path, "recipe"), words_of(overrides or [], where)
    preset = take_preset(tree, words.get("preset", tree.get("preset", "")), where)
    return recipe_from(changed(tree, preset, where), words, where)


def recipe_from(tree: DictConfig, words: DictConfig, where: str) -> Recipe:
    """Make a recipe of a mapping.

    Args:
        tree: the mapping.
        words: overrides, see `changed`.
        where: names the source in messages.

    Raises:
        ValueError: for an unknown key (the message suggests the nearest one) or an invalid value.
    """
    recipe = made(Recipe, changed(tree, words, where), where)
    check_values(recipe, where)
    return recipe


def changed(tree: DictConfig, words: DictConfig, where: str) -> DictConfig:
    """Apply overrides to the mapping of a recipe; ``stages: {detail: {steps: 9}}`` changes the stage of that name.

    Args:
        tree: the mapping. Lists are replaced as a whole.
        words: the overrides.
        where: names the source in messages.

    Raises:
        ValueError: for an unknown stage, or a change that is not a mapping.
    """
    words = cast(DictConfig, OmegaConf.create(OmegaConf.to_container(words)))
    changes = words.get("stages")
    if not isinstance(changes, DictConfig):
        return merged(where, tree, words)
    made(Recipe, tree, where)  # what it says of stages can be trusted
    names = [str(stage.name) for stage in tree.get("stages", [])]
    for name, change in changes.items():
        if name not in names:
            raise ValueError(f"{where}: unknown stage {name!r}; {nearest(name, names)}")
        if not isinstance(change, DictConfig):
            raise ValueError(f"{where}: stages.{name} must be a mapping, got {change!r}")
    words.stages = [merged(where, stage, changes.get(str(stage.name), {})) for stage in tree.stages]
    return merged(where, tree, words)


_WHOLE = "must be at least 1", lambda value: value >= 1
_COUNT = "must be at least 0", lambda value: value >= 0
_AMOUNT = "must be a finite number of at least 0", lambda value: math.isfinite(value) and value >= 0
_POSITIVE = "must be a finite number above 0", lambda value: math.isfinite(value) and value > 0
_SHARE = "must lie in [0, 1]", lambda value: 0 <= value <= 1
_QUALITIES = "must be two numbers in [0, 1]", lambda pair: len(pair) == 2 and all(0 <= q <= 1 for q in pair)
_WEIGHTS = "must be two finite numbers above 0", lambda pair: len(pair) == 2 and all(map(_POSITIVE[1], pair))

RULES: dict[type, dict[str, tuple[str, Callable[[Any], bool]]]] = {
    Recipe: {"workers": _COUNT, "checkpoint_minutes": _AMOUNT, "neck_hidden": _WHOLE},
    CodecConfig: {
        **dict.fromkeys(("semantic_channels", "semantic_hidden", "detail_channels", "hyper_channels", "width"), _WHOLE),
        **dict.fromkeys(("analysis_depth", "synthesis_depth"), _COUNT),
    },
    StageConfig: {
        **dict.fromkeys(("steps", "warmup", "principal", "rate_warmup"), _COUNT),
        **dict.fromkeys(("lr", "weight_decay", "target_bpp"), _AMOUNT),
        **dict.fromkeys(("varied", "blank", "decay"), _SHARE),
        "average": ("must lie in [0, 1)", lambda decay: 0 <= decay < 1),
        **dict.fromkeys(("semantic_quality", "detail_quality"), _QUALITIES),
        "control_speed": _POSITIVE,
        "clip": ("must be above 0", lambda norm: norm > 0),
        "batch": _WHOLE,
        "crop": ("must be a multiple of 32, and at least 32", lambda side: side >= 32 and side % 32 == 0),
    },
    ObjectiveConfig: {
        **dict.fromkeys(("semantic_rate", "lambdas"), _WEIGHTS),
        **dict.fromkeys(("alpha", "rest"), _SHARE),
        "features": ("must be three numbers, at least 0", lambda all_: len(all_) == 3 and all(map(_AMOUNT[1], all_))),
        "distillation": ("must have weights of at least 0", lambda weights: all(map(_AMOUNT[1], weights.values()))),
    },
    ObserverConfig: {"weight": _AMOUNT, "lr": _AMOUNT},
    Source: {
        "weight": _AMOUNT,
        "scale": (
            "must be [smallest, largest], both above 0",
            lambda pair: len(pair) == 2 and 0 < pair[0] <= pair[1] < math.inf,
        ),
    },
    CalibrationConfig: {"every": _WHOLE, "quality": _SHARE},
    HeadConfig: {
        "epochs": _COUNT,
        "every": _WHOLE,
        "distill": _AMOUNT,
        "holdout": (
            "must be 0, for none, or at least 2, to leave out every holdout-th photograph",
            lambda n: n >= 0 and n != 1,
        ),
        "qualities": (
            "must be one or more numbers in [0, 1]",
            lambda all_: len(all_) > 0 and all(0 <= q <= 1 for q in all_),
        ),
    },
    AuxiliaryConfig: {"batch": _WHOLE, "weight": _AMOUNT},
    ValidationConfig: {
        "every": _WHOLE,
        "limit": _WHOLE,
        "qualities": ("must be one or more numbers in [0, 1]", lambda all_: all_ and all(map(_SHARE[1], all_))),
    },
}
"""Conditions on the values of fields, with their descriptions."""


def fits(rule: Callable[[Any], bool], value: Any) -> bool:
    """Whether a value satisfies a rule; a value of the wrong type, which a recipe made in Python may have, does not.

    >>> fits(lambda value: value >= 1, 2), fits(lambda value: value >= 1, "many")
    (True, False)
    """
    try:
        return bool(rule(value))
    except (TypeError, AttributeError):
        return False


def check_values(config: Any, where: str, key: str = "") -> None:
    """Check the values of a configuration, and of those in it.

    Args:
        config: a dataclass with ``RULES``.
        where: names the source in messages.
        key: of the configuration in the source; empty for the whole.

    Raises:
        ValueError: for an invalid value.
    """
    rules = RULES.get(type(config), {})
    for field_ in fields(config):
        value, name = getattr(config, field_.name), f"{key}.{field_.name}" if key else field_.name
        if field_.name in rules and not fits(rules[field_.name][1], value):
            raise ValueError(f"{where}: {name} {rules[field_.name][0]}, got {value!r}")
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            if is_dataclass(item):
                check_values(item, where, f"{name}[{number}]" if isinstance(value, list) else name)
