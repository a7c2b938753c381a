"""The map of the detail layer's quality offsets, coded before the layer's other symbols.

Cells are coded by diagonals, so that those to the left, above and above left are known. A symbol is the residual of
their median-edge prediction (LOCO-I: Weinberger, Seroussi, Sapiro, IEEE Transactions on Image Processing 2000), and
their local gradient selects one of three tables. `docs/format.md` specifies it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..structures.latents import MAX_QUALITY_OFFSET
from .coder import CdfTables, SymbolReader, SymbolWriter
from .errors import StreamError

_SHAPES = ((1024, 16), (256, 96), (64, 48))
"""Weight of a difference of 0, and of 1, where the neighbors differ by 0, by up to 2, by more."""


def _cdf_tables() -> CdfTables:
    """A difference of d weighs its shape's second number, halved ``(d - 1) // 2`` times, but at least 1."""
    distance = np.abs(np.arange(-MAX_QUALITY_OFFSET, MAX_QUALITY_OFFSET + 1))
    halvings = (np.maximum(distance, 1) - 1) // 2
    return CdfTables(np.stack([np.where(distance == 0, zero, np.maximum(1, one >> halvings)) for zero, one in _SHAPES]))


CDF_TABLES = _cdf_tables()


def push_map(writer: SymbolWriter, quality_offsets: np.ndarray) -> None:
    """Append a map of quality offsets.

    Args:
        writer: of the detail layer's symbols.
        quality_offsets: (h, w) integers 0..``MAX_QUALITY_OFFSET``.
    """
    for cells, predicted, context in _diagonals(quality_offsets.astype(np.int64)):
        writer.push(quality_offsets[cells] - predicted, context, CDF_TABLES)


def pop_map(reader: SymbolReader, shape: tuple[int, int]) -> np.ndarray:
    """The next map of quality offsets.

    Args:
        reader: of the detail layer's symbols.
        shape: (h, w) of the map.

    Returns:
        (h, w) int64, 0..``MAX_QUALITY_OFFSET``.

    Raises:
        StreamError: if a value lies outside 0..``MAX_QUALITY_OFFSET``.
    """
    quality_offsets = np.zeros(shape, dtype=np.int64)
    for cells, predicted, context in _diagonals(quality_offsets):
        quality_offsets[cells] = predicted + reader.pop(context, CDF_TABLES)
        if quality_offsets[cells].min() < 0 or quality_offsets[cells].max() > MAX_QUALITY_OFFSET:
            raise StreamError("a quality map holds values that no writer writes")
    return quality_offsets


def _diagonals(quality_offsets: np.ndarray) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]]:
    """For each diagonal: its cells (rows, columns), what earlier ones predict for them, and their tables.

    ``quality_offsets`` may be filled while this runs. Beside the grid stand zeros.
    """
    height, width = quality_offsets.shape
    for number in range(height + width - 1):
        rows = np.arange(max(0, number - width + 1), min(height, number + 1))
        columns = number - rows
        left = np.where(columns > 0, quality_offsets[rows, columns - 1], 0)
        above = np.where(rows > 0, quality_offsets[rows - 1, columns], 0)
        corner = np.where((rows > 0) & (columns > 0), quality_offsets[rows - 1, columns - 1], 0)
        # On the first row and column there is one neighbor to go by.
        above, left = np.where(rows > 0, above, left), np.where(columns > 0, left, above)
        corner = np.where((rows > 0) & (columns > 0), corner, np.minimum(left, above))
        predicted = np.clip(left + above - corner, np.minimum(left, above), np.maximum(left, above))
        differ = np.abs(left - corner) + np.abs(above - corner)
        yield (rows, columns), predicted, (differ > 0).astype(np.int64) + (differ > 2)
