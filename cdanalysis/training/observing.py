"""Which observers a stage asks, and how much each counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..data.photographs import data_path
from ..observers import LPIPS, MSSSIM, FeatureDistance, Observer, SquaredError
from .pretrained import imagenet_classifier

KINDS = ("mse", "ms_ssim", "lpips", "features")
SIDES = ("both", "human", "machine")


@dataclass
class ObserverConfig:
    """One observer of the reconstruction.

    Attributes:
        kind: "mse", "ms_ssim", "lpips" or "features" (of an ImageNet classifier).
        weight: what a distortion of 1 counts, where 1 stands for a mean squared error of 1 on pixels in [0, 1].
        side: whose view it is: "human" counts 1 - alpha times, "machine" alpha times, "both" always.
        weights: SqueezeNet's weights for "lpips", a path below ``CDANALYSIS_DATA`` or absolute; empty to download them.
        network: timm's name of the classifier, for "features".
        layers: its modules whose outputs are compared.
    """

    kind: str = "mse"
    weight: float = 1.0
    side: str = "both"
    weights: str = ""
    network: str = "tf_efficientnet_lite0"
    layers: list[str] = field(default_factory=lambda: ["blocks.2", "blocks.4", "blocks.6"])


def new_observer(config: ObserverConfig) -> Observer:
    """The observer that a configuration describes.

    Raises:
        ValueError: if there is no such kind or layer.
        FileNotFoundError: if its weights are not there.
    """
    if config.kind == "mse":
        return SquaredError()
    if config.kind == "ms_ssim":
        return MSSSIM()
    if config.kind == "lpips":
        return LPIPS(data_path(config.weights) if config.weights else None)
    if config.kind == "features":
        net = imagenet_classifier(config.network)
        options: dict[str, Any] = {name: getattr(net, "pretrained_cfg", {})[name] for name in ("mean", "std")}
        return FeatureDistance(net, config.layers, **options)
    raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {config.kind!r}")


class Panel(nn.Module):
    """Several observers and what each counts.

    Args:
        configs: the observers.
        alpha: in [0, 1], from the human observers alone to the machine ones alone.

    Raises:
        ValueError: if nobody looks, or alpha or a side is none.
    """

    def __init__(self, configs: list[ObserverConfig], alpha: float = 0.5):
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
        shares = {"both": 1.0, "human": 1 - alpha, "machine": alpha}
        for config in configs:
            if config.side not in SIDES:
                raise ValueError(f"side must be one of {', '.join(SIDES)}, got {config.side!r}")
        asked = [config for config in configs if shares[config.side] * config.weight > 0]
        if not asked:
            raise ValueError("no observer has a weight above 0")
        self.names = [config.kind for config in asked]
        self.counts = [shares[config.side] * config.weight for config in asked]
        self.observers = nn.ModuleList(new_observer(config) for config in asked)

    def forward(
        self, original: Tensor, reconstruction: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total distortion (N,), and each observer's own by its name, as `Observer` takes its arguments."""
        each = [observer(original, reconstruction, weight) for observer in self.observers]
        total = torch.stack([count * one for count, one in zip(self.counts, each, strict=True)]).sum(0)
        return total, dict(zip(self.names, each, strict=True))
