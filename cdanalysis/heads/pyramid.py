"""Equally wide features from a spatial layer's pyramid, as torchvision's and detectron2's heads want them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool


class FeaturePyramid(nn.Module):
    """Features at strides 8, 16 and 32 to equally wide ones at strides 8, 16, 32 and, by pooling, 64.

    Lin and others, "Feature pyramid networks for object detection" (CVPR 2017). Strides are in pixels of the working
    size.

    Args:
        channels: channels at strides 8, 16 and 32; what follows is not read.
        out_channels: channels of every level.
    """

    def __init__(self, channels: Sequence[int], out_channels: int):
        super().__init__()
        self.out_channels = out_channels
        self.fpn = FeaturePyramidNetwork(list(channels[:3]), out_channels, extra_blocks=LastLevelMaxPool())

    def forward(self, pyramid: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
        """Levels by their stride: "8", "16", "32" and "pool" (64).

        Args:
            pyramid: (N, C, h, w) at strides 8, 16 and 32; what follows is not read.

        Returns:
            (N, ``out_channels``, h, w), by name, in that order.
        """
        return self.fpn(OrderedDict(zip(("8", "16", "32"), pyramid[:3], strict=True)))
