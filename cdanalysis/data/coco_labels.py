"""Label maps of PASCAL VOC's 21 classes from COCO's masks: COCO has all of these classes, some under other names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..structures.targets import IGNORE, LabelMap
from .coco import CocoImages

VOC_OF_COCO = {
    "airplane": "aeroplane", "bicycle": "bicycle", "bird": "bird", "boat": "boat", "bottle": "bottle", "bus": "bus",
    "car": "car", "cat": "cat", "chair": "chair", "cow": "cow", "dining table": "diningtable", "dog": "dog",
    "horse": "horse", "motorcycle": "motorbike", "person": "person", "potted plant": "pottedplant", "sheep": "sheep",
    "couch": "sofa", "train": "train", "tv": "tvmonitor",
}  # fmt: skip
VOC_CLASSES = ["background", *VOC_OF_COCO.values()]


class CocoLabels:
    """Photographs of a COCO set with VOC's class of every pixel.

    Masks are drawn the largest first, so that small objects lie on top. Objects of COCO's other classes are background;
    crowds are ``IGNORE``. Indexing reads the file: (photograph, `LabelMap`).

    Args:
        images: folder or tar archive.
        annotations: COCO JSON file with masks.

    Attributes:
        classes: VOC's, background first.

    Raises:
        FileNotFoundError, ValueError: as `CocoImages` raises them.
    """

    task = "segmentation"
    classes = VOC_CLASSES

    def __init__(self, images: str | Path, annotations: str | Path):
        self.coco = CocoImages(images, annotations)
        self.title = self.coco.title

    @property
    def names(self) -> list[str]:
        return self.coco.names

    def __len__(self) -> int:
        return len(self.coco)

    def every(self, step: int) -> CocoLabels:
        """A view of each ``step``-th photograph, the first included."""
        return self._view(self.coco.every(step))

    def chosen(self, indices: Sequence[int]) -> CocoLabels:
        """A view of these photographs."""
        return self._view(self.coco.chosen(indices))

    def _view(self, coco: CocoImages) -> CocoLabels:
        view = copy.copy(self)
        view.coco = coco
        return view

    def read(self, index: int) -> bytes:
        return self.coco.read(index)

    def image(self, index: int) -> Image.Image:
        return self.coco.image(index)

    def labels(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """Class indices, uint8, of a photograph of ``size`` (height, width)."""
        found = np.zeros(size, np.uint8)
        annotations = [a for a in self.coco.coco.imgToAnns[self.coco.ids[index]] if a.get("segmentation")]
        for annotation in sorted(annotations, key=lambda a: -a["area"]):
            mask = self.coco.coco.annToMask(annotation).astype(bool)[: size[0], : size[1]]
            found[mask] = IGNORE if annotation.get("iscrowd") else self._class_of(annotation["category_id"])
        return found

    def _class_of(self, category: int) -> int:
        name = self.coco.classes[self.coco.category_ids.index(category)]
        return VOC_CLASSES.index(VOC_OF_COCO[name]) if name in VOC_OF_COCO else 0

    def __getitem__(self, index: int) -> tuple[Image.Image, LabelMap]:
        image = self.image(index)
        return image, LabelMap(torch.from_numpy(self.labels(index, (image.height, image.width))))
