"""What photographs really show: the targets that data sets give and heads learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = 255
"""Pixels of this class count neither in losses nor in scores."""


@dataclass
class Boxes:
    """The objects of one photograph.

    Attributes:
        boxes: (N, 4) float32: left, top, right, bottom in pixels, inside the photograph.
        labels: (N,) int64 class indices.
        masks: (N, H, W) bool, or None where the data set has none.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def flipped(self, width: int) -> Boxes:
        """The objects of the photograph's mirror image, ``width`` pixels wide."""
        boxes = self.boxes.clone()
        boxes[:, 0], boxes[:, 2] = width - self.boxes[:, 2], width - self.boxes[:, 0]
        return Boxes(boxes, self.labels, None if self.masks is None else self.masks.flip(-1))
