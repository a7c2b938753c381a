"""What makes decoded photographs look like photographs, where few bits leave a mean of all that could have been there.

One generator for every realism, after Agustsson, Minnen, Toderici, Mentzer, "Multi-realism image compression with a
conditional generator" (CVPR 2023). Here it is a branch beside the decoder, added to the decoder's image: a realism of 0
is the decoder's own image to the bit, and costs nothing.
"""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn

from ..blocks import Upsample, blocks
from .modulation import FusionBlock

GRAIN = 4
"""Channels of noise, which texture is made of."""
PERIOD = 256
"""The noise repeats itself after so many cells at stride 2."""
CELL = 8
"""Cells of noise in a cell of the latents, each way."""


def check_realism(realism: float) -> None:
    """Refuse what is no realism.

    Args:
        realism: see `Model.decode`.

    Raises:
        ValueError: if it is not a number in [0, 1].
    """
    if not isinstance(realism, Real) or not 0 <= realism <= 1:
        raise ValueError(f"realism must be a number in [0, 1], got {realism!r}")


class RealismBranch(nn.Module):
    """Features of the decoder at stride 8 to what is added to its image.

    It works down to stride 2, so that what it draws is not bound to the decoder's own grid of 8 x 8 pixels.

    Args:
        width: channels of the decoder's features.
        condition: channels of what modulates them.
        depth: blocks at each of the strides 8, 4 and 2.

    Attributes:
        receptive_radius: of a pixel, in cells of stride 16, beyond the decoder's own.
    """

    noise: Tensor

    def __init__(self, width: int, condition: int, depth: int):
        super().__init__()
        reach = 1  # of the last convolution, at stride 2; then in cells of twice the stride, and so on
        for _ in range(3):
            reach = math.ceil((reach + depth) / 2)
        self.receptive_radius = reach
        half, quarter = width // 2, max(width // 4, 2 * GRAIN)
        self.amount = nn.Conv2d(1, condition, 1)
        self.coarse = nn.ModuleList(FusionBlock(width, condition) for _ in range(depth))
        self.middle = nn.Sequential(Upsample(width, half), *blocks(half, depth))
        self.up = Upsample(half, quarter - GRAIN)
        self.fine = blocks(quarter, depth)
        last = nn.Conv2d(quarter, 12, 3, padding=1)
        for parameter in last.parameters():  # what learned nothing adds nothing
            nn.init.zeros_(parameter)
        self.out = nn.Sequential(last, nn.PixelShuffle(2))
        drawn = np.random.default_rng(0).standard_normal((GRAIN, PERIOD, PERIOD), dtype=np.float32)
        self.register_buffer("noise", torch.from_numpy(drawn), persistent=False)

    def forward(self, x: Tensor, condition: Tensor, realism: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
        """What is added to images.

        Args:
            x: the decoder's features (N, C, h, w).
            condition: what modulates them, (N, C', h, w).
            realism: in [0, 1], (N, 1, 1, 1).
            corner: row and column, in cells of stride 16, at which ``x`` begins in the image: noise has its place.

        Returns:
            (N, 3, 8 h, 8 w).
        """
        condition = condition + self.amount(realism)
        for block in self.coarse:
            x = block(x, condition)
        x = self.up(self.middle(x))
        grain = self._grain((x.shape[-2], x.shape[-1]), corner).to(x).expand(len(x), -1, -1, -1)
        return realism * self.out(self.fine(torch.cat([x, grain], 1)))

    def _grain(self, size: tuple[int, int], corner: tuple[int, int]) -> Tensor:
        rows, columns = (
            (CELL * first + torch.arange(length, device=self.noise.device)) % PERIOD
            for first, length in zip(corner, size, strict=True)
        )
        return self.noise[:, rows][:, :, columns]
