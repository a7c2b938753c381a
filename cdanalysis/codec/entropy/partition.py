"""The 2x2 checkerboard of cells over which the passes of a context model take turns, and latents laid out by it.

Channels are cut into as many groups as there are passes, and the groups take turns over the cells of it (4
passes) or over its two colors (2 passes), so that every pass covers the whole image. *Laid out* latents are
(2, 2, channels, N, h/2, w/2), the parities of row and column first: what a pass codes in a cell is then one slice, and
so is what it sees of a neighbor.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..integer.exact import magnitudes

Cell = tuple[int, int]
CELLS: tuple[Cell, ...] = tuple(itertools.product(range(2), range(2)))
"""Parities of row and column."""
SIDE = 3
"""Cells, each way, that a network of the context sees."""


class Known(NamedTuple):
    """What is known of some rows of laid-out latents, with a border of a cell, so that neighbors are spans of memory.

    Attributes:
        spans: of each group in each cell, `CELLS` after `CELLS`, (channels, length): the rows of each photograph one
            after the other, each after a zero; float32.
        unit: what a one stands for.
        largest: (4 groups, channels), the largest magnitude of each; float64.
        shape: (N, rows, columns) of the memory that an output takes, and the places of it that are no border.
        size: (rows, columns).
    """

    spans: tuple[Tensor, ...]
    unit: int
    largest: Tensor
    shape: tuple[int, int, int]
    size: tuple[int, int]

    def around(self, cell: Cell, seen: list[tuple[Cell, int]]) -> tuple[Tensor, Tensor]:
        """What lies at taps, (0..2, 0..2), of the window around each place of a cell's, and the most of each.

        Args:
            cell: in whose places the window's middle lies.
            seen: taps, and which group of channels is seen there.

        Returns:
            (inputs, length), and (inputs,) float64.
        """
        numbers, spans, length = [], [], self.length
        for tap, group in seen:
            (row, i), (column, j) = (divmod(own + step - 1, 2) for own, step in zip(cell, tap, strict=True))
            start = (1 + row) * self.shape[2] + 1 + column
            numbers.append((2 * i + j) * (len(self.spans) // len(CELLS)) + group)
            spans.append(self.spans[numbers[-1]][:, start : start + length])
        return torch.cat(spans), self.largest[numbers].flatten()

    @property
    def length(self) -> int:
        """Of a span; not a large power of two, which caches do not like in the rows of a matrix."""
        length = math.prod(self.shape)
        return length if length % 64 else length + 8

    def without_border(self, x: Tensor) -> Tensor:
        """The outputs that lie in the photographs.

        Args:
            x: outputs (channels, length), for what `around` gives.

        Returns:
            (channels, N, rows, columns), a view.
        """
        return x[:, : math.prod(self.shape)].unflatten(1, self.shape)[:, :, : self.size[0], : self.size[1]]


class CheckerboardPartition(NamedTuple):
    """Who codes what, and when.

    Attributes:
        channels: of the latents, a multiple of the passes.
        passes: 2 or 4.
    """

    channels: int
    passes: int

    def turn(self, p: int, cell: Cell) -> int:
        """The group of channels that a pass codes in a cell.

        Args:
            p: number of the pass, from 0.
            cell: parities of row and column.

        Returns:
            the group's number, below ``passes``.
        """
        row, column = cell
        turn = (row + column) % 2 if self.passes == 2 else 2 * row + (row + column) % 2
        return (p - turn) % self.passes

    @property
    def size(self) -> int:
        """Channels of a group."""
        return self.channels // self.passes

    def group(self, p: int, cell: Cell) -> slice:
        """The channels that a pass codes in a cell.

        Args:
            p: number of the pass, from 0.
            cell: parities of row and column.
        """
        first = self.turn(p, cell) * self.size
        return slice(first, first + self.size)

    def masks(self, height: int, width: int, device: torch.device | None = None) -> Tensor:
        """Which symbols each pass codes; together they code each once.

        Args:
            height: rows h of the latents.
            width: columns w of the latents.
            device: of the result; by default torch's.

        Returns:
            (passes, C, h, w) bool.
        """
        masks = torch.zeros((self.passes, self.channels, height, width), dtype=torch.bool, device=device)
        for p, (i, j) in itertools.product(range(self.passes), CELLS):
            masks[p, self.group(p, (i, j)), i::2, j::2] = True
        return masks

    def empty(self, like: Tensor, channels: int) -> Tensor:
        """Room for laid-out integers.

        Args:
            like: (N, C', h, w), for its batch, grid and device.
            channels: to have room for.

        Returns:
            zeros (2, 2, channels, N, h/2, w/2), int16.

        Raises:
            ValueError: if there is an odd number of rows or columns.
        """
        count, _, height, width = like.shape
        if height % 2 or width % 2:
            raise ValueError(f"a checkerboard has even sides, not {height} x {width}")
        shape = (2, 2, channels, count, height // 2, width // 2)
        return torch.zeros(shape, dtype=torch.int16, device=like.device)

    def coded(self, p: int, x: Tensor) -> Tensor:
        """What a pass codes, in the order of the stream.

        Args:
            p: number of the pass, from 0.
            x: laid out, with the channels of a group: (2, 2, size, N, h/2, w/2).

        Returns:
            (N, size * h * w).
        """
        parts = [torch.stack([x[cell] for cell in self._cells(p, group)], 3) for group in range(self.passes)]
        return torch.cat(parts).transpose(0, 1).flatten(1)

    def placed(self, p: int, symbols: Tensor, like: Tensor) -> Tensor:
        """What `coded` made an order of, laid out again.

        Args:
            p: number of the pass, from 0.
            symbols: (N, size * h * w).
            like: laid out, (2, 2, size, N, h/2, w/2), for its shape.

        Returns:
            of that shape, and the symbols' dtype.
        """
        count, rows, columns = like.shape[3:]
        x = symbols.reshape(count, self.channels, rows, -1, columns).transpose(0, 1)
        laid = torch.empty_like(like, dtype=symbols.dtype)
        for group in range(self.passes):
            own = x[group * self.size : (group + 1) * self.size]
            for number, cell in enumerate(self._cells(p, group)):
                laid[cell] = own[:, :, :, number]
        return laid

    def _cells(self, p: int, group: int) -> list[Cell]:
        """The cells in which a pass codes a group, by their rows."""
        return [cell for cell in CELLS if self.turn(p, cell) == group]

    def inputs(self, p: int, cell: Cell) -> tuple[list[tuple[Cell, int]], tuple[int, ...]]:
        """What a cell sees of earlier passes.

        Args:
            p: number of the pass that sees it, from 0.
            cell: that of the window's middle.

        Returns:
            taps with the group that is seen at each, and which of a network's inputs these are, in its weights' order.
        """
        return _inputs(self, p, cell)


@lru_cache(maxsize=64)
def _inputs(partition: CheckerboardPartition, p: int, cell: Cell) -> tuple[list[tuple[Cell, int]], tuple[int, ...]]:
    seen, numbers = [], []
    for tap in itertools.product(range(SIDE), range(SIDE)):
        there = (cell[0] + tap[0] - 1) % 2, (cell[1] + tap[1] - 1) % 2
        for earlier in range(p):
            group = partition.group(earlier, there)
            seen.append((tap, partition.turn(earlier, there)))
            numbers += [(c * SIDE + tap[0]) * SIDE + tap[1] for c in range(group.start, group.stop)]
    return seen, tuple(numbers)


def at(x: Tensor, cell: Cell, rows: slice = slice(None)) -> Tensor:
    """A cell's part of latents.

    Args:
        x: (N, C, h, w).
        cell: parities of row and column.
        rows: of the checkerboard, each two of x; by default all.

    Returns:
        (C, N, rows, w/2), a view.
    """
    start, stop, _ = rows.indices(x.shape[2] // 2)
    return x[:, :, 2 * start + cell[0] : 2 * stop : 2, cell[1] :: 2].transpose(0, 1)


def joined(x: Tensor) -> Tensor:
    """Laid-out latents as they were.

    Args:
        x: (2, 2, C, N, h/2, w/2).

    Returns:
        (N, C, h, w), int32.
    """
    return x.permute(3, 2, 4, 0, 5, 1).flatten(4).flatten(2, 3).to(torch.int32)


def known(x: Tensor, rows: slice, factor: int, limit: int, groups: int) -> Known:
    """Some rows of laid-out latents, times a factor, within a limit; beyond the edge there is nothing.

    Args:
        x: (2, 2, C, N, h/2, w/2), zeros where nothing is known yet.
        rows: of the h/2, those whose neighbors are to be looked at.
        factor: becomes the ``unit`` where all stays within the limit, else numbers are multiplied by it.
        limit: that no magnitude exceeds.
        groups: into which the channels are cut.

    Returns:
        their spans, ready for `Known.around`.
    """
    count, height, width = x.shape[3:]
    whole = rows.start == 0 and rows.stop >= height
    tall = min(rows.stop, height) - rows.start
    # Photographs that are there as a whole share the zeros above one with those below the one before.
    shape = count, tall + (1 if whole else 2), width + 1
    top, bottom = max(0, rows.start - 1), min(height, rows.stop + 1)
    first = top - rows.start + 1
    length = math.prod(shape)
    spans = torch.zeros((*x.shape[:3], length + 2 * shape[2] + 10), dtype=torch.float32, device=x.device)
    inner = spans[..., :length].unflatten(-1, shape)[..., first : first + bottom - top, 1:]
    inner.copy_(x[..., top:bottom, :])
    if (largest := magnitudes(spans.flatten(0, 2))).max() * factor > limit:
        inner.mul_(factor).clamp_(-limit, limit)
        largest, factor = (factor * largest).clamp_(max=limit), 1
    size = x.shape[2] // groups
    return Known(spans.flatten(0, 2).split(size), factor, largest.reshape(-1, size), shape, (tall, width))
