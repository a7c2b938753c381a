"""Integer arithmetic: exact, and close to the floating-point face that training sees."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cdanalysis.codec.encoder import drawn_images
from cdanalysis.codec.fixed import PART, FixedConv2d, FixedPointwise, Range, fixed
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame

from cdanalysis.codec import rounding
from cdanalysis.codec.entropy import models as entropy
from cdanalysis.codec.entropy import tables
from cdanalysis.codec.entropy.models import ContextModel, FactorizedPrior
from cdanalysis.codec.integer import exact
from cdanalysis.codec.integer.exact import (
    ACTIVATION_BITS,
    LIMIT,
    WEIGHT_BITS,
    ExactConv2d,
    ExactUpsample,
    full_precision,
)
from cdanalysis.codec.tiles import padded
from cdanalysis.data.images import to_tensor
from cdanalysis.structures.latents import STEPS


def integers(*shape, seed=0, top=LIMIT):
    return torch.randint(-top, top + 1, shape, generator=torch.Generator().manual_seed(seed)).double()


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
    assert found.dtype == (torch.float32 if largest <= 60 else torch.float64)
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


def test_units_and_padding_change_no_bit_of_the_fixed_backbone(photo, chelsea, monkeypatch):
    images = drawn_images()
    quick = fixed(photo.codec.backbone, lambda network: network(images))
    in_units = [m for m in quick.modules() if isinstance(m, FixedConv2d | FixedPointwise) and m.scale is None]
    assert len(in_units) == sum(isinstance(m, torch.nn.ReLU6) for m in quick.modules()) > 30
    assert not any(isinstance(m, Conv2dSame) for m in quick.modules())
    monkeypatch.setattr("cdanalysis.codec.fixed._count_in_units", lambda *chain: None)
    monkeypatch.setattr("cdanalysis.codec.fixed._evenly_padded", lambda conv: conv)
    plain = fixed(photo.codec.backbone, lambda network: network(images))
    assert any(isinstance(m, Conv2dSame) for m in plain.modules())
    x = padded(to_tensor(chelsea)[None])
    with torch.inference_mode():
        for ours, others in zip(quick(x), plain(x), strict=True):
            assert torch.equal(ours, others)


def test_what_two_read_or_nobody_made_stays_in_its_own_units():
    class Forked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.left, self.right = (torch.nn.Conv2d(4, 4, 1) for _ in range(3))
            self.relu6 = torch.nn.ReLU6()

        def forward(self, x):
            y = self.relu6(self.first(self.relu6(x)))
            return self.left(y) + self.right(y)

    torch.manual_seed(0)
    x, network = 3 * torch.randn(1, 4, 8, 8), Forked().requires_grad_(False)
    ours = fixed(network, lambda network: network(x))
    assert None not in (ours.first.scale, ours.left.scale, ours.right.scale)
    assert torch.allclose(ours(x), network(x), atol=0.01)


@pytest.mark.parametrize("passes", [2, 4])
def test_passes_code_every_symbol_once_and_cover_the_picture(passes):
    model = ContextModel(8, base=4, hidden=8, passes=passes)
    masks = model.partition.masks(6, 7)
    assert (masks.sum(0) == 1).all()
    assert masks.any(1).all()


@pytest.mark.parametrize("passes", [2, 4])
@pytest.mark.parametrize("band", [24, 2**13])
def test_quantised_values_are_what_reading_gives(passes, band, monkeypatch):
    monkeypatch.setattr(rounding, "BAND", band)
    torch.manual_seed(passes)
    model = ContextModel(8, base=4, hidden=8, passes=passes)
    y, base = 4 * torch.randn(3, 8, 10, 6), integers(3, 4, 10, 6, top=500)
    values, coded = model.quantize(y, torch.ones(1, dtype=torch.float64), base)
    assert ((values - STEPS * y).abs() <= STEPS / 2 + 1e-6).all()

    def pop(indices):
        symbols, expected = coded.pop(0)
        assert torch.equal(indices, expected)
        return symbols.int()

    assert torch.equal(model.read((10, 6), base, pop), values)


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
    gain = torch.ones(1, dtype=torch.float64)
    values, coded = model.quantize(y, gain, base)
    monkeypatch.setattr(rounding, "BAND", 32)
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
        model.read((5, 6), integers(3, 4, 5, 6, top=500), None)


def test_training_face_and_exact_face_agree_on_bits():
    torch.manual_seed(0)
    model = ContextModel(8, base=4, hidden=8, passes=4)
    y, base = torch.randn(2, 8, 8, 8), integers(2, 4, 8, 8, top=500)
    values, passes = model.quantize(y, torch.ones(1, dtype=torch.float64), base)
    with torch.no_grad():
        _, bits = model((values / STEPS).float(), (base / 256).float(), noisy=False)
    table = tables.gaussian_cdf_tables().double()
    table = -torch.log2(table / table.sum(1, keepdim=True))
    exact = sum(table[index.long(), symbols.long() + tables.SYMBOL_BOUND].sum() for symbols, index in passes)
    assert float(bits.sum()) == pytest.approx(float(exact), rel=0.02)


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


@settings(max_examples=30)
@given(
    st.sampled_from([(1, 1), (3, 1), (3, 8), (5, 8)]),
    st.sampled_from([8, 64, 512]),
    st.booleans(),
    st.floats(0.01, 100),
    st.integers(0, 10**6),
)
def test_sums_of_fixed_convolutions_are_exact(shape, channels, signed, scale, seed):
    """Single precision gives what double precision gives, to the last bit, and is near the convolution itself."""
    torch.manual_seed(seed)
    side, groups = shape[0], channels if shape[1] > 1 else 1
    conv = torch.nn.Conv2d(channels, channels, side, padding=side // 2, groups=groups).requires_grad_(False)
    conv.weight.mul_(scale)
    x = 6 * torch.rand(2, channels, 9, 7) ** 2
    x = x - 3 if signed else x
    ours = FixedConv2d(conv, Range(6.0, signed, 2.0))
    assert torch.equal(ours(x).double(), copy.deepcopy(ours).double()(x.double()))
    wanted = conv(x)
    assert float((ours(x) - wanted).abs().max()) < 0.05 * float(wanted.abs().max())


@pytest.mark.parametrize("signed", [False, True])
def test_sums_of_fixed_pointwise_convolutions_are_exact_in_parts(signed):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(5 * PART + 7, 24, 1).requires_grad_(False)
    x = 6 * torch.rand(2, conv.in_channels, 9, 7) ** 2
    x = x - 3 if signed else x
    ours = FixedPointwise(conv, Range(6.0, signed, 2.0))
    whole = (x * ours.scale).round().permute(0, 2, 3, 1).flatten(0, 2)
    for seen, weight in zip(whole.split(PART, 1), ours.weight.split(PART), strict=True):
        assert torch.equal((seen @ weight).double(), seen.double() @ weight.double())
    wanted, coarser = conv(x), FixedConv2d(conv, Range(6.0, signed, 2.0))
    assert float((ours(x) - wanted).square().mean()) < float((coarser(x) - wanted).square().mean())
    assert torch.equal(ours(x[:1].contiguous(memory_format=torch.channels_last)), ours(x)[:1])


def test_too_long_sums_are_refused():
    with pytest.raises(ValueError, match="too long to be exact"):
        FixedConv2d(torch.nn.Conv2d(2**15, 1, 3).requires_grad_(False), Range(6.0, True, 2.0))


def test_the_fixed_backbone_sees_what_the_backbone_sees(photo, chelsea):
    """The same floats with other routines and other sums; and near what the codec was trained with."""
    x = padded(to_tensor(chelsea)[None])
    features = photo.codec.encoder.features(x)
    with torch.backends.mkldnn.flags(enabled=False):
        again = photo.codec.encoder.features(x.contiguous())
    with torch.inference_mode():
        trained = photo.codec.backbone(x)
    for ours, others, wanted in zip(features, again, trained, strict=True):
        assert torch.equal(ours, others)
        assert float((ours - wanted).square().mean() / wanted.square().mean()) < 1e-3
