"""Data sets with targets, one interface for every task.

Readers of further layouts are registered in `cdanalysis.registry.DATASETS`.
"""

from __future__ import annotations

import copy
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
from .coco_masks import CocoMasks
from .images import ImageSet, data_path
from .labels import plain_name
from .segmentation import LabeledPixels


@dataclass
class LabeledSource:
    """Where a labeled set is; paths are absolute or below ``CDANALYSIS_DATA``.

    Attributes:
        path: folder or tar archive of photographs.
        annotations: file of the targets, for layouts that have one: COCO's JSON, for detection.
        reader: name of the data-set reader (`cdanalysis.registry.DATASETS`); empty for the reader of the task.
    """

    path: str = ""
    annotations: str = ""
    reader: str = ""


def source_key(source: LabeledSource) -> str:
    """A key of a source's content: 12 hexadecimal digits of SHA-256 over images, label maps, annotations and classes.

    Args:
        source: the labeled set; all its files are read.

    Raises:
        FileNotFoundError: if it does not exist.
    """
    files, digest = ImageSet(source.path), hashlib.sha256()
    for name in files.names:
        digest.update(f"{name} ".encode() + hashlib.sha256(files.read_named(name)).digest())
    classes = (files.root if files.root.is_dir() else files.root.parent) / "classes.json"
    for path in [classes] * classes.is_file() + ([data_path(source.annotations)] if source.annotations else []):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


class LabeledSet(Protocol):
    """The protocol of data sets: photographs with targets.

    Indexing reads a photograph and its target. ``image`` reads the photograph alone, ``read`` the bytes of its file.
    ``every(n)`` is a view of every n-th photograph, the first included, ``chosen`` of the photographs at some indices;
    both keep the classes.

    Attributes:
        task: of the targets.
        title: name of the set in reports.
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


class ClassFolders:
    """Photographs whose top folder is their class; targets are indices into ``classes``, the sorted folder names.

    Photographs in no folder have no class: they are left out, with a warning.

    Args:
        root: folder or tar archive, absolute or below ``CDANALYSIS_DATA``.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there are fewer than two class folders, if they are splits such as "train" and "val", or if two
            names differ only in case or underscores.
    """

    task = "classification"

    def __init__(self, root: str | Path):
        self.images = ImageSet(root)
        self.title = self.images.title
        names, classes = self.images.names, [self.images.class_of(i) for i in range(len(self.images))]
        self.images.names = [name for name, own in zip(names, classes, strict=True) if own]
        self.classes = sorted(set(classes) - {""})
        if len(self.classes) < 2:
            raise ValueError(f"classification needs two or more class folders; {root} has {len(self.classes)}")
        if SPLITS.issuperset(name.lower() for name in self.classes):
            raise ValueError(
                f"the folders of {root} are splits, {' and '.join(self.classes)}, not classes: use one of them"
            )
        plain: dict[str, str] = {}
        for name in self.classes:
            if (other := plain.setdefault(plain_name(name), name)) != name:
                raise ValueError(f"the folders {other!r} and {name!r} of {root} are the same class: merge them")
        if strays := [name for name, own in zip(names, classes, strict=True) if not own]:
            notice(
                f"{len(strays)} of {len(names)} photographs of {root} are in no class folder and are left out, "
                f"for example {strays[0]!r}"
            )

    @property
    def names(self) -> list[str]:
        """Of the photographs, relative to the root."""
        return self.images.names

    def __len__(self) -> int:
        return len(self.images)

    def every(self, step: int) -> ClassFolders:
        """A view of every ``step``-th photograph, the first included, with the same classes."""
        view = copy.copy(self)
        view.images = self.images.every(step)
        return view

    def chosen(self, indices: Sequence[int]) -> ClassFolders:
        """A view of the photographs at these indices, with the same classes."""
        view = copy.copy(self)
        view.images = self.images.chosen(indices)
        return view

    def read(self, index: int) -> bytes:
        """The bytes of a photograph's file."""
        return self.images.read(index)

    def image(self, index: int) -> Image.Image:
        """A photograph, without its target."""
        return self.images.image(index)

    def class_of(self, index: int) -> str:
        """The class name of a photograph."""
        return self.images.class_of(index)

    def __getitem__(self, index: int) -> tuple[Image.Image, ClassLabel]:
        return self.image(index), ClassLabel(self.classes.index(self.class_of(index)))


def open_labeled(task: str, source: LabeledSource) -> LabeledSet:
    """Open a labeled set with the reader that the source names, or else with the one registered for the task.

    Args:
        task: classification, detection, segmentation, or another one of `cdanalysis.registry.DATASETS`.
        source: where the set is.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is not in the reader's layout, or there is no such reader.
    """
    if not source.reader and task not in DATASETS:
        raise ValueError(f"unknown task {task!r}; there are data-set readers for {', '.join(DATASETS)}")
    return DATASETS[source.reader or task](source)


def class_folders(source: LabeledSource) -> ClassFolders:
    """Read photographs in one folder per class.

    Args:
        source: ``path`` is used.

    Raises:
        FileNotFoundError: as `ClassFolders`.
        ValueError: as `ClassFolders`.
    """
    return ClassFolders(source.path)


def labeled_pixels(source: LabeledSource) -> LabeledPixels:
    """Read photographs and label maps in CamVid's layout.

    Args:
        source: ``path`` is used.

    Raises:
        FileNotFoundError: as `LabeledPixels`.
        ValueError: as `LabeledPixels`.
    """
    return LabeledPixels(source.path)


def coco_voc(source: LabeledSource) -> CocoMasks:
    """Reads COCO's layout as label maps in PASCAL VOC's classes."""
    return CocoMasks(source.path, source.annotations)


def coco(source: LabeledSource) -> CocoImages:
    """Read photographs with boxes and masks in COCO's layout.

    Args:
        source: ``path`` and ``annotations`` are used.

    Raises:
        FileNotFoundError: as `CocoImages`.
        ValueError: if the source names no annotations; otherwise as `CocoImages`.
    """
    if not source.annotations:
        raise ValueError(
            f"detection needs COCO annotations for {source.path}: set annotations (--annotations) to the JSON file"
        )
    return CocoImages(source.path, source.annotations)
