"""Segmentation data sets in CamVid's layout: photographs, and label maps whose pixel values are class indices."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..structures.targets import IGNORE, LabelMap
from .images import ImageSet


class LabeledPixels:
    """Photographs with a class for every pixel.

    The folder or tar archive holds ``images/NAME.jpg`` (or another type) and ``labels/NAME.png``; beside it, or in it,
    lies ``classes.json``: ``{"classes": [{"index", "name", "colour", "ignore"}...]}``.
    Indexing reads both: (photograph, `LabelMap`), where 255 stands for pixels of no class.

    Attributes:
        classes: names of the classes that count, in the order of the indices.
        colors: the same classes' (red, green, blue).
        names: of the photographs.

    Raises:
        FileNotFoundError: if there is no such folder, or no ``classes.json``.
        ValueError: if a photograph has no labels.
    """

    task = "segmentation"

    def __init__(self, root: str | Path):
        self.files = ImageSet(root)
        self.title = self.files.title
        description = _classes_file(self.files)
        kept = [c for c in sorted(description["classes"], key=lambda c: c["index"]) if not c.get("ignore")]
        self.classes = [c["name"] for c in kept]
        self.colors = [tuple(c["colour"]) for c in kept]
        self._table = np.full(256, IGNORE, np.uint8)
        self._table[[c["index"] for c in kept]] = np.arange(len(kept))
        self.names = [n for n in self.files.names if PurePosixPath(n).parent.name == "images"]
        there = set(self.files.names)
        for name in self.names:
            if _labels_of(name) not in there:
                raise ValueError(f"{name} has no labels: {_labels_of(name)} is missing")
        if not self.names:
            raise ValueError(f"no photographs below images/ in {root}")

    def __len__(self) -> int:
        return len(self.names)

    def every(self, step: int) -> LabeledPixels:
        """A view of each ``step``-th photograph, the first included."""
        if step < 1:
            raise ValueError(f"every must be at least 1, got {step}")
        view = copy.copy(self)
        view.names = self.names[::step]
        return view

    def image(self, index: int) -> Image.Image:
        return self.files.named(self.names[index])

    def labels(self, index: int) -> np.ndarray:
        """(H, W) uint8: class indices, 255 for pixels of no class."""
        name = _labels_of(self.names[index])
        with Image.open(io.BytesIO(self.files.read_named(name))) as image:
            if image.mode not in ("L", "P"):
                raise ValueError(f"{name} is no image of class indices: its mode is {image.mode}")
            return self._table[np.asarray(image)]

    def __getitem__(self, index: int) -> tuple[Image.Image, LabelMap]:
        image, labels = self.image(index), self.labels(index)
        if labels.shape != (image.height, image.width):
            raise ValueError(f"{self.names[index]} and its labels differ in size")
        return image, LabelMap(torch.from_numpy(labels))


def _labels_of(name: str) -> str:
    path = PurePosixPath(name)
    return (path.parent.parent / "labels" / (path.stem + ".png")).as_posix()


def _classes_file(files: ImageSet) -> dict[str, Any]:
    folder = files.root if files.root.is_dir() else files.root.parent
    path = folder / "classes.json"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: it must list the classes")
    try:
        return {"classes": json.loads(path.read_text())["classes"]}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} lists no classes") from None
