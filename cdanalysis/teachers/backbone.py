"""timm's networks as teachers of the spatial layer: their own features at strides 8, 16 and 32."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ..blocks import fold_batch_norms
from ..faults import named_line
from .base import Frozen, check_sides
from .classifier import drawn_input, folding_keeps
from .imagenet import imagenet_classifier
from .nanodet import DetectorFeatures

WANTED = (8, 16, 32)
"""Strides of the features that the spatial layer carries."""
TRIED = (96, 64)
"""Rows and columns of what networks are tried on."""


class Levels(NamedTuple):
    """Which of a network's features lie at the strides of ``WANTED``: their indices, as ``out_indices`` takes them,
    their channels, whether the channels come last, and whether batch norms can be folded without changing them."""

    indices: tuple[int, ...]
    channels: tuple[int, ...]
    channels_last: bool
    folds: bool


class Backbone(Frozen):
    """One of timm's networks with ``features_only``: its features at strides 8, 16 and 32 and, pooled, 64.

    Batch norms are folded where that changes nothing. The weights are random until `load`.

    Args:
        name: timm's name of the network.

    Attributes:
        PYRAMID: channels of the features at strides 8 to 64.

    Raises:
        ValueError: if timm has no such network, or it cannot be a teacher of the spatial layer.
    """

    def __init__(self, name: str):
        levels = levels_of(name)
        net = _features_of(name, levels.indices)
        mean, deviation = ([255 * value for value in net.pretrained_cfg[key]] for key in ("mean", "std"))
        super().__init__(mean, deviation)
        self.name, self.net, self.levels = name, net, levels
        self.PYRAMID = (*levels.channels, levels.channels[-1])
        self.folds = levels.folds
        if self.folds:
            fold_batch_norms(net)
        self.freeze()

    def forward(self, pixels: Tensor) -> DetectorFeatures:
        """The features of photographs; ``backbone`` is empty.

        Args:
            pixels: RGB (N, 3, H, W) in 0..255, uint8 or float.

        Returns:
            ``pyramid``: (N, c, H / s, W / s), s = 8 to 64, sides rounded up, with the channels of ``PYRAMID``.

        Raises:
            ValueError: for another shape, or a side that is not a multiple of 32.
        """
        x = self.normalized(pixels)
        check_sides(x)
        fine, middle, coarse = _maps(self.net, x, self.levels.channels_last)
        coarsest = F.avg_pool2d(coarse, 2, ceil_mode=True, count_include_pad=False)
        return DetectorFeatures((fine, middle, coarse, coarsest), ())

    def load(self, weights: str | Path | Mapping[str, Tensor] | None = None) -> Backbone:
        """Load weights.

        Args:
            weights: of the whole classifier, by timm's names: a safetensors file, absolute or below
                ``CDANALYSIS_DATA``, or its tensors; by default ImageNet's, as `imagenet_classifier` has them.

        Returns:
            the network.

        Raises:
            FileNotFoundError: if there are none.
            ValueError: if they are of another network.
        """
        return super().load(imagenet_classifier(self.name).state_dict() if weights is None else weights)

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """As `Frozen.take`.

        Args:
            weights: of the whole classifier under timm's names, batch norms not folded.

        Raises:
            RuntimeError: if they do not fit.
        """
        timm.create_model(self.name, pretrained=False).load_state_dict(weights)  # timm lets others pass, below
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
            file = {"file": str(path)}
            with _quiet():  # it names the classifier's last layers, which features do without
                net = _features_of(self.name, self.levels.indices, pretrained=True, pretrained_cfg_overlay=file)
        if self.folds:
            fold_batch_norms(net)
        self.net.load_state_dict(net.state_dict())


@contextmanager
def _quiet() -> Iterator[None]:
    """In here timm says nothing of weights that it leaves out."""
    log = logging.getLogger("timm.models._builder")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _features_of(name: str, indices: tuple[int, ...] | None, pretrained: bool = False, **settings: Any) -> Any:
    if indices is not None:
        settings["out_indices"] = indices
    with torch.random.fork_rng(devices=[]):
        return timm.create_model(name, pretrained=pretrained, features_only=True, **settings).eval()


def _maps(net: Any, x: Tensor, channels_last: bool) -> list[Tensor]:
    found = net(x)
    return [level.permute(0, 3, 1, 2) for level in found] if channels_last else list(found)


@lru_cache
def levels_of(name: str) -> Levels:
    """Which features of a network the spatial layer carries; what is found is kept.

    Args:
        name: timm's name of the network.

    Raises:
        ValueError: if there is no such network, or it cannot serve; the message says why.
    """
    refusal = f"{name!r} cannot be the spatial layer's teacher"
    if not timm.is_model(name):
        raise ValueError(f"{refusal}: it is neither registered as a teacher nor one of timm's networks")
    try:
        net = _features_of(name, None)
    except Exception as error:  # of many kinds: each family of networks has its own
        raise ValueError(f"{refusal}: timm makes no feature extractor of it ({named_line(error)})") from None
    config, info = net.pretrained_cfg, net.feature_info
    if config.get("fixed_input_size"):
        rows, columns = config["input_size"][1:]
        raise ValueError(f"{refusal}: it takes photographs of {columns}x{rows} pixels alone")
    if config["input_size"][0] != len(config["mean"]) or len(config["mean"]) != 3:
        raise ValueError(f"{refusal}: it takes images of {config['input_size'][0]} channels, not RGB")
    strides, places = list(info.reduction()), list(info.out_indices)
    at = {stride: number for number, stride in enumerate(strides)}  # the last one, where several have a stride
    if lacking := [stride for stride in WANTED if stride not in at]:
        raise ValueError(
            f"{refusal}: its features have strides {_listed(strides)}, and the layer carries {_listed(WANTED)}: it "
            f"lacks {_listed(lacking)}"
        )
    last = [at[stride] for stride in WANTED]
    indices, channels = tuple(places[n] for n in last), tuple(info.channels()[n] for n in last)
    return Levels(indices, channels, *_tried(name, refusal, indices, channels))


@torch.no_grad()
def _tried(name: str, refusal: str, indices: tuple[int, ...], channels: tuple[int, ...]) -> tuple[bool, bool]:
    """Whether channels come last in a network's features, and batch norms can be folded; by a drawn photograph."""
    net, photograph = _features_of(name, indices), drawn_input(TRIED)
    try:
        found = [tuple(level.shape[1:]) for level in net(photograph)]
    except Exception as error:
        raise ValueError(f"{refusal}: it fails on a photograph of 64x96 pixels ({named_line(error)})") from None
    grids = [(TRIED[0] // stride, TRIED[1] // stride) for stride in WANTED]
    for last in (False, True):
        if found == [(*g, c) if last else (c, *g) for g, c in zip(grids, channels, strict=True)]:
            return last, folding_keeps(net, lambda: net(photograph))
    raise ValueError(f"{refusal}: its features have the shapes {found}, which are not those of its strides")


def _listed(strides: Any) -> str:
    return ", ".join(map(str, strides))
