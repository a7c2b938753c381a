"""Heat maps of a stream's bits: where on the photograph each layer spends them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from ..codec.tiles import STRIDE
from ..structures.drawing import draw_label
from ..structures.latents import LAYERS

GAP = 8
HEAT = np.array([(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)], np.float32)
"""From nothing to most, dark to light."""


def heat_map(bits: np.ndarray, size: tuple[int, int], stride: int = 0, title: str = "") -> Image.Image:
    """Bits of a grid's cells as a picture of the photograph's size: the brighter, the more.

    Args:
        bits: (h, w), at least 0.
        size: (width, height) of the photograph.
        stride: pixels of the photograph a cell; 0 where the whole photograph was resized to the grid.
        title: before the scale that the picture shows.

    Returns:
        an RGB image of ``size``.
    """
    rows, columns = bits.shape
    density = bits / (stride**2 or size[0] * size[1] / bits.size)
    densest = float(density.max()) or 1.0
    places = density / densest * (len(HEAT) - 1)
    colors = np.stack([np.interp(places, np.arange(len(HEAT)), HEAT[:, c]) for c in range(3)], -1)
    image = Image.fromarray(colors.round().astype(np.uint8))
    image = image.resize((columns * stride, rows * stride) if stride else size, Image.Resampling.NEAREST)
    image = image.crop((0, 0, *size))
    draw_label(image, (4, 4), f"{title}white: {densest:.2g} bits a pixel", (0, 0, 0))
    return image


def bits_picture(maps: Mapping[str, np.ndarray], size: tuple[int, int]) -> Image.Image:
    """Heat maps of a stream's layers one below the other, each on its own grid.

    Args:
        maps: bits (h, w) of each layer by its name, see `Model.bit_maps`.
        size: (width, height) of the photograph.

    Returns:
        an RGB image.
    """
    strides = {LAYERS[-1]: STRIDE}
    panels = [heat_map(bits, size, strides.get(name, 0), f"{name}, ") for name, bits in maps.items()]
    page = Image.new("RGB", (size[0], len(panels) * size[1] + GAP * (len(panels) - 1)), "white")
    for number, panel in enumerate(panels):
        page.paste(panel, (0, number * (size[1] + GAP)))
    return page
