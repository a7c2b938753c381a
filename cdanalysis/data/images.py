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

from ..files import LeftOut, files_below
from ..notices import notice
from ..outputs import BESIDE, made_beside
from ..structures.latents import MAX_PIXELS
from .archives import Archive, is_archive
from .color import ALPHA, color_profile, is_negative, to_eight_bits, to_srgb, white_of
from .formats import is_text, load_plugins, suffixes, unbounded, why_not

Some = TypeVar("Some", bound="ImageSet")

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What each EXIF orientation but the first asks for."""
ORIENTED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
"""Where Pillow keeps what an orientation may stand in."""
ANIMATED = {"GIF", "PNG", "TIFF", "WEBP", "AVIF"}
"""Formats whose further pictures are others than the first, and no previews of it as in MPO."""

ImageLike = Image.Image | np.ndarray | Tensor | str | Path
"""A PIL image, an image file's path, a uint8 array (H, W, 3) or (H, W), or a tensor (3, H, W), uint8 or in [0, 1]."""


def data_path(name: str) -> Path:
    """A path as given, or below the folder that the environment variable ``CDANALYSIS_DATA`` names.

    Raises:
        FileNotFoundError: if neither exists.
    """
    path = Path(name).expanduser()
    candidates = [path]
    if not path.is_absolute() and "CDANALYSIS_DATA" in os.environ:
        candidates.append(Path(os.environ["CDANALYSIS_DATA"]) / path)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    tried = " and ".join(str(c) for c in candidates)
    raise FileNotFoundError(f"no data at {tried}; CDANALYSIS_DATA names the folder that data sets lie in")


def upright(image: Image.Image, name: str = "the image") -> Image.Image:
    """The image as its EXIF orientation wants it. Other entries of EXIF are not looked at, and may be damaged."""
    image.load()  # some decoders turn it then, and say so
    try:
        turn = TURNS.get(image.getexif().get(0x0112))
    except Exception as error:  # what a damaged block makes Pillow raise is anything
        notice(f"{name}: EXIF cannot be read ({error}); taken as upright")
        turn = None
    if turn is None:
        return image
    turned = image.transpose(turn)
    for key in ORIENTED:  # or it would be turned again by whoever reads it next
        turned.info.pop(key, None)
    return turned


def to_rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """Any PIL image as upright 8-bit sRGB.

    EXIF rotation is applied, more than 8 bits are scaled by the depth that the file declares, colors are converted by
    the ICC profile (or what stands for one: `color.color_profile`), and alpha is laid on white.

    Args:
        name: of the image, for the notice that its profile cannot be used.

    Raises:
        ValueError: if nothing says which value is white, as for signed integers and for floats outside [0, 1].
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
    """A mask or map as upright 8-bit "L", whose numbers mean no color; errors as those of `to_rgb`."""
    image.load()
    return _upright(image).convert("L")


def _upright(image: Image.Image, name: str = "the image") -> Image.Image:
    """With EXIF rotation applied, and in 8 bits."""
    white, negative = white_of(image), is_negative(image)
    image = upright(image, name)
    return image if white is None else to_eight_bits(image, white, negative)


def to_tensor(image: ImageLike) -> Tensor:
    """A photograph of any accepted kind as a float32 tensor (3, H, W) in [0, 1]; errors as those of `to_pixels`."""
    pixels = to_pixels(image)
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def to_pixels(image: ImageLike, max_pixels: int = MAX_PIXELS) -> Tensor:
    """A photograph of any accepted kind as (3, H, W): uint8, or float32 in [0, 1] if it is a float tensor.

    Raises:
        ValueError: if it is of no accepted kind, empty, or holds values out of range; of a file, as `open_image`.
        FileNotFoundError: if it is the path of a file that is not there.
    """
    if isinstance(image, (str, Path)):
        image = open_image(image, max_pixels)
    if isinstance(image, Image.Image):
        image = np.asarray(to_rgb(image))
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
        raise ValueError(f"not a photograph: {type(image).__name__}")
    if tensor.numel() == 0:
        raise ValueError("the photograph has no pixels")
    return tensor


def open_image(source: str | Path | bytes, max_pixels: int = MAX_PIXELS, name: str = "") -> Image.Image:
    """Read an image file (path or bytes) as upright 8-bit sRGB; of a file with several pictures, the first.

    Args:
        max_pixels: an image of more is refused before it is decoded; Pillow's own, lower bound does not count.
        name: what messages call it; by default its path.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if it is not an image, is too large, does not say which value is white, or is damaged: whatever a
            decoder raises of it.
    """
    name = name or ("the image" if isinstance(source, bytes) else str(source))
    load_plugins()
    try:
        with unbounded(), Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > max_pixels:
                raise TooLarge
            photograph = to_rgb(image, name)
            with suppress(Exception):  # how many there are takes reading them, and they may be damaged
                if image.format in ANIMATED and getattr(image, "n_frames", 1) > 1:
                    notice(f"{name} holds {image.n_frames} pictures, of which the first was read")
            return photograph
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {name}") from None
    except TooLarge:
        raise ValueError(
            f"{name} has {image.width}x{image.height} pixels, and at most {max_pixels} are read; "
            "max_pixels, or --max-pixels, allows more"
        ) from None
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image that can be read") from None
    except MemoryError:
        raise ValueError(f"{name} cannot be read: there is not enough memory for it") from None
    except Exception as error:  # decoders raise anything of what they do not expect
        raise ValueError(f"{name} cannot be read: {str(error) or type(error).__name__}") from error


class TooLarge(Exception):
    """An image has more pixels than it may."""


def header_of(data: bytes) -> tuple[tuple[int, int], int] | None:
    """(Width, height) of a photograph as it is stored, and its EXIF orientation (1..8); None where it is unreadable.

    Orientations from 5 on exchange the sides: `open_image` gives the photograph upright.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1)
            return image.size, turned if turned in range(1, 9) else 1
    except Exception:  # decoders raise whatever damage leads them to; reading the photograph itself reports it
        return None


def note_turned(names: list[str], what: str) -> None:
    """A notice that labels are taken to be for upright photographs, where EXIF turns some and sides do not tell."""
    if names:
        notice(
            f"{len(names)} photographs are turned or mirrored by EXIF, {names[0]!r} first; "
            f"{what} are taken to be for the upright photographs"
        )


class ImageSet:
    """The photographs of a folder or a tar archive, in sorted order, with the name of their top folder as class.

    Indexing reads the file: (photograph, class name, or "" for those in no folder).

    Attributes:
        names: of the photographs, below the root.
        left_out: which other files there are, and why they are none; notices tell what of it matters.
        classes: class names, of sets that have any.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there is no image in it.
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
            names = self._archive.names
            for name in self._archive.lost:
                self.left_out.add("no files, and no links to files of the archive", name)
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
        """A view of each ``step``-th photograph, the first included; classes stay."""
        if step < 1:
            raise ValueError(f"every must be at least 1, got {step}")
        return self.chosen(range(0, len(self), step))

    def chosen(self: Some, indices: Sequence[int]) -> Some:
        """A view of these photographs; classes stay."""
        view = copy.copy(self)
        view.names = [self.names[i] for i in indices]
        return view

    def class_of(self, index: int) -> str:
        """The top folder that a photograph lies in, however deep; "" where it lies in none."""
        parts = PurePosixPath(self.names[index]).parts
        return parts[0] if len(parts) > 1 else ""

    def read(self, index: int) -> bytes:
        """The bytes of the file."""
        return self.read_named(self.names[index])

    def read_named(self, name: str) -> bytes:
        """The bytes of the file of that name."""
        return (self.root / name).read_bytes() if self._archive is None else self._archive.read(name)

    def named(self, name: str) -> Image.Image:
        """The photograph of that name; errors as those of `open_image`."""
        return open_image(self.read_named(name), name=name)

    def image(self, index: int) -> Image.Image:
        return self.named(self.names[index])

    def beside(self, name: str) -> Path:
        """Where a file lies that tells of the photographs: in the folder, or beside the archive."""
        return (self.root if self.root.is_dir() else self.root.parent) / name

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        return self.image(index), self.class_of(index)
