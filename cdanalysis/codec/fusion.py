"""The fusion decoder: detail latents, modulated by the quality and by the spatial layer, to an image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Block, Upsample, blocks
from . import cosine
from .gains import spread
from .modulation import FusionBlock
from .realism import RealismBranch


class FusionDecoder(nn.Module):
    """g_s: dequantized detail latents (stride 16) to images.

    Args:
        spatial: channels of the spatial layer; 0 where it is not seen, and the quality alone modulates.
        detail: channels of the detail layer.
        width: width at stride 8; stride 16 has one and a half times as many channels, or those of the latents.
        depth: plain blocks at stride 8, after two fusion blocks at each stride.
        condition: width of what modulates.
        realism: blocks at each stride of the branch that makes images look like photographs; 0 for a decoder without.
        kernel: side of the kernels next to latents, pixels and what modulates. At 1, cells of one quality are modulated
            alike, and what modulates them is computed once.

    Attributes:
        receptive_radius: a pixel depends on no latents but those of the cells up to so many away from its own.
    """

    def __init__(
        self,
        spatial: int,
        detail: int,
        width: int = 128,
        depth: int = 4,
        condition: int = 96,
        realism: int = 0,
        kernel: int = 3,
    ):
        super().__init__()
        reach = kernel // 2
        self.receptive_radius = 2 + reach + math.ceil((2 + reach + depth) / 2)
        coarse = max(width * 3 // 2, detail)
        first = nn.Conv2d(spatial + 1, condition, kernel, padding=reach)
        self.condition = nn.Sequential(first, nn.GELU(), Block(condition, kernel=kernel))
        self.stem = nn.Conv2d(detail, coarse, kernel, padding=reach)
        self.coarse = nn.ModuleList(FusionBlock(coarse, condition) for _ in range(2))
        self.up = Upsample(coarse, width)
        self.fine = nn.ModuleList(FusionBlock(width, condition) for _ in range(2))
        self.body = blocks(width, depth)
        self.out = nn.Sequential(nn.Conv2d(width, 192, kernel, padding=reach), nn.PixelShuffle(8))
        merge = cosine.merge_weights(width, detail)
        cosine.start_convolution(self.stem, torch.eye(detail))
        cosine.start_convolution(self.up[0], merge.flatten(1).T)
        cosine.start_convolution(self.out[0], cosine.patch_weights(width).T)
        cosine.silence(self)
        self.set_realism(realism)

    def set_realism(self, depth: int) -> None:
        """Give the decoder a branch for realism, or take it away.

        Args:
            depth: blocks at each stride of the new branch, which adds nothing yet; 0 for none.
        """
        width, condition = self.out[0].in_channels, self.condition[0].out_channels
        self.realism = RealismBranch(width, condition, depth).to(self.stem.weight) if depth else None

    def reach(self, realism: float) -> int:
        """The receptive radius where images are decoded at a realism.

        Args:
            realism: in [0, 1]; at 0, the branch for it does not run.

        Returns:
            the radius in cells of 16 pixels, see ``receptive_radius``.
        """
        branch = self.realism if realism else None
        return self.receptive_radius + (0 if branch is None else branch.receptive_radius)

    def forward(
        self,
        detail: Tensor,
        quality: Tensor,
        spatial: Tensor | None = None,
        realism: Tensor | None = None,
        corner: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """Decode images.

        Args:
            detail: dequantized latents, (N, C, h, w).
            quality: of the detail layer, in [0, 1]: (N, 1, 1, 1), or a map (N, 1, h, w).
            spatial: y_hat of the spatial layer in steps, on the same grid.
            realism: in [0, 1], (N, 1, 1, 1); None for the least squared error, which 0 gives, too.
            corner: row and column of the cell at which ``detail`` begins in the whole image.

        Returns:
            (N, 3, 16 h, 16 w), about [0, 1] but not clamped.
        """
        alike = spatial is None and self.stem.kernel_size == (1, 1)
        plane = quality if alike else spread(quality, detail)
        condition = self.condition(plane if spatial is None else torch.cat([spatial, plane], 1))
        x = self.stem(detail)
        for block in self.coarse:
            x = block(x, condition)
        x = self.up(x)
        if condition.shape[-2:] != (1, 1):
            condition = F.interpolate(condition, scale_factor=2)
        for block in self.fine:
            x = block(x, condition)
        x = self.body(x)
        image = self.out(x) + 0.5
        if realism is None:
            return image
        assert self.realism is not None, "this decoder has no realism"
        return image + self.realism(x, condition, realism, corner)
