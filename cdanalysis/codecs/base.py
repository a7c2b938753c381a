"""The codec's protocol, and the one search for files of a wanted size or rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from PIL import Image

from ..codec.budget import highest_level
from ..metrics.image import bpp


class Codec(Protocol):
    """Something that makes files of photographs. One that subclasses it has the search; it need not.

    Attributes:
        name: what tables call it.
        max_level: files grow with a level from 0 to this.
    """

    name: str
    max_level: int

    def encode(self, image: Image.Image, level: int) -> bytes:
        """The file of a photograph at a level."""
        ...

    def decode(self, data: bytes) -> np.ndarray:
        """The photograph in a file, uint8 (H, W, 3)."""
        ...

    def writer(self, image: Image.Image) -> Callable[[int], bytes]:
        """What gives a photograph's file at any level; for codecs that do part of the work once for all of them."""
        return partial(self.encode, image)

    def encode_near(self, image: Image.Image, size: int, nearest: bool = False) -> bytes:
        """The largest file of at most ``size`` bytes, or that of level 0 if none is.

        Args:
            nearest: of the files of a plain bisection the one whose size is nearest instead, be it more.
        """
        write, made = self.writer(image), {}

        def size_at(level: int) -> int:
            made[level] = write(level)
            return len(made[level])

        level = highest_level(size_at, size, self.max_level, straight=not nearest)
        return min(made.values(), key=lambda data: abs(len(data) - size)) if nearest else made[max(0, level)]


def level_at(codec: Codec, images: Sequence[Image.Image], rate: float) -> int | None:
    """The highest level at which photographs take at most ``rate`` bpp on average; None if even 0 takes more."""
    level = highest_level(lambda each: mean_bpp(codec, images, each), rate, codec.max_level)
    return None if level < 0 else level


def mean_bpp(codec: Codec, images: Sequence[Image.Image], level: int) -> float:
    """Mean bits a pixel of the files of photographs at one level."""
    return float(np.mean([bpp(len(codec.encode(image, level)), image.width, image.height) for image in images]))
