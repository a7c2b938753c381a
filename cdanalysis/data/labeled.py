"""Data sets with targets, one interface for every task.

A labeled set has a ``title``, ``names``, ``classes``, ``len`` and ``every``; indexing it gives (photograph, target),
where a target is a class index, `Instances`, or a picture of class indices.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from .coco import CocoImages
from .images import ImageSet, data_path
from .segmentation import LabeledPixels


@dataclass
class LabeledSource:
    """Where a labeled set lies; paths are absolute or below ``CDANALYSIS_DATA``.

    Attributes:
        path: folder or tar archive of photographs.
        annotations: COCO JSON file, for detection.
    """

    path: str = ""
    annotations: str = ""


def source_key(source: LabeledSource) -> str:
    """Twelve hexadecimal digits of all that a source holds: images, label pictures, annotations, classes.

    Raises:
        FileNotFoundError: if it is not there.
    """
    files, digest = ImageSet(source.path), hashlib.sha256()
    for name in files.names:
        digest.update(f"{name} ".encode() + hashlib.sha256(files.read_named(name)).digest())
    classes = (files.root if files.root.is_dir() else files.root.parent) / "classes.json"
    for path in [classes] * classes.is_file() + ([data_path(source.annotations)] if source.annotations else []):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


class LabeledSet(Protocol):
    """What every labeled set has."""

    title: str
    names: Sequence[str]
    classes: list[str]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Image.Image, Any]: ...
    def image(self, index: int) -> Image.Image: ...
    def every(self, step: int) -> LabeledSet: ...


class ClassFolders:
    """Photographs whose folder is their class; targets are indices into ``classes``, the sorted folder names.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there are fewer than two class folders.
    """

    def __init__(self, root: str | Path):
        self.images = ImageSet(root)
        self.title = self.images.title
        self.classes = sorted({self.images.class_of(i) for i in range(len(self.images))})
        if len(self.classes) < 2:
            raise ValueError(f"a classifier needs two or more class folders; {root} has {len(self.classes)}")

    @property
    def names(self) -> list[str]:
        return self.images.names

    def __len__(self) -> int:
        return len(self.images)

    def every(self, step: int) -> ClassFolders:
        """A view of each ``step``-th photograph, the first included; the classes stay."""
        view = copy.copy(self)
        view.images = self.images.every(step)
        return view

    def image(self, index: int) -> Image.Image:
        return self.images.image(index)

    def class_of(self, index: int) -> str:
        return self.images.class_of(index)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.image(index), self.classes.index(self.class_of(index))


def open_labeled(task: str, source: LabeledSource) -> LabeledSet:
    """The labeled set of a task.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is not in the task's layout, or there is no such task.
    """
    if task == "classification":
        return ClassFolders(source.path)
    if task == "segmentation":
        return LabeledPixels(source.path)
    if task != "detection":
        raise ValueError(f"unknown task {task!r}")
    if not source.annotations:
        raise ValueError(f"detection needs a COCO JSON file beside {source.path}: set annotations")
    return CocoImages(source.path, source.annotations)
