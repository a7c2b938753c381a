"""COCO's instance masks as label maps, in PASCAL VOC's classes or in those of the file."""

from __future__ import annotations

from collections.abc import Sequence
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

BACKGROUND = VOC_CLASSES[0]

COCO_NAMES = {
    "airplane": "aeroplane", "dining table": "diningtable", "motorcycle": "motorbike", "potted plant": "pottedplant",
    "couch": "sofa", "tv": "tvmonitor",
}  # fmt: skip
"""COCO's names of VOC's classes, where they differ."""


class CocoMasks(CocoImages):
    """Photographs with a class for every pixel, from COCO's instance masks.

    A pixel of several objects belongs to the smallest. Objects of other classes than the listed ones are background;
    crowds do not count (``IGNORE``).

    Args:
        images: folder or tar archive.
        annotations: COCO JSON file whose objects have masks.
        classes: ``VOC_CLASSES``, or others that begin with the background; by default it and the file's categories.

    Raises:
        FileNotFoundError: as `CocoImages` does.
        ValueError: as `CocoImages` does; also if objects of the file have boxes, but none has a mask, or for more than
            255 classes.
    """

    task = "segmentation"

    def __init__(self, images: str | Path, annotations: str | Path, classes: Sequence[str] = ()):
        super().__init__(images, annotations)
        objects = self.coco.dataset["annotations"]
        if objects and not any(annotation.get("segmentation") for annotation in objects):
            raise ValueError(f"{annotations} has boxes, and no masks (segmentation) to learn segmentation from")
        own = [BACKGROUND, *(name for name in self.classes if name != BACKGROUND)]
        self.classes = list(classes) or own
        if len(self.classes) > IGNORE:
            raise ValueError(f"labels of pixels are bytes, {IGNORE} classes at most: these are {len(self.classes)}")

    def labels(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The label map of a photograph, without reading the photograph.

        Args:
            index: of the photograph.
            size: its (height, width) in pixels, upright.

        Returns:
            (H, W) uint8: indices into ``classes``; ``IGNORE`` where crowds are, and none of the other objects.
        """
        coco, labels = self.coco, np.zeros(size, np.uint8)
        masked = [(a, coco.annToMask(a).astype(bool)) for a in coco.imgToAnns[self.ids[index]] if a.get("segmentation")]
        for annotation, mask in sorted(masked, key=lambda pair: (not pair[0].get("iscrowd"), -pair[1].sum())):
            name = coco.cats[annotation["category_id"]]["name"]
            name = name if name in self.classes else COCO_NAMES.get(name, name)
            known = self.classes.index(name) if name in self.classes else 0
            labels[mask[: size[0], : size[1]]] = IGNORE if annotation.get("iscrowd") else known
        return labels

    def __getitem__(self, index: int) -> tuple[Image.Image, LabelMap]:  # type: ignore[override]
        image = self.image(index)
        return image, LabelMap(torch.from_numpy(self.labels(index, (image.height, image.width))))
