"""COCO's instance masks as label maps in PASCAL VOC's classes."""

from __future__ import annotations

from pathlib import Path

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


class CocoMasks(CocoImages):
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

    def __init__(self, images: str | Path, annotations: str | Path):
        super().__init__(images, annotations)
        self.classes = list(VOC_CLASSES)

    def labels(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8 class indices of a photograph of ``size`` (height, width)."""
        coco, labels = self.coco, np.zeros(size, np.uint8)
        masked = [(a, coco.annToMask(a).astype(bool)) for a in coco.imgToAnns[self.ids[index]] if "segmentation" in a]
        for annotation, mask in sorted(masked, key=lambda pair: (not pair[0].get("iscrowd"), -pair[1].sum())):
            name = coco.cats[annotation["category_id"]]["name"]
            name = COCO_NAMES.get(name, name)
            known = self.classes.index(name) if name in self.classes else 0
            labels[mask[: size[0], : size[1]]] = IGNORE if annotation.get("iscrowd") else known
        return labels

    def __getitem__(self, index: int) -> tuple[Image.Image, LabelMap]:  # type: ignore[override]
        image = self.image(index)
        return image, LabelMap(torch.from_numpy(self.labels(index, (image.height, image.width))))
