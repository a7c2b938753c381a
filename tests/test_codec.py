"""The layered codec: what is encoded is decoded, everywhere, layer by layer."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from cdanalysis.codec.double import in_double
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cdanalysis as cda
from cdanalysis.codec import layered
from cdanalysis.codec.gains import quality_plane
from cdanalysis.codec.tiles import padded
from cdanalysis.data.images import to_tensor
from cdanalysis.data.samples import sample_images
from cdanalysis.stream.container import unpack


@contextlib.contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@contextlib.contextmanager
def no_onednn():
    with torch.backends.mkldnn.flags(enabled=False):
        yield


SETTINGS = {"one thread": lambda: threads(1), "two threads": lambda: threads(2), "no oneDNN": no_onednn}


def test_stream_holds_exactly_the_latents(small, image):
    stream = small.encode(image, 0.6)
    with torch.inference_mode():
        latents = small.codec.to_latents(to_tensor(image)[None], (72, 72))
    assert small.to_latents([stream]).equals(latents)
    assert latents.semantic.unique().numel() > 20 and latents.detail.unique().numel() > 20


@pytest.mark.parametrize("which", ["small", "photo"])
def test_same_latents_whatever_the_machine_does(which, request, chelsea):
    """Threads, batch size and oneDNN change floats; they must change neither a stream nor its reading."""
    model = request.getfixturevalue(which)
    crops = [chelsea[:128, 64 * i : 64 * i + 128].copy() for i in range(4)]
    streams = {}
    for name, setting in SETTINGS.items():
        with setting():
            streams[name] = [model.encode(crop, 0.5) for crop in crops]
            streams[name + ", batch"] = model.encode_batch(crops, 0.5)
    first = next(iter(streams.values()))
    assert all(other == first for other in streams.values())
    expected = model.to_latents(first)
    for setting in SETTINGS.values():
        with setting():
            assert model.to_latents(first).equals(expected)
            assert model.to_latents(first[:1]).equals(expected[0])


def test_encoding_takes_no_short_cuts(photo, chelsea):
    """Lower precision is for heads and decoders, if a caller likes it; streams are written with the full one."""
    crop = chelsea[:96, :128].copy()
    expected, before = photo.encode(crop, 0.5), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            assert photo.encode(crop, 0.5) == expected
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("setting", SETTINGS)
def test_single_precision_stays_far_inside_its_bound(photo, chelsea, setting):
    """What the encoder measured on a drawn picture holds on a photograph, with room to spare."""
    own, x = photo.codec.encoder, padded(to_tensor(chelsea)[None])
    with torch.inference_mode(), SETTINGS[setting]():
        features = own.features(x)
        single = [y.double() for y in own.single(features, x)]
        double = list(own.double([f.double().contiguous() for f in features], x.double().contiguous()))
        for level in (0, 60, 120):
            y = double[1] * photo.codec.detail.gain(quality_plane(level, double[1]))
            pairs = [*zip(single, double, strict=True), (own.single.hyper(y.float()), own.double.hyper(y))]
            for bound, (value, exact) in zip(own.bounds, pairs, strict=True):
                assert 0 < float(((value - exact).abs() / bound).max()) < 0.5


def test_ties_are_settled_in_double_precision(small, image, monkeypatch):
    """With every value declared doubtful, all of them come from double precision, and are the same."""
    x, looked = to_tensor(image)[None], []
    with torch.inference_mode():
        expected = small.codec.to_latents(x, (60, 60))
        its_encoder = small.codec.encoder
        monkeypatch.setattr(its_encoder, "bounds", [torch.full_like(b, 9.0) for b in its_encoder.bounds])
        for name in ("semantic", "detail", "hyper"):
            network = getattr(its_encoder.double, name)
            forward = network.forward
            monkeypatch.setattr(
                network,
                "forward",
                lambda v, f=forward: looked.append((v[0] if isinstance(v, list) else v).dtype) or f(v),
            )
        assert small.codec.to_latents(x, (60, 60)).equals(expected)
    assert looked == [torch.float64] * 3


@pytest.mark.parametrize("size", [(300, 451), (512, 384), (330, 470)])
def test_a_window_gives_what_the_whole_photograph_gives(small, chelsea, size):
    """Cells in corners, at edges and inside, from windows as large as the networks reach and no larger."""
    x = padded(to_tensor(Image.fromarray(chelsea).resize(size[::-1]))[None])
    some, every = (small.codec.analyze(x).looked for _ in range(2))
    height, width = some.grid
    generator = torch.Generator().manual_seed(0)
    gain = 0.5 + torch.rand(1, 16, height, width, generator=generator, dtype=torch.float64)
    asked = {
        "semantic": (lambda look, places: look.semantic(places), (height, width), [(0, 0), (-1, -1), (6, 9), (7, 3)]),
        "detail": (
            lambda look, places: look.detail(places),
            (height, width),
            [(0, 0), (0, 13), (-1, -1), (7, 9), (7, -1)],
        ),
        "hyper": (lambda look, places: look.hyper(places, gain), (-(-height // 4), -(-width // 4)), [(-1, 0), (2, -1)]),
    }
    for name, (work, grid, cells) in asked.items():
        count = getattr(small.codec, "detail" if name != "semantic" else "semantic").spec.channels
        mask = torch.zeros(1, count if name != "hyper" else small.codec.detail.hyper_spec.channels, *grid).bool()
        for i, j in cells:
            mask[0, :, i, j] = True
        with torch.inference_mode():
            found = work(some, mask.nonzero())
            assert not some.whole, name
            whole = work(every, torch.ones_like(mask).nonzero()).reshape(mask.shape)
        assert every.whole
        torch.testing.assert_close(found, whole[mask], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["of_semantic", "of_detail", "of_hyper"])
def test_reaches_are_no_larger_than_they_must_be(photo, name, monkeypatch):
    """With a cell less, something is missed."""
    x = padded(torch.rand(1, 3, 640, 640, generator=torch.Generator().manual_seed(0)))
    few, whole = (photo.codec.analyze(x).looked for _ in range(2))
    reach = getattr(few, name)
    setattr(few, name, reach._replace(margin=reach.margin - 1 if name == "of_detail" else reach.margin - 3))
    layer, gain = photo.codec.detail, torch.ones(1, 1, 1, 1, dtype=torch.float64)
    shape, work = {
        "of_semantic": ((1, photo.codec.semantic.spec.channels, 40, 40), lambda look, places: look.semantic(places)),
        "of_detail": ((1, layer.spec.channels, 40, 40), lambda look, places: look.detail(places)),
        "of_hyper": ((1, layer.hyper_spec.channels, 10, 10), lambda look, places: look.hyper(places, gain)),
    }[name]
    with torch.inference_mode():
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[0, :, shape[2] // 2, shape[3] // 2] = True
        found, known = work(few, mask.nonzero()), work(whole, torch.ones_like(mask).nonzero()).reshape(shape)
    assert not torch.allclose(found, known[mask], rtol=0, atol=1e-12)


def test_bytes_are_photographs_however_they_are_held(small, image):
    """Image, array, and tensors of bytes and of floats: one stream, also where they come together."""
    array = np.asarray(image)
    held = [Image.fromarray(array), array, torch.from_numpy(array.copy()).permute(2, 0, 1), to_tensor(array)]
    assert len(set(small.encode_batch(held))) == 1
    assert len({small.encode(one, importance=[(2, 2, 20, 20)]) for one in held}) == 1
    assert small.writer(held).at((60, 60)) == 4 * [small.encode(array)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([0.0, 0.5, 1.0]))
def test_any_size_comes_back(small, height, width, quality):
    rng = np.random.default_rng(height * 100 + width)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = small.encode(image, quality)
    info = cda.inspect(stream)
    assert (info.width, info.height) == (width, height)
    assert small.decode(stream).size == (width, height)
    assert small.analyze(stream).classification.label in ("cat", "dog", "cup")


@pytest.mark.parametrize(("width", "height"), [(1001, 777), pytest.param(4000, 3000, marks=pytest.mark.slow)])
def test_large_photographs_come_back(photo, width, height):
    """Most of the pixels are even, so that the decoded ones can be told."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[height - 512 :, width - 512 :] = sample_images()["astronaut"]
    stream = photo.encode(image, (0.2, 0.2))
    assert (cda.inspect(stream).width, cda.inspect(stream).height) == (width, height)
    assert photo.analyze(cda.strip(stream)).classification is not None
    decoded = np.asarray(photo.decode(stream)).astype(float)
    assert np.abs(decoded[:200, :400] - 90).mean() < 4


def test_the_base_works_alone_and_costs_nothing_extra(small, image):
    stream = small.encode(image, 0.5)
    base = cda.strip(stream)
    cut = stream[: len(stream) - unpack(stream).layers[1].length - 3]
    assert base == small.encode(image, 0.5, layers=("semantic",))
    assert small.analyze(base) == small.analyze(cut) == small.analyze(stream)
    for short in (base, cut):
        with pytest.raises(cda.StreamError, match="no detail layer"):
            small.decode(short)
        assert small.decode(short, preview=True).size == (101, 75)


def test_analyze_runs_no_synthesis_and_reads_no_detail(small, image, monkeypatch):
    """The spy: neither the synthesis network nor any part of the detail layer may run."""

    def forbidden(*_, **__):
        raise AssertionError("analyze touched what only decode may")

    stream = small.encode(image, 0.5)
    expected = small.analyze(stream)
    for module in (small.codec.synthesis, *small.codec.synthesis.modules(), *small.codec.detail.modules()):
        for name in ("forward", "exact"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(type(small.codec.backbone), "forward", forbidden)
    assert small.analyze(stream) == expected
    with pytest.raises(AssertionError):
        small.decode(stream)


def test_damage_inside_a_stream_never_passes(small, image):
    """Every byte flipped once: all verbs raise `StreamError`."""
    stream = small.encode(image[:32, :32], 0.3)
    for position in range(len(stream)):
        damaged = bytearray(stream)
        damaged[position] ^= 0x55
        for verb in (small.analyze, small.decode, cda.inspect, cda.strip):
            with pytest.raises(cda.StreamError):
                verb(bytes(damaged))


def test_every_cut_raises_or_is_the_base(small, image):
    stream = small.encode(image[:32, :32], 0.3)
    base = len(stream) - unpack(stream).layers[1].length - 3
    for length in range(len(stream)):
        with pytest.raises(cda.StreamError):
            small.decode(stream[:length])
        if length != base:
            with pytest.raises(cda.StreamError):
                small.analyze(stream[:length])


def test_another_models_stream_is_refused_by_name(small, image):
    stream = bytearray(small.encode(image, 0.5, layers=("semantic",)))
    foreign = unpack(bytes(stream))
    from dataclasses import replace

    from cdanalysis.stream.container import pack

    other = pack(replace(foreign, fingerprint="123456"))
    with pytest.raises(cda.StreamError, match=rf"123456.*small.*{small.fingerprint}"):
        small.analyze(other)


def test_symbols_that_do_not_fit_their_model_are_refused(small, image):
    """Right checksums around wrong symbols: the entropy decoder itself notices."""
    from dataclasses import replace

    from cdanalysis.stream.container import pack

    stream = unpack(small.encode(image, 0.5, layers=("semantic",)))
    (layer,) = stream.layers
    longer = replace(layer, data=layer.data + b"\x01\x02\x03\x04\x05", length=layer.length + 5)
    with pytest.raises(cda.StreamError, match="symbols"):
        small.analyze(pack(replace(stream, layers=(longer,))))


def test_estimated_bits_are_the_actual_ones(photo):
    """Within 2 percent, container included, on photographs of Kodak's size."""
    images = sample_images()
    for quality, (name, image) in zip((0.2, 0.8, 0.5, 0.35), images.items(), strict=True):
        stream = photo.encode(image, quality)
        estimate = sum(photo.estimated_bits(stream).values())
        assert estimate == pytest.approx(8 * len(stream), rel=0.02), name


def test_rate_and_fidelity_rise_with_quality(photo, chelsea):
    sizes, errors = [], []
    for quality in (0.0, 0.25, 0.5, 0.75, 1.0):
        stream = photo.encode(chelsea, quality)
        sizes.append(len(stream))
        errors.append(float(np.square(np.asarray(photo.decode(stream)).astype(float) - chelsea).mean()))
    assert sizes == sorted(sizes) and sizes[-1] > 8 * sizes[0]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 4


def test_beats_jpeg_on_photographs_nobody_trained_on(photo):
    """A real model is in the wheel: at JPEG's own size, with little for machines, it is well ahead."""
    from cdanalysis.codecs.pillow import BASELINES
    from cdanalysis.metrics.image import psnr

    gains = []
    for image in sample_images().values():
        stream = photo.encode(image, (0.0, 0.4))
        jpeg = BASELINES[0].encode_near(image, len(stream), nearest=True)
        ours = psnr(np.asarray(image), np.asarray(photo.decode(stream)))
        gains.append(ours - psnr(np.asarray(image), BASELINES[0].decode(jpeg)))
    assert np.mean(gains) > 1.0


def test_gradients_reach_the_codec_and_not_the_backbone(small):
    codec = layered.LayeredCodec(small.codec.config)
    quality = torch.full((2, 1, 1, 1), 0.5)
    coded = codec(torch.rand(2, 3, 64, 96), (quality, quality))
    (coded.x_hat.square().mean() + coded.detail_bits.mean() + coded.semantic_bits.mean()).backward()
    for name, parameter in codec.named_parameters():
        if name.startswith("backbone."):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_photographs_of_every_kind(small, chelsea):
    base = Image.fromarray(chelsea[:60, :80])
    kinds = [base.convert(mode) for mode in ("RGB", "L", "RGBA", "CMYK", "P", "1", "LA", "I;16", "YCbCr", "HSV")]
    for image in kinds:
        stream = small.encode(image, 0.5)
        assert (cda.inspect(stream).width, cda.inspect(stream).height) == (80, 60)
    array = np.asarray(base)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    assert small.encode(base) == small.encode(array) == small.encode(tensor)
    for mode in ("I", "F"):  # numbers that do not say which of them is white
        with pytest.raises(ValueError, match="which value is white"):
            small.encode(base.convert(mode))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8),
        torch.zeros(3, 0, 4), torch.zeros(1, 4, 4), torch.full((3, 4, 4), 1.5), torch.full((3, 4, 4), float("nan")),
        torch.zeros(3, 4, 4, dtype=torch.int32), 7, None,
    ],
)  # fmt: skip
def test_what_is_no_photograph_is_refused(small, bad):
    with pytest.raises(ValueError, match=r".+"):
        small.encode(bad)


def test_a_path_that_leads_nowhere_is_a_missing_file(small, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        small.encode(tmp_path / "nowhere.png")


def test_bad_arguments_are_refused(small, image):
    for quality in (-0.1, 1.1, float("nan"), (0.5, 2.0), (0.1, 0.2, 0.3)):
        with pytest.raises(ValueError, match="quality"):
            small.encode(image, quality)
    with pytest.raises(ValueError, match="layers must be"):
        small.encode(image, layers=("detail",))
    with pytest.raises(ValueError, match="unknown task 'sound'"):
        small.analyze(small.encode(image), tasks=("sound",))


def test_batches_keep_their_order(small, image):
    images = [image, image[:40], image[:, :50], image[:40]]
    streams = small.encode_batch(images, 0.5)
    assert streams == [small.encode(one, 0.5) for one in images]
    together = [r.classification for r in small.analyze_batch(streams)]
    alone = [small.analyze(s).classification for s in streams]
    assert [c.label for c in together] == [c.label for c in alone]
    assert [c.score for c in together] == pytest.approx([c.score for c in alone], abs=1e-5)
    for decoded, one in zip(small.decode_batch(streams), images, strict=True):
        assert decoded.size == (one.shape[1], one.shape[0])
    assert small.encode_batch([]) == []


@pytest.mark.parametrize(("side", "stride", "size"), [(3, 1, (19, 22)), (5, 2, (40, 33)), (3, 2, (8, 8))])
@pytest.mark.parametrize("same", [True, False])
def test_depthwise_convolutions_in_double_are_torchs_own(side, stride, size, same):
    from timm.layers.conv2d_same import Conv2dSame

    torch.manual_seed(0)
    kind, padding = (Conv2dSame, 0) if same else (torch.nn.Conv2d, side // 2)
    network = torch.nn.Sequential(kind(6, 6, side, stride, padding, groups=6)).requires_grad_(False)
    x = torch.rand(2, 6, *size, dtype=torch.float64)
    assert torch.allclose(in_double(network)(x), network.double()(x), rtol=0, atol=1e-14)
