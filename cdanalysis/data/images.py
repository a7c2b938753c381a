"""The photographs of folders and tar archives."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from PIL import Image

from ..files import HIDDEN, LeftOut, files_below, is_hidden
from ..notices import notice
from ..outputs import BESIDE, made_beside
from ..photographs.formats import is_text, suffixes, why_not
from ..photographs.read import open_image
from .archives import Archive, is_archive

Some = TypeVar("Some", bound="ImageSet")


def data_path(name: str) -> Path:
    """A path as given, or below the folder that the environment variable ``CDANALYSIS_DATA`` names.

    Args:
        name: absolute, or relative to the working directory or to that folder; ``~`` is expanded.

    Returns:
        the first of them that exists.

    Raises:
        FileNotFoundError: if neither exists.
    """
    if not name:
        raise FileNotFoundError("the name of the data is empty")
    path = Path(name).expanduser()
    candidates = [path]
    if not path.is_absolute() and "CDANALYSIS_DATA" in os.environ:
        candidates.append(Path(os.environ["CDANALYSIS_DATA"]) / path)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    tried = " and ".join(str(c) for c in candidates)
    raise FileNotFoundError(f"no data at {tried}; set CDANALYSIS_DATA to the folder of the data sets")


class Damaged(ValueError):
    """A file of labels cannot be decoded: like a damaged photograph, it does not stop the others."""


def note_turned(names: list[str], what: str) -> None:
    """Warn that labels are taken to be for the upright photographs, where their sizes do not tell.

    Args:
        names: of the photographs that EXIF rotates or mirrors; no warning if there are none.
        what: the labels, for the warning.
    """
    if names:
        notice(
            f"{len(names)} photographs are rotated or mirrored by their EXIF orientation, for example {names[0]!r}; "
            f"{what} are taken to be for the upright photographs"
        )


class ImageSet:
    """The photographs of a folder or a tar archive, sorted by name.

    Indexing reads a photograph and its class: the name of its top folder, or "" for those in no folder.

    Args:
        root: folder, tar archive or image file, absolute or below ``CDANALYSIS_DATA``.

    Attributes:
        title: the last two parts of the path, for reports.
        names: of the photographs, relative to the root.
        left_out: the other files, and why they are not read; warnings name those that may be photographs.
        classes: class names, of sets that have any.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if it has no images that can be opened.
    """

    classes: list[str]

    def __init__(self, root: str | Path):
        self.root = data_path(str(root))
        self.title, self.left_out = "/".join(self.root.parts[-2:]), LeftOut()
        self._archive: Archive | None = None
        if self.root.is_dir():
            paths = files_below(self.root, self.left_out)
            results = made_beside(paths)
            for path in results:
                self.left_out.add(BESIDE, path)
            names = [path.relative_to(self.root).as_posix() for path in paths if path not in results]
        elif is_archive(self.root):
            self._archive = Archive(self.root)
            names = [name for name in self._archive.names if not is_hidden(name)]
            for name in set(self._archive.names) - set(names):
                self.left_out.add(HIDDEN, name)
            for name in self._archive.lost:
                self.left_out.add("neither files nor links to files of the archive", name)
        else:
            names = [self.root.name]
            self.root = self.root.parent
        known = suffixes()
        self.names = sorted(n for n in names if PurePosixPath(n).suffix.lower() in known)
        for name in sorted(set(names) - set(self.names)):
            self.left_out.add(why_not(PurePosixPath(name).suffix.lower()), name)
        failures = [f"{failure['file']}: {failure['error']}" for failure in self.left_out.failures]
        if not self.names:
            raise ValueError("; ".join([f"no images in {root}", *self.left_out.lines(), *failures]))
        for line in (*self.left_out.lines(lambda name: not is_text(name)), *failures):
            notice(f"{root}: {line}")

    def __len__(self) -> int:
        return len(self.names)

    def every(self: Some, step: int) -> Some:
        """A view of every ``step``-th photograph, the first included; classes stay.

        Args:
            step: at least 1.

        Raises:
            ValueError: if ``step`` is below 1.
        """
        if step < 1:
            raise ValueError(f"every must be at least 1, got {step}")
        return self.chosen(range(0, len(self), step))

    def chosen(self: Some, indices: Sequence[int]) -> Some:
        """A view of some photographs; classes stay.

        Args:
            indices: of the photographs, in the order of the view.

        Raises:
            IndexError: if there is none of an index.
        """
        view = copy.copy(self)
        view.names = [self.names[i] for i in indices]
        return view

    def class_of(self, index: int) -> str:
        """The name of the top folder of a photograph; "" if it is in none.

        Args:
            index: of the photograph.
        """
        parts = PurePosixPath(self.names[index]).parts
        return parts[0] if len(parts) > 1 else ""

    def read(self, index: int) -> bytes:
        """The bytes of a photograph's file.

        Args:
            index: of the photograph.

        Raises:
            OSError: if the file cannot be read any more.
        """
        return self.read_named(self.names[index])

    def read_named(self, name: str) -> bytes:
        """The bytes of a file.

        Args:
            name: of the file, relative to the folder, or in the archive.

        Raises:
            OSError: if it cannot be read, or is not there.
            KeyError: if an archive has no such file.
        """
        return (self.root / name).read_bytes() if self._archive is None else self._archive.read(name)

    def named(self, name: str) -> Image.Image:
        """A photograph by its name.

        Args:
            name: one of ``names``.

        Returns:
            an image of mode "RGB", upright, see `to_rgb`.

        Raises:
            ValueError: as `open_image`.
            OSError: if the file cannot be read any more.
        """
        return open_image(self.read_named(name), name=name)

    def image(self, index: int) -> Image.Image:
        """A photograph by its index.

        Args:
            index: of the photograph.

        Returns:
            as `named`.

        Raises:
            ValueError: as `named`.
            OSError: as `named`.
        """
        return self.named(self.names[index])

    def companion(self, name: str) -> tuple[bytes, Path] | None:
        """A file that tells of the photographs: in their folder or archive, or beside it.

        Args:
            name: of the file.

        Returns:
            its bytes, and where it is; None if there is none.
        """
        inside = self._archive.names if self._archive is not None else []
        there = {PurePosixPath(member).as_posix(): member for member in inside}
        above = PurePosixPath(self.names[0]).parent.parent if self.names else PurePosixPath()
        for place in dict.fromkeys([name, (above / name).as_posix()]):
            if place in there:
                return self.read_named(there[place]), self.root / place
            if self._archive is None and (self.root / place).is_file():
                return (self.root / place).read_bytes(), self.root / place
        beside = self.root.parent / name
        return (beside.read_bytes(), beside) if beside.is_file() else None

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        return self.image(index), self.class_of(index)
