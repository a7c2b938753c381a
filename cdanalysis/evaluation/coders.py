"""Photographs to files and back, one interface for this library's models and for the codecs beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from ..latents import QUALITY_LEVELS
from ..model import Model
from .baselines import Baseline
from .metrics import bpp


class Coder(Protocol):
    """Something that makes files of photographs: bytes grow with a level from 0 to ``most``."""

    name: str
    most: int

    def encode(self, image: Image.Image, level: int) -> bytes: ...
    def decode(self, data: bytes) -> np.ndarray: ...


class ModelCoder:
    """A model of this library, with both its layers.

    Args:
        name: what tables call it.
        semantic: quality in [0, 1] of the semantic layer; by default that of the detail layer.
    """

    most = QUALITY_LEVELS

    def __init__(self, name: str, model: Model, semantic: float | None = None):
        self.name, self.model, self.semantic = name, model, semantic

    def encode(self, image: Image.Image, level: int) -> bytes:
        quality = level / QUALITY_LEVELS
        return self.model.encode(image, (quality if self.semantic is None else self.semantic, quality))

    def decode(self, data: bytes) -> np.ndarray:
        return np.asarray(self.model.decode(data))


class BaselineCoder:
    """A codec that others made."""

    most = 100

    def __init__(self, baseline: Baseline):
        self.name, self.baseline = baseline.name, baseline

    def encode(self, image: Image.Image, level: int) -> bytes:
        return self.baseline.encode(image, level)

    def decode(self, data: bytes) -> np.ndarray:
        return self.baseline.decode(data)


def mean_bpp(coder: Coder, images: Sequence[Image.Image], level: int) -> float:
    """Mean bits a pixel of the files of photographs at one level."""
    return float(np.mean([bpp(len(coder.encode(image, level)), image.width, image.height) for image in images]))


def level_at(coder: Coder, images: Sequence[Image.Image], rate: float) -> int | None:
    """The highest level at which photographs take at most ``rate`` bpp on average; None if even 0 takes more."""
    if mean_bpp(coder, images, 0) > rate:
        return None
    low, high = 0, coder.most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if mean_bpp(coder, images, middle) <= rate else (low, middle)
    return low
