"""Sample photographs, from scikit-image, which is installed with this library."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

CARRIED = ("astronaut", "chelsea", "coffee", "rocket")
"""Names of photographs in scikit-image's wheel."""
STEP, COLUMNS = 61, 8
"""Crops lie so many pixels apart, and so many in a row."""


def sample_images() -> dict[str, Image.Image]:
    """The sample photographs, RGB, by name.

    >>> sample_images()["coffee"].size
    (600, 400)
    """
    from skimage import data

    return {name: Image.fromarray(getattr(data, name)()).convert("RGB") for name in CARRIED}


def jpegs(count: int, size: tuple[int, int]) -> list[bytes]:
    """Crops of a mosaic of the sample photographs, as JPEG files of quality 75.

    Args:
        count: number of files.
        size: of the crops, (width, height) in pixels.
    """
    width, height = size
    sheet, crops = sample_of_size((width + STEP * COLUMNS, height + STEP * COLUMNS)), []
    for number in range(count):
        left, top = STEP * (number % COLUMNS), STEP * (number // COLUMNS % COLUMNS)
        buffer = io.BytesIO()
        sheet.crop((left, top, left + width, top + height)).save(buffer, "JPEG", quality=75)
        crops.append(buffer.getvalue())
    return crops


def sample_of_size(size: tuple[int, int]) -> Image.Image:
    """A photograph of any size: a mosaic of the sample photographs, which are repeated, not enlarged.

    Args:
        size: (width, height) in pixels.
    """
    width, height = size
    sheet = np.empty((height, width, 3), np.uint8)
    images = [np.asarray(image) for image in sample_images().values()]
    top, number = 0, 0
    while top < height:
        left, row = 0, 10**9
        while left < width:
            part = images[number % len(images)][: height - top, : width - left]
            sheet[top : top + len(part), left : left + part.shape[1]] = part
            left, row, number = left + part.shape[1], min(row, len(part)), number + 1
        top += row
    return Image.fromarray(sheet)
