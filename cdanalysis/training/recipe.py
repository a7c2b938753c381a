"""Recipes: a model and its training as data, read from YAML."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from ..codec.layered import CodecConfig
from ..config import read_config
from ..data.crops import Source
from ..data.labeled import LabeledSource
from .auxiliary import AuxiliaryConfig
from .distortion import ObserverConfig
from .head_data import HeadConfig
from .heads import CalibrationConfig
from .objective import ObjectiveConfig


@dataclass
class StageConfig:
    """One stage of training.

    Attributes:
        name: what the logs call it.
        trains: parts of the model that move: prefixes of parameter names; all else is frozen.
        objective: what is minimized.
        head: for a stage that trains a head, what it trains it on; ``objective``, ``sources``, ``steps`` and ``crop``
            then do not count.
        sources: where crops come from.
        steps, batch, crop: length, crops a step (over all processes), side of a crop in pixels.
        lr, warmup: peak learning rate (Adam, cosine decay to a hundredth), steps of linear warm-up.
        principal: so many batches give the principal components that semantic layer and neck start
            from; 0 to start from what is there.
        rate_warmup: steps over which the weight of the semantic rate grows to its full value, so that
            the layer learns to carry something before it learns to be short.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        varied: share of crops whose detail quality varies over the picture.
        blank: share of crops decoded without their detail layer, so that previews are possible.
        semantic_quality, detail_quality: between which the layers' qualities are drawn.
        target_bpp: a rate, of both layers together, that a controller holds by scaling the rates' weights; 0 for none.
        control_speed: see `RateController`.
        auxiliary: labeled crops, for heads that learn along with the semantic layer; ``trains`` must name the heads.
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
        init: a model to start from, by zoo name or folder; empty for a new one. Its shape then counts, not ``codec``,
            except that ``codec.fused`` = false takes the semantic layer from its fusion decoder.
        neck_layers: layers that the neck reads, and so all heads; empty for those of the model to start from.
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
    """Read a YAML recipe; ``overrides`` are ``key=value`` words, ``preset=NAME`` picks one of its presets.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown key (the message names the nearest one) or a bad value.
    """
    tree, preset, words = read_config(path, overrides or (), "recipe")
    return recipe_from(_merge_preset(tree, preset), words, str(path))


def recipe_from(tree: DictConfig, words: DictConfig, where: str) -> Recipe:
    """The recipe that a tree of keys describes, changed by ``words``; a mapping of stages reaches them by their names.

    Raises:
        ValueError: for an unknown key (the message says ``where``, and names the nearest one) or a bad value.
    """
    return _to_recipe(OmegaConf.merge(tree, _list_overrides(tree, words)), where)


def _merge_preset(tree: DictConfig, preset: DictConfig) -> DictConfig:
    return OmegaConf.merge(tree, _list_overrides(tree, preset))


def _list_overrides(tree: DictConfig, words: DictConfig) -> DictConfig:
    """OmegaConf replaces lists whole; ``stages: {detail: {steps: 9}}`` reaches into the stage of that name."""
    words = OmegaConf.create(OmegaConf.to_container(words))
    changes = words.get("stages")
    if not isinstance(changes, DictConfig):
        return words
    stages = []
    for stage in tree.stages:
        stages.append(OmegaConf.merge(stage, changes.pop(stage.name, {})))
    if changes:
        names = [stage.name for stage in tree.stages]
        raise ValueError(f"unknown stage {next(iter(changes))!r}; {_nearest(next(iter(changes)), names)}")
    words.stages = stages
    return words


def _to_recipe(tree: DictConfig, where: str) -> Recipe:
    schema = OmegaConf.structured(Recipe)
    try:
        return OmegaConf.to_object(OmegaConf.merge(schema, tree))
    except ConfigKeyError as error:
        nearest = _nearest(str(error.key), _known_keys())
        raise ValueError(f"{where}: unknown key {error.full_key!r}; {nearest}") from None
    except OmegaConfBaseException as error:
        raise ValueError(f"{where}: {error.full_key or 'recipe'}: {str(error).splitlines()[0]}") from None


_SCHEMAS = (
    Recipe, StageConfig, ObjectiveConfig, ObserverConfig, Source, CodecConfig, CalibrationConfig, HeadConfig,
    LabeledSource, AuxiliaryConfig,
)  # fmt: skip


def _known_keys() -> set[str]:
    keys: set[str] = set()
    for kind in _SCHEMAS:
        keys |= set(kind.__dataclass_fields__)
    return keys


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)
    return f"the nearest known one is {close[0]!r}" if close else "there are none"
