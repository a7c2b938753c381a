"""Perceptual observers: distances in a network's features, weighted after human judgments of similarity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..data.images import data_path
from ..files import read_tensors
from .base import Observer, weighted_mean

if TYPE_CHECKING:
    from torchvision.models import SqueezeNet


def squeezenet(weights: str | Path | None = None) -> SqueezeNet:
    """SqueezeNet 1.1 with its ImageNet weights.

    Args:
        weights: file of its state dict, absolute or below ``CDANALYSIS_DATA``; by default torchvision downloads them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold SqueezeNet 1.1.
    """
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    try:
        path = data_path(str(weights)) if weights else None
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no SqueezeNet weights: {error}") from None
    net = squeezenet1_1(weights=None if path else SqueezeNet1_1_Weights.IMAGENET1K_V1)
    if path:
        try:
            net.load_state_dict(read_tensors(path))
        except (RuntimeError, AttributeError, TypeError):
            raise ValueError(f"{weights} does not hold the weights of SqueezeNet 1.1") from None
    return net


class LPIPS(Observer):
    """LPIPS on SqueezeNet 1.1: Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features
    as a perceptual metric" (CVPR 2018).

    The linear weights, fitted to human judgments, are those of the package ``lpips`` (the extra ``perceptual``).

    Args:
        weights: path of torchvision's state dict of SqueezeNet 1.1, as given or below ``CDANALYSIS_DATA``; by default
            torchvision downloads it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold SqueezeNet 1.1.
        ImportError: if ``lpips`` is not installed.
    """

    def __init__(self, weights: str | Path | None = None):
        super().__init__()
        import lpips

        trunk = squeezenet(weights)
        self.net = lpips.LPIPS(net="squeeze", pnet_rand=True, spatial=True, verbose=False)
        for part in self.net.net.children():
            for number, layer in part.named_children():
                layer.load_state_dict(trunk.features[int(number)].state_dict())
        self.freeze()

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        """As `Observer.forward`."""
        return weighted_mean(self.map(original, reconstruction), weight)

    def map(self, original: Tensor, reconstruction: Tensor) -> Tensor:
        """The distance at every pixel.

        Args:
            original: (N, 3, H, W) in [0, 1].
            reconstruction: (N, 3, H, W).

        Returns:
            (N, 1, H, W), at least 0.
        """
        return self.net(original, reconstruction, normalize=True)

    def channels(self, original: Tensor, reconstruction: Tensor) -> Tensor:
        """The mean squared difference of every channel of every layer; `linear_weights` are their weights.

        Args:
            original: (N, 3, H, W) in [0, 1].
            reconstruction: (N, 3, H, W).

        Returns:
            (N, C), C the channels of all layers, at least 0.
        """
        scaled = [self.net.scaling_layer(2 * image - 1) for image in (original, reconstruction)]
        pairs = zip(*(self.net.net(image) for image in scaled), strict=True)
        return torch.cat([(F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().mean((2, 3)) for a, b in pairs], 1)

    @property
    def linear_weights(self) -> Tensor:
        """The weight of each channel, (C,), at least 0.

        Others can be set; a `ValueError` is raised where one is negative, or where their shape is another.
        """
        return torch.cat([layer.model[-1].weight.detach().flatten() for layer in self.net.lins])

    @linear_weights.setter
    def linear_weights(self, weights: Tensor) -> None:
        layers = [layer.model[-1].weight for layer in self.net.lins]
        if weights.shape != (sum(layer.numel() for layer in layers),) or not bool((weights >= 0).all()):
            raise ValueError(f"linear_weights must be at least 0 and of shape {tuple(self.linear_weights.shape)}")
        for layer, part in zip(layers, weights.split([layer.numel() for layer in layers]), strict=True):
            layer.data.copy_(part.reshape(layer.shape))


class LPIPSComp(LPIPS):
    """LPIPS with linear weights fitted to preferences between compressed images: Patel, Appalaraju, Manmatha, "Saliency
    driven perceptual image compression" (WACV 2021).

    Args:
        linear: path of a safetensors file with the channel weights, which ``tools/lpips_comp.py`` writes.
        weights: as of `LPIPS`.

    Raises:
        FileNotFoundError: if one of the files does not exist.
        ValueError: if one of them has other content.
        ImportError: if ``lpips`` is not installed.
    """

    def __init__(self, linear: str | Path, weights: str | Path | None = None):
        super().__init__(weights)
        if not Path(linear).is_file():
            raise FileNotFoundError(f"no channel weights at {linear}; tools/lpips_comp.py fits them")
        try:
            self.linear_weights = load_file(linear)["linear"]
        except (SafetensorError, KeyError):
            raise ValueError(f"{linear} does not hold channel weights of LPIPS-Comp") from None
