"""Detection data sets in COCO's layout: a folder or tar archive of photographs, and one JSON file."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..structures.targets import Instances
from .coco_file import read_coco
from .images import ImageSet, data_path


class CocoImages(ImageSet):
    """Photographs with boxes, and masks where the data set has them; `coco_file` says what files may look like.

    Indexing reads a photograph and its `Instances`. Boxes are clipped to the photograph; crowds, and boxes less than a
    pixel wide or high, are left out. ``coco`` keeps them all.

    Args:
        images: folder or tar archive.
        annotations: COCO JSON file.

    Attributes:
        classes: names in the order of their category ids.
        coco: the annotations, repaired and renumbered, as pycocotools' ``COCO``.
        names, ids: file name and image id of each photograph.

    Raises:
        FileNotFoundError: if one of them does not exist.
        ValueError: if the JSON is not in COCO's layout, lists a photograph that is missing or of another size, or is
            inconsistent; the message names the file and the annotation.
    """

    task = "detection"

    def __init__(self, images: str | Path, annotations: str | Path):
        super().__init__(images)
        self.coco = _indexed(read_coco(data_path(str(annotations)), self))
        categories = sorted(self.coco.dataset["categories"], key=lambda c: c["id"])
        self.classes = [c["name"] for c in categories]
        self.category_ids = [c["id"] for c in categories]
        self.ids = sorted(self.coco.imgs)
        self.names = [self.coco.imgs[i]["file_name"] for i in self.ids]

    def chosen(self, indices: Sequence[int]) -> CocoImages:
        """As `ImageSet.chosen`."""
        view = super().chosen(indices)
        view.ids = [self.ids[i] for i in indices]
        return view

    def __getitem__(self, index: int) -> tuple[Image.Image, Instances]:
        image = self.image(index)
        return image, self.objects(index, image.size)

    def objects(self, index: int, size: tuple[int, int]) -> Instances:
        """The objects of a photograph, as indexing gives them, without reading the photograph.

        Args:
            index: of the photograph.
            size: its (width, height) in pixels, upright.

        Returns:
            boxes in pixels, inside the photograph; masks where every object has one.
        """
        width, height = size
        boxes, labels, masks = [], [], []
        for annotation in self.coco.imgToAnns[self.ids[index]]:
            x, y, w, h = annotation["bbox"]
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
            if annotation.get("iscrowd") or right - left < 1 or bottom - top < 1:
                continue
            boxes.append((left, top, right, bottom))
            labels.append(self.category_ids.index(annotation["category_id"]))
            if annotation.get("segmentation"):
                masks.append(self.coco.annToMask(annotation).astype(bool)[:height, :width])
        masked = len(masks) == len(boxes)
        return Instances(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(labels, dtype=torch.int64),
            torch.from_numpy(np.array(masks, bool).reshape(-1, height, width)) if masked else None,
        )


def _indexed(content: dict[str, Any]) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on standard output, which is for programs
        coco.createIndex()
    return coco
