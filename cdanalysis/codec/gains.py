"""One model, many rates: per-channel gains that a quality interpolates.

After Cui and others, "Asymmetric gained deep image compression with continuous rate adaptation"
(CVPR 2021). Quality may be one number a photograph or a map of numbers, one a latent cell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
        """Gains for ``quality`` (N, 1, h, w) in [0, 1] (h = w = 1 for a whole photograph): (N, C, h, w)."""
        last = self.log_gain.shape[0] - 1
        positions = torch.arange(last + 1, device=quality.device, dtype=quality.dtype)
        weights = (1 - (quality * last - positions[None, :, None, None]).abs()).clamp_min(0)
        return torch.einsum("nahw,ac->nchw", weights, self.log_gain.to(quality.dtype)).exp()
