"""Ground truth: the targets that data sets provide and heads are trained on."""

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
    """The ground truth of one image, and how it changes when the image is mirrored, resized or cropped.

    Attributes:
        whole: whether it describes the image as a whole, so that the image may not be cropped.
    """

    whole: ClassVar[bool] = False

    def flipped(self, width: int) -> Self:
        """The target of the mirrored image.

        Args:
            width: of the image, in pixels.

        Raises:
            NotImplementedError: for a kind of target that cannot be mirrored.
        """
        raise NotImplementedError(f"a {type(self).__name__} cannot be mirrored")

    def scaled(self, width: float, height: float) -> Self:
        """The target of the resized image.

        Args:
            width: the factor of the image's width.
            height: the factor of its height.

        Raises:
            NotImplementedError: for a kind of target that cannot be resized.
        """
        raise NotImplementedError(f"a {type(self).__name__} cannot be resized")

    def cropped(self, left: int, top: int, width: int, height: int) -> Self:
        """The target of a window of the image.

        Args:
            left: first column of the window, in pixels.
            top: first row, in pixels.
            width: of the window, in pixels.
            height: of the window, in pixels.

        Raises:
            NotImplementedError: for a kind of target that cannot be cut, as of images as a whole.
        """
        raise NotImplementedError(f"a {type(self).__name__} cannot be cut")

    def relabeled(self, places: Tensor) -> Self:
        """The target with class i replaced by ``places[i]``.

        Args:
            places: (C,) int64, for each of the C classes its new index.

        Raises:
            NotImplementedError: for a kind of target without classes.
        """
        raise NotImplementedError(f"a {type(self).__name__} has no classes")

    def to(self, device: torch.device) -> Self:
        """The target on a device.

        Args:
            device: torch device.
        """
        return self


class ClassLabel(int, Target):
    """The class index of a photograph."""

    whole = True

    def flipped(self, width: int) -> ClassLabel:
        """As `Target.flipped`: the same class."""
        return self

    def scaled(self, width: float, height: float) -> ClassLabel:
        """As `Target.scaled`: the same class."""
        return self

    def relabeled(self, places: Tensor) -> ClassLabel:
        """As `Target.relabeled`."""
        return ClassLabel(places[int(self)])


@dataclass
class LabelMap(Target):
    """A class for every pixel of one photograph.

    Attributes:
        labels: (H, W) uint8 or int64 class indices, or ``IGNORE``.
    """

    labels: Tensor

    def flipped(self, width: int) -> LabelMap:
        """As `Target.flipped`."""
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
        """As `Target.cropped`."""
        return LabelMap(self.labels[top : top + height, left : left + width])

    def relabeled(self, places: Tensor) -> LabelMap:
        """As `Target.relabeled`; what is ``IGNORE`` stays so. The map becomes int64."""
        labels = self.labels.long()
        counted = labels != IGNORE
        return LabelMap(places[labels.where(counted, 0)].where(counted, IGNORE))

    def to(self, device: torch.device) -> LabelMap:
        """As `Target.to`."""
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
        """As `Target.scaled`; every pixel of a mask takes the nearest one's value."""
        import torch

        boxes, masks = self.boxes * self.boxes.new_tensor([width, height, width, height]), self.masks
        if masks is not None:
            rows, columns = masks.shape[-2:]
            size = (round(rows * height), round(columns * width))
            down, across = (
                ((torch.arange(new, device=masks.device) + 0.5) * old / new).long()
                for old, new in zip((rows, columns), size, strict=True)
            )
            masks = masks[:, down][:, :, across]
        return Instances(boxes, self.labels, masks)

    def cropped(self, left: int, top: int, width: int, height: int, seen: float = 0.3) -> Instances:
        """As `Target.cropped`; boxes are cut at the window's edges, and objects that are hardly in it are left out.

        Args:
            left: as of `Target.cropped`.
            top: as of `Target.cropped`.
            width: as of `Target.cropped`.
            height: as of `Target.cropped`.
            seen: the least share of an object's box, in [0, 1], that must be in the window; what is left of it must
                also be a pixel wide and high.
        """
        corner = self.boxes.new_tensor([left, top, left, top])
        limit = self.boxes.new_tensor([width, height, width, height])
        boxes = (self.boxes - corner).clamp_min(0).minimum(limit)
        area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])  # noqa: E731
        keep = (area(boxes) >= seen * area(self.boxes)) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        masks = None if self.masks is None else self.masks[keep, top : top + height, left : left + width]
        return Instances(boxes[keep], self.labels[keep], masks)

    def flipped(self, width: int) -> Instances:
        """As `Target.flipped`."""
        boxes = self.boxes.clone()
        boxes[:, 0], boxes[:, 2] = width - self.boxes[:, 2], width - self.boxes[:, 0]
        return Instances(boxes, self.labels, None if self.masks is None else self.masks.flip(-1))

    def relabeled(self, places: Tensor) -> Instances:
        """As `Target.relabeled`."""
        return replace(self, labels=places[self.labels])

    def to(self, device: torch.device) -> Instances:
        """As `Target.to`."""
        masks = None if self.masks is None else self.masks.to(device)
        return Instances(self.boxes.to(device), self.labels.to(device), masks)
