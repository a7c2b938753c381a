"""Symbols to bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdanalysis.codec.tables import REACH, SCALES, gaussian_tables
from cdanalysis.stream.coder import SymbolReader, SymbolWriter, Tables
from cdanalysis.stream.errors import StreamError

TABLES = Tables(gaussian_tables().numpy())
batches = st.lists(st.lists(st.tuples(st.integers(-REACH, REACH), st.integers(0, SCALES - 1)), max_size=60), max_size=4)


def write(groups) -> bytes:
    writer = SymbolWriter()
    for symbols, indices in groups:
        writer.push(symbols, indices, TABLES)
    return writer.finish()


@settings(max_examples=60, deadline=None)
@given(batches)
def test_round_trip(groups):
    arrays = [
        tuple(np.array(column, dtype=np.int64) for column in (zip(*g, strict=True) if g else ((), ()))) for g in groups
    ]
    data = write(arrays)
    reader = SymbolReader(data)
    for symbols, indices in arrays:
        assert np.array_equal(reader.pop(indices, TABLES), symbols)
    reader.close()


def test_length_is_the_entropy():
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 40, 20_000)
    weights = gaussian_tables().double().numpy()
    probabilities = weights / weights.sum(1, keepdims=True)
    symbols = np.array([rng.choice(2 * REACH + 1, p=probabilities[i]) for i in indices]) - REACH
    ideal = -np.log2(probabilities[indices, symbols + REACH]).sum()
    assert 8 * len(write([(symbols, indices)])) == pytest.approx(ideal, rel=0.001)


def test_other_symbols_than_written_are_noticed():
    data = write([(np.arange(-20, 20), np.full(40, 45))])
    reader = SymbolReader(data)
    reader.pop(np.full(30, 45), TABLES)
    with pytest.raises(StreamError):
        reader.close()


def test_a_symbol_out_of_reach_is_refused():
    with pytest.raises(ValueError, match="reach"):
        SymbolWriter().push(np.array([REACH + 1]), np.array([0]), TABLES)


def test_trailing_zeros_are_refused_and_garbage_gives_symbols_within_reach():
    with pytest.raises(StreamError):
        SymbolReader(b"ab\0")
    symbols = SymbolReader(bytes(range(1, 200))).pop(np.full(5000, 30), TABLES)
    assert np.abs(symbols).max() <= REACH
