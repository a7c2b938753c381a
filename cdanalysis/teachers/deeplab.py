"""DeepLabv3 on MobileNetV2, a segmentation of PASCAL VOC's 21 classes for small machines.

Chen and others: "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017; Sandler and others:
"MobileNetV2", CVPR 2018. The small variant: stride 16, and of the pyramid only the pointwise and the image-level
branch. The published weights have 8 bits (google-coral, Apache-2.0) and folded batch norms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.coco_masks import VOC_CLASSES
from .base import Frozen

STAGES = (
    (1, 16, 1, 1), (2, 24, 2, 1), (3, 32, 2, 1), (4, 64, 2, 1),
    (3, 96, 1, 1), (1, 160, 1, 1), (2, 160, 1, 2), (1, 320, 1, 2),
)  # fmt: skip
"""Stages of MobileNetV2: blocks, channels, stride of the first block, dilation (which replaces stride 32)."""


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; residual if shapes allow it.

    Args:
        channels: of the input.
        out_channels: of the output.
        expansion: factor of the inner channels.
        stride: of the depthwise convolution.
        dilation: of the depthwise convolution.
    """

    def __init__(self, channels: int, out_channels: int, expansion: int, stride: int, dilation: int):
        super().__init__()
        wide = channels * expansion
        self.expand = nn.Conv2d(channels, wide, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(wide, wide, 3, stride, dilation, dilation, groups=wide)
        self.project = nn.Conv2d(wide, out_channels, 1)
        self.adds = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """The features of the next layer.

        Args:
            x: (N, channels, h, w).

        Returns:
            (N, out_channels, h / stride, w / stride), sides rounded up.
        """
        wide = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(wide)))
        return x + y if self.adds else y


def mobilenet_blocks() -> nn.Sequential:
    """The 17 blocks of MobileNetV2 1.0 after its stem: from 32 channels at stride 2 to 320 at stride 16."""
    layers: list[nn.Module] = []
    channels = 32
    for count, out, first_stride, dilation in STAGES:
        for stride in (first_stride, *[1] * (count - 1)):
            layers.append(InvertedResidual(channels, out, 6 if layers else 1, stride, dilation))
            channels = out
    return nn.Sequential(*layers)


class DeepLab(Frozen):
    """DeepLabv3 on MobileNetV2 1.0.

    It was trained on crops of 513x513 pixels. With sides of 16 k + 1 pixels, the outermost cells are centered on the
    outermost pixels; with other sides, cells are off by up to 15 pixels at the right and bottom edges.
    """

    WEIGHTS = "weights/deeplabv3_mnv2_pascal.safetensors"
    CLASSES = VOC_CLASSES

    def __init__(self):
        super().__init__((127.5,) * 3, (127.5,) * 3)
        self.stem, self.blocks = nn.Conv2d(3, 32, 3, 2, 1), mobilenet_blocks()
        self.aspp, self.pool = nn.Conv2d(320, 256, 1), nn.Conv2d(320, 256, 1)
        self.merge, self.classify = nn.Conv2d(512, 256, 1), nn.Conv2d(256, len(self.CLASSES), 1)
        self.freeze()

    @staticmethod
    def own_name(name: str) -> str:
        """As `Frozen.own_name`."""
        return name.removeprefix("backbone.")

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits of the classes.

        Args:
            pixels: RGB (N, 3, H, W) in 0..255, uint8 or float.

        Returns:
            logits of `CLASSES`, (N, 21, H/16, W/16), sides rounded up.
        """
        x = self.blocks(F.relu6(self.stem(self.normalized(pixels))))
        whole = F.relu(self.pool(x.mean((2, 3), keepdim=True))).expand(-1, -1, *x.shape[-2:])
        return self.classify(F.relu(self.merge(torch.cat([whole, F.relu(self.aspp(x))], 1))))
