"""Large photographs, tile by tile: what networks hold at once stays bounded, and seams stay out of sight.

A tile's network sees a halo around the cells that it answers for, as wide as the network reaches, so that the result is
that of the whole photograph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..memory import release
from ..structures.latents import PAD

STRIDE = 16
CORE = 96
"""Cells, each way, that a tile answers for; a photograph of a halo more on both sides is still one tile."""
BAND = 2**13
"""Cells that are worked on at a time where that is all that keeps memory small; two megapixels have as many."""
MANY = 4
"""Bands after which it is worth the time to give memory back."""

Place = tuple[slice, slice]


class Tile(NamedTuple):
    """Rows and columns, in cells: what is answered for, what is seen, and the first one's place in the second."""

    core: Place
    seen: Place
    inner: Place


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the cells of a photograph, once it is padded.

    Args:
        height: of the photograph in pixels.
        width: of the photograph in pixels.
    """
    return -(-height // PAD) * PAD // STRIDE, -(-width // PAD) * PAD // STRIDE


def tiles(grid: tuple[int, int], halo: int, share: float = 1.0) -> Iterator[Tile]:
    """Tiles whose cores cover a grid once; corners lie on even cells, where strides of 32 pixels begin.

    Args:
        grid: rows and columns of cells, even numbers.
        halo: cells that a tile sees around its core; rounded up to an even number.
        share: of ``CORE``, that a tile answers for at most each way: less where a network takes more memory.

    Yields:
        the tiles, row by row.
    """
    core, halo = int(share * CORE), halo + halo % 2
    for rows in _spans(grid[0], halo, core):
        for columns in _spans(grid[1], halo, core):
            yield Tile(*zip(rows, columns, strict=True))


def _spans(length: int, halo: int, core: int) -> list[tuple[slice, slice, slice]]:
    """Along one side: (core, seen, inner) of each tile."""
    if length <= core + 2 * halo:
        whole = slice(0, length)
        return [(whole, whole, whole)]
    count = -(-length // core)
    step = -(-length // (2 * count)) * 2
    spans = []
    for start in range(0, length, step):
        stop = min(length, start + step)
        first, last = max(0, start - halo), min(length, stop + halo)
        spans.append((slice(start, stop), slice(first, last), slice(start - first, stop - first)))
    return spans


def window(x: Tensor, seen: Place) -> Tensor:
    """The pixels of a place in photographs, whose last rows and columns go on for ever.

    Args:
        x: (N, C, H, W), uint8 or in [0, 1].
        seen: rows and columns in cells of 16 pixels, each with a start within the photographs, and a stop.

    Returns:
        (N, C, 16 h, 16 w) for a place of h x w cells, in [0, 1], channels last in memory.
    """
    (top, bottom), (left, right) = ((STRIDE * s.start, STRIDE * s.stop) for s in seen)
    part = x[..., top:bottom, left:right]
    missing = (0, right - left - part.shape[-1], 0, bottom - top - part.shape[-2])
    part = to_unit(part)
    part = F.pad(part, missing, mode="replicate") if any(missing) else part
    return channels_last(part)  # twice as fast on the CPU


def channels_last(x: Tensor) -> Tensor:
    """The same with its channels last in memory, by strides in which torch sees that of a batch of one, too.

    Args:
        x: (N, C, H, W).

    >>> one = torch.zeros(4, 5, 3).permute(2, 0, 1)[None]
    >>> one.is_contiguous(memory_format=torch.channels_last), one.stride(), channels_last(one).stride()
    (True, (3, 1, 15, 3), (60, 1, 15, 3))
    """
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, rows, columns = x.shape
    return x.as_strided(x.shape, (rows * columns * channels, 1, columns * channels, channels), x.storage_offset())


def to_unit(x: Tensor) -> Tensor:
    """Bytes as floats.

    Args:
        x: pixels of any shape: uint8 in 0..255, or others, which stay as they are.

    Returns:
        pixels in [0, 1], float32 where they were bytes.
    """
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def padded(x: Tensor) -> Tensor:
    """Photographs with the right and bottom edge repeated until both sides are multiples of ``PAD``.

    Args:
        x: (N, C, H, W), uint8 or in [0, 1].

    Returns:
        (N, C, H', W') in [0, 1], see `window`.
    """
    rows, columns = grid_of(x.shape[-2], x.shape[-1])
    return window(x, (slice(0, rows), slice(0, columns)))


def bands(shape: torch.Size) -> Iterator[slice]:
    """Rows of a tensor, an even number at a time, so many that what is made of them stays small.

    Where there are many, what was freed meanwhile goes back to the system in the end.

    Args:
        shape: (N, C, h, w) of the tensor.

    Yields:
        slices of the h rows, from top to bottom.
    """
    rows = max(2, BAND // (shape[0] * shape[3]) // 2 * 2)
    yield from (slice(top, min(shape[2], top + rows)) for top in range(0, shape[2], rows))
    if shape[0] * shape[2] * shape[3] > MANY * BAND:
        release()


def tiled(network: Callable[[Tensor], Tensor], x: Tensor, halo: int) -> Tensor:
    """What a network makes of photographs, tile by tile.

    Args:
        network: from (N, C, 16 h, 16 w) in [0, 1] to (N, C', h, w).
        x: (N, C, H, W), uint8 or in [0, 1].
        halo: cells that the network sees around its own.

    Returns:
        (N, C', H/16, W/16) for photographs padded to H x W.
    """
    grid = grid_of(x.shape[-2], x.shape[-1])
    y = None
    for tile in tiles(grid, halo):
        part = network(window(x, tile.seen))
        if tile.core == (slice(0, grid[0]), slice(0, grid[1])):  # the only one
            return part
        if y is None:
            shape = (*part.shape[:2], *grid)
            y = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=layout(part))
        y[..., tile.core[0], tile.core[1]] = part[..., tile.inner[0], tile.inner[1]]
        del part
        release()
    assert y is not None, "a grid has at least one tile"
    return y


def layout(x: Tensor) -> torch.memory_format:
    """How a tensor lies in memory.

    Args:
        x: (N, C, H, W).

    Returns:
        ``torch.channels_last`` or ``torch.contiguous_format``.
    """
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
