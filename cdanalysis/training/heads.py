"""Heads: made for the classes of a data set, trained on examples, calibrated."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from ..data.labeled import ClassFolders
from ..data.labels import class_index
from ..data.readable import readable
from ..heads.base import Head
from ..heads.classification import fit_temperature
from ..model import Model
from .head_data import Batch, HeadConfig


@dataclass
class CalibrationConfig:
    """Temperature of the classification head, fitted on photographs in class folders.

    Attributes:
        source: photographs in folders named by class or WordNet id; empty for no calibration.
        every: use every ``every``-th photograph: those that an equal ``HeadConfig.holdout`` leaves out of training.
        quality: of the semantic layer, in [0, 1].
    """

    source: str = ""
    every: int = 10
    quality: float = 0.5


def prepare_head(model: Model, config: HeadConfig, classes: list[str]) -> Head:
    """The head that a stage trains: the existing one, or a new one, initialized from its counterpart if that fits.

    Args:
        model: the head is put into it.
        config: of the stage.
        classes: class names of the data.

    Raises:
        ValueError: if ``classes`` is "keep" and there is no such head, or it lacks classes; for an invalid option.
    """
    heads = model.counterparts if config.input == "features" else model.heads
    if config.classes == "keep":
        if config.task not in model.heads:
            raise ValueError(f"classes: keep needs a {config.task} head, and the model has none; use classes: data")
        if config.task not in model.counterparts:  # from here on the two differ
            model.counterparts[config.task] = copy.deepcopy(model.heads[config.task])
        if config.task == "classification":
            positions(heads[config.task].classes, classes)
        elif heads[config.task].classes != classes:
            raise ValueError(
                f"the {config.task} head has other classes than the data, or in another order: use classes: data"
            )
        return heads[config.task]
    if config.classes != "data":
        raise ValueError(f"classes must be 'data' or 'keep', got {config.classes!r}")
    head = heads[config.task] = model.new_head(config.task, classes=list(classes), **config.options)
    if config.input == "streams" and config.task in model.counterparts:
        counterpart = model.counterparts[config.task]
        if counterpart.describe() == head.describe():
            head.load_state_dict(counterpart.state_dict())
    return head


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
        self.head = prepare_head(model, config, classes)
        self.among = positions(self.head.classes, classes) if config.task == "classification" else []

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch.

        Args:
            batch: examples.
            step: of the stage; not used.

        Returns:
            the scalar loss, and its terms by name, detached.
        """
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
        loss = reduce(torch.add, (term for name, term in terms.items() if name != "accuracy"))
        return loss, {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}


def positions(known: list[str], classes: list[str]) -> list[int]:
    """Indices of the data's classes among those of a head.

    Args:
        known: class names of the head.
        classes: class names of the data, or WordNet ids, see `cdanalysis.data.labels.class_index`.

    Raises:
        ValueError: if the head lacks a class.

    >>> positions(["cat", "dog", "horse"], ["Horse", "cat"])
    [2, 0]
    """
    found = []
    for name in classes:
        position = class_index(name, known)
        if position is None:
            raise ValueError(f"the class {name!r} of the data is not among the head's classes")
        found.append(position)
    return found


@torch.inference_mode()
def calibrate(model: Model, config: CalibrationConfig) -> float:
    """Fit the temperature of the classification head on streams of labeled photographs (Guo and others, ICML 2017).

    Args:
        model: its head gets the temperature.
        config: the photographs.

    Returns:
        the temperature, by which logits are divided, in [0.01, 100].

    Raises:
        FileNotFoundError: if the photographs do not exist.
        ValueError: if they are not in class folders, or the head lacks a class.
    """
    labeled, _ = readable(ClassFolders(config.source).every(config.every))
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
    cast(Tensor, head.temperature).fill_(temperature)
    return temperature
