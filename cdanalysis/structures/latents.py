"""The one type that codec, stream and heads share: the integer latents of photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the stream's room needs these words, and no torch
    from torch import Tensor

STEPS = 16
"""Latents are integers that count sixteenths of a quantization step."""

PAD = 32
"""Images are padded, right and bottom, to multiples of this many pixels."""

QUALITY_LEVELS = 120
"""A layer's quality travels as an integer 0..120."""

MAX_PIXELS = 2**28
"""Photographs of more pixels, padded, are refused before anything is allocated, unless a caller allows more."""

QUALITY_OFFSET_STEP = 8
"""One step of a quality map lowers the level of a place by this many levels."""
MAX_QUALITY_OFFSET = 15


def quality_level(quality: float) -> int:
    """Map a quality in [0, 1] to the integer in a stream.

    Raises:
        ValueError: if ``quality`` is not a number in [0, 1].

    >>> quality_level(0.5)
    60
    """
    if not 0.0 <= quality <= 1.0:
        raise ValueError(f"quality must lie in [0, 1], got {quality!r}")
    return round(quality * QUALITY_LEVELS)


Quality = float | tuple[float, float]
"""One number in [0, 1] for both layers, or (semantic, detail)."""


def quality_levels(quality: Quality) -> tuple[int, int]:
    """The levels of the semantic and the detail layer.

    Raises:
        ValueError: if ``quality`` is neither a number in [0, 1] nor a pair of such.

    >>> quality_levels(0.5), quality_levels((0.2, 1.0))
    ((60, 60), (24, 120))
    """
    pair = tuple(quality) if isinstance(quality, (tuple, list)) else (quality, quality)
    if len(pair) != 2:
        raise ValueError(f"quality must be one number or a pair (semantic, detail), got {quality!r}")
    return quality_level(pair[0]), quality_level(pair[1])


@dataclass(frozen=True)
class LatentSpec:
    """Shape of a layer.

    Attributes:
        channels: of its latents.
        stride: image pixels per latent cell, along each side.
    """

    channels: int
    stride: int

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of latent cells that cover an image of ``height x width`` pixels.

        >>> LatentSpec(channels=64, stride=16).grid(100, 160)
        (7, 10)
        """
        return -(-height // self.stride), -(-width // self.stride)


@dataclass(frozen=True)
class Latents:
    """Integer latents of a batch of equally large photographs.

    Every tensor is int32 and counts sixteenths of a quantization step (``STEPS``): dividing by 16
    gives what the literature calls y_hat. The values are exact: the same stream gives the same
    integers on every machine.

    Attributes:
        size: true (height, width) of the photographs in pixels.
        quality: level 0..120 of the semantic and of the detail layer.
        semantic: (N, C, h, w), the base layer.
        detail: (N, C', h, w), the enhancement layer; None where the stream has none.
        hyper: (N, C'', h'', w''), side information of the detail layer, in whole steps.
        quality_offsets: (N, 1, h/2, w/2), 0..``MAX_QUALITY_OFFSET``: the detail layer's quality lies this many times
            ``QUALITY_OFFSET_STEP`` levels below its level there; None where it is the same everywhere.
    """

    size: tuple[int, int]
    quality: tuple[int, int]
    semantic: Tensor
    detail: Tensor | None = None
    hyper: Tensor | None = None
    quality_offsets: Tensor | None = None

    @property
    def levels(self) -> tuple[int, int | Tensor]:
        """Quality levels 0..120 of both layers; the second is int32 (N, 1, h, w) where places differ."""
        if self.quality_offsets is None:
            return self.quality
        return self.quality[0], lowered(self.quality[1], self.quality_offsets)

    def __len__(self) -> int:
        return self.semantic.shape[0]

    def __getitem__(self, index: int) -> Latents:
        """The latents of one photograph, still with a batch axis of length 1."""

        def row(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[index : index + 1]

        semantic, others = self.semantic[index : index + 1], (self.detail, self.hyper, self.quality_offsets)
        detail, hyper, quality_offsets = map(row, others)
        return replace(self, semantic=semantic, detail=detail, hyper=hyper, quality_offsets=quality_offsets)

    def base(self) -> Latents:
        """The same latents without their detail layer."""
        return replace(self, detail=None, hyper=None, quality_offsets=None)

    def equals(self, other: Latents) -> bool:
        """Whether both hold exactly the same integers."""

        def same(a: Tensor | None, b: Tensor | None) -> bool:
            return a is b if a is None or b is None else a.equal(b)

        return (
            (self.size, self.quality) == (other.size, other.quality)
            and same(self.semantic, other.semantic)
            and same(self.detail, other.detail)
            and same(self.hyper, other.hyper)
            and same(self.quality_offsets, other.quality_offsets)
        )


def lowered(level: int, quality_offsets: Tensor) -> Tensor:
    """Quality levels (N, 1, h, w), at least 0: ``level`` lowered by ``quality_offsets`` (N, 1, h/2, w/2)."""
    levels = (level - QUALITY_OFFSET_STEP * quality_offsets).clamp_min(0)
    return levels.repeat_interleave(2, 2).repeat_interleave(2, 3)
