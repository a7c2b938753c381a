"""The one type that codec, stream and heads share: the integer latents of photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the stream's room needs these words, and no torch
    from torch import Tensor

LAYERS = ("global", "spatial", "detail")
"""The layers of a stream. Each is decodable without those after it."""

SEMANTIC = LAYERS[:2]
"""Those that see the photograph at a working size of their own, and that most heads read."""

STEPS = 16
"""Latents are integers that count sixteenths of a quantization step."""

PAD = 32
"""Photographs are padded, right and bottom, to multiples of this many pixels; working sizes are multiples of it."""

QUALITY_LEVELS = 120
"""A layer's quality travels as an integer 0..120."""

QUALITY_OFFSET_STEP = 8
"""One step of a quality map lowers the level of a place by this many levels."""
MAX_QUALITY_OFFSET = 15


def quality_level(quality: float) -> int:
    """Map a quality to the integer in a stream.

    Args:
        quality: in [0, 1].

    Returns:
        0..120, the nearest one.

    Raises:
        ValueError: if ``quality`` is not a number in [0, 1].

    >>> quality_level(0.5)
    60
    """
    if not isinstance(quality, Real) or not 0.0 <= quality <= 1.0:
        raise ValueError(f"quality must be a number in [0, 1], got {quality!r}")
    return round(quality * QUALITY_LEVELS)


Quality = float | tuple[float, ...]
"""One number in [0, 1] for all layers, or one for each."""

Levels = tuple[int, ...]
"""Quality levels 0..120, one for each layer."""


def layer_count(layers: Sequence[str]) -> int:
    """The number of layers in a list of their names.

    Args:
        layers: the first one or more of ("global", "spatial", "detail").

    Returns:
        1, 2 or 3.

    Raises:
        ValueError: if these are not the first one or more of ``LAYERS``, in order.

    >>> layer_count(["global", "spatial"])
    2
    """
    named = isinstance(layers, Sequence) and not isinstance(layers, str)
    if not named or not layers or tuple(layers) != LAYERS[: len(layers)]:
        raise ValueError(f"layers must be the first one or more of {', '.join(LAYERS)}, got {layers!r}")
    return len(layers)


def quality_levels(quality: Quality, count: int = len(LAYERS)) -> Levels:
    """The levels of the first ``count`` layers.

    Args:
        quality: in [0, 1]; one number for all of these layers, or one for each.
        count: of layers, 1 to 3.

    Returns:
        ``count`` levels 0..120.

    Raises:
        ValueError: if ``quality`` is neither a number in [0, 1] nor one for each of these layers.

    >>> quality_levels(0.5), quality_levels((0.2, 0.5, 1.0))
    ((60, 60, 60), (24, 60, 120))
    """
    each = tuple(quality) if isinstance(quality, (tuple, list)) else (quality,) * count
    if len(each) != count:
        raise ValueError(f"quality must be one number, or one for each of {', '.join(LAYERS[:count])}, got {quality!r}")
    return tuple(map(quality_level, each))


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
        """Rows and columns of latent cells that cover an image.

        Args:
            height: of the image, in pixels.
            width: of the image, in pixels.

        >>> LatentSpec(channels=64, stride=16).grid(100, 160)
        (7, 10)
        """
        return -(-height // self.stride), -(-width // self.stride)


@dataclass(frozen=True)
class Latents:
    """Integer latents of a batch of equally large photographs.

    Every tensor is int32 and counts sixteenths of a quantization step (``STEPS``): dividing by 16
    gives what the literature calls y_hat. The values are exact: the same stream gives the same
    integers on every machine. A layer that was not asked for, or that a stream lacks, is None.

    Attributes:
        size: true (height, width) of the photographs in pixels.
        quality: level 0..120 of each layer that is here.
        embedding: (N, C, 1, 1), the global layer.
        spatial: (N, C', h, w), the spatial layer, on the grid of its working size.
        detail: (N, C'', H/16, W/16), the detail layer, on the grid of the padded photograph.
        hyper: (N, C_z, h_z, w_z), side information of the detail layer, in whole steps.
        quality_offsets: (N, 1, H/32, W/32), 0..``MAX_QUALITY_OFFSET``: the detail layer's quality lies this many times
            ``QUALITY_OFFSET_STEP`` levels below its level there; None where it is the same everywhere.
    """

    size: tuple[int, int]
    quality: Levels
    embedding: Tensor
    spatial: Tensor | None = None
    detail: Tensor | None = None
    hyper: Tensor | None = None
    quality_offsets: Tensor | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are here."""
        return LAYERS[: 1 + (self.spatial is not None) + (self.detail is not None)]

    @property
    def detail_level(self) -> int | Tensor:
        """Level 0..120 of the detail layer; int32 (N, 1, H/16, W/16) where places differ."""
        return self.quality[2] if self.quality_offsets is None else lowered(self.quality[2], self.quality_offsets)

    def __len__(self) -> int:
        return self.embedding.shape[0]

    def __getitem__(self, index: int | slice) -> Latents:
        """The latents of some photographs, or of one, still with a batch axis.

        Raises:
            IndexError: if there is none of that index.
        """
        rows = as_slice(index, len(self))
        return self.map(lambda tensor: tensor[rows])

    def map(self, function: Callable[[Tensor], Tensor]) -> Latents:
        """The latents with a function applied to every tensor.

        Args:
            function: of a tensor; is called for those that are here.

        Returns:
            latents of the same size and quality.
        """
        changed = {name: function(t) for name, t in self._tensors().items() if t is not None}
        return replace(self, **changed)

    def up_to(self, layer: str) -> Latents:
        """The same latents without the layers after a given one.

        Args:
            layer: the last that is kept, one of ``LAYERS``.

        Raises:
            ValueError: for any other name.
        """
        if layer not in LAYERS:
            raise ValueError(f"there is no layer {layer!r}; there are {', '.join(LAYERS)}")
        count = 1 + LAYERS.index(layer)
        gone = (() if count == 3 else ("detail", "hyper", "quality_offsets")) + (("spatial",) if count == 1 else ())
        return replace(self, quality=self.quality[:count], **dict.fromkeys(gone))

    def equals(self, other: Latents) -> bool:
        """Whether both hold exactly the same integers, of photographs of one size at the same quality levels.

        Args:
            other: on the same device.
        """
        pairs = zip(self._tensors().values(), other._tensors().values(), strict=True)
        same = all(a is b if a is None or b is None else a.equal(b) for a, b in pairs)
        return (self.size, self.quality) == (other.size, other.quality) and same

    def _tensors(self) -> dict[str, Tensor | None]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("size", "quality")}


def as_slice(index: int | slice, count: int) -> slice:
    """An index, or a slice, as a slice: of a batch, one photograph is a batch of one.

    Args:
        index: from 0, or below 0 from the end; or a slice.
        count: how many there are.

    Raises:
        IndexError: if there is none of that index.

    >>> as_slice(-1, 3), as_slice(slice(2), 3)
    (slice(2, 3, None), slice(None, 2, None))
    """
    if isinstance(index, slice):
        return index
    row = range(count)[index]
    return slice(row, row + 1)


def lowered(level: int, quality_offsets: Tensor) -> Tensor:
    """Quality levels place by place.

    Args:
        level: 0..120, where no offset lowers it.
        quality_offsets: (N, 1, h/2, w/2) integers 0..``MAX_QUALITY_OFFSET``.

    Returns:
        (N, 1, h, w), at least 0: ``level`` lowered by ``QUALITY_OFFSET_STEP`` levels an offset.
    """
    levels = (level - QUALITY_OFFSET_STEP * quality_offsets).clamp_min(0)
    return levels.repeat_interleave(2, 2).repeat_interleave(2, 3)


def working_size(height: int, width: int, shorter: int = 0, longer: int = 0) -> tuple[int, int]:
    """Height and width, multiples of 32, to which a photograph is resized for a semantic layer.

    With ``longer`` the longer side becomes that long, and the other follows in proportion. With ``shorter`` the shorter
    one does, and the longer one becomes at most twice as long. Integers throughout: readers derive a layer's grid
    from the photograph's size by this rule.

    Args:
        height: of the photograph, in pixels.
        width: of the photograph, in pixels.
        shorter: a multiple of 32; counts where ``longer`` is 0.
        longer: a multiple of 32, or 0.

    Returns:
        (height, width) in pixels, each at least 32.

    >>> working_size(3000, 4000, longer=448), working_size(3000, 4000, shorter=224)
    ((352, 448), (224, 288))
    """
    small, large = min(height, width), max(height, width)
    if longer:
        sides = _nearest(small * longer, large), longer
    else:
        sides = shorter, min(2 * shorter, _nearest(large * shorter, small))
    return sides if height <= width else sides[::-1]


def _nearest(numerator: int, denominator: int) -> int:
    """A quotient rounded to the nearest positive multiple of 32, halves upward."""
    return PAD * max(1, (2 * numerator + PAD * denominator) // (2 * PAD * denominator))
