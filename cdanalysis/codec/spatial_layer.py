"""The spatial layer: where things are, as the feature pyramid of a detector.

A frozen, pre-trained detector (the layer's *teacher*; any backbone of timm's may take its place) looks at the
photograph reduced to a working size. Its features at strides 8 to 64 become latents at stride 16 by a small network,
and features again by another; both are trained so that what the teacher's own head says of the decoded features is what
it says of its own (distillation: Hinton, Vinyals, Dean, 2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..blocks import Downsample, Upsample, blocks
from ..structures.latents import STEPS, LatentSpec
from ..teachers.backbone import Backbone
from ..teachers.nanodet import DetectorFeatures, NanoDetPlus
from .entropy.models import UNIT, ContextModel, Quantized
from .gains import Gains, exact_plane, quality_plane, spread
from .integer.exact import LIMIT, ExactConv2d
from .tiles import STRIDE

BASE = 48
"""Channels of what the entropy model is told of the global layer and the quality."""
CONTEXT_SCALE = 4
"""Symbols of the global layer are divided by this where networks of the entropy model read them."""


def analysis_inputs(seen: DetectorFeatures) -> list[Tensor]:
    """What the analysis sees of a detector: the pyramid, and the backbone behind it.

    Args:
        seen: the detector's features.

    Returns:
        (N, c, h / s, w / s), s = 8, 16, 32, with the channels of `analysis_channels`.
    """
    p3, p4, p5, _ = seen.pyramid
    if not seen.backbone:
        return [p3, p4, p5]
    _, c4, c5 = seen.backbone
    return [p3, torch.cat([p4, c4], 1), torch.cat([p5, c5], 1)]


def analysis_channels(detector: NanoDetPlus | Backbone) -> tuple[int, int, int]:
    """Channels of `analysis_inputs`.

    Args:
        detector: the teacher of the layer.

    Returns:
        those at strides 8, 16 and 32.
    """
    p3, p4, p5, _ = detector.PYRAMID
    if isinstance(detector, Backbone):
        return p3, p4, p5
    _, c4, c5 = detector.BACKBONE
    return p3, p4 + c4, p5 + c5


class SpatialAnalysis(nn.Module):
    """g_a: features at strides 8, 16 and 32 to y at stride 16.

    Args:
        features: channels at each of the strides.
        hidden: width at stride 16.
        channels: latent channels.
        depth: residual blocks.
    """

    def __init__(self, features: Sequence[int], hidden: int, channels: int, depth: int):
        super().__init__()
        c8, c16, c32 = features
        self.down = Downsample(c8, hidden)
        self.keep = nn.Conv2d(c16, hidden, 1)
        self.up = Upsample(c32, hidden)
        self.body = blocks(hidden, depth)
        self.out = nn.Conv2d(hidden, channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The latents of features, before their gain.

        Args:
            features: (N, c, h / s, w / s), s = 8, 16, 32; h and w multiples of 32.

        Returns:
            (N, C, h / 16, w / 16).
        """
        f8, f16, f32 = features
        return self.out(self.body(self.down(f8) + self.keep(f16) + self.up(f32)))


class SpatialSynthesis(nn.Module):
    """g_s: dequantized latents at stride 16 to features at strides 8, 16, 32 and 64.

    Args:
        channels: latent channels.
        features: channels at strides 8, 16 and 32; stride 64 has as many as 32.
        hidden: width at stride 16.
        depth: residual blocks at stride 16.
        side: channels of the global layer, whose latents shift all cells alike.
    """

    def __init__(self, channels: int, features: Sequence[int], hidden: int, depth: int, side: int):
        super().__init__()
        c8, c16, c32 = features
        self.stem = nn.Conv2d(channels + 1, hidden, 3, padding=1)
        self.context = nn.Conv2d(side, hidden, 1)
        self.body = blocks(hidden, depth)
        self.to16 = nn.Conv2d(hidden, c16, 1)
        self.to8 = nn.Sequential(Upsample(hidden, hidden // 2), blocks(hidden // 2, 1), nn.Conv2d(hidden // 2, c8, 1))
        self.down = nn.Sequential(Downsample(hidden, hidden), blocks(hidden, 2))
        self.to32 = nn.Conv2d(hidden, c32, 1)
        self.to64 = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, 2, 1, groups=hidden), nn.GELU(), nn.Conv2d(hidden, c32, 1)
        )
        nn.init.zeros_(self.context.weight)
        nn.init.zeros_(self.context.bias)

    def forward(self, latents: Tensor, quality: Tensor, side: Tensor) -> list[Tensor]:
        """Features of latents.

        Args:
            latents: dequantized, (N, C, h / 16, w / 16), h and w multiples of 32.
            quality: (N, 1, 1, 1) in [0, 1].
            side: dequantized latents of the global layer, (N, S, 1, 1).

        Returns:
            (N, c, h / s, w / s), s = 8, 16, 32, 64, sides rounded up.
        """
        x = self.stem(torch.cat([latents, spread(quality, latents)], 1))
        x = self.body(x + self.context(side))
        coarse = self.down(x)
        return [self.to8(x), self.to16(x), self.to32(coarse), self.to64(coarse)]


class SpatialLayer(nn.Module):
    """Features to integer latents and back.

    Args:
        inputs: channels that the analysis sees at strides 8, 16 and 32.
        outputs: channels that the synthesis gives at strides 8, 16 and 32; stride 64 has as many as 32.
        side: channels of the global layer, on which entropy model and synthesis are conditioned.
        channels: latent channels, a multiple of four.
        hidden: width of the transforms.
        depth: residual blocks of each transform at stride 16.
        context: width of the entropy model.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        side: int,
        channels: int = 64,
        hidden: int = 192,
        depth: int = 5,
        context: int = 96,
    ):
        super().__init__()
        self.spec = LatentSpec(channels, STRIDE)
        self.outputs = (*outputs, outputs[-1])
        self.g_a = SpatialAnalysis(inputs, hidden, channels, depth)
        self.g_s = SpatialSynthesis(channels, outputs, hidden, depth, side)
        self.gain, self.inverse_gain = Gains(channels, -1.6, 0.0), Gains(channels, 1.6, 0.0)
        self.base = ExactConv2d(side + 1, BASE)
        self.context = ContextModel(channels, base=BASE, hidden=context, passes=4)

    def forward(
        self, features: Sequence[Tensor], side: Tensor, quality: Tensor, noisy: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Differentiable coding.

        Args:
            features: (N, c, h / s, w / s), s = 8, 16, 32; h and w multiples of 32.
            side: y_hat of the global layer in steps, (N, S, 1, 1).
            quality: (N, 1, 1, 1) in [0, 1].
            noisy: whether bits are those of y with uniform noise, as in training, or of y_hat itself.

        Returns:
            y_hat in steps and its bits, both (N, C, h / 16, w / 16).
        """
        y = self.g_a(features).float() * self.gain(quality)
        with torch.autocast(y.device.type, enabled=False):
            return self.context(y, self.entropy_base(side, quality, y), noisy)

    def entropy_base(self, side: Tensor, quality: Tensor, like: Tensor) -> Tensor:
        """What the entropy model of y is told, in floating point.

        Args:
            side: as of `forward`.
            quality: as of `forward`.
            like: y, for its grid.

        Returns:
            (N, B, h / 16, w / 16), one column expanded.
        """
        base = self.base(torch.cat([side / CONTEXT_SCALE, quality.expand(len(side), 1, 1, 1)], 1))
        return base.expand(-1, -1, *like.shape[-2:])

    def dequantize(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Undo the gain.

        Args:
            y_hat: latents in steps, (N, C, h / 16, w / 16).
            quality: (N, 1, 1, 1) in [0, 1].

        Returns:
            (N, C, h / 16, w / 16).
        """
        return y_hat * self.inverse_gain(quality)

    def exact_base(self, side: Tensor, level: int, grid: tuple[int, int]) -> Tensor:
        """Integers on which the parse of y depends.

        Args:
            side: values of the global layer in sixteenths of a step, (N, S, 1, 1).
            level: quality 0..120.
            grid: rows and columns of y.

        Returns:
            (N, B, rows, columns) float32, integers of 1/256, one column expanded.
        """
        known = (side.double() * (UNIT // STEPS // CONTEXT_SCALE)).clamp(-LIMIT, LIMIT)
        return self.base.exact(torch.cat([known, exact_plane(level, known)], 1)).expand(-1, -1, *grid)

    def quantize(self, y: Tensor, side: Tensor, level: int) -> Quantized:
        """Analyzed features to integers.

        Args:
            y: latents before their gain, (N, C, h / 16, w / 16).
            side: as of `exact_base`.
            level: quality 0..120.

        Returns:
            values, and the passes that code them.

        Raises:
            ValueError: if y has an odd number of rows or columns.
        """
        gain = self.gain(quality_plane(level, y))
        return self.context.quantize(y, gain, self.exact_base(side, level, (y.shape[-2], y.shape[-1])))
