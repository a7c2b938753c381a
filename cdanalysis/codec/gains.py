"""One model, many rates: per-channel gains that a quality interpolates.

After Cui and others, "Asymmetric gained deep image compression with continuous rate adaptation"
(CVPR 2021). Quality may be one number a photograph or a map of numbers, one a latent cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..structures.latents import QUALITY_LEVELS
from .entropy.models import UNIT

Amount = TypeVar("Amount", float, Tensor)


def log_interpolate(ends: Sequence[float], quality: Amount) -> Amount:
    """Geometric interpolation.

    Args:
        ends: values at quality 0 and at quality 1, above 0.
        quality: in [0, 1], a number or a tensor of any shape.

    Returns:
        a number, or a tensor of that shape.

    >>> log_interpolate([1.0, 100.0], torch.tensor([0.0, 0.5, 1.0])).round()
    tensor([  1.,  10., 100.])
    """
    low, high = ends
    return low * (high / low) ** quality


class Gains(nn.Module):
    """Per-channel log gains at evenly spaced qualities, linearly interpolated between them.

    Args:
        channels: how many gains.
        low, high: log gain to start with at quality 0 and at quality 1.
        anchors: number of qualities that have gains of their own.
    """

    def __init__(self, channels: int, low: float, high: float, anchors: int = 5):
        super().__init__()
        ramp = torch.linspace(low, high, anchors)
        self.log_gain = nn.Parameter(ramp[:, None].repeat(1, channels))

    def forward(self, quality: Tensor) -> Tensor:
        """The gains at a quality.

        Args:
            quality: in [0, 1], (N, 1, h, w); h = w = 1 for whole photographs.

        Returns:
            factors (N, C, h, w), above 0, of the quality's dtype.
        """
        last = self.log_gain.shape[0] - 1
        positions = torch.arange(last + 1, device=quality.device, dtype=quality.dtype)
        weights = (1 - (quality * last - positions[None, :, None, None]).abs()).clamp_min(0)
        return torch.einsum("nahw,ac->nchw", weights, self.log_gain.to(quality.dtype)).exp()


def exact_plane(level: int | Tensor, like: Tensor) -> Tensor:
    """Quality levels as integer activations.

    Args:
        level: 0..120, or integers (N, 1, h, w).
        like: (N, C, h, w), for its grid and device.

    Returns:
        (N, 1, h, w) float64: integers from 0 to ``UNIT`` at the best quality.
    """
    level = torch.as_tensor(level, device=like.device).to(torch.int64)
    plane = (2 * level * UNIT + QUALITY_LEVELS) // (2 * QUALITY_LEVELS)
    return plane.double().expand(len(like), 1, *like.shape[-2:])


def quality_plane(level: int | Tensor, like: Tensor) -> Tensor:
    """Quality levels as the quality that gains take.

    Args:
        level: 0..120, or integers (N, 1, h, w).
        like: gives dtype and device.

    Returns:
        the quality in [0, 1]: (1, 1, 1, 1) for a number, else (N, 1, h, w).
    """
    level = torch.as_tensor(level, device=like.device).to(like.dtype)
    return (level / QUALITY_LEVELS).reshape((1, 1, 1, 1) if level.ndim == 0 else level.shape)


def spread(quality: Tensor, like: Tensor) -> Tensor:
    """A quality as a plane over a grid.

    Args:
        quality: (N, 1, 1, 1), or a map (N, 1, h, w); N may be 1.
        like: (N, C, h, w), for its batch and grid.

    Returns:
        (N, 1, h, w), a view.
    """
    return quality.expand(like.shape[0], 1, *like.shape[-2:])  # len() would fix the batch of an exported graph
