"""Where the transforms start: as an orthonormal block cosine transform in an opponent color space.

A random start must first find out that photographs are smooth, which costs thousands of steps.
Starting as the linear transform that image codecs have always used (Ahmed, Natarajan, Rao, 1974),
with residual branches that start silent, training begins at the fidelity of a block coder.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..blocks import Block

COLORS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
COLORS = COLORS / COLORS.norm(dim=1, keepdim=True)
"""Orthonormal: brightness, red against blue, green against both."""


def basis(side: int) -> Tensor:
    """Orthonormal two-dimensional cosines, the lowest frequencies first.

    Args:
        side: of the blocks, in pixels.

    Returns:
        (side^2, side, side): frequency, row, column.
    """
    k, n = torch.arange(side)[:, None], torch.arange(side)[None]
    rows = torch.cos(math.pi * (n + 0.5) * k / side) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    order = sorted(((i, j) for i in range(side) for j in range(side)), key=lambda f: (f[0] ** 2 + f[1] ** 2, f))
    return torch.stack([rows[i][:, None] * rows[j][None] for i, j in order])


def _shares(channels: int, luma: float) -> tuple[int, int, int]:
    """Channels for brightness and for the two colors."""
    chroma = round(channels * (1 - luma) / 2)
    return channels - 2 * chroma, chroma, chroma


def patch_weights(width: int) -> Tensor:
    """The linear map of 8x8 RGB patches to their lowest frequencies, half of them brightness.

    Args:
        width: number of frequencies.

    Returns:
        (width, 192), inputs in the order channel, row, column; rows beyond the 64 frequencies of a color are 0.
    """
    cosines, rows = basis(8), []
    for color, count in zip(COLORS, _shares(width, 0.5), strict=True):
        rows += [torch.einsum("c,ij->cij", color, cosines[f]).flatten() for f in range(min(count, 64))]
    rows += [torch.zeros(192)] * (width - len(rows))
    return torch.stack(rows)


def merge_weights(width: int, channels: int) -> Tensor:
    """The linear map of four neighboring 8x8 spectra to the lowest frequencies of their 16x16 block.

    Args:
        width: frequencies of each spectrum, in the order of `patch_weights`.
        channels: frequencies of the block, seven tenths of them brightness.

    Returns:
        (channels, width, 2, 2), the weights of a convolution of stride 2.
    """
    small, large = basis(8), basis(16).reshape(256, 2, 8, 2, 8)
    weights, row, column = torch.zeros(channels, width, 2, 2), 0, 0
    for many, few in zip(_shares(channels, 0.7), _shares(width, 0.5), strict=True):
        known = small[:few]  # there are no more than 64
        projected = torch.einsum("kaibj,fij->kfab", large[:many], known)
        weights[row : row + many, column : column + len(known)] = projected
        row, column = row + many, column + len(known)
    return weights


@torch.no_grad()
def start_convolution(conv: nn.Conv2d, matrix: Tensor) -> None:
    """Make a convolution a given linear map, and nothing else.

    Args:
        conv: with a bias; its weights are overwritten.
        matrix: (out, in), which becomes the kernels' middle and may be smaller than the convolution; or all of its
            weights (out, in, k, k).
    """
    conv.weight.zero_()
    conv.bias.zero_()
    if matrix.ndim == 4:
        conv.weight.copy_(matrix)
    else:
        center = conv.kernel_size[0] // 2
        conv.weight[: matrix.shape[0], : matrix.shape[1], center, center] = matrix


@torch.no_grad()
def silence(module: nn.Module) -> None:
    """Let every residual branch in a module start at zero.

    Args:
        module: its blocks are changed in place.
    """
    for part in module.modules():
        if isinstance(part, Block):
            part.narrow.weight.zero_()
            part.narrow.bias.zero_()
