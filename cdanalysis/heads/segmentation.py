"""Semantic segmentation from the feature pyramid."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import GroupNorm
from ..structures.predictions import Segmentation
from ..structures.targets import IGNORE, LabelMap
from .base import Head
from .classification import divergence
from .neck import FeaturePyramid


class SegmentationHead(Head):
    """A semantic feature pyramid: all levels refined, brought to stride 8, summed and classified.

    After Kirillov, Girshick, He, Dollar, "Panoptic feature pyramid networks" (CVPR 2019).

    Args:
        features: channels at strides 8, 16 and 32.
        classes: class names, at most 255.
        width: channels of the feature pyramid, a multiple of 32.
    """

    levels = 3

    def __init__(self, features: tuple[int, int, int], classes: list[str], width: int = 96):
        super().__init__()
        if width % 32:
            raise ValueError(f"width must be a multiple of 32, got {width}")
        if not 2 <= len(classes) <= IGNORE:
            raise ValueError(f"segmentation needs 2 to {IGNORE} classes, got {len(classes)}")
        self.classes, self.width = list(classes), width
        self.backbone = FeaturePyramid(features, width)
        self.refine = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), GroupNorm(width // 16, width), nn.ReLU())
            for _ in range(3)
        )
        self.classify = nn.Conv2d(width, len(self.classes), 1)

    def describe(self) -> dict[str, Any]:
        """What rebuilds this head, beside the features' channels."""
        return {"classes": self.classes, "width": self.width}

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Logits (N, classes, H/8, W/8) from features at strides 8, 16 and 32."""
        levels = list(self.backbone(pyramid).values())[:3]
        total = self.refine[0](levels[0])
        for refine, level in zip(self.refine[1:], levels[1:], strict=True):
            total = total + F.interpolate(refine(level), size=total.shape[-2:], mode="bilinear")
        return self.classify(total)

    def loss(self, pyramid: list[Tensor], targets: list[LabelMap], sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Cross-entropy over the pixels of photographs of ``sizes``, those of ``IGNORE`` left out."""
        logits = F.interpolate(self(pyramid).float(), scale_factor=8, mode="bilinear")
        padded = torch.full((len(targets), *logits.shape[-2:]), IGNORE, dtype=torch.int64, device=logits.device)
        for row, target, (height, width) in zip(padded, targets, sizes, strict=True):
            row[:height, :width] = target.labels
        return {"segmentation": F.cross_entropy(logits, padded, ignore_index=IGNORE)}

    def distillation(self, pyramid: list[Tensor], features: list[Tensor]) -> Tensor:
        """Divergence (N,), in nats a cell, of what this head says of ``pyramid`` from what it says of ``features``."""
        with torch.no_grad():
            target = self(features)
        return divergence(self(pyramid), target).mean((1, 2))

    @torch.no_grad()
    def predict(self, pyramid: list[Tensor], sizes: list[tuple[int, int]]) -> list[Segmentation]:
        """One `Segmentation` a photograph, at its own (height, width)."""
        logits = F.interpolate(self(pyramid).float(), scale_factor=8, mode="bilinear")
        masks = logits.argmax(1).to(torch.uint8).cpu().numpy()
        return [
            Segmentation(mask[:height, :width].copy(), self.classes)
            for mask, (height, width) in zip(masks, sizes, strict=True)
        ]
