"""COCO's instance masks as label maps in PASCAL VOC's classes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ..structures.targets import IGNORE, LabelMap
from .coco import CocoImages

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""PASCAL VOC's 21 classes, in its order."""

COCO_NAMES = {
    "airplane": "aeroplane", "dining table": "diningtable", "motorcycle": "motorbike", "potted plant": "pottedplant",
    "couch": "sofa", "tv": "tvmonitor",
}  # fmt: skip
"""COCO's names of VOC's classes, where they differ."""


class CocoMasks:
    """Photographs with a VOC class for every pixel, from COCO's instance masks.

    A pixel of several objects belongs to the smallest. Objects of classes that VOC does not have are background; crowds
    do not count (``IGNORE``).

    Args:
        images: folder or tar archive.
        annotations: COCO JSON file whose objects have masks.

    Attributes:
        classes: ``VOC_CLASSES``.

    Raises:
        FileNotFoundError, ValueError: as `CocoImages` does.
    """

    task = "segmentation"

    def __init__(self, images: str, annotations: str):
        self.objects = CocoImages(images, annotations)
        self.title, self.classes = self.objects.title, list(VOC_CLASSES)

    @property
    def names(self) -> list[str]:
        return self.objects.names

    def __len__(self) -> int:
        return len(self.objects)

    def every(self, step: int) -> CocoMasks:
        """A view of each ``step``-th photograph, the first included."""
        view = copy.copy(self)
        view.objects = self.objects.every(step)
        return view

    def chosen(self, indices: Sequence[int]) -> CocoMasks:
        """A view of these photographs."""
        view = copy.copy(self)
        view.objects = self.objects.chosen(indices)
        return view

    def read(self, index: int) -> bytes:
        return self.objects.read(index)

    def image(self, index: int) -> Image.Image:
        return self.objects.image(index)

    def labels(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8 class indices of a photograph of ``size`` (height, width)."""
        coco, labels = self.objects.coco, np.zeros(size, np.uint8)
        masked = [
            (a, coco.annToMask(a).astype(bool)) for a in coco.imgToAnns[self.objects.ids[index]] if "segmentation" in a
        ]
        for annotation, mask in sorted(masked, key=lambda pair: (not pair[0].get("iscrowd"), -pair[1].sum())):
            name = coco.cats[annotation["category_id"]]["name"]
            name = COCO_NAMES.get(name, name)
            known = self.classes.index(name) if name in self.classes else 0
            labels[mask[: size[0], : size[1]]] = IGNORE if annotation.get("iscrowd") else known
        return labels

    def __getitem__(self, index: int) -> tuple[Image.Image, LabelMap]:
        image = self.image(index)
        return image, LabelMap(torch.from_numpy(self.labels(index, (image.height, image.width))))
