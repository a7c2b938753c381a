"""Symbols to bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdanalysis.codec.entropy.tables import SCALES, SYMBOL_BOUND, gaussian_cdf_tables
from cdanalysis.stream.coder import AnsCoder, CdfTables, SymbolReader, SymbolWriter, pop_each
from cdanalysis.stream.errors import StreamError

CDF_TABLES = CdfTables(gaussian_cdf_tables().numpy())
batches = st.lists(
    st.lists(st.tuples(st.integers(-SYMBOL_BOUND, SYMBOL_BOUND), st.integers(0, SCALES - 1)), max_size=60), max_size=4
)


def write(groups) -> bytes:
    writer = SymbolWriter()
    for symbols, indices in groups:
        writer.push(symbols, indices, CDF_TABLES)
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
        assert np.array_equal(reader.pop(indices, CDF_TABLES), symbols)
    reader.close()


def test_narrow_tables_hold_the_weights_of_the_whole_ones():
    rng = np.random.default_rng(0)
    assert 3 in CDF_TABLES.symbol_bounds and SYMBOL_BOUND in CDF_TABLES.symbol_bounds
    for whole, narrow, symbol_bound in zip(CDF_TABLES.models, CDF_TABLES.narrow, CDF_TABLES.symbol_bounds, strict=True):
        inner = np.arange(1 - symbol_bound, symbol_bound)
        symbols = rng.permutation(np.tile(inner, 500 // len(inner) + 2)).astype(np.int32)
        coder = AnsCoder(rng.integers(1, 2**32, 9, dtype=np.uint32))
        before = coder.get_compressed()
        coder.encode_reverse(symbols + SYMBOL_BOUND, whole)
        assert np.array_equal(coder.decode(narrow, len(symbols)) - symbol_bound, symbols)
        assert np.array_equal(coder.get_compressed(), before)
        for symbol in (-SYMBOL_BOUND, -symbol_bound, symbol_bound, SYMBOL_BOUND):
            coder.encode_reverse(np.array([symbol + SYMBOL_BOUND], dtype=np.int32), whole)
            assert coder.decode(narrow) == (0 if symbol < 0 else 2 * symbol_bound)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 10**6))
def test_any_bytes_are_read_as_by_the_whole_tables(data, far, seed):
    """Those of other coders, too, and symbols that lie beyond the narrow tables."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, SCALES, (2, len(far)))
    symbols = np.where(np.equal(far, 3), SYMBOL_BOUND, far)
    streams = [data.rstrip(b"\0"), write([(symbols, indices[1])])]
    plain = CdfTables(gaussian_cdf_tables().numpy())
    plain.narrow, plain.symbol_bounds = plain.models, np.full(SCALES, SYMBOL_BOUND, dtype=np.int32)
    found, wanted = ([SymbolReader(stream) for stream in streams] for _ in range(2))
    for _ in range(2):
        assert np.array_equal(pop_each(found, indices, CDF_TABLES), pop_each(wanted, indices, plain))
    for a, b in zip(found, wanted, strict=True):
        assert np.array_equal(a._coder.get_compressed(), b._coder.get_compressed())


def test_length_is_the_entropy():
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 40, 20_000)
    weights = gaussian_cdf_tables().double().numpy()
    probabilities = weights / weights.sum(1, keepdims=True)
    symbols = np.array([rng.choice(2 * SYMBOL_BOUND + 1, p=probabilities[i]) for i in indices]) - SYMBOL_BOUND
    ideal = -np.log2(probabilities[indices, symbols + SYMBOL_BOUND]).sum()
    data = write([(symbols, indices)])
    assert 8 * len(data) == pytest.approx(ideal, rel=0.001)
    assert np.array_equal(SymbolReader(data).pop(indices, CDF_TABLES), symbols)  # in several stretches


def test_other_symbols_than_written_are_noticed():
    data = write([(np.arange(-20, 20), np.full(40, 45))])
    reader = SymbolReader(data)
    reader.pop(np.full(30, 45), CDF_TABLES)
    with pytest.raises(StreamError):
        reader.close()


def test_a_symbol_out_of_reach_is_refused():
    with pytest.raises(ValueError, match="bound"):
        SymbolWriter().push(np.array([SYMBOL_BOUND + 1]), np.array([0]), CDF_TABLES)


def test_trailing_zeros_are_refused_and_garbage_gives_symbols_within_reach():
    with pytest.raises(StreamError):
        SymbolReader(b"ab\0")
    symbols = SymbolReader(bytes(range(1, 200))).pop(np.full(5000, 30), CDF_TABLES)
    assert np.abs(symbols).max() <= SYMBOL_BOUND
