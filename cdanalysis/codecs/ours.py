"""This library's models as codecs: all layers, the semantic layers alone, or rough previews of these."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np
from PIL import Image

from ..model import Model
from ..roi.importance import Importance
from ..structures.latents import QUALITY_LEVELS, SEMANTIC, quality_level
from .base import Codec


class ModelCodec(Codec):
    """A model of this library, with all its layers. Its level is that of the detail layer.

    Args:
        name: what tables call it.
        model: that encodes and decodes.
        semantic: quality in [0, 1] of both semantic layers; by default that of the detail layer.
        importance: where the detail layer's bits go, see `Model.encode`; by default everywhere alike.
        realism: of what is decoded, see `Model.decode`; effort serves it.
        spatial_size: working size of the spatial layer, see `Model.encode`.
        effort: of the encoder, see `Model.encode`.
    """

    max_level = QUALITY_LEVELS

    def __init__(
        self,
        name: str,
        model: Model,
        semantic: float | None = None,
        importance: Importance | None = None,
        realism: float = 0.0,
        spatial_size: int | None = None,
        effort: int = 0,
    ):
        self.name, self.model, self.semantic, self.importance = name, model, semantic, importance
        self.realism, self.spatial_size, self.effort = realism, spatial_size, effort

    @staticmethod
    def level(quality: float) -> int:
        """The level of a quality.

        Args:
            quality: in [0, 1].

        Returns:
            0..120.

        Raises:
            ValueError: if ``quality`` is not a number in [0, 1].
        """
        return quality_level(quality)

    def encode(self, image: Image.Image, level: int) -> bytes:
        """As `Codec.encode`; levels are quality levels."""
        return self.writer(image)(level)

    def writer(self, image: Image.Image) -> Callable[[int], bytes]:
        """As `Codec.writer`; the image is analyzed once.

        Raises:
            ValueError: for an importance, size or effort that cannot be used.
        """
        writer = self.model.writer(
            [image],
            importance=self.importance,
            spatial_size=self.spatial_size,
            effort=self.effort,
            realism=self.realism if self.effort else 0.0,
        )
        fixed = None if self.semantic is None else quality_level(self.semantic)
        return lambda level: writer.at((*[level if fixed is None else fixed] * len(SEMANTIC), level))[0]

    @property
    def quick(self) -> Codec:
        """As `Codec.quick`: the same without effort."""
        if not self.effort:
            return self
        quick = copy(self)
        quick.effort = 0
        return quick

    def facts(self) -> dict[str, object]:
        """Its settings, but for importance, which has no name."""
        return {name: getattr(self, name) for name in ("semantic", "realism", "spatial_size", "effort")}

    def decode(self, data: bytes) -> np.ndarray:
        """As `Codec.decode`."""
        return np.asarray(self.model.decode(data, realism=self.realism))


class SemanticCodec(ModelCodec):
    """A model's semantic layers alone, all at its level: files for heads, which nobody can decode to a photograph.

    Args:
        name: what tables call it.
        model: that encodes.
        layers: how many to write, 1 or 2: 1 for heads that read the global layer alone.
    """

    def __init__(self, name: str, model: Model, layers: int = len(SEMANTIC)):
        super().__init__(name, model)
        self.layers = layers

    def writer(self, image: Image.Image) -> Callable[[int], bytes]:
        """As `Codec.writer`; the image is analyzed once."""
        writer = self.model.writer([image], layers=self.layers)
        return lambda level: writer.at((level,) * self.layers)[0]

    def facts(self) -> dict[str, object]:
        """Its settings."""
        return {"layers": self.layers}

    def decode(self, data: bytes) -> np.ndarray:
        """As `Codec.decode`: there is nothing to decode.

        Raises:
            ValueError: always.
        """
        raise ValueError("a stream without a detail layer cannot be decoded; PreviewCodec gives a rough preview")


class PreviewCodec(SemanticCodec):
    """A model's semantic layers alone, for people: rates below those of all layers, and rough pictures."""

    def decode(self, data: bytes) -> np.ndarray:
        """As `Codec.decode`: a rough preview, of the original size.

        Raises:
            ValueError: also if the model makes no previews.
        """
        return np.asarray(self.model.decode(data, preview=True))
