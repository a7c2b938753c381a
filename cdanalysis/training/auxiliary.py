"""Auxiliary tasks: labeled crops in a stage that trains the codec, so that heads are trained jointly with it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.labeled import LabeledSource
from ..model import Model
from ..structures.features import Features
from ..structures.targets import Target
from .heads import positions


@dataclass
class AuxiliaryConfig:
    """A head that a stage trains jointly with the codec, on labeled photographs.

    Attributes:
        task: classification, detection, segmentation, or another task with a registered head.
        sources: labeled sets, all with the same classes, which the head must have.
        batch: labeled crops per step, over all processes; their rate and distortion count as those of other crops.
        weight: weight of the head's loss in the objective, at least 0.
    """

    task: str = "classification"
    sources: list[LabeledSource] = field(default_factory=list)
    batch: int = 4
    weight: float = 1.0


@dataclass
class CropBatch:
    """A batch of crops.

    Attributes:
        images: (N, 3, H, W) uint8.
        auxiliary: targets of the labeled ones among them.
    """

    images: Tensor
    auxiliary: list[AuxiliaryTargets] = field(default_factory=list)

    def pixels(self) -> Tensor:
        """The crops as float32 in [0, 1]. Converted late: mixed precision would round the inputs of a step."""
        return self.images.float() / 255


@dataclass
class AuxiliaryTargets:
    """Targets of the crops ``first`` to ``first + len(targets)`` of a batch.

    Attributes:
        task: of the targets.
        first: index of the first crop.
        targets: one per crop.
    """

    task: str
    first: int
    targets: list[Target]


class AuxiliaryLoss(nn.Module):
    """The loss of one head on its auxiliary task.

    Args:
        model: must have a head for the task.
        config: the task.
        classes: class names of the data.

    Raises:
        ValueError: if there is no such head, it does not know the classes, or it reads the detail layer.
    """

    places: Tensor

    def __init__(self, model: Model, config: AuxiliaryConfig, classes: list[str]):
        super().__init__()
        if config.task not in model.heads:
            raise ValueError(f"the auxiliary task {config.task} cannot be trained: the model has no {config.task} head")
        self.head, self.weight = model.heads[config.task], config.weight
        if "detail" in self.head.layers:
            raise ValueError(f"the {config.task} head reads the detail layer, so it cannot learn from crops")
        self.register_buffer("places", torch.tensor(positions(self.head.classes, classes)), persistent=False)
        if config.task == "segmentation" and self.places.tolist() != list(range(len(self.head.classes))):
            raise ValueError("the segmentation head has other classes than the data, or in another order")

    def forward(self, features: Features, auxiliary: AuxiliaryTargets, side: int) -> Tensor:
        """The head's loss, weighted.

        Args:
            features: of all crops of a batch.
            auxiliary: the targets, in pixels of the crops, and whose they are.
            side: width and height of the crops, in pixels.

        Returns:
            a scalar.
        """
        features = features[auxiliary.first : auxiliary.first + len(auxiliary.targets)].to(torch.float32)
        if auxiliary.task == "classification":  # among the data's classes; what else the head knows stays as it is
            targets = torch.tensor(auxiliary.targets, device=self.places.device)
            return self.weight * F.cross_entropy(self.head(features).float()[:, self.places], targets)
        height, width = features.working
        targets = [target.relabeled(self.places.cpu()) for target in auxiliary.targets]
        targets = [target.scaled(width / side, height / side).to(self.places.device) for target in targets]
        return self.weight * sum(self.head.loss(features, targets).values())
