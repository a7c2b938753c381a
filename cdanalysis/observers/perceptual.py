"""The perceptual observer: distance in features weighted after human judgements."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .base import Observer, weighted_mean


class LPIPS(Observer):
    """Learned perceptual similarity: Zhang, Isola, Efros, Shechtman, Wang (CVPR 2018), on SqueezeNet 1.1.

    The weights after human judgements come with the package ``lpips`` (the extra ``perceptual``).

    Args:
        weights: torchvision's state dict of SqueezeNet 1.1; by default torchvision downloads it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold SqueezeNet 1.1.
        ImportError: if ``lpips`` is not installed.
    """

    def __init__(self, weights: str | Path | None = None):
        super().__init__()
        import lpips
        from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

        if weights is not None and not Path(weights).is_file():
            raise FileNotFoundError(f"no SqueezeNet weights at {weights}")
        trunk = squeezenet1_1(weights=SqueezeNet1_1_Weights.IMAGENET1K_V1 if weights is None else None)
        if weights is not None:
            try:
                trunk.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
            except (RuntimeError, AttributeError, TypeError):
                raise ValueError(f"{weights} does not hold the weights of SqueezeNet 1.1") from None
        self.net = lpips.LPIPS(net="squeeze", pnet_rand=True, spatial=True, verbose=False)
        for part in self.net.net.children():
            for number, layer in part.named_children():
                layer.load_state_dict(trunk.features[int(number)].state_dict())
        self.freeze()

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        return weighted_mean(self.net(original, reconstruction, normalize=True), weight)
