"""Photographs from files, folders and tar archives."""

from __future__ import annotations

import copy
import io
import os
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..notices import notice
from .color import ALPHA, color_profile, is_negative, to_eight_bits, to_srgb, white_of

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".ppm", ".pgm", ".jp2"}

ImageLike = Image.Image | np.ndarray | Tensor
"""A PIL image, a uint8 array (H, W, 3) or (H, W), or a tensor (3, H, W), uint8 or float in [0, 1]."""


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
    image = _upright(image)
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


def _upright(image: Image.Image) -> Image.Image:
    """With EXIF rotation applied, and in 8 bits."""
    white, negative = white_of(image), is_negative(image)
    image = ImageOps.exif_transpose(image)
    return image if white is None else to_eight_bits(image, white, negative)


def to_tensor(image: ImageLike) -> Tensor:
    """A photograph of any accepted kind as a float32 tensor (3, H, W) in [0, 1]; errors as those of `to_pixels`."""
    pixels = to_pixels(image)
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def to_pixels(image: ImageLike) -> Tensor:
    """A photograph of any accepted kind as (3, H, W): uint8, or float32 in [0, 1] if it is a float tensor.

    Raises:
        ValueError: if it is of no accepted kind, empty, or holds values out of range.
    """
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


def open_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """Read an image file (path or bytes) as upright 8-bit sRGB; of a file with several pictures, the first.

    Args:
        name: what messages call it; by default its path.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if it is not an image, is damaged, or does not say which value is white.
    """
    name = name or ("the image" if isinstance(source, bytes) else str(source))
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1 and image.format != "MPO":  # there the others are previews and maps of the first
                notice(f"{name} holds {pictures} pictures, of which the first was read")
            return to_rgb(image, name)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {name}") from None
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image that can be read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from None


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

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there is no image in it.
    """

    def __init__(self, root: str | Path):
        self.root = data_path(str(root))
        self.title = "/".join(self.root.parts[-2:])
        self._offsets: dict[str, tuple[int, int]] | None = None
        if self.root.is_file() and tarfile.is_tarfile(self.root):
            with tarfile.open(self.root) as archive:
                members = [m for m in archive if m.isfile()]
            self._offsets = {m.name: (m.offset_data, m.size) for m in members}
            names = [m.name for m in members]
        elif self.root.is_dir():
            names = [p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file()]
        else:
            names = [self.root.name]
            self.root = self.root.parent
        self.names = sorted(n for n in names if PurePosixPath(n).suffix.lower() in SUFFIXES)
        if not self.names:
            raise ValueError(f"no images in {root}")

    def __len__(self) -> int:
        return len(self.names)

    def every(self, step: int) -> ImageSet:
        """A view of each ``step``-th photograph, the first included."""
        if step < 1:
            raise ValueError(f"every must be at least 1, got {step}")
        view = copy.copy(self)
        view.names = self.names[::step]
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
        if self._offsets is None:
            return (self.root / name).read_bytes()
        offset, size = self._offsets[name]
        with open(self.root, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def named(self, name: str) -> Image.Image:
        """The photograph of that name."""
        return open_image(self.read_named(name), name)

    def image(self, index: int) -> Image.Image:
        return self.named(self.names[index])

    def __getitem__(self, index: int) -> tuple[Image.Image, str]:
        return self.image(index), self.class_of(index)
