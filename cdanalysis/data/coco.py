"""Detection data sets in COCO's layout: a folder or tar archive of photographs, and one JSON file."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..structures.targets import Instances
from .images import ImageSet, data_path


class CocoImages:
    """Photographs with boxes, and masks where the data set has them.

    Indexing reads the file: (photograph, `Instances`). Boxes are cut at the photograph's edges; crowds and boxes
    of less than a pixel are left out. ``coco`` still has them as they are.

    Args:
        images: folder or tar archive.
        annotations: COCO JSON file.

    Attributes:
        classes: names in the order of their category ids.
        coco: the annotations, as pycocotools' ``COCO``.
        names, ids: file name and image id of each photograph.

    Raises:
        FileNotFoundError: if one of them does not exist.
        ValueError: if the JSON is not COCO's, or names a photograph that is not there, or a category it does not list.
    """

    task = "detection"

    def __init__(self, images: str | Path, annotations: str | Path):
        self.images = ImageSet(images)
        self.title = self.images.title
        self.coco = _read(data_path(str(annotations)))
        categories = sorted(self.coco.dataset["categories"], key=lambda c: c["id"])
        self.classes = [c["name"] for c in categories]
        self.category_ids = [c["id"] for c in categories]
        self._check()
        self.ids = sorted(self.coco.imgs)
        self.names = [self.coco.imgs[i]["file_name"] for i in self.ids]

    def _check(self) -> None:
        known, there = set(self.category_ids), set(self.images.names)
        for annotation in self.coco.dataset.get("annotations", []):
            if annotation["category_id"] not in known:
                raise ValueError(
                    f"annotation {annotation['id']} has the unknown category id {annotation['category_id']}"
                )
            if annotation["image_id"] not in self.coco.imgs:
                raise ValueError(f"annotation {annotation['id']} belongs to the unknown image {annotation['image_id']}")
        missing = [image["file_name"] for image in self.coco.dataset["images"] if image["file_name"] not in there]
        if missing:
            raise ValueError(f"{len(missing)} photographs that the annotations name are missing, {missing[0]!r} first")

    def __len__(self) -> int:
        return len(self.ids)

    def every(self, step: int) -> CocoImages:
        """A view of each ``step``-th photograph, the first included."""
        if step < 1:
            raise ValueError(f"every must be at least 1, got {step}")
        view = copy.copy(self)
        view.ids, view.names = self.ids[::step], self.names[::step]
        return view

    def image(self, index: int) -> Image.Image:
        return self.images.named(self.names[index])

    def __getitem__(self, index: int) -> tuple[Image.Image, Instances]:
        image = self.image(index)
        return image, self.objects(index, image.size)

    def objects(self, index: int, size: tuple[int, int]) -> Instances:
        """Objects of a photograph of (width, height) pixels, as indexing gives them."""
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


def _read(path: Path) -> Any:
    from pycocotools.coco import COCO

    try:
        content = json.loads(path.read_text())
        if not {"images", "categories"} <= set(content):
            raise ValueError("no images or no categories")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a COCO annotation file: {error}") from None
    for annotation in content.get("annotations", []):  # the evaluator insists on what some files leave out
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on standard output, which is for programs
        coco.createIndex()
    return coco
