"""The observers of a stage, and the weighted sum of their distortions."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..configs import check_known
from ..data.images import data_path
from ..observers import (
    LPIPS,
    MSSSIM,
    Adversary,
    Checkerboard,
    FeatureDistance,
    LowPass,
    LPIPSComp,
    Observer,
    PatchDiscriminator,
    SquaredError,
    Texture,
    UnitFeatureDistance,
    WassersteinDistortion,
)
from ..observers.semantic import Layers
from ..registry import OBSERVERS
from ..teachers.imagenet import imagenet_classifier

SIDES = ("both", "human", "machine", "realism")
OPTIONS = {
    "checkerboard": ("period", "cells", "least"),
    "low_pass": ("windows", "chroma"),
    "texture": ("window", "pooled", "least"),
    "wasserstein": ("window",),
}
"""Of this library's observers, those that have any."""


@dataclass
class ObserverConfig:
    """One observer of the reconstruction.

    Attributes:
        kind: "mse", "ms_ssim", "low_pass", "texture" and "checkerboard" (of pixels), "lpips", "lpips_comp", "features",
            "unit_features" and "wasserstein" (of an ImageNet classifier), "adversarial" (a discriminator, trained
            along, conditioned on the spatial layer where the codec is fused, else on the detail layer), or another of
            `registry.OBSERVERS`.
        weight: of its distortion, at least 0; a weight of 1 on "mse" is the mean squared error of pixels in [0, 1].
        side: "human" is multiplied by 1 - alpha, "machine" by alpha, "both" by 1, "realism" by the realism at which
            a crop is decoded, in a stage that trains ``codec.synthesis.realism``.
        weights: SqueezeNet's, for "lpips" and "lpips_comp", absolute or below ``CDANALYSIS_DATA``; empty to download
            them.
        linear: channel weights, for "lpips_comp": a file that ``tools/lpips_comp.py`` wrote.
        network: timm's name of the classifier, for "features" and its like.
        layers: its modules whose outputs are compared.
        loss: of an adversary: "hinge" or "non_saturating".
        lr: learning rate of an adversary; it follows the stage's schedule.
        options: further arguments: "window" of "wasserstein"; "window", "pooled" and "least" of "texture"; "period",
            "cells" and "least" of "checkerboard"; "windows" and "chroma" of "low_pass"; whatever observers of other
            packages take.
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


def new_observer(config: ObserverConfig, spatial: int) -> Observer | Adversary:
    """Make a registered observer.

    Args:
        config: describes it.
        spatial: channels of the layer on which an adversary is conditioned.

    Raises:
        ValueError: if there is no such kind, layer, loss or option.
        FileNotFoundError: if its weights do not exist.
    """
    make = OBSERVERS[config.kind]
    if make.__module__ == __name__:
        check_known(f"observer {config.kind!r}", "option", config.options, OPTIONS.get(config.kind, ()))
    return make(config, spatial)


def squared_error(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "mse": mean squared error.

    Args:
        config: not used.
        spatial: channels of the spatial layer; not used.
    """
    return SquaredError()


def ms_ssim(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "ms_ssim": 1 - MS-SSIM.

    Args:
        config: not used.
        spatial: channels of the spatial layer; not used.
    """
    return MSSSIM()


def lpips(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "lpips": LPIPS on SqueezeNet.

    Args:
        config: its ``weights`` are used.
        spatial: channels of the spatial layer; not used.

    Raises:
        FileNotFoundError: if its weights do not exist.
        ValueError: if they are of another network.
    """
    return LPIPS(config.weights)


def lpips_comp(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "lpips_comp": LPIPS fitted to preferences between compressed images.

    Args:
        config: its ``linear`` and ``weights`` are used.
        spatial: channels of the spatial layer; not used.

    Raises:
        FileNotFoundError: if its weights do not exist.
        ValueError: if they are of another network.
    """
    return LPIPSComp(data_path(config.linear), config.weights)


def features(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "features": distance in the features of an ImageNet classifier.

    Args:
        config: its ``network`` and ``layers`` are used.
        spatial: channels of the spatial layer; not used.

    Raises:
        FileNotFoundError: if the network's weights cannot be had.
        ValueError: if it has no such layer.
    """
    return _of_a_classifier(FeatureDistance, config)


def unit_features(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "unit_features": distance between the features of an ImageNet classifier, each of unit length.

    Args:
        config: its ``network`` and ``layers`` are used.
        spatial: channels of the spatial layer; not used.

    Raises:
        FileNotFoundError: if the network's weights cannot be had.
        ValueError: if it has no such layer.
    """
    return _of_a_classifier(UnitFeatureDistance, config)


def wasserstein(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "wasserstein": distance of local statistics of the features of an ImageNet classifier.

    Args:
        config: its ``network`` and ``layers`` are used, and the ``window`` of its ``options``.
        spatial: channels of the spatial layer; not used.

    Raises:
        FileNotFoundError: if the network's weights cannot be had.
        ValueError: if it has no such layer.
    """
    return _of_a_classifier(WassersteinDistortion, config)


def low_pass(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "low_pass": squared error of local means.

    Args:
        config: ``windows`` and ``chroma`` of its ``options`` are used.
        spatial: channels of the spatial layer; not used.

    Raises:
        ValueError: for windows or a ``chroma`` that cannot be.
    """
    return LowPass(**config.options)


def texture(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "texture": difference of local power spectra.

    Args:
        config: ``window``, ``pooled`` and ``least`` of its ``options`` are used.
        spatial: channels of the spatial layer; not used.
    """
    return Texture(**config.options)


def checkerboard(config: ObserverConfig, spatial: int) -> Observer:
    """The observer "checkerboard": error of what repeats itself with the decoder's grid, beside its surface.

    Args:
        config: ``period``, ``cells`` and ``least`` of its ``options`` are used.
        spatial: channels of the spatial layer; not used.

    Raises:
        ValueError: for a period or cells below 2.
    """
    return Checkerboard(**config.options)


def _of_a_classifier(observer: type[FeatureDistance], config: ObserverConfig) -> Observer:
    net = imagenet_classifier(config.network)
    options: dict[str, Any] = {name: getattr(net, "pretrained_cfg", {})[name] for name in ("mean", "std")}
    return observer(net, config.layers, **options, **config.options)


def adversarial(config: ObserverConfig, spatial: int) -> Adversary:
    """The observer "adversarial": a discriminator.

    Args:
        config: its ``loss`` is used.
        spatial: channels of the layer on which the discriminator is conditioned.

    Raises:
        ValueError: for an unknown loss.
    """
    return Adversary(PatchDiscriminator(spatial), config.loss)


class WeightedDistortion(nn.Module):
    """The weighted sum of the distortions of several observers.

    Args:
        configs: the observers; those of weight 0 are not made.
        alpha: in [0, 1], from human observers alone to machine observers alone.
        spatial: channels of the layer on which an adversary is conditioned.

    Raises:
        ValueError: if no observer has a weight above 0, or ``alpha`` or a side is invalid; also as `new_observer`.
        FileNotFoundError: as `new_observer`.
    """

    def __init__(self, configs: list[ObserverConfig], alpha: float = 0.5, spatial: int = 1):
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        shares = {"both": 1.0, "human": 1 - alpha, "machine": alpha, "realism": 1.0}
        for config in configs:
            if config.side not in SIDES:
                raise ValueError(f"side must be one of {', '.join(SIDES)}, got {config.side!r}")
        self.asked = [config for config in configs if shares[config.side] * config.weight > 0]
        if not self.asked:
            raise ValueError("no observer has a weight above 0: set the weight of one, or alpha between 0 and 1")
        self.counts = [shares[config.side] * config.weight for config in self.asked]
        self.observers = nn.ModuleList(new_observer(config, spatial) for config in self.asked)
        kinds = [config.kind for config in self.asked]
        earlier = [kinds[:place].count(kind) for place, kind in enumerate(kinds)]
        self.names = [f"{kind} {n + 1}" if n else kind for kind, n in zip(kinds, earlier, strict=True)]
        self.networks = self._shared_networks()

    def _shared_networks(self) -> list[Layers]:
        """Networks of this library's observers: one for all that look through the same."""
        networks: dict[str, Layers] = {}
        for config, observer in zip(self.asked, self.observers, strict=True):
            if isinstance(observer, FeatureDistance) and OBSERVERS[config.kind].__module__ == __name__:
                observer.share(networks.setdefault(config.network, observer.net))
        return list(networks.values())

    def forward(
        self,
        original: Tensor,
        reconstruction: Tensor,
        weight: Tensor | None,
        spatial: Tensor | None = None,
        realism: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total distortion, and that of each observer.

        Args:
            original: (N, 3, H, W) in [0, 1].
            reconstruction: (N, 3, H, W).
            weight: (N, 1, h, w), spatial weights, see `Observer`; None for equal weights.
            spatial: what an adversary is told (N, C, h, w): y_hat of the spatial layer on the detail layer's grid, or
                where the codec is not fused the detail layer's dequantized latents.
            realism: of each reconstruction (N,); None for 0.

        Returns:
            the weighted sum (N,), and each observer's unweighted distortion (N,) by its kind; the second of a kind
            is "KIND 2", and so on.
        """
        each, exact, seen = {}, original.float(), reconstruction.float()
        with ExitStack() as looks:
            for network in self.networks:
                looks.enter_context(network.once())
            for name, observer in zip(self.names, self.observers, strict=True):
                if isinstance(observer, Adversary):
                    each[name] = observer(reconstruction, spatial, weight).float()
                    continue
                with torch.autocast(original.device.type, enabled=False):  # squares lose too much in less than single
                    each[name] = observer(exact, seen, weight)
        parts = zip(self.asked, self.counts, each.values(), strict=True)
        shares = [_by_realism(config, count * one, realism) for config, count, one in parts]
        return torch.stack(shares).sum(0), each

    def adversary_loss(
        self, original: Tensor, reconstruction: Tensor, spatial: Tensor, realism: Tensor | None = None
    ) -> Tensor | None:
        """The loss of the discriminators, without gradients for the codec.

        Args:
            original: (N, 3, H, W) in [0, 1].
            reconstruction: (N, 3, H, W).
            spatial: as `forward` takes it.
            realism: as `forward` takes it; on the side "realism" a reconstruction counts by it.

        Returns:
            a scalar, or None if there is no adversary.
        """
        losses = []
        for config, adversary in self.adversaries():
            own = adversary.loss_of_its_own(original, reconstruction, spatial).float()
            losses.append(_by_realism(config, own, realism).mean())
        return torch.stack(losses).sum() if losses else None

    def adversary_pull(
        self, total: Tensor, each: dict[str, Tensor], reconstruction: Tensor, realism: Tensor | None = None
    ) -> Tensor:
        """How hard adversaries pull at reconstructions, beside all other observers: it tells whether they act.

        Args:
            total: the weighted sum that `forward` gave for it.
            each: the distortions that `forward` gave for it.
            reconstruction: (N, 3, H, W), on which both depend.
            realism: as `forward` takes it.

        Returns:
            the norm of the adversaries' gradient over that of the others', a scalar.
        """
        adverse = [
            _by_realism(config, count * each[name], realism).sum()
            for config, count, name, observer in zip(self.asked, self.counts, self.names, self.observers, strict=True)
            if isinstance(observer, Adversary)
        ]
        sums = (total.sum(), torch.stack(adverse).sum())
        whole, theirs = (torch.autograd.grad(x, reconstruction, retain_graph=True)[0].float() for x in sums)
        return theirs.norm() / (whole - theirs).norm().clamp_min(1e-12)

    def adversaries(self) -> list[tuple[ObserverConfig, Adversary]]:
        """The adversaries among the observers, with their configurations."""
        pairs = zip(self.asked, self.observers, strict=True)
        return [(config, observer) for config, observer in pairs if isinstance(observer, Adversary)]


def _by_realism(config: ObserverConfig, values: Tensor, realism: Tensor | None) -> Tensor:
    """Values of reconstructions (N,) as they count: on the side "realism" by that of each, which is 0 if not given."""
    if config.side != "realism":
        return values
    return values * (0.0 if realism is None else realism)
