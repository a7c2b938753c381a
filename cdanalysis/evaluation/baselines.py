"""The codecs a user would pick instead, through Pillow. Rates are bytes of the file."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, features


@dataclass(frozen=True)
class Baseline:
    """An image format: Pillow's name for it and the settings it is saved with.

    Chroma is 4:2:0 and effort is the default in all of them, as users have it.
    """

    name: str
    format: str
    settings: tuple[tuple[str, object], ...] = ()

    def available(self) -> bool:
        return self.format == "JPEG" or features.check(self.format.lower())

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """The file's bytes at a quality of 0 to 100."""
        buffer = io.BytesIO()
        image.save(buffer, self.format, quality=quality, **dict(self.settings))
        return buffer.getvalue()

    def encode_to_size(self, image: Image.Image, target: int) -> bytes:
        """The file at the quality whose size is nearest to ``target`` bytes (by bisection)."""
        low, high, tried = 0, 100, {}
        while low <= high:
            quality = (low + high) // 2
            tried[quality] = self.encode(image, quality)
            if len(tried[quality]) < target:
                low = quality + 1
            else:
                high = quality - 1
        return min(tried.values(), key=lambda data: abs(len(data) - target))

    @staticmethod
    def decode(data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


BASELINES = (
    Baseline("JPEG", "JPEG", (("optimize", True),)),
    Baseline("WebP", "WEBP"),
    Baseline("AVIF", "AVIF"),
)
