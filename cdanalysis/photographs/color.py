"""Bit depth and color of image files: conversion to 8-bit sRGB, on which the rest of the library works.

Bit depth is what the file declares, never inferred from its pixels. Colors are converted by the file's ICC profile, or
by its equivalent: the Adobe RGB tag that cameras set in EXIF (Design rule for Camera File system 2.0), or PNG's gAMA
and cHRM chunks. A file whose profile cannot be used is read as sRGB, with a warning.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import ExifTags, Image, ImageCms

from ..notices import notice

ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
GRAY = ("1", "L", "LA", "La")
SAME = 2
"""Profiles that move no color by more than this, of 255, are sRGB: their photographs stay as they are to the bit."""

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue."""
SRGB: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256
SRGB_GAMMA = 0.45455
"""What PNG files of sRGB say in gAMA, which only has room for a power."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def white_of(image: Image.Image) -> float | None:
    """The value of white, by the bit depth that the file declares.

    Args:
        image: as Pillow opened it.

    Returns:
        the value of white, or None for images of 8 bits or fewer.

    Raises:
        ValueError: if the file does not define it, as for signed or 32-bit integers.

    >>> white_of(Image.new("I;16", (8, 8))), white_of(Image.new("F", (8, 8))), white_of(Image.new("RGB", (8, 8)))
    (65535.0, 1.0, None)
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        bits = tags.get(_BITS_PER_SAMPLE, (16,))
        return float(2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1)
    if image.mode == "I":
        if image.format in ("PPM", "PNG"):  # whose 16 bits some versions of Pillow hold in 32
            return 65535.0
        raise ValueError("signed or 32-bit integers do not define which value is white; save it with 8 or 16 bits")
    if image.mode == "F":
        if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            raise ValueError("floating-point images whose white is 0 are not supported; save it with 8 or 16 bits")
        return 1.0
    return None


def is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in a 16-bit image; Pillow inverts only 8-bit ones.

    Args:
        image: as Pillow opened it.
    """
    return image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def to_eight_bits(image: Image.Image, white: float, negative: bool = False) -> Image.Image:
    """Scale a 16-bit or floating-point image to 8 bits.

    Args:
        image: one channel, of integers or floats.
        white: value of white, see `white_of`.
        negative: whether 0 is white instead, see `is_negative`.

    Returns:
        an image of mode "L", or "LA" where the file declares a transparent value.

    Raises:
        ValueError: if floats do not lie in [0, 1].

    >>> to_eight_bits(Image.new("I;16", (1, 1), 32768), 65535.0).getpixel((0, 0))
    128
    """
    array = np.asarray(image).astype(np.float64)
    if image.mode == "F" and array.size and not (array.min() >= 0 and array.max() <= 1):  # NaN
        raise ValueError("floats outside [0, 1] do not define which value is white; save it with 8 or 16 bits")
    scaled = np.rint(array * (255.0 / white)).clip(0, 255).astype(np.uint8)
    result = Image.fromarray(255 - scaled if negative else scaled)
    if isinstance(clear := image.info.get("transparency"), int):
        result = Image.merge("LA", (result, Image.fromarray(np.where(array == clear, 0, 255).astype(np.uint8))))
    return result


def color_profile(image: Image.Image) -> bytes | None:
    """The ICC profile of an image, or one made from its EXIF or PNG color information.

    Args:
        image: as Pillow opened it.

    Returns:
        the bytes of the profile, or None if the file has no color information, and so is sRGB.
    """
    if profile := image.info.get("icc_profile"):
        return profile
    if _exif_says_adobe(image):
        return matrix_profile(ADOBE_RGB, ADOBE_GAMMA)
    gamma, places = image.info.get("gamma"), image.info.get("chromaticity", SRGB)
    if not gamma or "srgb" in image.info:
        return None
    like_srgb = abs(gamma - SRGB_GAMMA) < 0.002
    try:
        return matrix_profile(places, None if like_srgb else 1 / gamma)
    except (ValueError, ZeroDivisionError, np.linalg.LinAlgError):  # impossible primaries say nothing of colors
        return None


def to_srgb(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    """Convert an 8-bit image to sRGB; alpha is kept. If the profile cannot be used, warn and return the image as it is.

    Args:
        image: 8 bits per channel, of any mode.
        profile: ICC profile, see `color_profile`.
        name: of the image, for the warning.

    Returns:
        an RGB or RGBA image; the same image if its profile is sRGB's.
    """
    if image.mode in ("LAB", "HSV"):  # these say by themselves what they mean
        return image
    kind = "CMYK" if image.mode == "CMYK" else "L" if image.mode in GRAY else "RGB"
    try:
        transform, reads = _transform(profile, kind)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError, ImportError) as error:
        notice(f"{name}: its color profile cannot be used, so it was read as sRGB ({error})")
        return image
    if transform is None:
        return image
    alpha = None
    if image.mode in ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    result = transform(image.convert("RGB").convert(reads) if reads != "CMYK" else image)
    if alpha is not None:
        result.putalpha(alpha)
    return result


@lru_cache(maxsize=64)
def _transform(profile: bytes, kind: str) -> tuple[Callable[[Image.Image], Image.Image] | None, str]:
    """A transform to sRGB, None where the profile is sRGB's, and the mode that it reads.

    Args:
        kind: of the picture: "L", "RGB" or "CMYK".

    Raises:
        PyCMSError, OSError, ValueError: if the profile is damaged, or for pictures of another kind.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    reads = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space, "")
    if reads != kind and (reads, kind) != ("RGB", "L"):  # a gray picture may keep its color picture's profile
        raise ValueError(f"the profile is for {space or 'an unknown color space'}, the pixels are {kind}")
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        reads,
        "RGB",
        ImageCms.Intent.PERCEPTUAL,
        ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if reads == "L" else 0),
    )
    if reads == "CMYK":
        return transform.apply, reads
    probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None]) if reads == "L" else _probe()
    found = transform.apply(probe)
    if np.abs(np.asarray(found).astype(int) - np.asarray(probe.convert("RGB"))).max() <= SAME:
        return None, reads
    if reads == "L":  # optimized, littlecms is 10 levels off in the dark; unoptimized, 8 times slower than a table
        tables = [channel.tobytes() for channel in found.split()]
        return lambda gray: Image.merge("RGB", [gray.point(list(table)) for table in tables]), reads
    return transform.apply, reads


def _probe() -> Image.Image:
    """Colors from everywhere: 18 steps of each channel."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, len(steps), 3))


def _exif_says_adobe(image: Image.Image) -> bool:
    """Whether EXIF says Adobe RGB: "uncalibrated", with the interoperability index R03, or the 2 that some write."""
    try:
        exif = image.getexif()
        space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        if space != 0xFFFF:
            return space == 2
        return str(exif.get_ifd(ExifTags.IFD.Interop).get(1, "")).startswith("R03")  # Pillow 12 raises without it
    except Exception:  # Pillow's parser raises whatever damaged bytes lead it to; they say nothing of colors
        return False


@lru_cache(maxsize=16)
def matrix_profile(places: Chromaticities, gamma: float | None) -> bytes:
    """An ICC profile (version 4.2) of an RGB color space with one transfer curve.

    Args:
        places: chromaticities x and y of white, red, green and blue.
        gamma: exponent of the transfer curve; None for sRGB's curve.

    Returns:
        the bytes of the profile.

    Raises:
        ValueError: if a y is not positive; numpy's LinAlgError if the primaries lie on a line.
    """
    xy = np.array(places, np.float64).reshape(4, 2)
    if not (xy[:, 1] > 0).all():
        raise ValueError("chromaticities must have y above 0")
    white, *rest = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in xy)
    primaries = np.stack(rest, 1)
    to_xyz = primaries * np.linalg.solve(primaries, white)  # so much of each that together they are white
    columns = (_adaptation(white) @ to_xyz).T
    parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045) if gamma is None else (gamma,)
    curve = b"para" + bytes(4) + struct.pack(">HH", 3 if gamma is None else 0, 0) + _fixed(*parameters)
    name = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 6, 28) + "RGB".encode("utf-16-be")
    tags = {b"desc": name + bytes(2), b"cprt": name + bytes(2), b"wtpt": _xyz(D50)}
    tags |= {tag: _xyz(column) for tag, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, data, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    kind = struct.pack(">I4s4s4s", 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    head = struct.pack(">I", start + len(data)) + bytes(4) + kind + bytes(12) + b"acsp"
    return head + bytes(28) + _fixed(*D50) + bytes(48) + table + data


D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def _adaptation(white: np.ndarray) -> np.ndarray:
    """Bradford's chromatic adaptation from a white point (X, Y, Z) to D50, which profiles are written for."""
    return np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD


def _xyz(color: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*color)


def _fixed(*numbers: float) -> bytes:
    """ICC's s15Fixed16 numbers."""
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))
