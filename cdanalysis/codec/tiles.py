"""Large photographs, tile by tile: what networks hold at once stays bounded, and seams stay out of sight.

A tile's network sees a halo around the cells that it answers for. Where the halo is as wide as the network reaches, the
result is that of the whole photograph; where it is not (the backbone reaches far), it differs a little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..memory import release
from ..structures.latents import PAD

STRIDE = 16
CORE = 96
"""Cells, each way, that a tile answers for; a photograph of a halo more on both sides is still one tile."""
HALO = 16
"""Cells around a tile that the backbone sees. It reaches farther, but hardly sees what lies there."""

SCALES = (2, 1, 0.5)
"""Places for a cell, each way, of features at strides 8, 16 and 32."""

Place = tuple[slice, slice]


class Tile(NamedTuple):
    """Rows and columns, in cells: what is answered for, what is seen, and the first one's place in the second."""

    core: Place
    seen: Place
    inner: Place


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the cells of a photograph of so many pixels, once it is padded."""
    return -(-height // PAD) * PAD // STRIDE, -(-width // PAD) * PAD // STRIDE


def tiles(grid: tuple[int, int], halo: int, core: int | None = None) -> Iterator[Tile]:
    """Tiles whose cores cover a grid once; corners lie on even cells, where strides of 32 pixels begin.

    Args:
        core: cells, each way, that a tile answers for at most; by default ``CORE``.
    """
    core, halo = core or CORE, halo + halo % 2
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
    """The pixels of a place in photographs (N, C, H, W), whose last rows and columns go on for ever."""
    (top, bottom), (left, right) = ((STRIDE * s.start, STRIDE * s.stop) for s in seen)
    part = x[..., top:bottom, left:right]
    missing = (0, right - left - part.shape[-1], 0, bottom - top - part.shape[-2])
    part = to_unit(part)
    part = F.pad(part, missing, mode="replicate") if any(missing) else part
    return part.contiguous(memory_format=torch.channels_last)  # twice as fast on the CPU


def to_unit(x: Tensor) -> Tensor:
    """Pixels 0..255, if they are bytes, as floats in [0, 1]; others as they are."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def padded(x: Tensor) -> Tensor:
    """Photographs with the right and bottom edge repeated until both sides are multiples of ``PAD``."""
    rows, columns = grid_of(x.shape[-2], x.shape[-1])
    return window(x, (slice(0, rows), slice(0, columns)))


Input = Tensor | list[Tensor]
"""Photographs (N, C, H, W), or features of them at strides 8, 16 and 32."""


def seen_by(x: Input, place: Place) -> Input:
    """What of the input lies at a place."""
    if isinstance(x, Tensor):
        return window(x, place)
    places = (_scaled(place, scale) for scale in SCALES)
    return [level[..., rows, columns] for level, (rows, columns) in zip(x, places, strict=True)]


def tiled(network: Callable[[Any], Tensor], x: Input, halo: int, core: int | None = None, scale: int = 1) -> Tensor:
    """What a network makes of its input: (N, C', h, w), ``scale``^2 places for every cell of 16x16 pixels."""
    grid = grid_of(x.shape[-2], x.shape[-1]) if isinstance(x, Tensor) else (x[1].shape[-2], x[1].shape[-1])
    y = None
    for tile in tiles(grid, halo, core):
        part = network(seen_by(x, tile.seen))
        if covers(tile, grid):
            return part
        if y is None:
            shape = (*part.shape[:2], *(scale * side for side in grid))
            y = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=layout(part))
        put(y, tile.core, part, tile.inner, scale)
        del part
        release()
    return y


def covers(tile: Tile, grid: tuple[int, int]) -> bool:
    """Whether it is the only one."""
    return tile.core == (slice(0, grid[0]), slice(0, grid[1]))


def put(y: Tensor, core: Place, part: Tensor, inner: Place, scale: float = 1) -> None:
    """Write what a tile answers for, of what it saw, into the whole; places are in cells, ``scale`` values for each."""
    (rows, columns), (own_rows, own_columns) = _scaled(core, scale), _scaled(inner, scale)
    y[..., rows, columns] = part[..., own_rows, own_columns]


def _scaled(place: Place, scale: float) -> Place:
    rows, columns = (slice(int(scale * s.start), int(scale * s.stop)) for s in place)
    return rows, columns


def layout(x: Tensor) -> torch.memory_format:
    """Of a tensor's memory."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
