"""Data sets with targets, one interface for every task.

A labeled set has a ``title``, ``names``, ``classes``, ``len`` and ``every``; indexing it gives (photograph, target),
where a target is a class index, `Instances`, or a picture of class indices.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ..notices import notice
from .coco import CocoImages
from .images import ImageSet
from .labels import plain_name
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


class LabeledSet(Protocol):
    """What every labeled set has."""

    title: str
    names: Sequence[str]
    classes: list[str]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Image.Image, Any]: ...
    def image(self, index: int) -> Image.Image: ...
    def every(self, step: int) -> LabeledSet: ...


SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test"})


class ClassFolders:
    """Photographs whose top folder is their class; targets are indices into ``classes``, the sorted folder names.

    Photographs that lie in no folder have no class: they are left out, and a notice says how many.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there are fewer than two class folders, or they are those of training and validation, or two of
            them are one class but for case and underscores.
    """

    def __init__(self, root: str | Path):
        self.images = ImageSet(root)
        self.title = self.images.title
        names, classes = self.images.names, [self.images.class_of(i) for i in range(len(self.images))]
        self.images.names = [name for name, own in zip(names, classes, strict=True) if own]
        self.classes = sorted(set(classes) - {""})
        if len(self.classes) < 2:
            raise ValueError(f"a classifier needs two or more class folders; {root} has {len(self.classes)}")
        if SPLITS.issuperset(name.lower() for name in self.classes):
            raise ValueError(f"the folders of {root} are {' and '.join(self.classes)}, no classes: name one of them")
        plain: dict[str, str] = {}
        for name in self.classes:
            if (other := plain.setdefault(plain_name(name), name)) != name:
                raise ValueError(f"the folders {other!r} and {name!r} of {root} are one class: put them together")
        if strays := [name for name, own in zip(names, classes, strict=True) if not own]:
            notice(
                f"{len(strays)} of {len(names)} photographs of {root} lie in no class folder and are left out, "
                f"{strays[0]!r} first"
            )

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
