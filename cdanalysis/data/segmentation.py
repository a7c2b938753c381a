"""Segmentation data sets in CamVid's layout: photographs, and label maps whose pixel values are class indices."""

from __future__ import annotations

import io
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..photographs.formats import opened
from ..photographs.read import header_of
from ..structures.targets import IGNORE, LabelMap
from .images import Damaged, ImageSet, note_turned

LISTING = "classes.json"
"""The file that names the classes of label maps."""


class LabeledPixels(ImageSet):
    """Photographs with label maps, in the layout of CamVid.

    The folder or tar archive has ``images/NAME.jpg`` (or another format) and ``labels/NAME.png``. ``classes.json``, in
    the folder or archive, or beside it, lists all values of the label maps:
    ``{"classes": [{"index": 0, "name": "sky", "colour": [128, 128, 128], "ignore": false}, ...]}``; ``"colour"``
    (or ``"color"``) and ``"ignore"`` are optional. Indexing reads a photograph and its `LabelMap`, in which ignored
    pixels are 255.

    Args:
        root: folder or tar archive, absolute or below ``CDANALYSIS_DATA``.

    Attributes:
        classes: names of the classes that are not ignored, in the order of their indices.
        colors: their (red, green, blue), 0 to 255; black by default.
        names: of the photographs.

    Raises:
        FileNotFoundError: if the folder or ``classes.json`` does not exist.
        ValueError: if ``classes.json`` is invalid, a photograph has no label map, or the first label map is invalid.
    """

    task = "segmentation"

    def __init__(self, root: str | Path):
        super().__init__(root)
        described, self._listing = _classes_file(self)
        kept = [c for c in sorted(described, key=lambda c: c["index"]) if not c.get("ignore")]
        self.classes = [c["name"] for c in kept]
        self.colors = [tuple(c.get("colour") or c.get("color") or (0, 0, 0)) for c in kept]
        self._table = np.full(256, IGNORE, np.uint8)
        self._table[[c["index"] for c in kept]] = np.arange(len(kept))
        self._listed = np.zeros(256, bool)
        self._listed[[c["index"] for c in described]] = True
        there = {PurePosixPath(name).as_posix(): name for name in self.names}
        self.names = [n for n in self.names if PurePosixPath(n).parent.name == "images"]
        self._labels: dict[str, str] = {}
        for name in self.names:
            if _labels_of(name) not in there:
                raise ValueError(f"{name} has no label map: {_labels_of(name)} is missing")
            self._labels[name] = there[_labels_of(name)]
        shared = [name for name, count in Counter(self._labels.values()).items() if count > 1]
        if shared:
            both = " and ".join(name for name in self.names if self._labels[name] == shared[0])
            raise ValueError(f"{both} share the label map {shared[0]}: rename one, and its label map")
        if not self.names:
            raise ValueError(f"no photographs in {root}: they must be in a folder named images, label maps in labels")
        with suppress(Damaged):  # affects this one alone
            self.labels(0)  # most errors affect all label maps, and are better found early
        headers = {name: header_of(self.read_named(name)) for name in self.names}
        turned = [name for name, header in headers.items() if header and header[1] > 1]
        note_turned(turned, f"the label maps in {root}")

    def read_labels(self, index: int) -> bytes:
        """The bytes of a photograph's label map.

        Args:
            index: of the photograph.

        Raises:
            OSError: if the file cannot be read any more.
        """
        return self.read_named(self._labels[self.names[index]])

    def labels(self, index: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """The label map of a photograph.

        Args:
            index: of the photograph.
            size: (height, width) that the label map must have; None not to check it.

        Returns:
            (H, W) uint8: indices into ``classes``, 255 for ignored pixels.

        Raises:
            ValueError: as `class_indices`, and for a value that ``classes.json`` does not list.
        """
        name = self._labels[self.names[index]]
        indices = class_indices(self.read_labels(index), name, size)
        unlisted = np.flatnonzero((np.bincount(indices.ravel(), minlength=256) > 0) & ~self._listed)
        if len(unlisted):
            raise ValueError(
                f"{name} has {_some(unlisted)}, which {self._listing} does not list; "
                'list every value, those to ignore with "ignore": true'
            )
        return self._table[indices]

    def check(self, index: int) -> None:
        """Whether the labels of a photograph can be decoded; whether they are right is not looked at.

        Args:
            index: of the photograph.

        Raises:
            Damaged: if they cannot; a `ValueError`.
        """
        try:
            class_indices(self.read_labels(index), self._labels[self.names[index]])
        except Damaged:
            raise
        except ValueError:  # labels that contradict something are refused when they are read
            pass

    def __getitem__(self, index: int) -> tuple[Image.Image, LabelMap]:
        image = self.image(index)
        return image, LabelMap(torch.from_numpy(self.labels(index, (image.height, image.width))))


def _labels_of(name: str) -> str:
    path = PurePosixPath(name)
    return (path.parent.parent / "labels" / (path.stem + ".png")).as_posix()


def class_indices(data: bytes, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a label map: an image whose pixel values are class indices.

    Args:
        data: bytes of the file.
        name: of the file, for messages.
        size: (height, width) of its photograph, upright; None not to check it.

    Returns:
        uint8 (H, W), the values as stored; those of PNG files of 2 or 4 bits are not stretched to 255.

    Raises:
        ValueError: if the file is a color image, has values outside 0..255, or another size; `Damaged` if it cannot be
            decoded.
    """
    try:
        with opened(io.BytesIO(data)) as image:
            if not image.tile:
                raise Damaged(f"{name} has a head, and no pixels")
            stretched = _STRETCHED.get(str(image.tile[0].args), 1) if image.format == "PNG" else 1
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise ValueError(f"a label map must be gray or have a palette, not {image.mode}")
            indices = np.asarray(image).astype(np.int64) // stretched
    except UnidentifiedImageError:
        raise Damaged(f"{name} is not an image that can be read") from None
    except (OSError, SyntaxError) as error:
        raise Damaged(f"{name} cannot be read: {error}") from None
    except Damaged:
        raise
    except ValueError as error:
        raise ValueError(f"{name} cannot be read: {error}") from None
    if size is not None and indices.shape != size:
        sides = f"{indices.shape[1]}x{indices.shape[0]}, its photograph (upright, as EXIF says) {size[1]}x{size[0]}"
        raise ValueError(f"{name} and its photograph differ in size: the label map is {sides}")
    if indices.size and (indices.max() > 255 or indices.min() < 0):
        raise ValueError(f"{name} has {_some(np.unique(indices))}, but class indices must be 0 to 255")
    return indices.astype(np.uint8)


_STRETCHED = {"L;2": 85, "L;4": 17}
"""Pillow scales gray PNG files of 2 or 4 bits to 0..255 by these factors."""


def _some(values: np.ndarray) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"the value{'s' * (len(values) > 1)} {shown}" + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def _classes_file(files: ImageSet) -> tuple[list[dict[str, Any]], Path]:
    """The classes that ``classes.json`` lists, and its path."""
    listing = files.companion(LISTING)
    if listing is None:
        raise FileNotFoundError(
            f"no {LISTING} in {files.root}, nor beside it: it must list the classes of the label maps, as "
            '{"classes": [{"index": 0, "name": "sky"}, {"index": 1, "name": "road"}]}'
        )
    data, path = listing
    try:
        found = json.loads(data)["classes"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f'{path} has no list "classes"') from None
    if not isinstance(found, list) or not all(isinstance(c, dict) for c in found):
        raise ValueError(f'{path} has no list "classes" of objects')
    for described in found:
        _check_class(described, path)
    for key, values in (("index", [c["index"] for c in found]), ("name", [c["name"] for c in found])):
        if len(set(values)) < len(values):
            repeated = next(value for value in values if values.count(value) > 1)
            raise ValueError(f"{path}: two classes have the {key} {repeated!r}")
    if all(c.get("ignore") for c in found):
        raise ValueError(f"{path} lists no classes, or only ignored ones")
    return found, path


def _check_class(described: dict[str, Any], path: Path) -> None:
    index, name = described.get("index"), described.get("name")
    if not isinstance(described.get("ignore", False), bool):
        raise ValueError(f"{path}: class {index} has the ignore {described['ignore']!r}; it must be true or false")
    color = described.get("colour") or described.get("color")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index <= 255:
        raise ValueError(f"{path}: a class has the index {index!r}; it must be an integer from 0 to 255")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{path}: class {index} has no name")
    if color is not None and not _is_color(color):
        raise ValueError(f"{path}: class {index} has the color {color!r}; it must be [red, green, blue], 0 to 255")


def _is_color(color: object) -> bool:
    return isinstance(color, list) and len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color)
