"""One interface for everything that makes files of images, and the one search for files of a wanted size or rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
from PIL import Image

from ..codec.budget import highest_level
from ..metrics.image import bpp
from ..registry import CODECS


class Codec:
    """Encodes images into files and decodes them; size grows with a level from 0 to ``max_level``.

    Instances, or functions of a folder of weights that return one, are registered in `cdanalysis.registry.CODECS`.

    Attributes:
        name: in tables.
        max_level: the highest level.
    """

    name: str
    max_level: ClassVar[int]

    def encode(self, image: Image.Image, level: int) -> bytes:
        """The bytes of the file at a level; they must contain all that `decode` needs."""
        raise NotImplementedError

    def decode(self, data: bytes) -> np.ndarray:
        """The image, uint8 (H, W, 3).

        Raises:
            ValueError: if the bytes are not such a file; also `StreamError` and `OSError`.
        """
        raise NotImplementedError

    def writer(self, image: Image.Image) -> Callable[[int], bytes]:
        """What gives an image's file at any level; for codecs that do part of the work once for all of them."""
        return partial(self.encode, image)

    def encode_near(self, image: Image.Image, size: int, nearest: bool = False) -> bytes:
        """The largest file of at most ``size`` bytes, or that of level 0 if none is so small.

        Args:
            nearest: of the files of a plain bisection the one whose size is nearest instead, be it more.
        """
        write, made = self.writer(image), dict[int, bytes]()

        def size_at(level: int) -> int:
            made[level] = write(level)
            return len(made[level])

        level = highest_level(size_at, size, self.max_level, straight=not nearest)
        return min(made.values(), key=lambda data: abs(len(data) - size)) if nearest else made[max(0, level)]

    def available(self) -> bool:
        """Whether the packages it needs are installed."""
        return True

    def facts(self) -> dict[str, object]:
        """Version and settings, for reports."""
        return {}


def open_codec(name: str, weights: str = "") -> Codec:
    """The registered codec of that name.

    Args:
        weights: folder, for those that have networks.

    Raises:
        ValueError: if there is none.
        ModuleNotFoundError: if what encodes it is not installed.
    """
    found = CODECS[name]
    codec = found if isinstance(found, Codec) else found(weights)
    if not codec.available():
        raise ModuleNotFoundError(f"{name} is not here: pip install 'cdanalysis[baselines]'")
    return codec


def mean_bpp(codec: Codec, images: Sequence[Image.Image], level: int) -> float:
    """Mean bits per pixel of images at one level."""
    return float(np.mean([bpp(len(codec.encode(image, level)), image.width, image.height) for image in images]))


def level_at(codec: Codec, images: Sequence[Image.Image], rate: float) -> int | None:
    """The highest level at which photographs take at most ``rate`` bpp on average; None if even 0 takes more."""
    level = highest_level(lambda each: mean_bpp(codec, images, each), rate, codec.max_level)
    return None if level < 0 else level
