"""Data sets with targets, one interface for every task.

Readers of further layouts are registered in `cdanalysis.registry.DATASETS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from ..notices import notice
from ..registry import DATASETS
from ..structures.targets import ClassLabel, Target
from .coco import CocoImages
from .images import ImageSet, Some, data_path
from .labels import plain_name
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
    def read(self, index: int) -> bytes: ...
    def every(self, step: int) -> LabeledSet: ...
    def chosen(self, indices: Sequence[int]) -> LabeledSet: ...


SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test"})


class ClassFolders(ImageSet):
    """Photographs whose top folder is their class; targets are indices into ``classes``, the sorted folder names.

    Photographs that lie in no folder have no class: they are left out, and a notice says how many.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there are fewer than two class folders, or they are those of training and validation, or two of
            them are one class but for case and underscores.
    """

    task = "classification"

    def __init__(self, root: str | Path):
        super().__init__(root)
        view = in_class_folders(self)
        self.names, self.classes = view.names, view.classes
        if len(self.classes) < 2:
            raise ValueError(f"a classifier needs two or more class folders; {root} has {len(self.classes)}")
        if SPLITS.issuperset(name.lower() for name in self.classes):
            raise ValueError(f"the folders of {root} are {' and '.join(self.classes)}, no classes: name one of them")
        plain: dict[str, str] = {}
        for name in self.classes:
            if (other := plain.setdefault(plain_name(name), name)) != name:
                raise ValueError(f"the folders {other!r} and {name!r} of {root} are one class: put them together")

    def __getitem__(self, index: int) -> tuple[Image.Image, ClassLabel]:
        return self.image(index), ClassLabel(self.classes.index(self.class_of(index)))


def in_class_folders(images: Some) -> Some:
    """A view of the photographs that lie in a folder, whose names are its ``classes``; a notice counts the others."""
    view = images.chosen([index for index in range(len(images)) if images.class_of(index)])
    view.classes = sorted({view.class_of(index) for index in range(len(view))})
    if strays := [name for index, name in enumerate(images.names) if not images.class_of(index)]:
        notice(
            f"{len(strays)} of {len(images)} photographs of {images.title} lie in no class folder and are left out, "
            f"{strays[0]!r} first"
        )
    return view


def contents_digest(images: ImageSet | LabeledSet, source: LabeledSource) -> str:
    """16 bytes of BLAKE2b, in hexadecimal, of all that figures depend on: names, photographs and label pictures in
    their order, annotations, and the file that lists classes."""
    digest = hashlib.blake2b(digest_size=16)
    for index, name in enumerate(images.names):
        labels = images.read_labels(index) if isinstance(images, LabeledPixels) else b""
        for part in (name.encode(), images.read(index), labels):
            digest.update(hashlib.blake2b(part).digest())
    paths = [data_path(source.annotations)] if source.annotations else []
    paths += [images.beside("classes.json")] if isinstance(images, LabeledPixels) else []
    for path in paths:
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()


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
