"""One photograph: from a file, a picture or an array to upright 8-bit sRGB, as an image or a tensor."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from ..notices import notice
from .color import ALPHA, color_profile, is_negative, to_eight_bits, to_srgb, white_of
from .formats import opened, photographs
from .limits import MAX_PIXELS

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


def to_image(image: ImageLike) -> Image.Image:
    """A photograph as a new image of mode "RGB", upright.

    Args:
        image: of any kind that `ImageLike` lists.

    Raises:
        ValueError: as `to_pixels`.
        FileNotFoundError: as `to_pixels`.

    >>> to_image(torch.zeros(3, 4, 6)).size
    (6, 4)
    """
    pixels = to_pixels(image)
    if pixels.dtype != torch.uint8:
        pixels = (255 * pixels).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


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
