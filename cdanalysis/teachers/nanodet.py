"""NanoDet-Plus-m, a detector of COCO's 80 classes for small machines.

ShuffleNetV2 1.0x (Ma and others, 2018), a path-aggregation network of ghost blocks (Han and others: "GhostNet", CVPR
2020), and one small head per level, which predicts distributions of the sides of boxes (Li and others: "Generalized
Focal Loss", NeurIPS 2020). Published as RangiLyu/nanodet under Apache-2.0; batch norms are folded into convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..structures.features import STRIDES
from .base import Frozen, check_sides

BINS = 8
"""The distance to a side of a box is a distribution over 0, 1, ..., 7 strides."""

COCO_CLASSES = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
]  # fmt: skip
"""In the order of the heads' outputs."""


class DetectorFeatures(NamedTuple):
    """The features of a detector.

    Attributes:
        pyramid: (p3, p4, p5, p6), 96 channels each at strides 8, 16, 32 and 64, which heads read.
        backbone: (c3, c4, c5), 116, 232 and 464 channels at strides 8, 16 and 32; empty where a teacher has none beside
            its pyramid.
    """

    pyramid: tuple[Tensor, ...]
    backbone: tuple[Tensor, ...]


def depthwise(channels: int, side: int, stride: int = 1) -> nn.Conv2d:
    """A depthwise convolution with "same" padding.

    Args:
        channels: of input and output.
        side: of the kernel, odd.
        stride: divides height and width, rounded up.
    """
    return nn.Conv2d(channels, channels, side, stride, side // 2, groups=channels)


class Active(nn.Sequential):
    """A convolution, then a leaky ReLU.

    Args:
        convolution: the convolution.
    """

    def __init__(self, convolution: nn.Conv2d):
        super().__init__(convolution, nn.LeakyReLU(0.1))


class Separable(nn.Sequential):
    """A depthwise and a pointwise convolution, each with activation.

    Args:
        channels: of input and output.
        side: of the depthwise kernel.
        stride: of the depthwise convolution.
    """

    def __init__(self, channels: int, side: int = 5, stride: int = 1):
        super().__init__(Active(depthwise(channels, side, stride)), Active(nn.Conv2d(channels, channels, 1)))


class ShuffleBranch(nn.Sequential):
    """The computed branch of ShuffleNetV2's units: pointwise, depthwise, pointwise.

    Args:
        channels: of the input.
        out_channels: of the output.
        stride: of the depthwise convolution.
    """

    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__(
            Active(nn.Conv2d(channels, out_channels, 1)),
            depthwise(out_channels, 3, stride),
            Active(nn.Conv2d(out_channels, out_channels, 1)),
        )


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's basic unit: half of the channels pass unchanged; then the halves are interleaved.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.branch = ShuffleBranch(channels // 2, channels // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The features of the next layer.

        Args:
            x: (N, channels, h, w).

        Returns:
            of the same shape.
        """
        passed, seen = x.chunk(2, 1)
        return interleave(passed, self.branch(seen))


class ShuffleReduction(nn.Module):
    """ShuffleNetV2's unit of stride 2: both halves of the channels are computed from all channels.

    Args:
        channels: of the input.
        out_channels: of the output.
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.skip = nn.Sequential(depthwise(channels, 3, 2), Active(nn.Conv2d(channels, out_channels // 2, 1)))
        self.branch = ShuffleBranch(channels, out_channels // 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """The features of the next stride.

        Args:
            x: (N, channels, h, w).

        Returns:
            (N, out_channels, h/2, w/2), sides rounded up.
        """
        return interleave(self.skip(x), self.branch(x))


def interleave(a: Tensor, b: Tensor) -> Tensor:
    """Interleave the channels of two tensors.

    Args:
        a: (N, C, h, w).
        b: (N, C, h, w).

    Returns:
        (N, 2 C, h, w).
    """
    return torch.stack([a, b], 2).flatten(1, 2)


class ShuffleNet(nn.Module):
    """ShuffleNetV2 1.0x without its last convolution: normalized pixels to (c3, c4, c5)."""

    def __init__(self):
        super().__init__()
        self.stem = Active(nn.Conv2d(3, 24, 3, 2, 1))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(ShuffleReduction(channels, out), *(ShuffleUnit(out) for _ in range(units - 1)))
            for channels, out, units in ((24, 116, 4), (116, 232, 8), (232, 464, 4))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The features of photographs.

        Args:
            x: normalized pixels, (N, 3, H, W).

        Returns:
            (c3, c4, c5): (N, c, H / s, W / s), s = 8, 16, 32, sides rounded up.
        """
        x, features = self.pool(self.stem(x)), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)


class Ghost(nn.Module):
    """A ghost module: half of the channels by a pointwise convolution, the others by depthwise filters of those.

    Args:
        channels: of the input.
        out_channels: of the output.
        active: whether convolutions are followed by activations.
    """

    def __init__(self, channels: int, out_channels: int, active: bool):
        super().__init__()
        primary, cheap = nn.Conv2d(channels, out_channels // 2, 1), depthwise(out_channels // 2, 3)
        self.primary: nn.Module = Active(primary) if active else primary
        self.cheap: nn.Module = Active(cheap) if active else cheap

    def forward(self, x: Tensor) -> Tensor:
        """The features of the next layer.

        Args:
            x: (N, channels, h, w).

        Returns:
            (N, out_channels, h, w).
        """
        x = self.primary(x)
        return torch.cat([x, self.cheap(x)], 1)


class GhostBlock(nn.Module):
    """Two ghost modules, and a separable shortcut.

    Args:
        channels: of the input.
        out_channels: of the output.
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.ghost1, self.ghost2 = Ghost(channels, out_channels, True), Ghost(out_channels, out_channels, False)
        self.shortcut = nn.Sequential(depthwise(channels, 5), nn.Conv2d(channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The features of the next layer.

        Args:
            x: (N, channels, h, w).

        Returns:
            (N, out_channels, h, w).
        """
        return self.ghost2(self.ghost1(x)) + self.shortcut(x)


class GhostPAN(nn.Module):
    """The path-aggregation network: (c3, c4, c5) to (p3, p4, p5, p6), top-down, then bottom-up.

    Args:
        channels: of c3, c4 and c5.
        width: channels of each output.
    """

    def __init__(self, channels: tuple[int, ...] = (116, 232, 464), width: int = 96):
        super().__init__()
        self.reduce = nn.ModuleList(Active(nn.Conv2d(c, width, 1)) for c in channels)
        self.top_down = nn.ModuleList(GhostBlock(2 * width, width) for _ in range(2))
        self.down = nn.ModuleList(Separable(width, stride=2) for _ in range(2))
        self.bottom_up = nn.ModuleList(GhostBlock(2 * width, width) for _ in range(2))
        self.extra_in, self.extra_out = Separable(width, stride=2), Separable(width, stride=2)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The pyramid of a backbone's features.

        Args:
            features: (c3, c4, c5): (N, c, H / s, W / s), s = 8, 16, 32; H and W multiples of 32.

        Returns:
            (p3, p4, p5, p6): (N, width, H / s, W / s), s = 8, 16, 32, 64, sides rounded up.
        """
        x3, x4, x5 = (reduce(f) for reduce, f in zip(self.reduce, features, strict=True))
        t4 = self.top_down[0](torch.cat([doubled(x5), x4], 1))
        p3 = self.top_down[1](torch.cat([doubled(t4), x3], 1))
        p4 = self.bottom_up[0](torch.cat([self.down[0](p3), t4], 1))
        p5 = self.bottom_up[1](torch.cat([self.down[1](p4), x5], 1))
        return p3, p4, p5, self.extra_in(x5) + self.extra_out(p5)


def doubled(x: Tensor) -> Tensor:
    """Bilinear upsampling to twice the height and width.

    Args:
        x: (N, C, h, w).

    Returns:
        (N, C, 2 h, 2 w).
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class DetectorHead(nn.Module):
    """One level of the pyramid, (N, 96, h, w), to (N, classes + 4 * BINS, h, w): logits of classes, then of sides.

    The sides are those to the left, top, right and bottom.

    Args:
        width: channels of the input.
        classes: number of classes.
    """

    def __init__(self, width: int = 96, classes: int = 80):
        super().__init__()
        self.tower = nn.Sequential(Separable(width), Separable(width))
        self.predict = nn.Conv2d(width, classes + 4 * BINS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The logits of a level of the pyramid.

        Args:
            x: (N, width, h, w).

        Returns:
            (N, classes + 4 * BINS, h, w), those of classes before those of sides.
        """
        return self.predict(self.tower(x))


class NanoDetPlus(Frozen):
    """NanoDet-Plus-m, trained at 416x416 pixels; takes photographs whose sides are multiples of 32.

    Attributes:
        PYRAMID, BACKBONE: channels of the features at strides 8 to 64, and 8 to 32.
        backbone: normalized pixels to (c3, c4, c5).
        pan: those to (p3, p4, p5, p6).
        heads: one `DetectorHead` for each of these.
    """

    WEIGHTS = "weights/nanodet_plus_m_416.safetensors"
    PYRAMID = (96, 96, 96, 96)
    BACKBONE = (116, 232, 464)

    def __init__(self):
        super().__init__((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
        self.backbone, self.pan = ShuffleNet(), GhostPAN()
        self.heads = nn.ModuleList(DetectorHead() for _ in STRIDES)
        self.freeze()

    @staticmethod
    def own_name(name: str) -> str:
        """As `Frozen.own_name`."""
        return f"pan.{name[5:]}" if name.startswith("neck.") else name

    def forward(self, pixels: Tensor) -> DetectorFeatures:
        """The features of photographs.

        Args:
            pixels: RGB (N, 3, H, W) in 0..255, uint8 or float.

        Returns:
            (N, c, H / s, W / s), with the channels of ``PYRAMID`` and ``BACKBONE``, sides rounded up.

        Raises:
            ValueError: for another shape, or a side that is not a multiple of 32.
        """
        x = self.normalized(pixels).flip(1)  # it was trained on blue, green, red
        check_sides(x)
        backbone = self.backbone(x)
        return DetectorFeatures(self.pan(backbone), backbone)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Detect objects.

        Args:
            pixels: RGB (N, 3, H, W) in 0..255, uint8 or float.

        Returns:
            scores and boxes of all cells, see `decode_boxes`.

        Raises:
            ValueError: for another shape, or a side that is not a multiple of 32.
        """
        return decode_boxes([head(p) for head, p in zip(self.heads, self(pixels).pyramid, strict=True)], STRIDES)


def decode_boxes(maps: Sequence[Tensor], strides: Sequence[int] = STRIDES) -> tuple[Tensor, Tensor]:
    """The outputs of heads as scores and boxes, without thresholds, non-maximum suppression or clipping.

    Args:
        maps: for each level (N, classes + 4 * BINS, h, w), logits of classes before those of sides.
        strides: of the levels, in pixels of the network's input.

    Returns:
        scores (N, A, classes) in [0, 1], and boxes (N, A, 4): left, top, right, bottom in pixels of the input; A
        cells, level by level and row by row.
    """
    scores, boxes = [], []
    for level, stride in zip(maps, strides, strict=True):
        cells = level.flatten(2).transpose(1, 2)
        logits, sides = cells.split([level.shape[1] - 4 * BINS, 4 * BINS], -1)
        scores.append(logits.sigmoid())
        boxes.append(boxes_around(cell_corners(level.shape[-2:], stride, level), sides, stride))
    return torch.cat(scores, 1), torch.cat(boxes, 1)


def cell_corners(size: Sequence[int], stride: int, like: Tensor) -> Tensor:
    """The upper left corners of the cells of a grid.

    Args:
        size: rows and columns of the grid.
        stride: of the grid, in pixels.
        like: gives dtype and device.

    Returns:
        x and y in pixels, (rows * columns, 2), row by row.

    >>> cell_corners((1, 2), 8, torch.zeros(1)).tolist()
    [[0.0, 0.0], [8.0, 0.0]]
    """
    rows, columns = (torch.arange(n, dtype=like.dtype, device=like.device) * stride for n in size)
    return torch.cartesian_prod(rows, columns).view(-1, 2).flip(1)


def boxes_around(points: Tensor, sides: Tensor, stride: int | Tensor) -> Tensor:
    """Boxes from distributions of the distances to their four sides.

    Args:
        points: x and y in pixels, (A, 2).
        sides: logits (..., A, 4 * BINS) of the distances to left, top, right and bottom, in strides.
        stride: in pixels, or that of each point, (A, 1).

    Returns:
        (..., A, 4): left, top, right, bottom in pixels.
    """
    chances = sides.unflatten(-1, (4, BINS)).softmax(-1)
    left_top, right_bottom = (chances @ torch.arange(BINS, dtype=sides.dtype, device=sides.device) * stride).chunk(
        2, -1
    )
    return torch.cat([points - left_top, points + right_bottom], -1)
