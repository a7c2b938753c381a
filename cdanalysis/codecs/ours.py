"""This library's models as codecs: both layers, the semantic layer alone, or rough previews of it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..model import Model
from ..roi.importance import Importance
from ..structures.latents import QUALITY_LEVELS, quality_level
from .base import Codec, largest_within


class ModelCodec(Codec):
    """A model of this library, with both its layers.

    Args:
        name: what tables call it.
        semantic: quality in [0, 1] of the semantic layer; by default that of the detail layer.
        importance: where the detail layer's bits go, see `Model.encode`; by default everywhere alike.
    """

    max_level = QUALITY_LEVELS

    def __init__(self, name: str, model: Model, semantic: float | None = None, importance: Importance | None = None):
        self.name, self.model, self.semantic, self.importance = name, model, semantic, importance

    @staticmethod
    def level(quality: float) -> int:
        """The level of a quality in [0, 1]."""
        return quality_level(quality)

    def encode(self, image: Image.Image, level: int) -> bytes:
        return self.model.writer([image], importance=self.importance).at(self._levels(level))[0]

    def encode_near(self, image: Image.Image, size: int) -> bytes:
        writer = self.model.writer([image], importance=self.importance)
        return largest_within(lambda level: writer.at(self._levels(level))[0], size, self.max_level)

    def _levels(self, level: int) -> tuple[int, int]:
        return (level if self.semantic is None else quality_level(self.semantic)), level

    def decode(self, data: bytes) -> np.ndarray:
        return np.asarray(self.model.decode(data))


class BaseLayerCodec(ModelCodec):
    """A model's semantic layer alone: files for heads, which nobody can decode to a photograph."""

    def encode(self, image: Image.Image, level: int) -> bytes:
        return self.model.encode(image, level / QUALITY_LEVELS, layers=("semantic",))

    def encode_near(self, image: Image.Image, size: int) -> bytes:
        return Codec.encode_near(self, image, size)

    def decode(self, data: bytes) -> np.ndarray:
        raise ValueError("a stream without a detail layer is not decoded")


class PreviewCodec(BaseLayerCodec):
    """A model's semantic layer alone, for people: rates below those of both layers, and rough pictures."""

    def decode(self, data: bytes) -> np.ndarray:
        return np.asarray(self.model.decode(data, preview=True))
