"""Where the semantic layer starts: principal components of the backbone's features.

From a random start the layer takes a thousand steps to find what an eigenvalue decomposition gives
at once: linear maps to few channels and back that keep most of the features' variance. Residual
branches start silent; training goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..codec.cosine import silence, start_convolution
from ..codec.semantic import SemanticLayer
from ..heads.neck import Neck
from ..model import Model

UNIT_LENGTH = 4.0
"""What latents measure, before their gains, for a distance of one in the objective's units. With the gains' own start
this begins at about 0.02 bpp, and at 0.3 bpp at quality 1; much smaller latents are torn by Adam's first steps."""


@dataclass
class Components:
    """Orthonormal axes (k, d) of features that had ``mean`` (d,) taken away and were multiplied by ``scale`` (d,)."""

    axes: Tensor
    mean: Tensor
    scale: Tensor

    def forward_map(self) -> tuple[Tensor, Tensor]:
        """Matrix (k, d) and bias (k,) from features to coordinates."""
        matrix = self.axes * self.scale
        return matrix, -matrix @ self.mean

    def inverse_map(self) -> tuple[Tensor, Tensor]:
        """Matrix (d, k) and bias (d,) from coordinates to features."""
        return self.axes.T / self.scale[:, None], self.mean


class _Moments:
    """Mean and covariance of vectors that come in batches."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, features: Tensor) -> None:
        rows = features.double().movedim(1, -1).flatten(0, -2)
        self.count += len(rows)
        self.total = self.total + rows.sum(0)
        self.squares = self.squares + rows.T @ rows

    def components(self, scale: Tensor, count: int) -> Components:
        """The ``count`` components of most variance, after scaling each feature to ``scale`` deviations."""
        mean = self.total / self.count
        covariance = self.squares / self.count - torch.outer(mean, mean)
        scale = scale.to(mean) / (covariance.diagonal() + 1e-4).sqrt()
        vectors = torch.linalg.eigh(covariance * torch.outer(scale, scale)).eigenvectors
        return Components(vectors.flip(1).T[:count], mean, scale)


@torch.no_grad()
def start_semantic_layer(model: Model, batches: Iterable[Tensor], weights: list[float]) -> None:
    """Start the semantic layer and the neck as principal components and their inverse.

    Three eighths of the channels carry the features of strides 8 and 16 at their cell. The others
    carry those of stride 32, a quarter of the components at each of the four cells that share them.

    Args:
        model: a new model.
        batches: photographs (N, 3, H, W) in [0, 1].
        weights: the objective's weights of strides 8, 16 and 32, in whose units variance counts.

    Raises:
        ValueError: if the networks are too narrow to hold these maps.
    """
    c8, c16, c32 = model.codec.backbone.channels
    channels = model.codec.semantic.spec.channels
    if model.neck.hidden < max(2 * c8, 2 * channels) or model.codec.semantic.g_a.keep.out_channels < channels:
        raise ValueError(
            f"to start from principal components, neck_hidden must be at least {max(2 * c8, 2 * channels)} "
            f"and semantic_hidden at least {channels}"
        )
    near, far = _Moments(), _Moments()
    for x in batches:
        f8, f16, f32 = model.codec.backbone(x)
        near.add(torch.cat([nn.functional.pixel_unshuffle(f8, 2), f16], 1))
        far.add(f32)
    w8, w16, w32 = (weight**0.5 for weight in weights)
    local = 3 * channels // 8
    scale = torch.cat([torch.full((4 * c8,), w8 / (4 * c8) ** 0.5), torch.full((c16,), w16 / c16**0.5)])
    near_axes = near.components(scale * UNIT_LENGTH, local)
    # Twice: an error at stride 32 counts in each of four cells.
    far_axes = far.components(torch.full((c32,), 2 * UNIT_LENGTH * w32 / c32**0.5), 4 * (channels - local))
    _start_analysis(model.codec.semantic, near_axes, far_axes, local, 4 * c8)
    _start_neck(model.neck, near_axes, far_axes, local, 4 * c8)


def _start_analysis(layer: SemanticLayer, near: Components, far: Components, local: int, fine: int) -> None:
    g_a = layer.g_a
    matrix, bias = near.forward_map()
    g_a.down.weight[:local] = matrix[:, :fine].reshape(local, -1, 2, 2).to(g_a.down.weight)
    g_a.keep.weight[:local, :, 0, 0] = matrix[:, fine:].to(g_a.keep.weight)
    matrix, more = far.forward_map()
    rows = slice(4 * local, 4 * local + len(matrix))
    g_a.up[0].weight[4 * local : rows.stop, :, 0, 0] = matrix.to(g_a.up[0].weight)
    g_a.up[0].weight[: 4 * local] = 0
    for conv in (g_a.down, g_a.keep):
        conv.weight[local : layer.spec.channels] = 0
        conv.bias[: layer.spec.channels] = 0
    g_a.up[0].bias[: rows.stop] = 0
    g_a.keep.bias[:local] = bias.to(g_a.keep.bias)
    g_a.up[0].bias[rows] = more.to(g_a.up[0].bias)
    start_convolution(g_a.out, torch.eye(layer.spec.channels))
    silence(g_a)


def _start_neck(neck: Neck, near: Components, far: Components, local: int, fine: int) -> None:
    silence(neck)
    stem = neck.stem[0]
    channels = stem.in_channels - 1
    stem.weight[:channels] = 0
    stem.bias[:channels] = 0
    stem.weight[range(channels), range(channels), 1, 1] = 1
    matrix, bias = near.inverse_map()
    start_convolution(neck.to16, matrix[fine:])
    neck.to16.bias.copy_(bias[fine:])
    up, out = neck.to8[0][0], neck.to8[2]
    start_convolution(up, matrix[:fine])
    up.bias[:fine] = bias[:fine].to(up.bias)
    start_convolution(out, torch.eye(out.out_channels))
    down, out = neck.to32[0], neck.to32[2]
    matrix, bias = far.inverse_map()
    gather = torch.zeros(len(far.axes), stem.out_channels, 2, 2)
    for component in range(len(far.axes)):
        channel, place = divmod(component, 4)
        gather[component, local + channel, place // 2, place % 2] = 1
    down.weight[: len(gather)] = gather
    down.bias.zero_()
    start_convolution(out, matrix)
    out.bias.copy_(bias)
