"""The map that says where the detail layer's quality is lowered, coded before the layer's other symbols.

Cells are coded by diagonals, so that those to the left, above and above left are known. A symbol is the difference to
their median-edge prediction (LOCO-I: Weinberger, Seroussi, Sapiro, IEEE Transactions on Image Processing 2000), and
how much they differ chooses one of three tables. `docs/format.md` specifies it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..structures.latents import MOST_DROPS
from .coder import SymbolReader, SymbolWriter, Tables
from .errors import StreamError

_SHAPES = ((1024, 16), (256, 96), (64, 48))
"""Weight of a difference of 0, and of 1, where the neighbours differ by 0, by up to 2, by more."""


def _tables() -> Tables:
    """A difference of d weighs its shape's second number, halved ``(d - 1) // 2`` times, but at least 1."""
    distance = np.abs(np.arange(-MOST_DROPS, MOST_DROPS + 1))
    halvings = (np.maximum(distance, 1) - 1) // 2
    return Tables(np.stack([np.where(distance == 0, zero, np.maximum(1, one >> halvings)) for zero, one in _SHAPES]))


TABLES = _tables()


def push_map(writer: SymbolWriter, drops: np.ndarray) -> None:
    """Append a map (h, w) of integers 0..``MOST_DROPS``."""
    for cells, predicted, context in _diagonals(drops.astype(np.int64)):
        writer.push(drops[cells] - predicted, context, TABLES)


def pop_map(reader: SymbolReader, shape: tuple[int, int]) -> np.ndarray:
    """The next map (h, w) int64.

    Raises:
        StreamError: if a value lies outside 0..``MOST_DROPS``.
    """
    drops = np.zeros(shape, dtype=np.int64)
    for cells, predicted, context in _diagonals(drops):
        drops[cells] = predicted + reader.pop(context, TABLES)
        if drops[cells].min() < 0 or drops[cells].max() > MOST_DROPS:
            raise StreamError("a quality map holds values that no writer writes")
    return drops


def _diagonals(drops: np.ndarray) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]]:
    """For each diagonal: its cells (rows, columns), what earlier ones predict for them, and their tables.

    ``drops`` may be filled while this runs. Beside the grid stand zeros.
    """
    height, width = drops.shape
    for number in range(height + width - 1):
        rows = np.arange(max(0, number - width + 1), min(height, number + 1))
        columns = number - rows
        left = np.where(columns > 0, drops[rows, columns - 1], 0)
        above = np.where(rows > 0, drops[rows - 1, columns], 0)
        corner = np.where((rows > 0) & (columns > 0), drops[rows - 1, columns - 1], 0)
        # On the first row and column there is one neighbour to go by.
        above, left = np.where(rows > 0, above, left), np.where(columns > 0, left, above)
        corner = np.where((rows > 0) & (columns > 0), corner, np.minimum(left, above))
        predicted = np.clip(left + above - corner, np.minimum(left, above), np.maximum(left, above))
        differ = np.abs(left - corner) + np.abs(above - corner)
        yield (rows, columns), predicted, (differ > 0).astype(np.int64) + (differ > 2)
