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
from .coco_masks import VOC_CLASSES, CocoMasks
from .images import ImageSet, Some, data_path
from .labels import plain_name
from .segmentation import LISTING, LabeledPixels


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


class ClassFolders(ImageSet):
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
        super().__init__(root)
        view = in_class_folders(self)
        self.names, self.classes = view.names, view.classes
        if len(self.classes) < 2:
            inner = "".join(
                f" ({name!r}: are the classes in it? Then name it, or archive what is in it)" for name in self.classes
            )
            raise ValueError(f"classification needs two or more class folders; {root} has {len(self.classes)}{inner}")
        if SPLITS.issuperset(name.lower() for name in self.classes):
            raise ValueError(
                f"the folders of {root} are splits, {' and '.join(self.classes)}, not classes: use one of them"
            )
        plain: dict[str, str] = {}
        for name in self.classes:
            if (other := plain.setdefault(plain_name(name), name)) != name:
                raise ValueError(f"the folders {other!r} and {name!r} of {root} are the same class: merge them")

    def __getitem__(self, index: int) -> tuple[Image.Image, ClassLabel]:
        return self.image(index), ClassLabel(self.classes.index(self.class_of(index)))


def in_class_folders(images: Some) -> Some:
    """A view of the photographs that lie in a folder, whose names are its ``classes``; a notice counts the others.

    Args:
        images: a folder or an archive.

    Returns:
        a view with sorted ``classes``; it may be empty.
    """
    view = images.chosen([index for index in range(len(images)) if images.class_of(index)])
    view.classes = sorted({view.class_of(index) for index in range(len(view))})
    if strays := [name for index, name in enumerate(images.names) if not images.class_of(index)]:
        notice(
            f"{len(strays)} of {len(images)} photographs of {images.title} are in no class folder and are left out, "
            f"for example {strays[0]!r}"
        )
    return view


def contents_digest(images: ImageSet | LabeledSet, source: LabeledSource | None = None) -> str:
    """A digest of all that figures depend on: 128 bits of BLAKE2b, in hexadecimal.

    Args:
        images: photographs, or a labeled set; names, photographs and label maps are read, in order.
        source: of a labeled set; its annotations are read.

    Raises:
        FileNotFoundError: if the annotations do not exist.
    """
    digest = hashlib.blake2b(digest_size=16)
    for index, name in enumerate(images.names):
        labels = images.read_labels(index) if isinstance(images, LabeledPixels) else b""
        for part in (name.encode(), images.read(index), labels):
            digest.update(hashlib.blake2b(part).digest())
    if source and source.annotations:
        digest.update(hashlib.blake2b(data_path(source.annotations).read_bytes()).digest())
    listing = images.companion(LISTING) if isinstance(images, LabeledPixels) else None
    if listing is not None:
        digest.update(hashlib.blake2b(listing[0]).digest())
    return digest.hexdigest()


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


def coco(source: LabeledSource) -> CocoImages:
    """Read photographs with boxes and masks in COCO's layout.

    Args:
        source: ``path`` and ``annotations`` are used.

    Raises:
        FileNotFoundError: as `CocoImages`.
        ValueError: if the source names no annotations; otherwise as `CocoImages`.
    """
    return CocoImages(source.path, _annotations(source, CocoImages.task))


def coco_voc(source: LabeledSource) -> CocoMasks:
    """Read COCO's layout as label maps in PASCAL VOC's classes.

    Args:
        source: ``path`` and ``annotations`` are used.

    Raises:
        FileNotFoundError: as `CocoMasks`.
        ValueError: if the source names no annotations; otherwise as `CocoMasks`.
    """
    return CocoMasks(source.path, _annotations(source, CocoMasks.task), VOC_CLASSES)


def coco_masks(source: LabeledSource) -> CocoMasks:
    """Read COCO's layout as label maps in the file's own classes and background.

    Args:
        source: ``path`` and ``annotations`` are used.

    Raises:
        FileNotFoundError: as `CocoMasks`.
        ValueError: if the source names no annotations; otherwise as `CocoMasks`.
    """
    return CocoMasks(source.path, _annotations(source, CocoMasks.task))


def _annotations(source: LabeledSource, task: str) -> str:
    if not source.annotations:
        raise ValueError(
            f"{task} needs COCO annotations for {source.path}: set annotations (--annotations) to the JSON file"
        )
    return source.annotations
