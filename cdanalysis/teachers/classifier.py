"""timm's classifiers as teachers: the pooled embedding of a photograph, which their last layer reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..blocks import fold_batch_norms
from ..faults import named_line
from .base import Frozen
from .imagenet import imagenet_classifier

Network = Any
"""A network of timm's: a module with ``pretrained_cfg``, ``forward_features``, ``forward_head`` and ``get_classifier``,
which no base class of theirs declares."""
TRIED = (96, 96)
"""Rows and columns of what networks are tried on that take any."""


class Classifier(Frozen):
    """One of timm's classifiers up to its pooled embedding, with batch norms folded where that changes nothing.

    The weights are random until `load` or `load_imagenet`.

    Args:
        name: timm's name of the network.

    Attributes:
        embedding: length E of an embedding.
        size: (height, width) that photographs must have; None if any size will do.
        stages: names of the network's modules whose outputs are its features, one a stride.

    Raises:
        ValueError: if timm has no such network, or its logits are not a linear map of its embedding of RGB images.
    """

    def __init__(self, name: str = "tf_efficientnet_lite0"):
        check_serves(name)
        net = timm.create_model(name, pretrained=False).eval()
        mean, deviation = ([255 * value for value in net.pretrained_cfg[key]] for key in ("mean", "std"))
        super().__init__(mean, deviation)
        self.name, self.net = name, net
        self.embedding: int = self.classifier_weights()[0].shape[1]
        self.size = input_size(net) if net.pretrained_cfg.get("fixed_input_size") else None
        self.stages: list[str] = [stage["module"] for stage in getattr(net, "feature_info", None) or ()]
        self.folds = folds(name)
        if self.folds:
            fold_batch_norms(net)
        self.freeze()

    def forward(self, pixels: Tensor) -> Tensor:
        """The embeddings of photographs.

        Args:
            pixels: RGB (N, 3, H, W) in 0..255, uint8 or float.

        Returns:
            (N, E).

        Raises:
            ValueError: for another shape, or if the network requires another size.
        """
        if self.size and tuple(pixels.shape[-2:]) != self.size:
            raise ValueError(f"{self.name} requires photographs of {self.size[1]}x{self.size[0]} pixels: resize them")
        return embed(self.net, self.normalized(pixels))

    def classifier_weights(self) -> tuple[Tensor, Tensor]:
        """The last layer, which maps embeddings to logits.

        Returns:
            weight (classes, E) and bias (classes,).
        """
        return matrix(self.net)

    def load_imagenet(self) -> Classifier:
        """Load ImageNet weights: EfficientNet-Lite0's from its Python package if installed, others by timm's download.

        Returns:
            the network.

        Raises:
            FileNotFoundError: if the weights cannot be had.
            ValueError: if the Python package holds other weights.
        """
        return self.load(imagenet_classifier(self.name).state_dict())

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """As `Frozen.take`.

        Args:
            weights: under timm's names, batch norms not folded.

        Raises:
            RuntimeError: if they do not fit.
        """
        net = timm.create_model(self.name, pretrained=False).eval()
        net.load_state_dict(weights)
        if self.folds:
            fold_batch_norms(net)
        self.net.load_state_dict(net.state_dict())


def embed(net: Network, x: Tensor) -> Tensor:
    """The pooled embedding, which the network's last layer reads.

    Args:
        net: the network.
        x: normalized pixels (N, 3, H, W).

    Returns:
        (N, E).
    """
    return net.forward_head(net.forward_features(x), pre_logits=True).flatten(1)


def matrix(net: Network) -> tuple[Tensor, Tensor]:
    """A network's last layer, linear or a pointwise convolution, as a matrix.

    Args:
        net: the network.

    Returns:
        weight (classes, E) and bias (classes,), zeros where it has none.
    """
    last = net.get_classifier()
    weight = last.weight.flatten(1)
    return weight, weight.new_zeros(len(weight)) if last.bias is None else last.bias


def input_size(net: Network) -> tuple[int, int]:
    """(Height, width) of the images that a network was trained on.

    Args:
        net: the network.
    """
    return tuple(net.pretrained_cfg["input_size"][1:])


@lru_cache
def check_serves(name: str) -> None:
    """Check that a network can be a teacher; one that can is tried once in a process.

    Args:
        name: timm's name of the network.

    Raises:
        ValueError: if timm has no such network, it fails on a photograph, or its logits are not a linear map of its
            embedding of RGB images.
    """
    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}; timm.list_models() gives the names of those it has")
    try:
        serves = names_by_a_matrix(drawn_network(name))
    except Exception as error:  # of many kinds: each family of networks has its own
        raise ValueError(f"{name!r} cannot be a teacher: it fails on a photograph ({named_line(error)})") from None
    if not serves:
        raise ValueError(
            f"{name!r} cannot be a teacher: its logits must be one linear map of a pooled embedding of RGB images"
        )


@torch.no_grad()
def names_by_a_matrix(net: Network) -> bool:
    """Whether a network's logits are a linear map of its pooled embedding, tested on a random image.

    Args:
        net: the network.
    """
    last = net.get_classifier() if hasattr(net, "get_classifier") and hasattr(net, "forward_head") else None
    pointwise = isinstance(last, nn.Linear) or (isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1))
    if not pointwise or net.pretrained_cfg["input_size"][0] != 3:
        return False
    photograph, (weight, bias) = drawn_photograph(net), matrix(net)
    embedding, logits = embed(net, photograph), net(photograph)
    if embedding.shape[1] != weight.shape[1] or not isinstance(logits, Tensor) or logits.shape != (1, len(weight)):
        return False
    return bool((F.linear(embedding, weight, bias) - logits).abs().max() <= 1e-3 * logits.abs().max())


@lru_cache
@torch.no_grad()
def folds(name: str) -> bool:
    """Whether folding leaves the embedding what it is, tried with drawn statistics; what is found is kept.

    Args:
        name: timm's name of the network.
    """
    net = drawn_network(name)
    photograph = drawn_photograph(net)
    return folding_keeps(net, lambda: [embed(net, photograph)])


@torch.no_grad()
def folding_keeps(net: nn.Module, outputs: Callable[[], Sequence[Tensor]]) -> bool:
    """Whether a network has batch norms, and folding them, as is done here, leaves its outputs what they are.

    It may not, because a network may run its layers in another order than it registers them.

    Args:
        net: the network; its statistics are drawn.
        outputs: what it gives now.
    """
    if not draw_statistics(net):
        return False
    before = outputs()
    fold_batch_norms(net)
    pairs = zip(outputs(), before, strict=True)
    return all(bool((after - each).abs().max() <= 1e-3 * each.abs().max()) for after, each in pairs)


def draw_statistics(net: nn.Module) -> bool:
    """Draw the statistics of a network's batch norms, the same every time; whether there is any.

    Args:
        net: the network.
    """
    norms, generator = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)], torch.Generator().manual_seed(0)
    for norm in norms:
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
    return bool(norms)


def drawn_network(name: str) -> nn.Module:
    """A network of timm's with random weights, which takes no random numbers from whoever makes a teacher.

    Args:
        name: timm's name of the network.

    Returns:
        the network, in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        return timm.create_model(name, pretrained=False).eval()


def drawn_photograph(net: nn.Module) -> Tensor:
    """Normalized noise of a size that the network takes, the same every time.

    Args:
        net: a network of timm's.

    Returns:
        (1, 3, rows, columns).
    """
    return drawn_input(input_size(net) if net.pretrained_cfg.get("fixed_input_size") else TRIED)


def drawn_input(size: tuple[int, int]) -> Tensor:
    """Normalized noise (1, 3, rows, columns), the same every time.

    Args:
        size: rows and columns.
    """
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
