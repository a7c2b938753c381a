"""Recipes: a model and its training as data, read from YAML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from ..codec.derived import TEACHERS
from ..codec.shape import CodecConfig
from ..configs import made, merged, nearest, read_config
from ..data.crops import Source
from .auxiliary import AuxiliaryConfig
from .distortion import ObserverConfig
from .head_data import HeadConfig
from .heads import CalibrationConfig
from .objective import ObjectiveConfig
from .teacher_features import FeatureConfig, GlobalWeights, SpatialWeights
from .validation import ValidationConfig


@dataclass
class StageConfig:
    """One stage of training.

    Attributes:
        name: what the logs call it.
        trains: parts of the model that move: prefixes of parameter names; all else, and the teachers, is frozen.
        objective: what is minimized.
        head: for a stage that trains a head, what it trains it on; ``objective``, ``sources``, ``steps`` and ``crop``
            then do not count.
        features: for a stage that trains the global or the spatial layer on what teachers see, where that comes from;
            ``objective``, ``sources`` and ``crop`` then do not count.
        sources: where crops come from.
        steps, batch, crop: length, crops a step (over all processes), side of a crop in pixels.
        lr, warmup: peak learning rate (Adam), steps of linear warm-up.
        decay: share of the steps, at the end, over which the learning rate falls to a hundredth by a cosine; before
            them it stays at its peak. 1 for a cosine from the start.
        average: decay, in [0, 1), of an exponential moving average of the weights, which is what the stage leaves
            behind; 0 for none.
        validation: images on which the stage is measured while it runs; none where its ``source`` is empty.
        rate_warmup: steps over which the weight of the semantic layers' rate grows to its full value, so that
            they learn to carry something before they learn to be short.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        varied: share of crops whose detail quality varies over the picture.
        blank: share of crops decoded without their detail layer, so that previews are possible in a fused codec.
        semantic_quality, detail_quality: between which the layers' qualities are drawn; both semantic layers have one.
        target_bpp: a rate, of the detail layer, that a controller holds by scaling its weight; 0 for none.
        control_speed: see `RateController`.
        auxiliary: labeled crops, for heads that learn along with the semantic layers; ``trains`` must name the heads.
    """

    name: str = MISSING
    trains: list[str] = field(default_factory=list)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    head: HeadConfig | None = None
    features: FeatureConfig | None = None
    sources: list[Source] = field(default_factory=list)
    steps: int = 1000
    batch: int = 8
    crop: int = 256
    lr: float = 1e-3
    warmup: int = 200
    decay: float = 1.0
    average: float = 0.0
    validation: ValidationConfig = field(default_factory=ValidationConfig)
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
        init: a model to start from, by zoo name or folder; empty for a new one. Its shape then counts, not ``codec``,
            except for ``codec.fused`` and ``codec.realism`` where a stage trains the detail layer or the decoder: these
            then learn to see the spatial layer, or to add realism, or no longer do. Where realism alone is trained
            (``codec.synthesis.realism``), they go on seeing what they saw.
    """

    name: str = MISSING
    init: str = ""
    seed: int = 0
    codec: CodecConfig = field(default_factory=CodecConfig)
    stages: list[StageConfig] = field(default_factory=list)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    precision: str = "bf16-mixed"
    workers: int = 1
    checkpoint_minutes: float = 5.0
    preset: str = ""


def moves(stage: StageConfig, name: str) -> bool:
    """Whether a stage lets a parameter move; a teacher's never does.

    Args:
        stage: of a recipe.
        name: of the parameter in the model.
    """
    return name.startswith(tuple(stage.trains)) and not name.startswith(TEACHERS)


def touches(stage: StageConfig, *parts: str) -> bool:
    """Whether a stage lets something move in one of several parts of a model.

    Args:
        stage: of a recipe.
        *parts: what the names of their parameters start with.
    """
    return any(name.startswith(part) or part.startswith(name) for name in stage.trains for part in parts)


def load_recipe(
    path: str | Path, overrides: Sequence[str] | None = None, values: dict[str, Any] | None = None
) -> Recipe:
    """Read a YAML recipe.

    Args:
        path: of the file.
        overrides: ``key=value`` words; ``preset=NAME`` selects one of the file's presets, and
            ``stages.NAME.key=value`` changes a stage.
        values: to fill in before the overrides; stages by their names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown key (the message suggests the nearest one) or an invalid value.
    """
    tree, preset, words = read_config(path, "recipe", overrides or ())
    filled = changed(changed(tree, preset, str(path)), OmegaConf.create(values or {}), str(path))
    return recipe_from(filled, words, str(path))


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
_SEED = "must be an integer from 0 to 100000000", lambda value: 0 <= value <= 10**8
_AMOUNT = "must be a finite number of at least 0", lambda value: math.isfinite(value) and value >= 0
_POSITIVE = "must be a finite number above 0", lambda value: math.isfinite(value) and value > 0
_SHARE = "must lie in [0, 1]", lambda value: 0 <= value <= 1
_QUALITIES = "must be two numbers in [0, 1]", lambda pair: len(pair) == 2 and all(0 <= q <= 1 for q in pair)
_SIDE = "must be a multiple of 32, and at least 32", lambda side: side >= 32 and side % 32 == 0
_FOUR = "must be four numbers of at least 0", lambda all_: len(all_) == 4 and all(map(_AMOUNT[1], all_))
_WEIGHTS = "must be two finite numbers above 0", lambda pair: len(pair) == 2 and all(map(_POSITIVE[1], pair))

RULES: dict[type, dict[str, tuple[str, Callable[[Any], bool]]]] = {
    Recipe: {"seed": _SEED, "workers": _COUNT, "checkpoint_minutes": _AMOUNT},
    CodecConfig: {
        **dict.fromkeys(("global_hidden", "global_context", "spatial_hidden", "spatial_context"), _WHOLE),
        **dict.fromkeys(("hyper_channels", "width"), _WHOLE),
        "detail_channels": ("must be an even number of at least 2", lambda n: n >= 2 and n % 2 == 0),
        **dict.fromkeys(("spatial_depth", "analysis_depth", "synthesis_depth"), _COUNT),
        **dict.fromkeys(("global_size", "spatial_size"), _SIDE),
        "global_groups": ("must be one or more numbers of at least 1", lambda all_: all_ and all(n >= 1 for n in all_)),
        "spatial_channels": ("must be a multiple of 4, and at least 4", lambda n: n >= 4 and n % 4 == 0),
    },
    StageConfig: {
        **dict.fromkeys(("steps", "warmup", "rate_warmup"), _COUNT),
        **dict.fromkeys(("lr", "weight_decay", "target_bpp"), _AMOUNT),
        **dict.fromkeys(("varied", "blank", "decay"), _SHARE),
        "average": ("must lie in [0, 1)", lambda decay: 0 <= decay < 1),
        **dict.fromkeys(("semantic_quality", "detail_quality"), _QUALITIES),
        "control_speed": _POSITIVE,
        "clip": ("must be above 0", lambda norm: norm > 0),
        "batch": _WHOLE,
        "crop": _SIDE,
    },
    ObjectiveConfig: {
        **dict.fromkeys(("semantic_rate", "lambdas"), _WEIGHTS),
        **dict.fromkeys(("alpha", "rest"), _SHARE),
        "embedding": _AMOUNT,
        "features": _FOUR,
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
        **dict.fromkeys(("epochs", "patience"), _COUNT),
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
    FeatureConfig: {"views": _WHOLE},
    GlobalWeights: {"distortions": _WEIGHTS, "squares": _AMOUNT, "logits": _AMOUNT},
    SpatialWeights: {
        "rate": _WEIGHTS,
        "features": _FOUR,
        **dict.fromkeys(("head", "segmentation"), _AMOUNT),
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

    Args:
        rule: of a value.
        value: of any type.

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
