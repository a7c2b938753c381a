"""The neck: semantic latents to the feature pyramid that every head reads."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ..blocks import Block, Downsample, Upsample, blocks
from ..structures.latents import LatentSpec


class Neck(nn.Module):
    """Dequantized semantic latents (stride 16) to features at strides 8, 16 and 32.

    Trained to give the features that the codec's backbone sees in the photograph itself
    (distillation: Hinton, Vinyals, Dean, 2015), so that heads made for those run on these.

    Args:
        spec: what the latents look like.
        features: channels to give at strides 8, 16 and 32.
        hidden: width at stride 16.
        detail: what the detail latents look like, for a neck that reads them too. What they add starts at
            nothing, so that a trained neck can learn to read them.
    """

    def __init__(
        self, spec: LatentSpec, features: tuple[int, int, int], hidden: int = 160, detail: LatentSpec | None = None
    ):
        super().__init__()
        self.hidden, self.specs = hidden, (spec,) if detail is None else (spec, detail)
        for each in self.specs:
            if each.stride != 16:
                raise ValueError(f"the neck reads latents of stride 16, not {each.stride}")
        c8, c16, c32 = features
        self.stem = nn.Sequential(nn.Conv2d(spec.channels + 1, hidden, 3, padding=1), blocks(hidden, 4))
        self.to16 = nn.Conv2d(hidden, c16, 1)
        self.to8 = nn.Sequential(Upsample(hidden, hidden // 2), blocks(hidden // 2, 1), nn.Conv2d(hidden // 2, c8, 1))
        self.to32 = nn.Sequential(Downsample(hidden, 2 * hidden), blocks(2 * hidden, 2), nn.Conv2d(2 * hidden, c32, 1))

        self.from_detail = None
        if detail is not None:
            self.from_detail = nn.Sequential(nn.Conv2d(detail.channels, hidden, 3, padding=1), Block(hidden))
            for conv in (self.from_detail[0], self.from_detail[1].narrow):
                nn.init.zeros_(conv.weight)
                nn.init.zeros_(conv.bias)

    def forward(self, latents: list[Tensor], quality: Tensor, levels: int = 3) -> list[Tensor]:
        """Features (N, c, H/s, W/s) for s in 8, 16, 32, H and W multiples of 32; or the coarsest ``levels`` of them.

        Args:
            latents: dequantized, (N, C, H/16, W/16), of each layer that the neck reads.
            quality: (N, 1, 1, 1) or (N, 1, H/16, W/16), in [0, 1], of the semantic layer.
            levels: how many are wanted: a classifier reads one, and the finest costs most.

        Raises:
            ValueError: if there are not as many layers as the neck reads.
        """
        if len(latents) != len(self.specs):
            raise ValueError(f"the neck reads {len(self.specs)} layers, got {len(latents)}")
        semantic = latents[0]
        plane = quality.to(semantic.dtype).expand(len(semantic), 1, *semantic.shape[-2:])
        x = self.stem(torch.cat([semantic, plane], 1))
        if self.from_detail is not None:
            x = x + self.from_detail(latents[1])
        return [level(x) for level in (self.to8, self.to16, self.to32)[-levels:]]


class FeaturePyramid(nn.Module):
    """Features at strides 8, 16 and 32 to equally wide ones at strides 8, 16, 32 and, by pooling, 64.

    Lin and others, "Feature pyramid networks for object detection" (CVPR 2017). Strides are in pixels of the
    photograph, whatever the latents' are.

    Args:
        features: channels at strides 8, 16 and 32.
        out_channels: channels of every level.
    """

    def __init__(self, features: tuple[int, int, int], out_channels: int):
        super().__init__()
        self.out_channels = out_channels
        self.fpn = FeaturePyramidNetwork(list(features), out_channels, extra_blocks=LastLevelMaxPool())

    def forward(self, pyramid: list[Tensor]) -> OrderedDict[str, Tensor]:
        """Levels by their stride: "8", "16", "32" and "pool" (64)."""
        return self.fpn(OrderedDict(zip(("8", "16", "32"), pyramid, strict=True)))
