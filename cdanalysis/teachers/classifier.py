"""Classifiers of timm's as teachers: what they make of a whole photograph, one vector, before they name it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..blocks import fold_batch_norms
from .base import Frozen
from .imagenet import imagenet_classifier

Network = Any
"""A network of timm's: a module with ``pretrained_cfg``, ``forward_features``, ``forward_head`` and ``get_classifier``,
which no base class of theirs declares."""


class Classifier(Frozen):
    """A classification network of timm's up to its pooled embedding, batch norms folded where that changes nothing.

    Args:
        name: timm's name of it.

    Attributes:
        embedding: numbers in an embedding.
        size: rows and columns that a photograph must have, where the network takes no others.

    Raises:
        ValueError: if timm has no such network, or it is none that names photographs in RGB by one matrix.
    """

    def __init__(self, name: str = "tf_efficientnet_lite0"):
        net = new_network(name)
        mean, deviation = ([255 * value for value in net.pretrained_cfg[key]] for key in ("mean", "std"))
        super().__init__(mean, deviation)
        self.name, self.net = name, net
        self.embedding: int = self.classifier_weights()[0].shape[1]
        self.size = input_size(net) if net.pretrained_cfg.get("fixed_input_size") else None
        self.folds = folds(net)
        if self.folds:
            fold_batch_norms(net)
        self.freeze()

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) in 0..255 to embeddings (N, E).

        Raises:
            ValueError: if the network takes photographs of one size alone, and these have another.
        """
        if self.size and tuple(pixels.shape[-2:]) != self.size:
            raise ValueError(f"{self.name} takes photographs of {self.size[1]} x {self.size[0]} pixels alone")
        return embed(self.net, self.normalized(pixels))

    def classifier_weights(self) -> tuple[Tensor, Tensor]:
        """The matrix (classes, E) and the bias (classes,) that make logits of an embedding."""
        return matrix(self.net)

    def load_imagenet(self) -> Classifier:
        """Take over ImageNet weights: EfficientNet-Lite0's from its Python package where installed, others from timm.

        Raises:
            RuntimeError: if neither can be had.
        """
        return self.load(imagenet_classifier(self.name).state_dict())

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Weights under timm's names, batch norms not folded."""
        net = new_network(self.name)
        net.load_state_dict(weights)
        if self.folds:
            fold_batch_norms(net)
        self.net.load_state_dict(net.state_dict())


def embed(net: Network, x: Tensor) -> Tensor:
    """Normalized pixels to what the network's last matrix reads."""
    return net.forward_head(net.forward_features(x), pre_logits=True).flatten(1)


def matrix(net: Network) -> tuple[Tensor, Tensor]:
    """The matrix and the bias of a network's last layer, also where it is a pointwise convolution."""
    last = net.get_classifier()
    weight = last.weight.flatten(1)
    return weight, weight.new_zeros(len(weight)) if last.bias is None else last.bias


def input_size(net: Network) -> tuple[int, int]:
    """Rows and columns of the photographs that a network was trained on."""
    return tuple(net.pretrained_cfg["input_size"][1:])


def new_network(name: str) -> Network:
    """A network of timm's with random weights, in evaluation mode; a ValueError where it cannot serve."""
    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}; timm.list_models() gives the names of those it has")
    net = timm.create_model(name, pretrained=False).eval()
    if not names_by_a_matrix(net):
        raise ValueError(
            f"{name!r} cannot be a classifier here, because its labels of an RGB photograph come from no one matrix"
        )
    return net


@torch.no_grad()
def names_by_a_matrix(net: Network) -> bool:
    """Whether logits are one linear map of the pooled embedding, as tried on a drawn photograph."""
    last = net.get_classifier() if hasattr(net, "get_classifier") and hasattr(net, "forward_head") else None
    pointwise = isinstance(last, nn.Linear) or (isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1))
    if not pointwise or net.pretrained_cfg["input_size"][0] != 3:
        return False
    photograph, (weight, bias) = drawn_photograph(net), matrix(net)
    embedding, logits = embed(net, photograph), net(photograph)
    if embedding.shape[1] != weight.shape[1] or not isinstance(logits, Tensor) or logits.shape != (1, len(weight)):
        return False
    return bool((F.linear(embedding, weight, bias) - logits).abs().max() <= 1e-3 * logits.abs().max())


@torch.no_grad()
def folds(net: Network) -> bool:
    """Whether folding leaves the embedding what it is, tried with drawn statistics.

    A network may run its parts in another order than it lists them in.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
        return False
    net, generator = copy.deepcopy(net), torch.Generator().manual_seed(0)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
    photograph = drawn_photograph(net)
    before = embed(net, photograph)
    fold_batch_norms(net)
    return bool((embed(net, photograph) - before).abs().max() <= 1e-3 * before.abs().max())


def drawn_photograph(net: Network) -> Tensor:
    """Normalized noise of the size that a network was trained on, the same every time."""
    return torch.randn(1, 3, *input_size(net), generator=torch.Generator().manual_seed(0))
