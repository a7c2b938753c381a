"""The global and the spatial layer: exact round trips, conditions that count, transforms that start silent."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdanalysis.codec.entropy import tables
from cdanalysis.codec.entropy.models import Pass
from cdanalysis.codec.global_layer import GlobalLayer
from cdanalysis.codec.spatial_layer import SpatialLayer
from cdanalysis.codec.vector_search import LOGITS, SQUARES, Classes, VectorSearch
from cdanalysis.stream.coder import CdfTables, SymbolReader, SymbolWriter, pop_each
from cdanalysis.structures.latents import QUALITY_LEVELS, STEPS

EMBEDDING, GROUPS = 40, (4, 8, 12)
CHANNELS = 8


@pytest.fixture(scope="module")
def scales():
    return CdfTables(tables.gaussian_cdf_tables().numpy())


@pytest.fixture(scope="module")
def layers():
    """Both layers, with random weights that say something of every symbol."""
    torch.manual_seed(3)
    embedding = GlobalLayer(EMBEDDING, GROUPS, hidden=16, context=16)
    spatial = SpatialLayer((6, 10, 12), (5, 7, 9), sum(GROUPS), CHANNELS, hidden=16, depth=1, context=16)
    with torch.no_grad():
        for layer in (embedding, spatial):
            for name, parameter in layer.named_parameters():
                if "heads" in name or "base" in name:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return embedding.eval(), spatial.eval()


def coded(passes, scales):
    """The bytes of each image's symbols."""
    writers = [SymbolWriter() for _ in range(len(passes[0].symbols))]
    for each in passes:
        for writer, symbols, indices in zip(writers, each.symbols.numpy(), each.tables.numpy(), strict=True):
            writer.push(symbols, indices, scales)
    return [writer.finish() for writer in writers]


def popper(data, scales):
    readers = [SymbolReader(each) for each in data]
    return lambda indices: torch.from_numpy(pop_each(readers, indices.numpy(), scales))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(0, QUALITY_LEVELS), st.floats(0.01, 300), st.integers(0, 2**31))
def test_what_is_written_of_an_embedding_is_read(layers, scales, count, level, size, seed):
    """At any quality and any size of numbers, symbols beyond the tables' bound included."""
    layer = layers[0]
    y = size * torch.randn(count, sum(GROUPS), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        values, passes = layer.context.quantize(y[..., None, None], level)
        data = coded(passes, scales)
        read = layer.context.read(count, level, y, popper(data, scales))
    assert read.equal(values)
    for index in range(count):  # each stream stands alone
        alone = layer.context.read(1, level, y, popper(data[index : index + 1], scales))
        assert alone.equal(values[index : index + 1])


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, QUALITY_LEVELS), st.integers(0, 2**31))
def test_what_is_written_of_a_grid_is_read_given_the_embedding(layers, scales, count, rows, columns, level, seed):
    draw = torch.Generator().manual_seed(seed)
    layer = layers[1]
    y = 5 * torch.randn(count, CHANNELS, 2 * rows, 2 * columns, generator=draw)
    side = torch.randint(-200, 200, (count, sum(GROUPS), 1, 1), generator=draw, dtype=torch.int32)
    with torch.no_grad():
        values, passes = layer.quantize(y, side, level)
        data = coded(passes, scales)
        grid = (2 * rows, 2 * columns)
        read = layer.context.read(layer.exact_base(side, level, grid), popper(data, scales))
        assert read.equal(values)
        first = layer.exact_base(side[:1], level, grid)
        assert layer.context.read(first, popper(data[:1], scales)).equal(values[:1])


def test_training_and_coding_see_the_same_symbols(layers):
    """The floating-point face of the entropy models agrees with the exact one but for roundings of its means."""
    embedding, spatial = layers
    torch.manual_seed(0)
    e, level = 3 * torch.randn(2, EMBEDDING), 60
    quality = torch.full((2, 1, 1, 1), level / QUALITY_LEVELS)
    features = [torch.randn(2, c, *side) for c, side in ((6, (8, 8)), (10, (4, 4)), (12, (2, 2)))]
    with torch.no_grad():
        y_hat, bits = embedding(e, quality, noisy=False)
        y = embedding.g_a(e)[..., None, None] * embedding.gain(quality)
        values, passes = embedding.context.quantize(y, level)
        assert (y_hat - values / STEPS).abs().max() < 0.1
        exact = sum(table_bits(each) for each in passes)
        assert float(bits.sum()) == pytest.approx(exact, rel=0.05)
        side = values / STEPS
        y_hat, bits = spatial(features, side, quality, noisy=False)
        values, passes = spatial.quantize(spatial.g_a(features), values, level)
        assert (y_hat - values / STEPS).abs().median() < 0.1
        assert float(bits.sum()) == pytest.approx(sum(table_bits(each) for each in passes), rel=0.05)


def table_bits(each):
    """What the integer tables charge for a pass's symbols."""
    weights = tables.gaussian_cdf_tables().double()
    chosen = weights[each.tables.long().flatten(), each.symbols.long().flatten() + tables.SYMBOL_BOUND]
    return float(-(chosen / weights[0].sum()).log2().sum())


@pytest.fixture(scope="module")
def principal():
    """A global layer that decodes what it codes, and a classifier's last layer, (classes, E) and (classes,)."""
    torch.manual_seed(4)
    layer, axes = GlobalLayer(EMBEDDING, GROUPS, hidden=4, context=16), torch.linalg.qr(torch.randn(EMBEDDING, 24))[0]
    with torch.no_grad():
        layer.g_a[0].weight.copy_(axes.T)
        layer.g_s[1].weight.copy_(axes)
        layer.g_a[0].bias.zero_()
        layer.g_s[1].bias.zero_()
    return layer.eval(), Classes.of(layer, *(torch.randn(7, EMBEDDING).detach(), torch.randn(7)))


def loss(search, found):
    """Bits in thousands, and what decoding makes of an embedding, written anew."""
    wanted, classes = search.embeddings, search.classes
    decoded = search.layer.embedding(search.layer.dequantize(found.values.float() / STEPS, search.plane))
    right, said = ((x @ classes.weight.T + classes.bias).double().log_softmax(1) for x in (wanted, decoded))
    divergence = (right.exp() * (right - said)).sum(1)
    center = classes.weight - classes.weight.mean(0)
    mean = search.layer.g_s[1].bias
    squares, logits = (
        ((decoded - wanted) @ m).square().mean(1) / ((wanted - mean) @ m).square().mean(1)
        for m in (torch.eye(EMBEDDING), center.T)
    )
    bits = torch.stack(
        [sum(torch.tensor(table_bits(row(each, n))) for each in found.passes) for n in range(len(wanted))]
    )
    return bits / 1000 + search.weight * (divergence + SQUARES * squares + LOGITS * logits)


def row(each, number):
    return Pass(*(part[number : number + 1] for part in each))


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 4), st.integers(0, QUALITY_LEVELS), st.floats(0.5, 20), st.integers(0, 2**31))
def test_searched_symbols_are_read_and_are_no_worse_than_the_nearest(principal, scales, count, level, size, seed):
    layer, classes = principal
    e = size * torch.randn(count, EMBEDDING, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        search = VectorSearch(layer, classes, e, level)
        found = search.best()
        y = layer.g_a(e)[..., None, None] * layer.gain(search.plane)
        nearest = layer.context.quantize(y, level)
        assert (loss(search, found) <= loss(search, nearest) + 1e-3 * loss(search, nearest).abs()).all()
        data = coded(found.passes, scales)
        assert layer.context.read(count, level, e, popper(data, scales)).equal(found.values)
        alone = VectorSearch(layer, classes, e[:1], level).best()
    assert alone.values.equal(found.values[:1])


def test_the_search_keeps_what_a_classifier_says(principal):
    """At a low quality, many more embeddings keep their class than by rounding, in about as many bits."""
    layer, classes = principal
    e = 3 * torch.randn(200, EMBEDDING, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        search = VectorSearch(layer, classes, e, 40)
        nearest = layer.context.quantize(layer.g_a(e)[..., None, None] * layer.gain(search.plane), 40)
        kept, bits = [], []
        for found in (search.best(), nearest):
            decoded = layer.embedding(layer.dequantize(found.values.float() / STEPS, search.plane))
            first, second = ((x @ classes.weight.T + classes.bias).argmax(1) for x in (e, decoded))
            kept.append(int((first == second).sum()))
            bits.append(sum(table_bits(each) for each in found.passes))
    assert kept[0] > 1.5 * kept[1] and bits[0] <= 1.1 * bits[1]


def test_the_spatial_layer_is_coded_given_the_global_one(layers):
    """Other symbols of the embedding, other tables for the same grid."""
    layer = layers[1]
    one = torch.zeros(1, sum(GROUPS), 1, 1, dtype=torch.int32)
    grid = (2, 2)
    assert not layer.exact_base(one, 60, grid).equal(layer.exact_base(one + 400, 60, grid))
    assert not layer.exact_base(one, 60, grid).equal(layer.exact_base(one, 20, grid))


def test_features_come_back_at_four_strides(layers):
    """Whatever the parity of the coarsest grids: stride 64 rounds up, as detectors do."""
    spatial = layers[1]
    quality, side = torch.rand(1, 1, 1, 1), torch.randn(1, sum(GROUPS), 1, 1)
    for rows, columns in ((2, 2), (6, 4), (14, 10)):
        features = spatial.g_s(torch.randn(1, CHANNELS, rows, columns), quality, side)
        wanted = [(2 * rows, 2 * columns), (rows, columns), (rows // 2, columns // 2)]
        wanted.append((-(-rows // 4), -(-columns // 4)))
        assert [tuple(f.shape[-2:]) for f in features] == wanted
        assert [f.shape[1] for f in features] == [5, 7, 9, 9]


def test_residual_branches_of_the_embedding_start_silent():
    """So that a start as principal components is one."""
    layer = GlobalLayer(EMBEDDING, GROUPS, hidden=16)
    x = torch.randn(5, EMBEDDING)
    assert layer.g_a(x).equal(layer.g_a[0](x))
    y = torch.randn(5, sum(GROUPS), 1, 1)
    assert layer.embedding(y).equal(layer.g_s[1](y.flatten(1)))


def test_gradients_reach_all_of_both_layers(layers):
    embedding, spatial = layers
    quality = torch.rand(2, 1, 1, 1)
    features = [torch.randn(2, c, *side) for c, side in ((6, (8, 8)), (10, (4, 4)), (12, (2, 2)))]
    y, bits = embedding(torch.randn(2, EMBEDDING), quality)
    total = bits.sum() + embedding.embedding(embedding.dequantize(y, quality)).square().sum()
    y_grid, bits = spatial(features, y, quality)
    pyramid = spatial.g_s(spatial.dequantize(y_grid, quality), quality, embedding.dequantize(y, quality))
    total = total + bits.sum() + sum(f.square().sum() for f in pyramid)
    for layer in layers:
        layer.zero_grad()
    total.backward()
    silent = [n for layer in layers for n, p in layer.named_parameters() if p.grad is None or not p.grad.any()]
    # A perceptron whose last matrix is zero sends nothing further down, yet.
    assert all("branch" in name for name in silent), silent
    for layer in layers:
        layer.zero_grad()
    assert np.isfinite(float(total.detach()))
