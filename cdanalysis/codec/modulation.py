"""Blocks that a condition modulates, cell by cell.

Adaptive instance normalization (Huang, Belongie, ICCV 2017) in its spatial form (Park and others,
"Semantic image synthesis with spatially-adaptive normalization", CVPR 2019): the condition gives a
scale and a shift for every cell. Features are normalized over the channels of their own cell, not
over the picture, so that a cell's decoding depends on its neighborhood alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Block


class AdaIN(nn.Module):
    """Normalize each cell over its channels, then scale and shift it by what the condition says.

    Args:
        channels: of the features.
        condition: channels of the condition.
    """

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.to_style = nn.Conv2d(condition, 2 * channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Modulate features.

        Args:
            x: features (N, C, h, w).
            condition: (N, C', h, w), or (N, C', 1, 1) for all cells alike.

        Returns:
            (N, C, h, w).
        """
        scale, shift = self.to_style(condition).chunk(2, 1)
        normal = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)
        return torch.addcmul(shift, normal, 1 + scale)


class FusionBlock(nn.Module):
    """A residual block whose branch is modulated by the condition.

    Args:
        channels: of the features.
        condition: channels of the condition.
    """

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.adain = AdaIN(channels, condition)
        self.block = Block(channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """The features, and what their modulated branch adds to them.

        Args:
            x: features (N, C, h, w).
            condition: as of `AdaIN.forward`.

        Returns:
            (N, C, h, w).
        """
        return x + self.block.branch(self.adain(x, condition))
