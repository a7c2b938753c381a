"""Data sets with targets, one interface for every task.

Readers of further layouts are registered in `cdanalysis.registry.DATASETS`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from ..registry import DATASETS
from ..structures.targets import ClassLabel, Target
from .coco import CocoImages
from .images import ImageSet
from .segmentation import LabeledPixels


@dataclass
class LabeledSource:
    """Where a labeled set lies; paths are absolute or below ``CDANALYSIS_DATA``.

    Attributes:
        path: folder or tar archive of photographs.
        annotations: the file beside it that holds the targets, where the layout has one: COCO's JSON, for detection.
        reader: name of the data-set reader (`cdanalysis.registry.DATASETS`); empty for that of the task.
    """

    path: str = ""
    annotations: str = ""
    reader: str = ""


class LabeledSet(Protocol):
    """Photographs with targets.

    Indexing it reads a photograph and its target; ``image`` reads the photograph alone; ``every(n)`` is a view of each
    n-th photograph, the first included, with the same classes.

    Attributes:
        task: that the targets are for.
        title: what reports call it.
        names: of the photographs; may hold slashes.
        classes: class names, in the order of the targets' indices.
    """

    task: str

    @property
    def title(self) -> str: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def classes(self) -> list[str]: ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Image.Image, Target]: ...
    def image(self, index: int) -> Image.Image: ...
    def every(self, step: int) -> LabeledSet: ...


class ClassFolders:
    """Photographs whose folder is their class; targets are indices into ``classes``, the sorted folder names.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there are fewer than two class folders.
    """

    task = "classification"

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

    def __getitem__(self, index: int) -> tuple[Image.Image, ClassLabel]:
        return self.image(index), ClassLabel(self.classes.index(self.class_of(index)))


def open_labeled(task: str, source: LabeledSource) -> LabeledSet:
    """The labeled set of a task, by the reader that the source names, or by that which is registered for the task.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is not in the layout that is read, or there is no such reader.
    """
    if not source.reader and task not in DATASETS:
        raise ValueError(f"unknown task {task!r}; there are data sets for {', '.join(DATASETS)}")
    return DATASETS[source.reader or task](source)


def class_folders(source: LabeledSource) -> ClassFolders:
    """Reads photographs in folders that are their classes."""
    return ClassFolders(source.path)


def labeled_pixels(source: LabeledSource) -> LabeledPixels:
    """Reads photographs and label maps in CamVid's layout."""
    return LabeledPixels(source.path)


def coco(source: LabeledSource) -> CocoImages:
    """Reads COCO's layout.

    Raises:
        ValueError: if the source names no annotations.
    """
    if not source.annotations:
        raise ValueError(f"detection needs a COCO JSON file beside {source.path}: set annotations")
    return CocoImages(source.path, source.annotations)
