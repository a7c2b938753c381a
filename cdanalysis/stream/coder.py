"""Symbols to bytes and back: asymmetric numeral systems (Duda, 2013), by the package constriction.

Every symbol names an integer probability table. A batch of symbols is coded table after table, so
that each table is handled by one call. A writer takes batches in the order of reading.
"""

from __future__ import annotations

from collections.abc import Sequence

import constriction
import numpy as np

from .errors import StreamError

_Model = constriction.stream.model.Categorical


class Tables:
    """Probability tables, ready for the coder.

    Args:
        tables: (T, 2 R + 1) positive integers; row t gives the weights of the symbols -R..R.
    """

    def __init__(self, tables: np.ndarray):
        self.reach = tables.shape[1] // 2
        self.models = [_Model(row, perfect=False) for row in np.asarray(tables, dtype=np.float64)]


class SymbolWriter:
    """Collects batches of symbols; ``finish`` gives their bytes."""

    def __init__(self) -> None:
        self._batches: list[tuple[np.ndarray, np.ndarray, Tables]] = []

    def push(self, symbols: np.ndarray, indices: np.ndarray, tables: Tables) -> None:
        """Append a batch: symbols (n,) in -R..R and the index (n,) of the table each is coded with."""
        if symbols.size and int(np.abs(symbols).max()) > tables.reach:
            raise ValueError(f"a symbol lies beyond the tables' reach of {tables.reach}")
        self._batches.append((symbols, indices, tables))

    def finish(self) -> bytes:
        coder = constriction.stream.stack.AnsCoder()
        for batch in reversed(self._batches):
            _encode(coder, *batch)
        words = coder.get_compressed()
        return words.astype("<u4").tobytes().rstrip(b"\0")


def _encode(
    coder: constriction.stream.stack.AnsCoder, symbols: np.ndarray, indices: np.ndarray, tables: Tables
) -> None:
    """Put a batch on the coder's stack."""
    (order,), (runs,) = _by_table(indices[None])
    shifted = symbols[order].astype(np.int32)
    shifted += tables.reach
    for t, start, stop in reversed(runs):
        coder.encode_reverse(shifted[start:stop], tables.models[t])


class SymbolReader:
    """Reads what a `SymbolWriter` wrote, batch by batch."""

    def __init__(self, data: bytes):
        padded = data + bytes(-len(data) % 4)
        if data.endswith(b"\0"):
            raise StreamError("a layer's symbols do not end as a writer ends them")
        self._coder = constriction.stream.stack.AnsCoder(np.frombuffer(padded, dtype="<u4").astype(np.uint32))

    def pop(self, indices: np.ndarray, tables: Tables) -> np.ndarray:
        """The next batch: symbols (n,) int32, given the index (n,) of the table of each."""
        return pop_each([self], indices[None], tables)[0]

    def close(self) -> None:
        """Raises `StreamError` unless everything has been read."""
        if not self._coder.is_empty():
            raise StreamError("a layer holds other symbols than its model expects")


def pop_each(readers: Sequence[SymbolReader], indices: np.ndarray, tables: Tables) -> np.ndarray:
    """The next batch of each reader: symbols (N, n) int32, given the index (N, n) of the table of each."""
    order, runs = _by_table(indices)
    found = np.empty(indices.shape, dtype=np.int32)
    for reader, row, own in zip(readers, found, runs, strict=True):
        decode = reader._coder.decode
        for t, start, stop in own:
            row[start:stop] = decode(tables.models[t], stop - start)
    found -= tables.reach
    symbols = np.empty_like(found)
    np.put_along_axis(symbols, order, found, 1)
    return symbols


def _by_table(indices: np.ndarray) -> tuple[np.ndarray, list[list[tuple[int, int, int]]]]:
    """For each row of indices (N, n) a stable order (N, n) that sorts it, and (table, start, stop) of runs in that."""
    rows, size = len(indices), int(indices.max(initial=0)) + 1
    counts = np.bincount((indices + size * np.arange(rows)[:, None]).ravel(), minlength=rows * size)
    counts = counts.reshape(rows, size)
    stops, used = counts.cumsum(1), counts.nonzero()
    runs: list[list[tuple[int, int, int]]] = [[] for _ in range(rows)]
    columns = (*used, (stops - counts)[used], stops[used])
    for row, t, start, stop in zip(*(x.tolist() for x in columns), strict=True):
        runs[row].append((t, start, stop))
    return np.argsort(indices, axis=1, kind="stable"), runs
