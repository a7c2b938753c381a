"""The semantic layer: what machines need, and nothing that only eyes do.

A frozen ImageNet backbone looks at the photograph; a small top-down network and a bottleneck of
few channels turn its features into latents at stride 16. The layer is task-agnostic: it is
trained so that a pyramid rebuilt from it (`cdanalysis.heads.neck`) is like the backbone's own.
"""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from ..blocks import Downsample, Upsample, blocks, fold_batch_norms
from ..structures.latents import STEPS, LatentSpec
from .entropy.models import ContextModel, Quantized
from .gains import Gains, exact_plane, spread
from .integer.exact import ExactConv2d
from .rounding import Doubt
from .tiles import STRIDE

FIRST = 2
"""Stages of an EfficientNet before stride 8."""


class Backbone(nn.Module):
    """A frozen EfficientNet of timm's: photographs in [0, 1] to features at strides 8, 16 and 32.

    Its batch norms are folded; `load` takes a state dict that still has them.
    """

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self.net = timm.create_model(name, features_only=True, out_indices=(2, 3, 4), pretrained=False)
        if not hasattr(self.net, "conv_stem") or self.net.feature_info.reduction() != [8, 16, 32]:
            raise ValueError(f"backbone {name!r} is no EfficientNet with features at strides 8, 16 and 32")
        self.channels: tuple[int, ...] = tuple(self.net.feature_info.channels())
        fold_batch_norms(self.net)
        self.requires_grad_(False)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over the weights of a timm network of the same kind (a classifier's, say)."""
        net = timm.create_model(self.name, features_only=True, out_indices=(2, 3, 4), pretrained=False)
        wanted = net.state_dict().keys()
        net.load_state_dict({name: tensor for name, tensor in weights.items() if name in wanted})
        fold_batch_norms(net)
        self.net.load_state_dict(net.state_dict())

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode: batch statistics never move."""
        return super().train(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.rest(self.first(x))

    def first(self, x: Tensor) -> Tensor:
        """The stages to stride 4, (N, c, H/4, W/4): most of the memory. They see no farther than 16 pixels."""
        return self.net.blocks[:FIRST](self.net.bn1(self.net.conv_stem(2 * x - 1)))

    def rest(self, x: Tensor) -> list[Tensor]:
        """From there, the features."""
        features = []
        for number, block in enumerate(self.net.blocks[FIRST:], FIRST + 1):
            x = block(x)
            if number in self.net._stage_out_idx:
                features.append(x)
        return features


class SemanticAnalysis(nn.Module):
    """g_a of the semantic layer: backbone features (strides 8, 16, 32) to y at stride 16.

    Attributes:
        receptive_radius: a cell of y depends on no features but those of the cells up to so many away.
    """

    def __init__(self, features: tuple[int, ...], hidden: int, channels: int, depth: int = 3):
        super().__init__()
        self.receptive_radius = depth
        c8, c16, c32 = features
        self.down = Downsample(c8, hidden)
        self.keep = nn.Conv2d(c16, hidden, 1)
        self.up = Upsample(c32, hidden)
        self.body = blocks(hidden, depth)
        self.out = nn.Conv2d(hidden, channels, 1)
        with torch.no_grad():  # start at a low rate
            self.out.weight.mul_(0.3)

    def forward(self, features: list[Tensor]) -> Tensor:
        f8, f16, f32 = features
        return self.out(self.body(self.down(f8) + self.keep(f16) + self.up(f32)))


class SemanticLayer(nn.Module):
    """Base layer of the stream: features to integer latents and back to dequantized latents.

    Args:
        features: channels of the backbone's features at strides 8, 16 and 32.
        channels: latent channels.
        hidden: width of the analysis and of the entropy networks.
    """

    def __init__(self, features: tuple[int, ...], channels: int = 24, hidden: int = 128):
        super().__init__()
        self.spec = LatentSpec(channels, STRIDE)
        self.g_a = SemanticAnalysis(features, hidden, channels)
        self.gain = Gains(channels, -1.2, 0.0)
        self.inverse_gain = Gains(channels, 1.2, 0.0)
        self.quality_base = ExactConv2d(1, 16)
        self.context = ContextModel(channels, base=16, hidden=64, passes=4)

    def forward(self, features: list[Tensor], quality: Tensor, noisy: bool = True) -> tuple[Tensor, Tensor]:
        """(y_hat scaled (N, C, h, w), bits (N, C, h, w)), differentiable; quality (N, 1, 1, 1) or a map."""
        y = self.g_a(features).float() * self.gain(quality)
        with torch.autocast(y.device.type, enabled=False):
            return self.context(y, self.quality_base(spread(quality, y)), noisy)

    def dequantize(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Undo the gain: what heads and the fusion decoder read, (N, C, h, w) float."""
        return y_hat * self.inverse_gain(quality)

    def exact_base(self, level: int, size: tuple[int, int], device: torch.device, count: int = 1) -> Tensor:
        """Integers on which this layer's parse depends: (count, 16, h, w) float32, one column expanded."""
        cell = torch.empty((1, 1, 1, 1), dtype=torch.float64, device=device)
        return self.quality_base.exact(exact_plane(level, cell)).expand(count, -1, *size)

    def quantize(self, y: Tensor, gain: Tensor, level: int, doubt: Doubt | None = None) -> Quantized:
        """y (N, C, h, w) times a gain to integers."""
        return self.context.quantize(y, gain, self.exact_base(level, y.shape[-2:], y.device, len(y)), doubt)


def to_real(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Integer latents (sixteenths) as y_hat in steps."""
    return (values.double() / STEPS).to(dtype)
