"""Heads: made for a data set's classes, trained on examples, calibrated."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.labeled import ClassFolders
from ..data.labels import class_index
from ..data.readable import readable, told
from ..heads.base import Head
from ..heads.classification import fit_temperature
from ..model import Model
from .head_data import Batch, HeadConfig


@dataclass
class CalibrationConfig:
    """Temperature of the classification head, fitted on photographs in class folders.

    Attributes:
        source: photographs in folders named by WordNet id or class name.
        every: use each ``every``-th photograph, the same that ``HeadConfig.holdout`` keeps out.
        quality: quality of the semantic layer.
    """

    source: str = ""
    every: int = 10
    quality: float = 0.5


def prepare_head(model: Model, config: HeadConfig, classes: list[str]) -> Head:
    """The head that a stage trains, made if it must be; a new one starts from its counterpart.

    Raises:
        ValueError: if there is no head to keep, or it does not know the classes.
    """
    heads = model.counterparts if config.input == "features" else model.heads
    if config.classes == "keep":
        if config.task not in model.heads:
            raise ValueError(f"there is no {config.task} head to keep")
        if config.task not in model.counterparts:  # from here on the two go different ways
            model.counterparts[config.task] = copy.deepcopy(model.heads[config.task])
        if config.task == "classification":
            positions(heads[config.task].classes, classes)
        elif heads[config.task].classes != classes:
            raise ValueError(f"the {config.task} head to keep has other classes than the data, or in another order")
        return heads[config.task]
    if config.classes != "data":
        raise ValueError(f"classes must be 'data' or 'keep', got {config.classes!r}")
    head = heads[config.task] = model.new_head(config.task, classes=list(classes), **config.options)
    if starts_from_counterpart(model, config, head):
        head.load_state_dict(model.counterparts[config.task].state_dict())
    return head


def starts_from_counterpart(model: Model, config: HeadConfig, head: Head) -> bool:
    """Whether a new head has weights to start from: those of a counterpart of its shape."""
    there = config.classes == "data" and config.input == "streams" and config.task in model.counterparts
    return there and model.counterparts[config.task].describe() == head.describe()


class HeadLoss(nn.Module):
    """Model and examples to a scalar loss; one forward, so that data-parallel wrappers can wrap it."""

    def __init__(self, model: Model, config: HeadConfig, classes: list[str]):
        super().__init__()
        self.model, self.config = model, config
        self.head = prepare_head(model, config, classes)
        self.among = positions(self.head.classes, classes) if config.task == "classification" else []

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, and its terms by name."""
        pyramid = batch.tensors
        if self.config.input == "streams":
            pyramid = self.model.neck(batch.tensors, batch.qualities)
        if self.among and self.config.classes == "keep":
            logits = self.head(pyramid).float()[:, self.among]
            targets = torch.tensor(batch.targets, device=logits.device)
            terms = {"classification": nn.functional.cross_entropy(logits, targets)}
            terms["accuracy"] = (logits.argmax(1) == targets).float().mean().detach()
        else:
            terms = self.head.loss(pyramid, batch.targets, batch.sizes)
        if self.config.distill:
            counterpart = self.model.counterpart(self.config.task)
            terms["distillation"] = self.config.distill * counterpart.distillation(pyramid, batch.features).mean()
        loss = sum(term for name, term in terms.items() if name != "accuracy")
        return loss, {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}


def positions(known: list[str], classes: list[str]) -> list[int]:
    """Where the data's classes stand among those that a head knows."""
    found = [class_index(name, known) for name in classes]
    for name, position in zip(classes, found, strict=True):
        if position is None:
            raise ValueError(f"{name!r} names none of the head's classes")
        if found.index(position) < (place := classes.index(name)):
            other = classes[found.index(position)]
            raise ValueError(
                f"{other!r} and {classes[place]!r} both name the head's class {known[position]!r}: put them together"
            )
    return found


@torch.inference_mode()
def calibrate(model: Model, config: CalibrationConfig) -> float:
    """Fit the temperature of the classification head on streams of labeled photographs; gives it."""
    labeled = told(readable(ClassFolders(config.source).every(config.every)))
    head = model.heads["classification"]
    places = positions(head.classes, labeled.classes)
    logits, targets = [], []
    for start in range(0, len(labeled), 32):
        group = [labeled[i] for i in range(start, min(start + 32, len(labeled)))]
        images = [image for image, _ in group]
        logits.append(model.class_logits(model.encode_batch(images, config.quality, layers=("semantic",))))
        targets += [places[target] for _, target in group]
    with torch.inference_mode(False):
        temperature = fit_temperature(torch.cat(logits).clone().cpu(), torch.tensor(targets))
    head.temperature.fill_(temperature)
    return temperature
