"""ImageNet weights for the frozen backbone and its classifier."""

from __future__ import annotations

import torch
from torch import nn

from ..teachers.imagenet import imagenet_classifier


def load_imagenet(model: nn.Module) -> None:
    """Put ImageNet weights into a model's backbone and, folded, into its classification head."""
    net = imagenet_classifier(model.codec.config.backbone)
    model.codec.backbone.load(net.state_dict())
    head = model.heads["classification"]
    scale = net.bn2.weight / torch.sqrt(net.bn2.running_var + net.bn2.eps)
    head.expand.weight.data.copy_(net.conv_head.weight * scale[:, None, None, None])
    head.expand.bias.data.copy_(net.bn2.bias - net.bn2.running_mean * scale)
    head.classify.load_state_dict(net.classifier.state_dict())
