"""What all teachers share: they are frozen, take photographs as pixels, and load their weights strictly."""

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
    """A network that never learns: always in evaluation mode, no gradients for its parameters, gradients through it.

    Args:
        mean: what is subtracted from red, green and blue, in the units of pixels.
        deviation: by what they are divided then.
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
        """Once all parts are there."""
        self.requires_grad_(False)
        self.train(False)

    def train(self: Loaded, mode: bool = True) -> Loaded:
        """Stays in evaluation mode: a frozen network has no other."""
        return super().train(False)

    def normalized(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) in 0..255, uint8 or float, as the network was trained to see them.

        Raises:
            ValueError: if these are no photographs in RGB.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"a teacher takes pixels of the shape (N, 3, H, W), not {tuple(pixels.shape)}")
        return (pixels.to(self.mean.dtype) - self.mean) / self.deviation

    def load(self: Loaded, weights: str | Path | Mapping[str, Tensor] | None = None) -> Loaded:
        """Take over published weights.

        Args:
            weights: a safetensors file, absolute or below ``CDANALYSIS_DATA``, or what is in one; if left out the file
                `WEIGHTS`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not hold this network's weights, all of them and no others.
        """
        weights = self.WEIGHTS if weights is None else weights
        if weights is None:
            raise ValueError(f"say which weights {type(self).__name__} should load")
        source = "what was given" if isinstance(weights, Mapping) else str(weights)
        try:
            self.take(weights if isinstance(weights, Mapping) else load_file(data_path(str(weights))))
        except (RuntimeError, SafetensorError):
            raise ValueError(f"{source} does not hold the weights of this {type(self).__name__}") from None
        return self

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Put weights under their published names in place; a RuntimeError where they do not fit."""
        self.load_state_dict({self.own_name(name): tensor for name, tensor in weights.items()})

    @staticmethod
    def own_name(name: str) -> str:
        """The name here of a published tensor."""
        return name
