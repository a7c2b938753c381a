"""The base class of teachers: frozen, input as pixels, strict loading of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..data.images import data_path

Loaded = TypeVar("Loaded", bound="Frozen")


class Frozen(nn.Module):
    """A frozen network: always in evaluation mode, without gradients for its parameters, with gradients through it.

    Args:
        mean: of red, green and blue, subtracted from pixels in 0..255.
        deviation: standard deviations, by which they are then divided.
    """

    WEIGHTS: str | None = None
    """The file of weights, below ``CDANALYSIS_DATA``."""
    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(deviation, dtype=torch.float32).view(1, 3, 1, 1), persistent=False
        )

    def freeze(self) -> None:
        """Freeze all parameters; call it at the end of ``__init__``."""
        self.requires_grad_(False)
        self.train(False)

    def train(self: Loaded, mode: bool = True) -> Loaded:
        """As ``nn.Module.train``, but does nothing: a frozen network stays in evaluation mode.

        Args:
            mode: does not count.

        Returns:
            the network itself.
        """
        return super().train(False)

    def normalized(self, pixels: Tensor) -> Tensor:
        """Normalize pixels as the network expects.

        Args:
            pixels: RGB (N, 3, H, W) in 0..255, uint8 or float.

        Returns:
            (N, 3, H, W), of the dtype of ``mean``.

        Raises:
            ValueError: for another shape.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"pixels must have the shape (N, 3, H, W), got {tuple(pixels.shape)}")
        return (pixels.to(self.mean.dtype) - self.mean) / self.deviation

    def load(self: Loaded, weights: str | Path | Mapping[str, Tensor] | None = None) -> Loaded:
        """Load published weights.

        Args:
            weights: a safetensors file, absolute or below ``CDANALYSIS_DATA``, or its tensors by name; by default
                `WEIGHTS`.

        Returns:
            the network.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if its tensors are not exactly those of this network, or none are given and there is no default.
        """
        weights = self.WEIGHTS if weights is None else weights
        if weights is None:
            raise ValueError(f"{type(self).__name__} has no default weights: give load() a file")
        source = "the mapping" if isinstance(weights, Mapping) else str(weights)
        try:
            self.take(weights if isinstance(weights, Mapping) else load_file(data_path(str(weights))))
        except (RuntimeError, SafetensorError):
            raise ValueError(f"{source} does not hold the weights of this {type(self).__name__}") from None
        return self

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights into the network.

        Args:
            weights: tensors by their published names.

        Raises:
            RuntimeError: if they do not fit.
        """
        self.load_state_dict({self.own_name(name): tensor for name, tensor in weights.items()})

    @staticmethod
    def own_name(name: str) -> str:
        """The name in this network of a published tensor.

        Args:
            name: the published one.
        """
        return name


def check_sides(x: Tensor) -> None:
    """Check that a network of stride 32 has a cell for every place of photographs.

    Args:
        x: (N, C, H, W).

    Raises:
        ValueError: if a side is not a multiple of 32, or 0.
    """
    height, width = x.shape[-2:]
    if height % 32 or width % 32 or not height * width:
        raise ValueError(f"the sides of photographs must be multiples of 32, got {width}x{height}: pad or resize them")
