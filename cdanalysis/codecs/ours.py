"""Photographs to files and back, one interface for this library's models and for the codecs beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from ..codec.budget import highest_level
from ..metrics.image import bpp
from ..model import Model
from ..roi.importance import Importance
from ..structures.latents import QUALITY_LEVELS, quality_level
from .compressai import CompressAI
from .pillow import Baseline


class Codec(Protocol):
    """Something that makes files of photographs: bytes grow with a level from 0 to ``max_level``."""

    name: str
    max_level: int

    def encode(self, image: Image.Image, level: int) -> bytes: ...

    def encode_near(self, image: Image.Image, size: int) -> bytes:
        """The file of at most ``size`` bytes, or, where the coder cannot do that, the nearest that it can."""
        ...

    def decode(self, data: bytes) -> np.ndarray: ...


class ModelCodec:
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
        return largest_within(lambda level: self.encode(image, level), size, self.max_level)

    def decode(self, data: bytes) -> np.ndarray:
        raise ValueError("a stream without a detail layer is not decoded")


class PreviewCodec(BaseLayerCodec):
    """A model's semantic layer alone, for people: rates below those of both layers, and rough pictures."""

    def decode(self, data: bytes) -> np.ndarray:
        return np.asarray(self.model.decode(data, preview=True))


class BaselineCodec:
    """A codec that others made."""

    def __init__(self, baseline: Baseline | CompressAI):
        self.name, self.max_level, self.baseline = baseline.name, baseline.max_level, baseline

    def encode(self, image: Image.Image, level: int) -> bytes:
        return self.baseline.encode(image, level)

    def encode_near(self, image: Image.Image, size: int) -> bytes:
        return largest_within(lambda level: self.encode(image, level), size, self.max_level)

    def decode(self, data: bytes) -> np.ndarray:
        return self.baseline.decode(data)


def largest_within(make: Callable[[int], bytes], size: int, max_level: int) -> bytes:
    """The largest file of at most ``size`` bytes made at a level 0..``max_level``; that of level 0 if none is."""
    made: dict[int, bytes] = {}

    def size_at(level: int) -> int:
        made[level] = make(level)
        return len(made[level])

    return made[max(0, highest_level(size_at, size, max_level))]


def mean_bpp(codec: Codec, images: Sequence[Image.Image], level: int) -> float:
    """Mean bits a pixel of the files of photographs at one level."""
    return float(np.mean([bpp(len(codec.encode(image, level)), image.width, image.height) for image in images]))


def level_at(codec: Codec, images: Sequence[Image.Image], rate: float) -> int | None:
    """The highest level at which photographs take at most ``rate`` bpp on average; None if even 0 takes more."""
    level = highest_level(lambda each: mean_bpp(codec, images, each), rate, codec.max_level)
    return None if level < 0 else level
