"""Semantic segmentation from the feature pyramid."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ..blocks import GroupNorm
from ..structures.features import Features, FeatureSpec
from ..structures.predictions import Segmentation
from ..structures.targets import IGNORE, LabelMap
from .base import Head
from .classification import divergence
from .pyramid import FeaturePyramid

SAMPLED = 4
"""A step of training looks at one row and one column in so many: twice as many each way as the head has cells."""


class SegmentationHead(Head):
    """A semantic feature pyramid: levels refined, brought to stride 8, summed, shifted by the embedding, classified.

    After Kirillov, Girshick, He, Dollar, "Panoptic feature pyramid networks" (CVPR 2019). What the image shows as a
    whole, which the embedding says, decides between classes that look alike in a small window.

    Args:
        spec: of the features.
        classes: class names, at most 255.
        width: channels of the feature pyramid, a multiple of 32.

    Raises:
        ValueError: for another width, fewer than 2 classes, or more than 255.
    """

    def __init__(self, spec: FeatureSpec, classes: list[str], width: int = 96):
        super().__init__()
        if width % 32:
            raise ValueError(f"width must be a multiple of 32, got {width}")
        if not 2 <= len(classes) <= IGNORE:
            raise ValueError(f"segmentation needs 2 to {IGNORE} classes, got {len(classes)}")
        self.classes, self.width = list(classes), width
        self.backbone = FeaturePyramid(spec.pyramid, width)
        self.refine = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), GroupNorm(width // 16, width), nn.ReLU())
            for _ in range(3)
        )
        self.shift = nn.Linear(spec.embedding, width)
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)
        self.classify = nn.Conv2d(width, len(self.classes), 1)

    def describe(self) -> dict[str, Any]:
        """What rebuilds this head, beside the features' shape."""
        return {"classes": self.classes, "width": self.width}

    def class_rows(self) -> dict[str, Tensor]:
        """As `Head.class_rows`."""
        rows = torch.arange(len(self.classes))[:, None]
        return {"classify.weight": rows, "classify.bias": rows}

    def forward(self, features: Features) -> Tensor:
        """Class logits, cell by cell.

        Args:
            features: of N images, with the pyramid.

        Returns:
            float32 (N, classes, h/8, w/8) for a working size of h x w.
        """
        levels = list(self.backbone(features.pyramid).values())[:3]
        fine = self.refine[0](levels[0]) + self.shift(features.embedding)[..., None, None]
        total = self.classify(fine).float()
        for refine, level in zip(self.refine[1:], levels[1:], strict=True):
            # Classified before it is enlarged: the sum is the same, and of fewer channels.
            logits = F.conv2d(refine(level), self.classify.weight).float()
            total = total + F.interpolate(logits, size=total.shape[-2:], mode="bilinear")
        return total

    def loss(self, features: Features, targets: list[LabelMap]) -> dict[str, Tensor]:
        """As `Head.loss`: cross-entropy over pixels, those of ``IGNORE`` left out; in training over a grid of them.

        The grid, drawn each time, halves the time of a step, and hardly less is learned from it: neighbors are nearly
        always of one class (Cheng and others, "Masked-attention mask transformer", CVPR 2022, sample points of masks
        likewise).
        """
        rows, step = zip(self(features), targets, strict=True), SAMPLED if self.training else 1
        parts = [_summed_loss(logits, target.labels, step) for logits, target in rows]
        total, counted = (torch.stack(part).sum() for part in zip(*parts, strict=True))
        return {"segmentation": total / counted.clamp_min(1)}  # a mean over none would be NaN

    def distillation(self, features: Features, teacher: Features, by: Any = None) -> Tensor:
        """As `Head.distillation`: divergence of class probabilities, in nats a cell."""
        with torch.no_grad():
            target = (self if by is None else by)(teacher)
        return divergence(self(features), target).mean((1, 2))

    @torch.no_grad()
    def predict(self, features: Features) -> list[Segmentation]:
        """As `Head.predict`, at the true (height, width); classes are chosen at the working size.

        Raises:
            ValueError: for a padded batch of images whose working sizes differ.
        """
        found = []
        rows = self(features).contiguous()
        for logits, size in zip(rows, features.sizes, strict=True):  # all at once would not fit into caches
            mask = _interpolated(logits, features.working).argmax(2).to(torch.uint8).cpu().numpy()
            found.append(Segmentation(_enlarged(mask, size), self.classes))
        return found


def _interpolated(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (C, h, w) of one image at (height, width): (height, width, C), several times faster on the CPU so."""
    cells = logits[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(cells, size=size, mode="bilinear")[0].permute(1, 2, 0)


def _summed_loss(logits: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy, summed over the pixels of one image, and their number: a batch's logits would not fit into caches.

    Args:
        logits: (C, h, w).
        labels: (height, width).
        step: one row and one column in so many are looked at.
    """
    first = torch.randint(step, (2,)).tolist()
    rows, columns = (slice(start, None, step) for start in first)
    with torch.autocast(logits.device.type, enabled=False):
        down, across = (
            _interpolation(cells, pixels, logits)[seen]
            for cells, pixels, seen in zip(logits.shape[1:], labels.shape, (rows, columns), strict=True)
        )
        pixels = (down @ logits) @ across.T
    wanted = labels[rows, columns].long()
    total = F.cross_entropy(pixels[None], wanted[None], ignore_index=IGNORE, reduction="sum")
    return total, (wanted != IGNORE).sum()


def _interpolation(cells: int, pixels: int, like: Tensor) -> Tensor:
    """Weights (pixels, cells) of bilinear interpolation along one side."""
    one_hot = torch.eye(cells, dtype=like.dtype, device=like.device)
    return F.interpolate(one_hot[None], size=pixels, mode="linear")[0].T


def _enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
