"""The codecs a user would pick instead. Rates are bytes of the file."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, features

from .base import Codec


@dataclass(frozen=True)
class PillowCodec(Codec):
    """An image format: Pillow's name for it and how it is saved. Effort is each one's default, as users have it.

    Attributes:
        name: what tables call it.
        format: what Pillow calls it.
        color: what becomes of 8-bit RGB.
        plugin: the package that teaches Pillow the format; empty where Pillow knows it itself.
        settings: what it is saved with, beside its quality.
    """

    max_level: ClassVar[int] = 100

    name: str
    format: str
    color: str = "YCbCr 4:2:0"
    plugin: str = ""
    settings: tuple[tuple[str, object], ...] = ()

    def available(self) -> bool:
        """Whether this Pillow, and the plugin where it takes one, are here."""
        if not self.plugin:
            known = {"JPEG": "jpg", "JPEG2000": "jpg_2000"}
            return bool(features.check(known.get(self.format, self.format.lower())))
        try:
            module = importlib.import_module(self.plugin)
        except ImportError:
            return False
        if hasattr(module, "register_heif_opener"):
            module.register_heif_opener()
        return True

    def version(self) -> str:
        """Of the library that encodes, as far as it says."""
        if self.plugin:
            return importlib.metadata.version(importlib.metadata.packages_distributions()[self.plugin][0])
        return str(features.version({"JPEG": "jpg", "JPEG2000": "jpg_2000"}.get(self.format, self.format.lower())))

    def facts(self) -> dict[str, object]:
        """What a reader of figures must know."""
        return {"version": self.version(), "colour": self.color, "settings": dict(self.settings)}

    def encode(self, image: Image.Image, level: int) -> bytes:
        """The file's bytes at a level of 0 to 100, its quality; for JPEG 2000 those are 18 to 58 dB."""
        buffer = io.BytesIO()
        wanted: dict[str, object] = {"quality": level}
        if self.format == "JPEG2000":
            wanted = {"quality_mode": "dB", "quality_layers": [18 + 0.4 * level]}
        image.save(buffer, self.format, **wanted, **dict(self.settings))
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
        """The photograph, uint8 (H, W, 3)."""
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


JPEG = PillowCodec("JPEG", "JPEG", settings=(("optimize", True),))
WEBP = PillowCodec("WebP", "WEBP")
AVIF = PillowCodec("AVIF", "AVIF")
JPEG2000 = PillowCodec("JPEG 2000", "JPEG2000", "YCbCr 4:4:4", settings=(("irreversible", True), ("mct", 1)))
HEIC = PillowCodec("HEIC", "HEIF", plugin="pillow_heif")
JPEG_XL = PillowCodec("JPEG XL", "JXL", "XYB 4:4:4", plugin="pillow_jxl")

BASELINES = (JPEG, WEBP, AVIF)
"""What every measurement of reconstructions stands beside."""

MORE_BASELINES = (JPEG2000, HEIC, JPEG_XL)
"""Others, for those who ask: HEIC is HEVC's intra coding, as BPG is."""
