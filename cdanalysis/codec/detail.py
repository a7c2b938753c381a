"""The detail layer: what eyes need beyond the semantic layers.

Light transforms on a coarse grid: a patchify convolution goes from pixels to stride 8 at once and
all further work happens at strides 8 and 16. The entropy model is conditioned on a hyper-latent
(Balle and others, ICLR 2018) and, in a fused codec, on the spatial layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Downsample, blocks
from ..structures.latents import STEPS, LatentSpec
from . import cosine
from .entropy.models import UNIT, ContextModel, FactorizedPrior, Quantized, round_ste
from .gains import Gains, exact_plane, quality_plane, spread
from .integer.exact import LIMIT, ExactConv2d, ExactUpsample
from .tiles import STRIDE

HYPER_REDUCTION = 4
"""The hyper-latent's grid is this much coarser than the latents'."""
CONTEXT_SCALE = 4
"""Latents are divided by this where networks of the entropy model read them."""


Improved = Callable[[Tensor, Tensor, "int | Tensor", "Tensor | None"], Tensor]
"""Latents in steps, the hyper-latent, the level and the condition in steps to better latents: see `LatentSearch`."""


class Patchify(nn.Sequential):
    """Pixels to stride 8 at once: squares of 8 x 8 pixels become the channels that a convolution reads.

    Args:
        width: channels at stride 8.
        kernel: side of the convolution's kernel at stride 8, odd.
    """

    def __init__(self, width: int, kernel: int):
        super().__init__(nn.PixelUnshuffle(8), nn.Conv2d(192, width, kernel, padding=kernel // 2))

    def forward(self, x: Tensor) -> Tensor:
        """The features of images.

        Args:
            x: (N, 3, H, W), sides multiples of 8.

        Returns:
            (N, width, H/8, W/8).
        """
        convolution = cast(nn.Conv2d, self[1])
        if convolution.kernel_size != (1, 1):
            return super().forward(x)
        # The same sums by a convolution of stride 8, without a copy of all pixels in another order.
        return F.conv2d(x, convolution.weight.reshape(-1, 3, 8, 8), convolution.bias, stride=8)


class DetailAnalysis(nn.Module):
    """g_a: photographs in [0, 1] to y at stride 16, by way of stride 8.

    Args:
        width: channels at stride 8.
        channels: of y.
        depth: blocks at stride 8.
        kernel: side of the kernel next to pixels, 1 or 3.

    Attributes:
        receptive_radius: a cell of y depends on no pixels but those of the cells up to so many away.
    """

    def __init__(self, width: int, channels: int, depth: int, kernel: int = 3):
        super().__init__()
        self.receptive_radius = 2 + math.ceil((kernel // 2 + depth) / 2)
        self.patchify = Patchify(width, kernel)
        self.fine = blocks(width, depth)
        self.down = Downsample(width, channels)
        self.coarse = blocks(channels, 2)
        cosine.start_convolution(self.patchify[1], cosine.patch_weights(width))
        cosine.start_convolution(self.down, cosine.merge_weights(width, channels))
        cosine.silence(self)

    def forward(self, x: Tensor) -> Tensor:
        """The latents of images, before their gain.

        Args:
            x: (N, 3, H, W) in [0, 1], sides multiples of 16.

        Returns:
            (N, C', H/16, W/16).
        """
        return self.coarse(self.down(self.fine(self.patchify(x - 0.5))))


class HyperAnalysis(nn.Sequential):
    """h_a: y to z, four times coarser.

    Args:
        channels: of y.
        hyper: channels of z.

    Attributes:
        receptive_radius: a cell of z depends on no cells of y but its own 4x4 and those so many away from them.
    """

    receptive_radius = 2

    def __init__(self, channels: int, hyper: int):
        super().__init__(
            Downsample(channels, hyper),
            nn.GELU(),
            nn.Conv2d(hyper, hyper, 3, padding=1),
            nn.GELU(),
            Downsample(hyper, hyper),
        )

    def forward(self, y: Tensor) -> Tensor:
        """The hyper-latent, not yet rounded.

        Args:
            y: latents in steps, (N, C', h, w).

        Returns:
            (N, C_z, h/4, w/4), sides rounded up.
        """
        y = y / CONTEXT_SCALE
        height, width = y.shape[-2:]
        pad = (-width % HYPER_REDUCTION, -height % HYPER_REDUCTION)
        return super().forward(F.pad(y, (0, pad[0], 0, pad[1]), mode="replicate") if any(pad) else y)


class HyperSynthesis(nn.Module):
    """h_s, exact: hyper-latent, condition and quality to the context model's base.

    Args:
        hyper: channels of the hyper-latent.
        condition: channels of the condition, without the quality.
        hidden: width; the base has twice as many channels.
    """

    def __init__(self, hyper: int, condition: int, hidden: int):
        super().__init__()
        self.up = nn.ModuleList([ExactUpsample(hyper, hidden), ExactUpsample(hidden, hidden)])
        self.side = ExactConv2d(condition + 1, hidden, 3)

    def forward(self, z_hat: Tensor, side: Tensor) -> Tensor:
        """The base in floating point, for training.

        Args:
            z_hat: hyper-latent in steps, (N, C_z, h/4, w/4), sides rounded up.
            side: the condition in steps, then the quality in [0, 1]: (N, condition + 1, h, w).

        Returns:
            (N, 2 * hidden, h, w), at least 0.
        """
        for layer in self.up:
            z_hat = layer(z_hat)
        return torch.cat([z_hat[..., : side.shape[-2], : side.shape[-1]], self.side(side)], 1)

    def exact(self, z: Tensor, side: Tensor) -> Tensor:
        """The base in integers, for coding.

        Args:
            z: hyper-latent, integers of 1/256 step, (N, C_z, h/4, w/4), sides rounded up.
            side: as of `forward`, in integers of 1/256, of magnitudes up to ``LIMIT``.

        Returns:
            (N, 2 * hidden, h, w) float32, integers from 0 to ``LIMIT``.
        """
        for layer in self.up:
            z = layer.exact(z)
        return torch.cat([z[..., : side.shape[-2], : side.shape[-1]], self.side.exact(side)], 1)


class DetailLayer(nn.Module):
    """Enhancement layer of the stream.

    Args:
        condition: channels of the latents that it is conditioned on; 0 for none.
        channels: latent channels.
        hyper: hyper-latent channels.
        width: width of the analysis at stride 8.
        depth: blocks at stride 8.
        kernel: side of the kernels next to pixels.
        passes: of the entropy model, 2 or 4.
    """

    def __init__(
        self,
        condition: int,
        channels: int = 160,
        hyper: int = 64,
        width: int = 128,
        depth: int = 4,
        kernel: int = 3,
        passes: int = 2,
    ):
        super().__init__()
        self.spec = LatentSpec(channels, STRIDE)
        self.hyper_spec = LatentSpec(hyper, STRIDE * HYPER_REDUCTION)
        self.g_a = DetailAnalysis(width, channels, depth, kernel)
        self.h_a = HyperAnalysis(channels, hyper)
        self.h_s = HyperSynthesis(hyper, condition, hidden=64)
        self.gain = Gains(channels, 1.0, 3.0)
        self.inverse_gain = Gains(channels, -1.0, -3.0)
        self.prior = FactorizedPrior(hyper)
        self.context = ContextModel(channels, base=128, hidden=128, passes=passes, scale=CONTEXT_SCALE)

    def forward(
        self, x: Tensor, quality: Tensor, condition: Tensor | None = None, noisy: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Differentiable coding.

        Args:
            x: images (N, 3, H, W) in [0, 1].
            quality: (N, 1, 1, 1) in [0, 1], or a map (N, 1, h, w).
            condition: y_hat (N, C, h, w) in steps of what the layer is conditioned on.
            noisy: whether bits are those of y with uniform noise, as in training, or of y_hat itself.

        Returns:
            y_hat (N, C', h, w), its bits (N, C', h, w), and the hyper-latent's bits.
        """
        y = self.g_a(x).float() * self.gain(quality)
        z = self.h_a(y).float()
        with torch.autocast(y.device.type, enabled=False):
            z_bits = self.prior.bits(z + torch.rand_like(z) - 0.5 if noisy else z.round())
            y_hat, bits = self.context(y, self.entropy_base(round_ste(z), quality, condition, y), noisy)
        return y_hat, bits, z_bits

    def entropy_base(self, z: Tensor, quality: Tensor, condition: Tensor | None, like: Tensor) -> Tensor:
        """What the entropy model of y is told, in floating point.

        Args:
            z: hyper-latent in whole steps, (N, C_z, h/4, w/4), sides rounded up.
            quality: as of `forward`.
            condition: as of `forward`; None for a layer without.
            like: y, for its batch and grid.

        Returns:
            (N, B, h, w).
        """
        plane = spread(quality, like)
        return self.h_s(z, plane if condition is None else torch.cat([condition, plane], 1))

    def dequantize(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Undo the gain.

        Args:
            y_hat: latents in steps, (N, C', h, w).
            quality: (N, 1, 1, 1) in [0, 1], or a map (N, 1, h, w).

        Returns:
            (N, C', h, w).
        """
        return y_hat * self.inverse_gain(quality)

    def exact_base(self, z: Tensor, level: int | Tensor, condition: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """Integers on which the parse of y depends.

        Args:
            z: hyper-latent in whole steps.
            level: quality 0..120, or int32 (N, 1, h, w).
            condition: values (N, C, h, w) in sixteenths of a step of what the layer is conditioned on.
            grid: (h, w).

        Returns:
            (N, B, h, w) float32, integers of 1/256.
        """
        side = exact_plane(level, z.new_empty(1).expand(len(z), 1, *grid))
        if condition is not None:
            side = torch.cat([(condition.double() * (UNIT // STEPS)).clamp(-LIMIT, LIMIT), side], 1)
        return self.h_s.exact(z.double() * UNIT, side)

    def quantize(
        self, y: Tensor, level: int | Tensor, condition: Tensor | None, improved: Improved | None = None
    ) -> tuple[Quantized, Tensor]:
        """Analyzed images to integers.

        Args:
            y: latents before their gain, (N, C', h, w).
            level: quality 0..120, or int32 (N, 1, h, w).
            condition: as `exact_base` takes it.
            improved: a search for better latents.

        Returns:
            y's values with the passes that code them, and the hyper-latent in whole steps, int32 (N, C_z, h_z, w_z).

        Raises:
            ValueError: if h or w is odd.
        """
        gain = self.gain(quality_plane(level, y))
        hyper = self.prior.quantize(self.h_a(y * gain))
        if improved is not None:
            known = None if condition is None else condition / STEPS
            y, gain = improved(y * gain, hyper, level, known), torch.ones_like(gain)
        base = self.exact_base(hyper, level, condition, (y.shape[-2], y.shape[-1]))
        return self.context.quantize(y, gain, base), hyper
