"""What photographs really show: the targets that data sets give and heads learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = 255
"""Pixels of this class count neither in losses nor in scores."""


@dataclass
class Instances:
    """The objects of one photograph.

    Attributes:
        boxes: (N, 4) float32: left, top, right, bottom in pixels, inside the photograph.
        labels: (N,) int64 class indices.
        masks: (N, H, W) bool, or None where the data set has none.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def scaled(self, width: float, height: float) -> Instances:
        """The objects of the photograph resized to ``width`` and ``height`` times its size; masks cannot follow.

        Raises:
            ValueError: if the objects have masks.
        """
        if self.masks is not None:
            raise ValueError("masks are not resized")
        return Instances(self.boxes * self.boxes.new_tensor([width, height, width, height]), self.labels)

    def cropped(self, left: int, top: int, width: int, height: int, seen: float = 0.3) -> Instances:
        """The objects in a window of the photograph, but for those of whose box less than ``seen`` is in it."""
        corner = self.boxes.new_tensor([left, top, left, top])
        limit = self.boxes.new_tensor([width, height, width, height])
        boxes = (self.boxes - corner).clamp_min(0).minimum(limit)
        area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])  # noqa: E731
        keep = (area(boxes) >= seen * area(self.boxes)) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        masks = None if self.masks is None else self.masks[keep, top : top + height, left : left + width]
        return Instances(boxes[keep], self.labels[keep], masks)

    def flipped(self, width: int) -> Instances:
        """The objects of the photograph's mirror image, ``width`` pixels wide."""
        boxes = self.boxes.clone()
        boxes[:, 0], boxes[:, 2] = width - self.boxes[:, 2], width - self.boxes[:, 0]
        return Instances(boxes, self.labels, None if self.masks is None else self.masks.flip(-1))
