"""ImageNet weights for the frozen backbone and its classifier."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ..heads.classification import ClassificationHead
from ..model import Model
from ..teachers.imagenet import imagenet_classifier


def load_imagenet(model: Model) -> None:
    """Load ImageNet weights into a model's backbone and, with batch norms folded, into its classification head.

    Args:
        model: changed in place.

    Raises:
        FileNotFoundError: if the weights cannot be had, see `cdanalysis.teachers.imagenet_classifier`.
    """
    net: Any = imagenet_classifier(model.codec.config.backbone)
    model.codec.backbone.load(net.state_dict())
    head = cast(ClassificationHead, model.heads["classification"])
    scale = net.bn2.weight / torch.sqrt(net.bn2.running_var + net.bn2.eps)
    head.expand.weight.data.copy_(net.conv_head.weight * scale[:, None, None, None])
    cast(Tensor, head.expand.bias).data.copy_(net.bn2.bias - net.bn2.running_mean * scale)
    head.classify.load_state_dict(net.classifier.state_dict())
