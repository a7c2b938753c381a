"""Photographs from files, folders and tar archives."""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from ..files import HIDDEN, LeftOut, files_below, is_hidden
from ..notices import notice
from ..outputs import BESIDE, made_beside
from ..structures.latents import MAX_PIXELS
from .archives import Archive, is_archive
from .color import ALPHA, color_profile, is_negative, to_eight_bits, to_srgb, white_of
from .formats import is_text, opened, photographs, suffixes, why_not

Some = TypeVar("Some", bound="ImageSet")

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""Transpositions by EXIF orientation; 1 needs none."""
ORIENTED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
"""Entries of ``Image.info`` that may contain an orientation."""
ANIMATED = {"GIF", "PNG", "TIFF", "WEBP", "AVIF"}
"""Formats whose further frames are images of their own, not previews as in MPO."""

ImageLike = Image.Image | np.ndarray | Tensor | str | os.PathLike
"""A PIL image, an image file's path, a uint8 array (H, W, 3) or (H, W), or a tensor (3, H, W), uint8 or in [0, 1]."""


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


def upright(image: Image.Image, name: str = "the image") -> Image.Image:
    """Apply an image's EXIF orientation. Damaged EXIF data is reported by a warning, and the image left as it is.

    Args:
        image: any PIL image.
        name: of the image, for the warning.

    Returns:
        the image itself where nothing is to be turned, else a new one, without its orientation.
    """
    image.load()  # some decoders turn it then, and say so
    try:
        turn = TURNS.get(image.getexif().get(0x0112, 1))
    except Exception as error:  # what a damaged block makes Pillow raise is anything
        notice(f"{name}: its EXIF data cannot be read ({error}), so it was taken as upright")
        turn = None
    if turn is None:
        return image
    turned = image.transpose(turn)
    for key in ORIENTED:  # or it would be turned again by whoever reads it next
        turned.info.pop(key, None)
    return turned


def to_rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """Any PIL image as upright 8-bit sRGB.

    The EXIF orientation is applied, more than 8 bits are scaled by the bit depth that the file declares, colors are
    converted by the ICC profile (or its equivalent: `color.color_profile`), and alpha is composited on white.

    Args:
        image: of any mode.
        name: of the image, for warnings.

    Returns:
        a new image of mode "RGB", without metadata.

    Raises:
        ValueError: if the value of white is not defined, as for signed integers and for floats outside [0, 1].
    """
    image.load()  # what is damaged fails here, and not half-read below
    profile = color_profile(image)
    image = _upright(image, name)
    if profile is not None:
        image = to_srgb(image, profile, name)
    if image.mode in ALPHA or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    image = image.convert("RGB")  # a new one, in any case
    image.info = {}  # what was applied is not applied again, and not saved along
    return image


def to_gray(image: Image.Image) -> Image.Image:
    """A mask or map as upright 8-bit "L", without color conversion.

    Args:
        image: of any mode.

    Returns:
        an image of mode "L".

    Raises:
        ValueError: as `to_rgb`.
    """
    image.load()
    return _upright(image).convert("L")


def _upright(image: Image.Image, name: str = "the image") -> Image.Image:
    """With EXIF rotation applied, and in 8 bits."""
    white, negative = white_of(image), is_negative(image)
    image = upright(image, name)
    if image.mode == "La":  # Pillow converts it to this alone
        image = image.convert("LA")
    return image if white is None else to_eight_bits(image, white, negative)


def to_tensor(image: ImageLike) -> Tensor:
    """A photograph as a float32 tensor (3, H, W) in [0, 1].

    Args:
        image: of any kind that `ImageLike` lists.

    Raises:
        ValueError: as `to_pixels`.
        FileNotFoundError: as `to_pixels`.

    >>> to_tensor(np.full((8, 8), 255, np.uint8)).shape
    torch.Size([3, 8, 8])
    """
    pixels = to_pixels(image)
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def to_pixels(image: ImageLike, max_pixels: int = MAX_PIXELS) -> Tensor:
    """A photograph as a tensor (3, H, W): uint8, or float32 in [0, 1] if it is a float tensor.

    Args:
        image: of any kind that `ImageLike` lists.
        max_pixels: of an image file; a larger one is refused before it is decoded.

    Returns:
        (3, H, W), RGB, upright; a tensor stays on its device, all else is on the CPU.

    Raises:
        ValueError: if it is of no such kind, empty, or has values out of range; for a file, as `open_image`.
        FileNotFoundError: if it is the path of a file that does not exist.
    """
    if isinstance(image, (str, os.PathLike)):
        image = open_image(os.fspath(image), max_pixels)
    if isinstance(image, Image.Image):
        try:
            image = np.asarray(to_rgb(image))
        except OSError as error:  # of a file that Pillow has opened, and not read yet
            raise ValueError(f"the image cannot be read: {error}") from None
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"an array must be uint8 (H, W, 3) or (H, W), got {image.dtype} {image.shape}")
        array = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    elif isinstance(image, Tensor):
        known = image.is_floating_point() or image.dtype == torch.uint8
        if not known or image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"a tensor must be float or uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}")
        tensor = image.detach() if image.dtype == torch.uint8 else image.detach().float()
        if tensor.is_floating_point() and tensor.numel() and not (tensor.min() >= 0 and tensor.max() <= 1):
            raise ValueError("a tensor's values must lie in [0, 1]")
    else:
        raise ValueError(f"a photograph must be a PIL image, path, array or tensor, got {type(image).__name__}")
    if tensor.numel() == 0:
        raise ValueError("the photograph has no pixels")
    return tensor


def open_image(source: str | Path | bytes, max_pixels: int = MAX_PIXELS, name: str = "") -> Image.Image:
    """Read an image file as upright 8-bit sRGB; of a file with several frames, the first.

    Args:
        source: path or bytes of the file.
        max_pixels: a larger image is refused before it is decoded; Pillow's own, lower limit is not applied.
        name: of the image, for messages; by default its path.

    Returns:
        an image of mode "RGB", see `to_rgb`.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if it is not an image, is too large, does not define the value of white, or is damaged.
    """
    name = name or ("the image" if isinstance(source, bytes) else str(source))
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with opened(file, photographs()) as image:
            if image.width * image.height > max_pixels:
                raise TooLarge
            photograph = to_rgb(image, name)
            with suppress(Exception):  # how many there are takes reading them, and they may be damaged
                if image.format in ANIMATED and (count := getattr(image, "n_frames", 1)) > 1:
                    notice(f"{name} has {count} frames, of which the first was read")
            return photograph
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {name}") from None
    except IsADirectoryError:
        raise ValueError(f"{name} is a folder, where an image file is read") from None
    except TooLarge:
        raise ValueError(
            f"{name} has {image.width}x{image.height} pixels, more than the limit of {max_pixels}; "
            "raise it with --max-pixels, or max_pixels in Python"
        ) from None
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image file that Pillow can open") from None
    except MemoryError:
        raise ValueError(f"{name} cannot be read: there is not enough memory for it") from None
    except Exception as error:  # decoders raise anything of what they do not expect
        raise ValueError(f"{name} cannot be read: {str(error) or type(error).__name__}") from error


class Damaged(ValueError):
    """A file of labels cannot be decoded: like a damaged photograph, it does not stop the others."""


class TooLarge(Exception):
    """An image has more pixels than it may."""


def header_of(data: bytes) -> tuple[tuple[int, int], int] | None:
    """Size and orientation of a photograph, without decoding it.

    Args:
        data: of an image file.

    Returns:
        ((width, height) as stored, EXIF orientation 1 to 8), or None if it cannot be read. Orientations 5 to 8 exchange
        width and height; `open_image` gives the upright photograph.
    """
    try:
        with opened(io.BytesIO(data)) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1)
            return image.size, turned if turned in range(1, 9) else 1
    except Exception:  # decoders raise whatever damage leads them to; reading the photograph itself reports it
        return None


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
