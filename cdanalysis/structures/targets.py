"""What photographs really show: the targets that data sets give and heads learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from typing_extensions import Self

IGNORE = 255
"""Pixels of this class count neither in losses nor in scores."""


class Target:
    """What a data set says of one photograph; it knows what becomes of itself when the photograph is changed.

    Attributes:
        whole: whether it is about the whole photograph, so that no window may be cut out of it.
    """

    whole: ClassVar[bool] = False

    def flipped(self, width: int) -> Self:
        """That of the photograph's mirror image, ``width`` pixels wide."""
        raise NotImplementedError(f"a {type(self).__name__} cannot be mirrored")

    def scaled(self, width: float, height: float) -> Self:
        """That of the photograph resized to ``width`` and ``height`` times its size."""
        raise NotImplementedError(f"a {type(self).__name__} cannot be resized")

    def cropped(self, left: int, top: int, width: int, height: int) -> Self:
        """That of a window of the photograph, in pixels."""
        raise NotImplementedError(f"a {type(self).__name__} cannot be cut")

    def relabeled(self, places: Tensor) -> Self:
        """The same with class ``places[i]`` (C,) int64 for class i."""
        raise NotImplementedError(f"a {type(self).__name__} has no classes")

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        return self


class ClassLabel(int, Target):
    """The class index of a photograph."""

    whole = True

    def flipped(self, width: int) -> ClassLabel:
        return self

    def scaled(self, width: float, height: float) -> ClassLabel:
        return self

    def relabeled(self, places: Tensor) -> ClassLabel:
        return ClassLabel(places[int(self)])


@dataclass
class LabelMap(Target):
    """A class for every pixel of one photograph.

    Attributes:
        labels: (H, W) uint8 or int64 class indices, or ``IGNORE``.
    """

    labels: Tensor

    def flipped(self, width: int) -> LabelMap:
        return LabelMap(self.labels.flip(-1))

    def scaled(self, width: float, height: float) -> LabelMap:
        """As `Target.scaled`; every pixel takes the nearest one's class."""
        import numpy as np
        import torch
        from PIL import Image

        rows, columns = self.labels.shape
        image = Image.fromarray(self.labels.cpu().numpy().astype(np.uint8))
        resized = image.resize((round(columns * width), round(rows * height)), Image.Resampling.NEAREST)
        return LabelMap(torch.from_numpy(np.array(resized)).to(self.labels))

    def cropped(self, left: int, top: int, width: int, height: int) -> LabelMap:
        return LabelMap(self.labels[top : top + height, left : left + width])

    def relabeled(self, places: Tensor) -> LabelMap:
        """As `Target.relabeled`; what is ``IGNORE`` stays so."""
        labels = self.labels.long()
        counted = labels != IGNORE
        return LabelMap(places[labels.where(counted, 0)].where(counted, IGNORE))

    def to(self, device: torch.device) -> LabelMap:
        return LabelMap(self.labels.to(device))


@dataclass
class Instances(Target):
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
        """As `Target.scaled`; masks cannot follow.

        Raises:
            ValueError: if the objects have masks.
        """
        if self.masks is not None:
            raise ValueError("masks are not resized")
        return Instances(self.boxes * self.boxes.new_tensor([width, height, width, height]), self.labels)

    def cropped(self, left: int, top: int, width: int, height: int, seen: float = 0.3) -> Instances:
        """As `Target.cropped`, but for objects of whose box less than ``seen`` is in the window."""
        corner = self.boxes.new_tensor([left, top, left, top])
        limit = self.boxes.new_tensor([width, height, width, height])
        boxes = (self.boxes - corner).clamp_min(0).minimum(limit)
        area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])  # noqa: E731
        keep = (area(boxes) >= seen * area(self.boxes)) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        masks = None if self.masks is None else self.masks[keep, top : top + height, left : left + width]
        return Instances(boxes[keep], self.labels[keep], masks)

    def flipped(self, width: int) -> Instances:
        boxes = self.boxes.clone()
        boxes[:, 0], boxes[:, 2] = width - self.boxes[:, 2], width - self.boxes[:, 0]
        return Instances(boxes, self.labels, None if self.masks is None else self.masks.flip(-1))

    def relabeled(self, places: Tensor) -> Instances:
        return replace(self, labels=places[self.labels])

    def to(self, device: torch.device) -> Instances:
        masks = None if self.masks is None else self.masks.to(device)
        return Instances(self.boxes.to(device), self.labels.to(device), masks)
