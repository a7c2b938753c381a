"""This library's models as codecs: all layers, the semantic layer alone, or previews of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from ..model import Model
from ..roi.importance import Importance
from ..structures.latents import QUALITY_LEVELS, quality_level
from .base import Codec


class ModelCodec(Codec):
    """A model of this library, with both its layers.

    Args:
        name: in tables.
        model: encodes and decodes.
        semantic: quality in [0, 1] of the semantic layer; by default that of the detail layer.
        importance: region of interest, see `Model.encode`; by default none.
    """

    max_level = QUALITY_LEVELS

    def __init__(self, name: str, model: Model, semantic: float | None = None, importance: Importance | None = None):
        self.name, self.model, self.semantic, self.importance = name, model, semantic, importance

    @staticmethod
    def level(quality: float) -> int:
        """The level of a quality.

        Args:
            quality: in [0, 1].
        """
        return quality_level(quality)

    def encode(self, image: Image.Image, level: int) -> bytes:
        """As `Codec.encode`; levels are quality levels."""
        return self.writer(image)(level)

    def writer(self, image: Image.Image) -> Callable[[int], bytes]:
        """As `Codec.writer`; the image is analyzed once."""
        writer = self.model.writer([image], importance=self.importance)
        fixed = None if self.semantic is None else quality_level(self.semantic)
        return lambda level: writer.at((level if fixed is None else fixed, level))[0]

    def decode(self, data: bytes) -> np.ndarray:
        """As `Codec.decode`."""
        return np.asarray(self.model.decode(data))


class BaseLayerCodec(ModelCodec):
    """The semantic layer of a model alone: files that heads read, and that cannot be decoded."""

    def writer(self, image: Image.Image) -> Callable[[int], bytes]:
        """As `Codec.writer`; the image is analyzed once."""
        writer = self.model.writer([image], layers=1)
        return lambda level: writer.at((level, level))[0]

    def decode(self, data: bytes) -> np.ndarray:
        """Raises `ValueError`: there is nothing to decode."""
        raise ValueError("a stream without a detail layer cannot be decoded; PreviewCodec gives a rough preview")


class PreviewCodec(BaseLayerCodec):
    """The semantic layer of a model alone, decoded to rough previews, at rates below those of both layers."""

    def decode(self, data: bytes) -> np.ndarray:
        """A rough preview, uint8 (H, W, 3)."""
        return np.asarray(self.model.decode(data, preview=True))
