"""The fusion decoder: detail latents, modulated by the quality and by the spatial layer, to an image.

Adaptive instance normalization (Huang, Belongie, ICCV 2017) in its spatial form (Park and others,
"Semantic image synthesis with spatially-adaptive normalization", CVPR 2019): the condition gives a
scale and a shift for every cell. Features are normalized over the channels of their own cell, not
over the picture, so that a cell's decoding depends on its neighborhood alone.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Block, Upsample, blocks
from . import cosine
from .gains import spread


class AdaIN(nn.Module):
    """Normalize each cell over its channels, then scale and shift it by what the condition says."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.to_style = nn.Conv2d(condition, 2 * channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.to_style(condition).chunk(2, 1)
        normal = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)
        return normal * (1 + scale) + shift


class FusionBlock(nn.Module):
    """A residual block whose branch is modulated by the condition."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.adain = AdaIN(channels, condition)
        self.block = Block(channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        modulated = self.adain(x, condition)
        return x + self.block(modulated) - modulated


class FusionDecoder(nn.Module):
    """g_s: dequantized detail latents (stride 16) to images.

    Args:
        spatial: channels of the spatial layer; 0 where it is not seen, and the quality alone modulates.
        detail: channels of the detail layer.
        width: width at stride 8; stride 16 has one and a half times as many channels, or those of the latents.
        depth: plain blocks at stride 8, after two fusion blocks at each stride.
        condition: width of what modulates.

    Attributes:
        receptive_radius: a pixel depends on no latents but those of the cells up to so many away from its own.
    """

    def __init__(self, spatial: int, detail: int, width: int = 128, depth: int = 4, condition: int = 96):
        super().__init__()
        self.receptive_radius = 3 + math.ceil((3 + depth) / 2)
        coarse = max(width * 3 // 2, detail)
        self.condition = nn.Sequential(nn.Conv2d(spatial + 1, condition, 3, padding=1), nn.GELU(), Block(condition))
        self.stem = nn.Conv2d(detail, coarse, 3, padding=1)
        self.coarse = nn.ModuleList(FusionBlock(coarse, condition) for _ in range(2))
        self.up = Upsample(coarse, width)
        self.fine = nn.ModuleList(FusionBlock(width, condition) for _ in range(2))
        self.body = blocks(width, depth)
        self.out = nn.Sequential(nn.Conv2d(width, 192, 3, padding=1), nn.PixelShuffle(8))
        merge = cosine.merge_weights(width, detail)
        cosine.start_convolution(self.stem, torch.eye(detail))
        cosine.start_convolution(self.up[0], merge.flatten(1).T)
        cosine.start_convolution(self.out[0], cosine.patch_weights(width).T)
        cosine.silence(self)

    def forward(self, detail: Tensor, quality: Tensor, spatial: Tensor | None = None) -> Tensor:
        """Images (N, 3, 16 h, 16 w), about [0, 1] but not clamped.

        Args:
            detail: (N, C, h, w).
            quality: of the detail layer, in [0, 1]: (N, 1, 1, 1), or a map (N, 1, h, w).
            spatial: y_hat of the spatial layer in steps, on the same grid.
        """
        plane = spread(quality, detail)
        condition = self.condition(plane if spatial is None else torch.cat([spatial, plane], 1))
        x = self.stem(detail)
        for block in self.coarse:
            x = block(x, condition)
        x, condition = self.up(x), F.interpolate(condition, scale_factor=2)
        for block in self.fine:
            x = block(x, condition)
        return self.out(self.body(x)) + 0.5
