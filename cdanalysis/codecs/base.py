"""The protocol of image codecs, and the search for a level by file size or rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import ClassVar

import numpy as np
from PIL import Image

from ..codec.budget import highest_level, searched_level
from ..metrics.image import bpp
from ..registry import CODECS


class Codec:
    """The base class of codecs: encodes images into files and decodes them; file size grows with a level.

    Instances, or functions of a folder of weights that return one, are registered in `cdanalysis.registry.CODECS`.

    Attributes:
        name: in tables.
        max_level: the highest level; the lowest is 0.
    """

    name: str
    max_level: ClassVar[int]

    def encode(self, image: Image.Image, level: int) -> bytes:
        """Encode an image.

        Args:
            image: RGB.
            level: 0 to ``max_level``.

        Returns:
            the bytes of the file, which must contain everything that `decode` needs.
        """
        raise NotImplementedError

    def decode(self, data: bytes) -> np.ndarray:
        """Decode a file.

        Args:
            data: bytes of the file.

        Returns:
            the image, uint8 (H, W, 3).

        Raises:
            ValueError: if the bytes are not such a file; also `StreamError` and `OSError`.
        """
        raise NotImplementedError

    def writer(self, image: Image.Image) -> Callable[[int], bytes]:
        """A function of a level that encodes an image; codecs can override it to share work between levels.

        Args:
            image: RGB.

        Returns:
            what maps a level, 0 to ``max_level``, to the bytes of the file.
        """
        return partial(self.encode, image)

    def encode_near(self, image: Image.Image, size: int, nearest: bool = False) -> bytes:
        """Encode an image to a file of a given size.

        Args:
            image: RGB.
            size: in bytes.
            nearest: search for the file whose size is nearest to ``size``, also a larger one.

        Returns:
            the largest file of at most ``size`` bytes, or one of the largest where the codec has a quicker one; if all
            are larger, the file of level 0.
        """
        write, made = self.writer(image), dict[int, bytes]()

        def size_at(level: int) -> int:
            if level not in made:
                made[level] = write(level)
            return len(made[level])

        quick = self.quick
        plain_at = size_at if quick is self else _sizes(quick.writer(image))
        level = _level_within(size, size_at, plain_at, self.max_level, straight=not nearest)
        return min(made.values(), key=lambda data: abs(len(data) - size)) if nearest else made[max(0, level)]

    @property
    def quick(self) -> Codec:
        """A codec whose files take about the same share more or fewer bytes at neighboring levels, in much less time:
        a level is looked for with it first. Itself where there is none."""
        return self

    def available(self) -> bool:
        """Whether the packages it needs are installed."""
        return True

    def facts(self) -> dict[str, object]:
        """Version and settings, for reports; what was measured is kept under them."""
        return {}


def open_codec(name: str, weights: str = "") -> Codec:
    """A codec by its registered name.

    Args:
        name: in `cdanalysis.registry.CODECS`.
        weights: folder of weights, for learned codecs.

    Returns:
        the codec, whose packages are installed.

    Raises:
        ValueError: if there is no codec of that name.
        ModuleNotFoundError: if a package that it needs is not installed.
    """
    found = CODECS[name]
    codec = found if isinstance(found, Codec) else found(weights)
    if not codec.available():
        raise ModuleNotFoundError(f"{name} is not installed: pip install 'cdanalysis[baselines]'")
    return codec


def mean_bpp(codec: Codec, images: Sequence[Image.Image], level: int) -> float:
    """The mean rate of images at a level.

    Args:
        codec: encodes them.
        images: RGB, at least one.
        level: of the codec.

    Returns:
        bits per pixel.
    """
    return float(np.mean([bpp(len(codec.encode(image, level)), image.width, image.height) for image in images]))


def level_at(codec: Codec, images: Sequence[Image.Image], rate: float) -> int | None:
    """The highest level whose mean rate is within a limit.

    Args:
        codec: encodes the images.
        images: RGB, at least one.
        rate: maximum in bits per pixel.

    Returns:
        the level, or None if level 0 exceeds the rate.
    """
    quick, mean = codec.quick, cache(partial(mean_bpp, codec, images))
    plain = mean if quick is codec else cache(partial(mean_bpp, quick, images))
    level = _level_within(rate, mean, plain, codec.max_level)
    return None if level < 0 else level


def _level_within(
    budget: float,
    size_at: Callable[[int], float],
    plain_at: Callable[[int], float],
    max_level: int,
    straight: bool = True,
) -> int:
    """The highest level within a budget, -1 for none: by the sizes of what is quick first, where that is another."""
    level = highest_level(plain_at, budget, max_level, straight)
    return level if plain_at is size_at else searched_level(size_at, plain_at, max(0, level), budget, max_level)


def _sizes(write: Callable[[int], bytes]) -> Callable[[int], int]:
    """What maps a level to the size of a file, which is made once."""
    return cache(lambda level: len(write(level)))
