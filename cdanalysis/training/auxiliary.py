"""Auxiliary tasks: labeled crops in a stage that trains the codec, so that heads can learn along with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.labeled import LabeledSource
from ..model import Model
from ..structures.targets import Target
from .heads import positions


@dataclass
class AuxiliaryConfig:
    """What a stage of the codec teaches the head of a task, by the labels of photographs.

    Attributes:
        task: classification, detection, segmentation, or another that a head is registered for.
        sources: labeled sets, all with the same classes, which the head must know.
        batch: labeled crops a step, over all processes; their rate and reconstruction count like any crop's.
        weight: of the head's loss in the objective.
    """

    task: str = "classification"
    sources: list[LabeledSource] = field(default_factory=list)
    batch: int = 4
    weight: float = 1.0


@dataclass
class CropBatch:
    """Photographs (N, 3, H, W), uint8, and the auxiliary targets of some of them."""

    images: Tensor
    auxiliary: list[AuxiliaryTargets] = field(default_factory=list)

    def pixels(self) -> Tensor:
        """The photographs in [0, 1]; made late, because mixed precision rounds the numbers that a step is given."""
        return self.images.float() / 255


@dataclass
class AuxiliaryTargets:
    """Targets of the photographs ``first`` to ``first + len(targets)`` of a batch."""

    task: str
    first: int
    targets: list[Target]


class AuxiliaryLoss(nn.Module):
    """The loss of one head on its auxiliary task.

    Args:
        model: which has a head for the task.
        config: the task.
        classes: of the data.

    Raises:
        ValueError: if there is no such head, or it does not know the classes.
    """

    places: Tensor

    def __init__(self, model: Model, config: AuxiliaryConfig, classes: list[str]):
        super().__init__()
        if config.task not in model.heads:
            raise ValueError(f"there is no {config.task} head to train")
        self.head, self.weight = model.heads[config.task], config.weight
        self.register_buffer("places", torch.tensor(positions(self.head.classes, classes)), persistent=False)
        if config.task == "segmentation" and self.places.tolist() != list(range(len(self.head.classes))):
            raise ValueError("the segmentation head has other classes than the data")

    def forward(self, pyramid: list[Tensor], auxiliary: AuxiliaryTargets, side: int) -> Tensor:
        """The head's loss, a scalar, from the pyramid of all photographs of a batch, ``side`` pixels wide and high."""
        rows = slice(auxiliary.first, auxiliary.first + len(auxiliary.targets))
        pyramid = [feature[rows].float() for feature in pyramid]
        if auxiliary.task == "classification":  # among the data's classes; what else the head knows stays as it is
            labels = torch.tensor(auxiliary.targets, device=self.places.device)
            return self.weight * F.cross_entropy(self.head(pyramid).float()[:, self.places], labels)
        targets = [target.to(self.places.device).relabeled(self.places) for target in auxiliary.targets]
        losses = self.head.loss(pyramid, targets, [(side, side)] * len(targets))
        return self.weight * reduce(torch.add, losses.values())
