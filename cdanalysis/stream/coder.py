"""Symbols to bytes and back: asymmetric numeral systems (Duda, 2013), by the package constriction.

Every symbol has the index of an integer probability table. A batch of symbols is coded table by table, so
that each table takes one call. A writer takes batches in the order of reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import constriction
import numpy as np

from .errors import StreamError

AnsCoder: TypeAlias = constriction.stream.stack.AnsCoder
Categorical = constriction.stream.model.Categorical
_Run = tuple[int, int, int]
"""A table, and where those symbols start and stop that it codes."""

WHOLE = 2**24
"""The coder's probabilities add up to this."""
NARROW_BOUNDS = (3, 7, 15, 31, 63, 127)
"""Symbol bounds of narrow tables: one symbol fewer than a power of two, whose exponent is the steps of a search."""
RARE = 2.0**-18
"""Share of a table's weights above the minimum that may lie beyond half a narrow table's bound."""
STRETCH = 2**12
"""Symbols that are read with narrow tables before it is checked whether those were sufficient."""


class CdfTables:
    """Probability tables, ready for the coder.

    The coder searches among all of a table's symbols, although the probability of most tables is concentrated on few.
    So each has a narrow table too, whose first and last symbols stand for all that lie farther out. As long as neither
    of the two is read, both tables decode the same symbols.

    Args:
        tables: (T, 2 R + 1) positive integers; row t gives the weights of the symbols -R..R.

    Attributes:
        given: the tables that were given.
        symbol_bound: R.
        models: the tables.
        narrow: the narrow tables; the table itself where there is none.
        symbol_bounds: (T,) those of the narrow tables.
    """

    def __init__(self, tables: np.ndarray):
        self.given = tables = np.asarray(tables, dtype=np.float64)
        self.symbol_bound = tables.shape[1] // 2
        self.models = [Categorical(row, perfect=False) for row in tables]
        cuts = [_narrow(row) for row in tables]
        self.narrow = [Categorical(cut, perfect=False) for cut in cuts]
        self.symbol_bounds = np.array([len(cut) // 2 for cut in cuts], dtype=np.int32)

    def __reduce__(self) -> tuple[type[CdfTables], tuple[np.ndarray]]:
        return CdfTables, (self.given,)  # the coder's own objects cannot be copied or sent


def _narrow(table: np.ndarray) -> np.ndarray:
    """The smallest table whose first and last entries, which stand for all that lie farther out, are rarely read."""
    # Weights as the coder makes them of a table: see "Symbols" in docs/format.md.
    size, symbol_bound = len(table), len(table) // 2
    starts = np.append(0, table.cumsum()[:-1]) * ((WHOLE - size) / table.sum())
    weights = np.diff(np.floor(starts) + np.arange(size), append=WHOLE)
    for smaller in (r for r in NARROW_BOUNDS if r < symbol_bound):
        half, excess = smaller // 2, table - table.min()
        if excess[: symbol_bound - half].sum() + excess[symbol_bound + half + 1 :].sum() <= RARE * table.sum():
            first, last = symbol_bound - smaller, symbol_bound + smaller
            outer = weights[: first + 1].sum(), weights[last:].sum()
            return np.array([outer[0], *weights[first + 1 : last], outer[1]]) - 1  # the coder adds one to each
    return table


class SymbolWriter:
    """Collects batches of symbols; ``finish`` encodes them.

    >>> tables = CdfTables(np.array([[1, 2, 1], [1, 8, 1]]))
    >>> symbols, indices = np.array([0, -1, 1, 0]), np.array([1, 0, 0, 1])
    >>> writer = SymbolWriter()
    >>> writer.push(symbols, indices, tables)
    >>> SymbolReader(writer.finish()).pop(indices, tables).tolist()
    [0, -1, 1, 0]
    """

    def __init__(self) -> None:
        self._batches: list[tuple[np.ndarray, np.ndarray, CdfTables]] = []

    def push(self, symbols: np.ndarray, indices: np.ndarray, tables: CdfTables) -> None:
        """Append a batch.

        Args:
            symbols: (n,) integers in -R..R.
            indices: (n,) of the table of each, below T.
            tables: T of them, with symbol bound R.

        Raises:
            ValueError: for a symbol beyond R.
        """
        if symbols.size and int(np.abs(symbols).max()) > tables.symbol_bound:
            raise ValueError(f"a symbol lies beyond the tables' bound of {tables.symbol_bound}")
        self._batches.append((symbols, indices, tables))

    def finish(self) -> bytes:
        """The bytes of all batches; the last of them is never 0."""
        coder = AnsCoder()
        for batch in reversed(self._batches):
            _encode(coder, *batch)
        words = coder.get_compressed()
        return words.astype("<u4").tobytes().rstrip(b"\0")


def _encode(coder: AnsCoder, symbols: np.ndarray, indices: np.ndarray, tables: CdfTables) -> None:
    """Put a batch on the coder's stack."""
    (order,), _, (runs,) = _by_table(indices[None])
    shifted = symbols[order].astype(np.int32)
    shifted += tables.symbol_bound
    for t, start, stop in reversed(runs):
        coder.encode_reverse(shifted[start:stop], tables.models[t])


class SymbolReader:
    """Decodes what a `SymbolWriter` encoded, batch by batch.

    Args:
        data: as `SymbolWriter.finish` gives it.

    Raises:
        StreamError: if no writer ends its bytes this way.
    """

    def __init__(self, data: bytes):
        padded = data + bytes(-len(data) % 4)
        if data.endswith(b"\0"):
            raise StreamError("a layer's symbols do not end as a writer ends them")
        self._coder = AnsCoder(np.frombuffer(padded, dtype="<u4").astype(np.uint32))

    def pop(self, indices: np.ndarray, tables: CdfTables) -> np.ndarray:
        """The next batch. Bytes that no writer wrote give some symbols, too: `close` finds most of them out.

        Args:
            indices: (n,) integers, of the table of each symbol, as they were when it was written.
            tables: those that it was written with.

        Returns:
            symbols (n,) int32.
        """
        return pop_each([self], indices[None], tables)[0]

    def close(self) -> None:
        """Check that everything has been read.

        Raises:
            StreamError: if something is left.
        """
        if not self._coder.is_empty():
            raise StreamError("a layer holds other symbols than its model expects")


def pop_each(readers: Sequence[SymbolReader], indices: np.ndarray, tables: CdfTables) -> np.ndarray:
    """The next batch of each reader, see `SymbolReader.pop`.

    Args:
        readers: N of them, each of which reads a batch of n symbols.
        indices: (N, n) integers, of the table of each symbol.
        tables: those that the batches were written with.

    Returns:
        symbols (N, n) int32.
    """
    order, counts, runs = _by_table(indices)
    symbol_bounds = np.repeat(np.tile(tables.symbol_bounds[: counts.shape[1]], len(counts)), counts.ravel()).reshape(
        indices.shape
    )
    symbols = np.empty(indices.shape, dtype=np.int32)
    for reader, row, own, places, bounds in zip(readers, symbols, runs, order, symbol_bounds, strict=True):
        found = np.empty_like(row)
        for stretch in _stretches(own):
            part = slice(stretch[0][1], stretch[-1][2])
            found[part] = _decode(reader._coder, stretch, tables, bounds[part])
        row[places] = found
    return symbols


def _decode(coder: AnsCoder, runs: list[_Run], tables: CdfTables, symbol_bounds: np.ndarray) -> np.ndarray:
    """Symbols (n,) of consecutive runs; ``symbol_bounds`` (n,) of their narrow tables."""
    found = np.concatenate([coder.decode(tables.narrow[t], stop - start) for t, start, stop in runs])
    symbols = found - symbol_bounds
    if not (np.abs(symbols) == symbol_bounds).any():
        return symbols
    first = runs[0][1]
    for t, start, stop in reversed(runs):
        coder.encode_reverse(found[start - first : stop - first], tables.narrow[t])  # as if they had not been read
    return (
        np.concatenate([coder.decode(tables.models[t], stop - start) for t, start, stop in runs]) - tables.symbol_bound
    )


def _stretches(runs: list[_Run]) -> Iterator[list[_Run]]:
    """Runs, the long ones cut, in lists of up to `STRETCH` symbols."""
    stretch, room = [], STRETCH
    for t, start, stop in runs:
        while start < stop:
            end = min(stop, start + room)
            stretch.append((t, start, end))
            room -= end - start
            start = end
            if not room:
                yield stretch
                stretch, room = [], STRETCH
    if stretch:
        yield stretch


def _by_table(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[list[_Run]]]:
    """For rows of indices (N, n): stable orders (N, n) that sort them, counts (N, t) of each table, and runs."""
    rows, size = len(indices), int(indices.max(initial=0)) + 1
    counts = np.bincount((indices + size * np.arange(rows)[:, None]).ravel(), minlength=rows * size)
    counts = counts.reshape(rows, size)
    stops, used = counts.cumsum(1), counts.nonzero()
    runs: list[list[_Run]] = [[] for _ in range(rows)]
    columns = (*used, (stops - counts)[used], stops[used])
    for row, t, start, stop in zip(*(x.tolist() for x in columns), strict=True):
        runs[row].append((t, start, stop))
    return np.argsort(indices, axis=1, kind="stable"), counts, runs
