"""Heads: made for the classes of a data set, trained on examples, calibrated."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..data.labeled import LabeledSet
from ..data.labels import class_index
from ..data.readable import readable, told
from ..heads.base import Head, layers_of
from ..heads.classification import fit_temperature
from ..model import Model
from ..structures.latents import LAYERS
from ..structures.targets import ClassLabel
from .head_data import Batch, HeadConfig


@dataclass
class CalibrationConfig:
    """Temperature of the classification head, fitted on photographs in class folders.

    Attributes:
        source: photographs in folders named by WordNet id or class name; where it is empty, those that the last stage
            of a classification head was validated on.
        every: use each ``every``-th photograph of the source, the same that ``HeadConfig.holdout`` keeps out.
        quality: of the layers that the head reads.
    """

    source: str = ""
    every: int = 10
    quality: float = 0.5


INITS = ("model", "noise")
"""What a new head starts from."""


def prepare_head(model: Model, config: HeadConfig, classes: list[str]) -> Head:
    """The head that a stage trains: the existing one, or a new one, which starts as ``config.init`` says.

    Args:
        model: the head is put into it.
        config: of the stage.
        classes: class names of the data.

    Returns:
        the model's head, or its counterpart where ``config.input`` is "features".

    Raises:
        ValueError: if there is no head to keep, or it does not know the classes; or no counterpart of its kind, which
            could be distilled.
    """
    return started_head(model, config, classes)[0]


def started_head(model: Model, config: HeadConfig, classes: list[str]) -> tuple[Head, list[str] | None]:
    """`prepare_head`, and which of the data's classes the head knows before it learns.

    Args:
        model: the head is put into it.
        config: of the stage.
        classes: class names of the data.

    Returns:
        the head, and the classes that it knows; None in place of these if it starts from noise.

    Raises:
        ValueError: as `prepare_head`.
    """
    head, shared = _chosen_head(model, config, classes)
    known = model.counterparts[config.task].describe() if config.task in model.counterparts else None
    if config.distill and known != head.describe():
        raise ValueError(f"distill needs a {config.task} counterpart of the same kind and classes: train one before")
    return head, shared


def _chosen_head(model: Model, config: HeadConfig, classes: list[str]) -> tuple[Head, list[str] | None]:
    heads = model.counterparts if config.input == "features" else model.heads
    if config.classes == "keep":
        if config.task not in model.heads:
            raise ValueError(f"there is no {config.task} head to keep")
        keep_counterpart(model, config.task)
        if config.task == "classification":
            positions(heads[config.task].classes, classes)
        elif heads[config.task].classes != classes:
            raise ValueError(
                f"the {config.task} head has other classes than the data, or in another order: use classes: data"
            )
        return heads[config.task], list(classes)
    if config.classes != "data":
        raise ValueError(f"classes must be 'data' or 'keep', got {config.classes!r}")
    head = model.new_head(config.task, classes=list(classes), **config.options)
    own = starts_from_counterpart(model, config, head)
    other = model.counterparts[config.task] if own else _start_of(model, config)
    shared = None if other is None else head.start_from(other)
    heads[config.task] = head
    return head, shared


def _start_of(model: Model, config: HeadConfig) -> Head | None:
    """The head that a new one starts from, if it is of its kind; None for noise, or where there is none."""
    if config.init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {config.init!r}")
    found = [model.heads, model.counterparts] if config.input == "streams" else [model.counterparts, model.heads]
    there = [heads[config.task] for heads in found if config.task in heads]
    return there[0] if there and config.init == "model" else None


def keep_counterpart(model: Model, task: str) -> None:
    """Keep what a head is, if it has no counterpart: it is distilled while the head goes on learning.

    What did not learn from images is no counterpart to compare with, so `Trainer` does not save it as one.

    Args:
        model: gets the counterpart.
        task: of the head; nothing happens where the model has none.
    """
    if task in model.heads and task not in model.counterparts:
        model.counterparts[task] = copy.deepcopy(model.heads[task])


def what_is_distilled(model: Model, task: str) -> Head:
    """The counterpart of a task's head, or where there is none the head itself, which then stands still.

    Args:
        model: whose head it is.
        task: of the head.

    Raises:
        KeyError: if the model has neither.
    """
    return model.counterparts[task] if task in model.counterparts else model.heads[task]


def starts_from_counterpart(model: Model, config: HeadConfig, head: Head) -> bool:
    """Whether a new head has weights to start from: those of a counterpart of its shape.

    Args:
        model: that the head is for.
        config: of the stage.
        head: the new one.
    """
    there = config.classes == "data" and config.input == "streams" and config.task in model.counterparts
    wanted = there and config.init == "model"
    return wanted and model.counterparts[config.task].describe() == head.describe()


class HeadLoss(nn.Module):
    """The loss of a head; a module with one ``forward``, so that data-parallel wrappers can wrap it.

    Args:
        model: the head is prepared in it, see `prepare_head`.
        config: of the stage.
        classes: class names of the data.

    Raises:
        ValueError: as `prepare_head`.
    """

    def __init__(self, model: Model, config: HeadConfig, classes: list[str]):
        super().__init__()
        self.model, self.config = model, config
        self.head, self.known = started_head(model, config, classes)
        self.among = positions(self.head.classes, classes) if config.task == "classification" else []

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch.

        Args:
            batch: of examples.
            step: does not count.

        Returns:
            a scalar, and its terms by name, detached.
        """
        features = batch.features
        if self.among and self.config.classes == "keep":
            logits = self.head(features).float()[:, self.among]
            targets = torch.tensor(batch.targets, device=logits.device)
            terms = {"classification": nn.functional.cross_entropy(logits, targets)}
            terms["accuracy"] = (logits.argmax(1) == targets).float().mean().detach()
        else:
            terms = self.head.loss(features, batch.targets)
        if self.config.distill:
            apart = self.head.distillation(features, batch.teacher, self.model.counterparts[self.config.task])
            terms["distillation"] = self.config.distill * apart.mean()
        loss = sum(term for name, term in terms.items() if name != "accuracy")
        return loss, {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}


def positions(known: list[str], classes: list[str]) -> list[int]:
    """Indices of the data's classes among those of a head.

    Args:
        known: class names of the head.
        classes: class names of the data, or WordNet ids, see `cdanalysis.data.labels.class_index`.

    Raises:
        ValueError: if the head lacks a class, or two of the data's are one of its.

    >>> positions(["cat", "dog", "horse"], ["Horse", "cat"])
    [2, 0]
    """
    found: list[int] = []
    for name in classes:
        position = class_index(name, known)
        if position is None:
            raise ValueError(f"the class {name!r} of the data is not among the head's classes")
        if position in found:
            other = classes[found.index(position)]
            raise ValueError(f"{other!r} and {name!r} are both the head's class {known[position]!r}: merge them")
        found.append(position)
    return found


@torch.inference_mode()
def calibrate(model: Model, config: CalibrationConfig, sets: Sequence[LabeledSet]) -> float:
    """Fit the temperature of the classification head on streams of labeled photographs (Guo and others, ICML 2017).

    Args:
        model: its head gets the temperature.
        config: says of which quality their streams are.
        sets: the photographs.

    Returns:
        the temperature, by which logits are divided, in [0.01, 100].

    Raises:
        ValueError: if the head lacks a class.
    """
    head = model.heads["classification"]
    layers = LAYERS[: layers_of([head])]
    logits, targets = [], []
    for labeled in [told(readable(labeled)) for labeled in sets]:
        places = positions(head.classes, labeled.classes)
        for start in range(0, len(labeled), 32):
            group = [labeled[i] for i in range(start, min(start + 32, len(labeled)))]
            images = [image for image, _ in group]
            logits.append(model.class_logits(model.encode_batch(images, config.quality, layers)))
            targets += [places[int(cast(ClassLabel, target))] for _, target in group]
    with torch.inference_mode(False):
        temperature = fit_temperature(torch.cat(logits).clone().cpu(), torch.tensor(targets))
    cast(Tensor, head.temperature).fill_(temperature)
    return temperature
