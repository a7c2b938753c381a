"""Image formats that Pillow writes, as codecs: the classical baselines."""

from __future__ import annotations

import importlib.metadata
import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, features

from ..photographs.formats import load_plugins, opened
from .base import Codec


@dataclass(frozen=True)
class PillowCodec(Codec):
    """An image format, at its encoder's default effort.

    Attributes:
        name: in tables.
        format: Pillow's name of it.
        color: color space and chroma subsampling of its files.
        plugin: module of the Pillow plugin that it needs; empty for none.
        settings: arguments of ``Image.save`` other than the quality.
    """

    max_level: ClassVar[int] = 100

    name: str
    format: str
    color: str = "YCbCr 4:2:0"
    plugin: str = ""
    settings: tuple[tuple[str, object], ...] = ()

    def available(self) -> bool:
        """Whether this build of Pillow, or the plugin, supports the format."""
        if not self.plugin:
            return bool(features.check(self._feature))
        load_plugins()
        return self.format in Image.SAVE

    def version(self) -> str:
        """Version of the library that encodes, as Pillow or the plugin reports it."""
        if self.plugin:
            return importlib.metadata.version(importlib.metadata.packages_distributions()[self.plugin][0])
        return str(features.version(self._feature))

    @property
    def _feature(self) -> str:
        """Pillow's name of its own support of the format."""
        return {"JPEG": "jpg", "JPEG2000": "jpg_2000"}.get(self.format, self.format.lower())

    def facts(self) -> dict[str, object]:
        """Version, color format and settings, for reports."""
        return {"version": self.version(), "colour": self.color, "settings": dict(self.settings)}

    def encode(self, image: Image.Image, level: int) -> bytes:
        """Encode an image.

        Args:
            image: RGB.
            level: 0 to 100, the format's quality; for JPEG 2000, 18 to 58 dB of PSNR.

        Returns:
            the bytes of the file.
        """
        buffer = io.BytesIO()
        wanted: dict[str, object] = {"quality": level}
        if self.format == "JPEG2000":
            wanted = {"quality_mode": "dB", "quality_layers": [18 + 0.4 * level]}
        image.save(buffer, self.format, **wanted, **dict(self.settings))
        return buffer.getvalue()

    @staticmethod
    def decode(data: bytes) -> np.ndarray:
        """Decode a file.

        Args:
            data: bytes of the file.

        Returns:
            the image, uint8 (H, W, 3).

        Raises:
            OSError: if the bytes are not an image.
        """
        with opened(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))


JPEG = PillowCodec("JPEG", "JPEG", settings=(("optimize", True),))
WEBP = PillowCodec("WebP", "WEBP")
AVIF = PillowCodec("AVIF", "AVIF")
AVIF_PSNR = PillowCodec("AVIF (PSNR)", "AVIF", settings=(("advanced", (("tune", "psnr"),)),))
"""libaom for the least squared error; since libavif 1.4 it is told to please people (``tune=iq``) by default."""
JPEG2000 = PillowCodec("JPEG 2000", "JPEG2000", "YCbCr 4:4:4", settings=(("irreversible", True), ("mct", 1)))
HEIC = PillowCodec("HEIC", "HEIF", plugin="pillow_heif")
JPEG_XL = PillowCodec("JPEG XL", "JXL", "XYB 4:4:4", plugin="pillow_jxl")

BASELINES = (JPEG, WEBP, AVIF)
"""Baselines of every measurement of reconstructions."""

MORE_BASELINES = (AVIF_PSNR, JPEG2000, HEIC, JPEG_XL)
"""Further baselines, on request; HEIC is HEVC intra coding, like BPG."""
