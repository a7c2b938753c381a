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


class SegmentationHead(Head):
    """A semantic feature pyramid: levels refined, brought to stride 8, summed, shifted by the embedding, classified.

    After Kirillov, Girshick, He, Dollar, "Panoptic feature pyramid networks" (CVPR 2019). What the image shows as a
    whole, which the embedding says, decides between classes that look alike in a small window.

    Args:
        spec: of the features.
        classes: class names, at most 255.
        width: channels of the feature pyramid, a multiple of 32.
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
        """Logits (N, classes, h/8, w/8) for a working size of h x w."""
        levels = list(self.backbone(features.pyramid).values())[:3]
        total = self.refine[0](levels[0]) + self.shift(features.embedding)[..., None, None]
        for refine, level in zip(self.refine[1:], levels[1:], strict=True):
            total = total + F.interpolate(refine(level), size=total.shape[-2:], mode="bilinear")
        return self.classify(total)

    def loss(self, features: Features, targets: list[LabelMap]) -> dict[str, Tensor]:
        """Cross-entropy over pixels, those of ``IGNORE`` left out."""
        rows = zip(self(features).float(), targets, strict=True)
        total = torch.stack([_summed_loss(logits, target.labels, features.working) for logits, target in rows]).sum()
        counted = torch.stack([(target.labels != IGNORE).sum() for target in targets]).sum()
        return {"segmentation": total / counted.clamp_min(1)}  # a mean over none would be NaN

    def distillation(self, features: Features, teacher: Features, by: Any = None) -> Tensor:
        """Divergence (N,), in nats a cell, of what it says of ``features`` from what ``by`` says of ``teacher``."""
        with torch.no_grad():
            target = (self if by is None else by)(teacher)
        return divergence(self(features), target).mean((1, 2))

    @torch.no_grad()
    def predict(self, features: Features) -> list[Segmentation]:
        """One `Segmentation` per image, at its true (height, width); classes are chosen at the working size."""
        found = []
        rows = self(features).float().contiguous()
        for logits, size in zip(rows, features.sizes, strict=True):  # all at once would not fit into caches
            mask = _interpolated(logits, features.working).argmax(2).to(torch.uint8).cpu().numpy()
            found.append(Segmentation(_enlarged(mask, size), self.classes))
        return found


def _interpolated(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (C, h, w) of one image at (height, width): (height, width, C), several times faster on the CPU so."""
    cells = logits[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(cells, size=size, mode="bilinear")[0].permute(1, 2, 0)


def _summed_loss(logits: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Cross-entropy, summed over the pixels of one image: a batch's logits would not fit into caches."""
    pixels = _interpolated(logits, size).flatten(0, 1)
    return F.cross_entropy(pixels, labels.flatten().long(), ignore_index=IGNORE, reduction="sum")


def _enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
