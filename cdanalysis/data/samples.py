"""Photographs that come with what this library needs anyhow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

CARRIED = ("astronaut", "chelsea", "coffee", "rocket")
"""Photographs that come with scikit-image."""


def sample_images() -> dict[str, Image.Image]:
    """The photographs that scikit-image carries, by name."""
    from skimage import data

    return {name: Image.fromarray(getattr(data, name)()).convert("RGB") for name in CARRIED}


def jpegs(count: int, side: int) -> list[bytes]:
    """Crops of ``side`` pixels of the photographs that scikit-image carries, as JPEG files of quality 75."""
    images, crops = list(sample_images().values()), []
    for number in range(count):
        image = images[number % len(images)]
        left = 37 * number % (image.width - side + 1)
        top = 53 * number % (image.height - side + 1)
        buffer = io.BytesIO()
        image.crop((left, top, left + side, top + side)).save(buffer, "JPEG", quality=75)
        crops.append(buffer.getvalue())
    return crops


def sample_of_size(size: tuple[int, int]) -> Image.Image:
    """A photograph of a size, (width, height): those that scikit-image carries, side by side, none enlarged much."""
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
