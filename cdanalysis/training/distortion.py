"""Which observers a stage asks, and how much each counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..data.images import data_path
from ..observers import LPIPS, MSSSIM, Adversary, FeatureDistance, LPIPSComp, Observer, PatchDiscriminator, SquaredError
from ..registry import OBSERVERS
from ..teachers.imagenet import imagenet_classifier

SIDES = ("both", "human", "machine")


@dataclass
class ObserverConfig:
    """One observer of the reconstruction.

    Attributes:
        kind: "mse", "ms_ssim", "lpips", "lpips_comp", "features" (of an ImageNet classifier), "adversarial" (a
            discriminator that sees the semantic layer, and learns along), or another of `registry.OBSERVERS`.
        weight: what a distortion of 1 counts, where 1 stands for a mean squared error of 1 on pixels in [0, 1].
        side: whose view it is: "human" counts 1 - alpha times, "machine" alpha times, "both" always.
        weights: SqueezeNet's for "lpips" and "lpips_comp", a path below ``CDANALYSIS_DATA`` or absolute; empty to
            download them.
        linear: what every channel counts, for "lpips_comp": a file that ``tools/lpips_comp.py`` wrote.
        network: timm's name of the classifier, for "features".
        layers: its modules whose outputs are compared.
        loss: of an adversary: "hinge" or "non_saturating".
        lr: an adversary's own learning rate; it follows the stage's schedule.
        options: for observers of other packages, what they are told beside.
    """

    kind: str = "mse"
    weight: float = 1.0
    side: str = "both"
    weights: str = ""
    linear: str = ""
    network: str = "tf_efficientnet_lite0"
    layers: list[str] = field(default_factory=lambda: ["blocks.2", "blocks.4", "blocks.6"])
    loss: str = "hinge"
    lr: float = 1e-4
    options: dict[str, Any] = field(default_factory=dict)


def new_observer(config: ObserverConfig, semantic: int) -> Observer | Adversary:
    """The registered observer that a configuration describes; ``semantic`` is the channels of the semantic layer.

    Raises:
        ValueError: if there is no such kind, layer or loss.
        FileNotFoundError: if its weights are not there.
    """
    return OBSERVERS[config.kind](config, semantic)


def squared_error(config: ObserverConfig, semantic: int) -> Observer:
    """Mean squared error."""
    return SquaredError()


def ms_ssim(config: ObserverConfig, semantic: int) -> Observer:
    """1 - MS-SSIM."""
    return MSSSIM()


def lpips(config: ObserverConfig, semantic: int) -> Observer:
    """LPIPS."""
    return LPIPS(config.weights)


def lpips_comp(config: ObserverConfig, semantic: int) -> Observer:
    """LPIPS fitted to preferences."""
    return LPIPSComp(data_path(config.linear), config.weights)


def features(config: ObserverConfig, semantic: int) -> Observer:
    """Distance in a classifier's features."""
    net = imagenet_classifier(config.network)
    options: dict[str, Any] = {name: getattr(net, "pretrained_cfg", {})[name] for name in ("mean", "std")}
    return FeatureDistance(net, config.layers, **options)


def adversarial(config: ObserverConfig, semantic: int) -> Adversary:
    """A discriminator."""
    return Adversary(PatchDiscriminator(semantic), config.loss)


class WeightedDistortion(nn.Module):
    """Several observers and what each counts.

    Args:
        configs: the observers.
        alpha: in [0, 1], from the human observers alone to the machine ones alone.
        semantic: channels of the semantic layer, which an adversary sees.

    Raises:
        ValueError: if nobody looks, or alpha or a side is none.
    """

    def __init__(self, configs: list[ObserverConfig], alpha: float = 0.5, semantic: int = 1):
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
        shares = {"both": 1.0, "human": 1 - alpha, "machine": alpha}
        for config in configs:
            if config.side not in SIDES:
                raise ValueError(f"side must be one of {', '.join(SIDES)}, got {config.side!r}")
        self.asked = [config for config in configs if shares[config.side] * config.weight > 0]
        if not self.asked:
            raise ValueError("no observer has a weight above 0")
        self.counts = [shares[config.side] * config.weight for config in self.asked]
        self.observers = nn.ModuleList(new_observer(config, semantic) for config in self.asked)

    def forward(
        self, original: Tensor, reconstruction: Tensor, weight: Tensor | None, semantic: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total distortion (N,), and each observer's own by its name, as `Observer` takes its arguments.

        ``semantic`` (N, C, h, w) is what an adversary sees of the semantic layer.
        """
        each = {}
        for config, observer in zip(self.asked, self.observers, strict=True):
            if isinstance(observer, Adversary):
                each[config.kind] = observer(reconstruction, semantic, weight).float()
                continue
            with torch.autocast(original.device.type, enabled=False):  # squares lose too much in less than single
                each[config.kind] = observer(original.float(), reconstruction.float(), weight)
        total = torch.stack([count * one for count, one in zip(self.counts, each.values(), strict=True)]).sum(0)
        return total, each

    def adversary_loss(self, original: Tensor, reconstruction: Tensor, semantic: Tensor) -> Tensor | None:
        """Loss, a scalar, of the adversaries themselves, which has no gradients for the codec; None without any."""
        losses = [a.loss_of_its_own(original, reconstruction, semantic).float().mean() for _, a in self.adversaries()]
        return torch.stack(losses).sum() if losses else None

    def adversaries(self) -> list[tuple[ObserverConfig, Adversary]]:
        """The observers that learn."""
        pairs = zip(self.asked, self.observers, strict=True)
        return [(config, observer) for config, observer in pairs if isinstance(observer, Adversary)]
