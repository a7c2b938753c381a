"""Integer arithmetic: exact, and close to the floating-point face that training sees."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cdanalysis.codec import tiles
from cdanalysis.codec.detail import DetailLayer
from cdanalysis.codec.entropy import models as entropy
from cdanalysis.codec.entropy import tables
from cdanalysis.codec.entropy.models import ContextModel, FactorizedPrior
from cdanalysis.codec.entropy.vector import VectorModel
from cdanalysis.codec.gains import quality_plane
from cdanalysis.codec.integer import exact
from cdanalysis.codec.integer.exact import (
    ACTIVATION_BITS,
    LIMIT,
    WEIGHT_BITS,
    ExactConv2d,
    ExactUpsample,
    full_precision,
)
from cdanalysis.codec.spatial_layer import SpatialLayer
from cdanalysis.structures.latents import STEPS


def integers(*shape, seed=0, top=LIMIT):
    return torch.randint(-top, top + 1, shape, generator=torch.Generator().manual_seed(seed)).double()


def popping(coded):
    """What reads the symbols of passes, and sees to it that the same tables are asked for."""
    left = list(coded)

    def pop(indices):
        symbols, expected = left.pop(0)
        assert torch.equal(indices, expected)
        return symbols.int()

    return pop


def table_bits(passes) -> float:
    """What the coder will need for the symbols of passes."""
    table = tables.gaussian_cdf_tables().double()
    table = -torch.log2(table / table.sum(1, keepdim=True))
    return float(sum(table[each.tables.long(), each.symbols.long() + tables.SYMBOL_BOUND].sum() for each in passes))


def reference(conv: ExactConv2d, x: np.ndarray) -> np.ndarray:
    """The layer in Python's unbounded integers, written down from its definition."""
    weight = [
        [int(v) for v in row]
        for row in np.rint(conv.weight.detach().double().numpy() * 2**WEIGHT_BITS).reshape(conv.out_channels, -1)
    ]
    bias = [round(float(b) * 2 ** (WEIGHT_BITS + ACTIVATION_BITS)) for b in conv.bias.detach().double()]
    k, (channels, height, width) = conv.kernel_size[0], x.shape
    out = np.zeros((conv.out_channels, height, width), dtype=object)
    for o, i, j in itertools.product(range(conv.out_channels), range(height), range(width)):
        total = bias[o]
        for c, a, b in itertools.product(range(channels), range(k), range(k)):
            row, column = i + a - k // 2, j + b - k // 2
            if 0 <= row < height and 0 <= column < width:
                total += weight[o][(c * k + a) * k + b] * int(x[c, row, column])
        value = (total + 2 ** (WEIGHT_BITS - 1)) >> WEIGHT_BITS
        out[o, i, j] = min(max(value, 0 if conv.relu else -LIMIT), LIMIT)
    return out


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("relu", [True, False])
def test_matches_unbounded_integers(kernel, relu):
    torch.manual_seed(kernel)
    conv = ExactConv2d(5, 4, kernel, relu)
    x = integers(1, 5, 4, 3)
    assert (conv.exact(x)[0].numpy().astype(object) == reference(conv, x[0].numpy())).all()


def test_no_order_of_summation_changes_it():
    torch.manual_seed(0)
    conv = ExactConv2d(64, 32, 3)
    with torch.no_grad():
        conv.weight.mul_(50)
    x = integers(1, 64, 9, 9)
    order = torch.randperm(64)
    shuffled = ExactConv2d(64, 32, 3)
    shuffled.load_state_dict({"weight": conv.weight[:, order], "bias": conv.bias})
    assert torch.equal(conv.exact(x), shuffled.exact(x[:, order]))
    assert torch.equal(conv.exact(x), conv.exact(torch.cat([x, integers(3, 64, 9, 9, seed=1)]))[:1])


def test_close_to_the_floating_point_face():
    torch.manual_seed(0)
    for layer in (ExactConv2d(8, 8, 3), ExactUpsample(8, 4)):
        x = integers(2, 8, 6, 6, top=2000)
        real = layer(x.float() / 2**ACTIVATION_BITS)
        assert torch.allclose(layer.exact(x) / 2**ACTIVATION_BITS, real, atol=0.02)


def test_changed_weights_are_noticed():
    conv = ExactConv2d(2, 2)
    x = integers(1, 2, 1, 1)
    before = conv.exact(x)
    with torch.no_grad():
        conv.weight.neg_()
    assert not torch.equal(before, conv.exact(x))


@pytest.fixture
def precisions():
    """All that says how precise products are; it is as it was when a test ends."""
    backends = torch.backends
    switches = [
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    ]
    if exact.APART:
        switches.append(backends)
        before = [switch.fp32_precision for switch in switches]
        yield lambda: [switch.fp32_precision for switch in switches]
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision
    else:
        yield torch.get_float32_matmul_precision
        torch.set_float32_matmul_precision("highest")


def test_full_precision_lasts_for_whoever_is_still_inside(precisions):
    """One thread leaves while another is inside: the switches are those of the whole process."""
    torch.set_float32_matmul_precision("medium")
    before, inside, left = precisions(), threading.Event(), threading.Event()
    x = torch.full((64, 64), 1 + 2.0**-20)  # no number of bfloat16 or TF32
    found = []

    def second():
        with full_precision():
            inside.set()
            left.wait(60)
            found.append((precisions(), x @ torch.eye(64)))

    thread = threading.Thread(target=second)
    with full_precision():
        full = precisions()
        thread.start()
        assert inside.wait(60)
    left.set()
    thread.join()
    assert found[0][0] == full != before
    assert torch.equal(found[0][1], x)
    assert precisions() == before


@pytest.mark.parametrize("said", ["nothing", "to torch", "to a backend", "to all backends"])
def test_full_precision_leaves_what_it_found(said, precisions):
    if said == "to torch":
        torch.set_float32_matmul_precision("medium")
    elif said != "nothing":
        if not exact.APART:
            pytest.skip("this torch has one precision for all backends")
        (torch.backends.mkldnn.matmul if said == "to a backend" else torch.backends).fp32_precision = "bf16"
    before = precisions()
    x = torch.full((64, 64), 1 + 2.0**-20)  # no number of bfloat16 or TF32
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            with full_precision():
                assert ((x @ torch.eye(64)) == x).all() and (F.conv2d(x[None, None], torch.ones(1, 1, 1, 1)) == x).all()
            assert torch.is_autocast_enabled("cpu")
        assert precisions() == before


@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("largest", [0, 1, 30, 60, 150, 300, 1000, LIMIT])
def test_small_numbers_in_single_precision_have_the_sums_of_unbounded_integers(largest, precision, precisions):
    torch.manual_seed(0)
    conv = ExactConv2d(64, 16, 3)
    torch.nn.init.normal_(conv.weight, std=0.08)
    weight = conv._integer_parameters()
    worst = largest * weight.weight.sign().T  # every product as large as it can be, and of one sign
    columns = torch.cat([integers(576, 50, top=largest), worst, -worst, (worst - 1).clamp_min(-largest)], 1)
    torch.set_float32_matmul_precision(precision)
    with torch.autocast("cpu", torch.bfloat16), full_precision():
        found, bound = weight.times(columns.float(), torch.full((576,), float(largest), dtype=torch.float64))
    kind = torch.float32 if largest <= 60 else torch.int32 if largest <= 300 else torch.float64
    assert found.dtype == kind
    assert bound >= float(found.abs().max()) and (largest > 60 or bound == float(found.abs().max()))
    assert (found.double().numpy() == weight.weight.long().numpy() @ columns.long().numpy()).all()


@settings(max_examples=80)
@given(
    st.sampled_from([1, 2, 4, 16, 5, 3]),
    st.sampled_from([1, 40, 400, LIMIT]),
    st.booleans(),
    st.sampled_from([0.0, 0.01, 50.0, 6e4]),
    st.integers(0, 10**6),
)
def test_activations_are_those_of_unbounded_integers(unit, top, relu, offset, seed):
    """Of some inputs and outputs, counted in units, beside what others add; whatever precision is enough."""
    torch.manual_seed(seed)
    conv = ExactConv2d(24, 10, relu=relu)
    torch.nn.init.normal_(conv.bias, std=offset)
    first, rest, outputs = tuple(range(7)), tuple(range(7, 24)), (9, 3, 4)
    columns, others = integers(17, 4000, seed=seed, top=top // unit).float(), integers(7, 1, seed=seed, top=top)
    besides = conv.exact_sums(others, inputs=first)[list(outputs)]
    with full_precision():
        found = conv.exact_part(columns, rest, outputs, besides, unit)
    integers_of = conv._integer_parameters()
    weight, bias = (x[list(outputs)].numpy().astype(np.int64) for x in (integers_of.weight, integers_of.bias))
    sums = weight[:, :7] @ others.long().numpy() + unit * (weight[:, 7:] @ columns.long().numpy()) + bias
    assert (found.long().numpy() == np.clip(sums >> WEIGHT_BITS, 0 if relu else -LIMIT, LIMIT)).all()


@pytest.mark.parametrize("passes", [2, 4])
def test_passes_code_every_symbol_once_and_cover_the_picture(passes):
    model = ContextModel(8, base=4, hidden=8, passes=passes)
    masks = model.partition.masks(6, 7)
    assert (masks.sum(0) == 1).all()
    assert masks.any(1).all()


@pytest.mark.parametrize("passes", [2, 4])
@pytest.mark.parametrize("band", [24, 2**13])
def test_quantised_values_are_what_reading_gives(passes, band, monkeypatch):
    monkeypatch.setattr(tiles, "BAND", band)
    torch.manual_seed(passes)
    model = ContextModel(8, base=4, hidden=8, passes=passes)
    y, base = 4 * torch.randn(3, 8, 10, 6), integers(3, 4, 10, 6, top=500)
    values, coded = model.quantize(y, torch.ones(1), base)
    assert ((values - STEPS * y).abs() <= STEPS / 2 + 1e-4).all()

    assert torch.equal(model.read(base, popping(coded)), values)


@pytest.mark.parametrize("size", [1e2, 1e9])
def test_values_beyond_the_tables_are_clamped_and_fit_their_memory(size):
    torch.manual_seed(0)
    model = ContextModel(8, base=4, hidden=8, passes=4)
    for head in model.heads:
        torch.nn.init.normal_(head.bias, std=100.0)  # offsets as far out as they can be
    y, base = size * torch.randn(2, 8, 6, 6), integers(2, 4, 6, 6, top=500)
    values, coded = model.quantize(y, torch.ones(1), base)
    most = max(int(each.symbols.abs().max()) for each in coded)
    assert most == tables.SYMBOL_BOUND and STEPS * most < int(values.abs().max()) <= STEPS * most + LIMIT // STEPS + 1
    assert torch.equal(model.read(base, popping(coded)), values)


# -- the global layer's model: groups of one vector --------------------------------------------


def new_vector_model(groups, std: float = 0.3, seed: int = 0) -> VectorModel:
    torch.manual_seed(seed)
    model = VectorModel(groups, hidden=8)
    for each in model.parameters():
        torch.nn.init.normal_(each, std=std)
    return model


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(0, 120),
    st.sampled_from([0.3, 4.0, 100.0, 1e7]),
    st.integers(0, 10**6),
)
def test_vectors_are_what_reading_gives_and_what_the_format_says(groups, count, level, spread, seed):
    """Beside the groups' networks in Python's integers, each photograph alone, as docs/format.md specifies them."""
    model = new_vector_model(groups, seed=seed)
    y = spread * torch.randn(count, sum(groups), 1, 1)
    values, coded = model.quantize(y, level)
    assert values.dtype == torch.int32 and [each.symbols.shape[1] for each in coded] == groups
    like = torch.empty((), dtype=torch.float32)
    assert torch.equal(model.read(count, level, like, popping(coded)), values)
    alone = model.quantize(y[:1], level)
    assert torch.equal(alone.values, values[:1])
    plane = (2 * level * 256 + 120) // 240
    for p, each in enumerate(coded):
        start = sum(groups[:p])
        seen = [plane, *(max(-LIMIT, min(LIMIT, 4 * int(v))) for v in values[0, :start].flatten())]
        hidden = reference(model.mixes[p], np.array(seen, dtype=object)[:, None, None])
        said = reference(model.heads[p], hidden).flatten().tolist()
        offsets = [(mean + 8) // 16 for mean in said[: groups[p]]]
        indices = [min(63, max(0, (raw * 40534 + 2**19) // 2**20)) for raw in said[groups[p] :]]
        assert each.tables[0].tolist() == indices
        wanted = [16 * s + o for s, o in zip(each.symbols[0].tolist(), offsets, strict=True)]
        assert values[0, start : start + groups[p]].flatten().tolist() == wanted


def test_the_two_faces_of_the_vector_model_agree_on_bits():
    model = new_vector_model([3, 5, 8])
    y = 3 * torch.randn(64, 16, 1, 1)
    values, passes = model.quantize(y, 60)
    with torch.no_grad():
        y_hat, bits = model(values / STEPS, torch.full((64, 1, 1, 1), 0.5), noisy=False)
    assert float((y_hat - values / STEPS).abs().max()) < 0.1
    assert float(bits.sum()) == pytest.approx(table_bits(passes), rel=0.02)


# -- what entropy models are told, in floats and in integers -----------------------------------


@pytest.mark.parametrize("level", [0, 37, 120])
def test_the_spatial_layers_bases_agree(level):
    torch.manual_seed(level)
    layer = SpatialLayer((4, 6, 6), (4, 4, 4), side=12, channels=8, hidden=8, depth=1, context=8)
    side = integers(3, 12, 1, 1, top=900).int()
    like = torch.empty(3, 8, 4, 6)
    exact = layer.exact_base(side, level, (4, 6))
    with torch.no_grad():
        real = layer.entropy_base(side / STEPS, quality_plane(level, like), like)
    assert exact.shape == real.shape and float(exact.max()) < LIMIT
    assert torch.allclose(exact / 256, real, atol=0.02) and float(real.abs().max()) > 1


@pytest.mark.parametrize("condition", [0, 5])
@pytest.mark.parametrize("mapped", [False, True])
def test_the_detail_layers_bases_agree(condition, mapped):
    torch.manual_seed(condition)
    layer = DetailLayer(condition, channels=8, hyper=4, width=8, depth=1)
    grid, like = (6, 10), torch.empty(2, 8, 6, 10)
    z, side = integers(2, 4, 2, 3, top=9).int(), integers(2, 5, *grid, top=300).int() if condition else None
    level = torch.randint(0, 121, (2, 1, *grid), dtype=torch.int32) if mapped else 77
    exact = layer.exact_base(z, level, side, grid)
    with torch.no_grad():
        real = layer.entropy_base(z.float(), quality_plane(level, like), None if side is None else side / STEPS, like)
    assert exact.shape == real.shape and float(exact.max()) < LIMIT
    assert torch.allclose(exact / 256, real, atol=0.03) and float(real.abs().max()) > 1


@pytest.mark.parametrize("spread", [0.5, 4, 40, 1000])
@pytest.mark.parametrize("even", [False, True], ids=["base varies", "base is even"])
@pytest.mark.parametrize("passes", [2, 4])
def test_bands_change_nothing_and_parameters_are_those_of_whole_networks(passes, even, spread, monkeypatch):
    """Beside the same networks evaluated everywhere on all that is known, as the format specifies them."""
    torch.manual_seed(passes)
    model = ContextModel(8, base=4, hidden=8, passes=passes, scale=2)
    for each in model.parameters():
        torch.nn.init.normal_(each, std=0.3)
    y, base = spread * torch.randn(2, 8, 12, 8), integers(2, 4, 12, 8, top=500)
    base = integers(1, 4, 1, 1, top=500).expand_as(base) if even else base
    gain = torch.ones(1)
    values, coded = model.quantize(y, gain, base)
    monkeypatch.setattr(tiles, "BAND", 32)
    again = model.quantize(y, gain, base)
    assert torch.equal(again.values, values)
    known = torch.zeros_like(values)
    for p, mask in enumerate(model.partition.masks(12, 8)):
        assert all(torch.equal(a, b) for a, b in zip(again.passes[p], coded[p], strict=True))
        seen = (known.double() * (entropy.UNIT // STEPS // model.scale)).clamp(-LIMIT, LIMIT)
        hidden = base if p == 0 else torch.cat([base, model.contexts[p - 1].exact(seen)], 1)
        mean, raw = model.heads[p].exact(model.mixes[p].exact(hidden)).chunk(2, 1)
        offset = torch.floor((mean + 8) / 16)
        index = torch.floor((raw * entropy._INDEX_RATIO + 2**19) / 2**20).clamp(0, tables.SCALES - 1)
        assert torch.equal(coded[p].tables.long(), torch.stack([x[mask] for x in index]).long())
        here = torch.stack([x[mask] for x in offset]) + STEPS * coded[p].symbols
        assert torch.equal(here.int(), torch.stack([x[mask] for x in values]))
        known = torch.where(mask, values, known)


def test_a_partition_has_even_sides():
    model = ContextModel(8, base=4, hidden=8, passes=4)
    with pytest.raises(ValueError, match="even sides, not 5 x 6"):
        model.read(integers(3, 4, 5, 6, top=500), None)


def test_training_face_and_exact_face_agree_on_bits():
    torch.manual_seed(0)
    model = ContextModel(8, base=4, hidden=8, passes=4)
    y, base = torch.randn(2, 8, 8, 8), integers(2, 4, 8, 8, top=500)
    values, passes = model.quantize(y, torch.ones(1), base)
    with torch.no_grad():
        _, bits = model((values / STEPS).float(), (base / 256).float(), noisy=False)
    assert float(bits.sum()) == pytest.approx(table_bits(passes), rel=0.02)


def test_the_formats_constant_is_what_it_claims():
    assert round(2**20 / (entropy.UNIT * tables.LOG_SCALE_STEP)) == entropy._INDEX_RATIO


def test_tables_are_probabilities():
    table = tables.gaussian_cdf_tables()
    assert (table > 0).all()
    assert ((table.sum(1) - 2**tables.PRECISION).abs() < 2**11).all()
    assert torch.equal(table, table.flip(1))


def test_factorised_prior_learns_its_channel():
    torch.manual_seed(0)
    prior = FactorizedPrior(2)
    z = torch.stack([torch.randn(4000).mul(0.3), torch.randn(4000).mul(4) + 3]).round()[None, ..., None]
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        prior.bits(z).mean().backward()
        optimizer.step()
    prior.freeze_tables()
    rows = -torch.log2(prior.table.double() / prior.table.double().sum(1, keepdim=True))
    for channel in range(2):
        symbols = z[0, channel].flatten()
        counts = torch.unique(symbols, return_counts=True)[1].double()
        entropy = -(counts / counts.sum() * torch.log2(counts / counts.sum())).sum()
        cost = rows[channel, (symbols + prior.SYMBOL_BOUND).long()].mean()
        assert float(cost) == pytest.approx(float(entropy), abs=0.05)


def test_bad_shapes_are_refused():
    for wrong in (lambda: ExactConv2d(2, 2, 5), lambda: ExactConv2d(2**20, 1, 3), lambda: ContextModel(6, 1, 1, 4)):
        with pytest.raises(ValueError, match=r".+"):
            wrong()
