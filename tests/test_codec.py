"""The layered codec: what is encoded is decoded, everywhere, layer by layer."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import LIGHT, SMALL, new_small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cdanalysis as cda
from cdanalysis.codec import cosine, layered
from cdanalysis.codec.budget import StreamWriter
from cdanalysis.codec.gains import quality_plane
from cdanalysis.codec.layered import LayeredCodec, resampled
from cdanalysis.codec.spatial_layer import analysis_inputs
from cdanalysis.codec.tiles import grid_of
from cdanalysis.data.samples import sample_images
from cdanalysis.metrics.image import psnr
from cdanalysis.photographs.read import to_tensor
from cdanalysis.stream.container import pack, unpack
from cdanalysis.structures.latents import LAYERS, QUALITY_OFFSET_STEP, SEMANTIC, Latents, working_size


@contextlib.contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@contextlib.contextmanager
def rough_products():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


SETTINGS = {
    "one thread": lambda: threads(1),
    "two threads": lambda: threads(2),
    "no oneDNN": lambda: torch.backends.mkldnn.flags(enabled=False),
    "rough products": rough_products,
    "bfloat16 autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.fixture(scope="module")
def fused():
    """A small model whose detail layer and decoder see the spatial layer, and make something of it."""
    model = new_small_model(seed=3)
    model.codec.set_fused(True)
    with torch.no_grad():
        for conv in (model.codec.detail.h_s.side, model.codec.synthesis.condition[0]):
            conv.weight[:, : model.codec.spatial.spec.channels].normal_(std=0.1)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def light():
    """A small model whose pixel layers look around in blocks alone, and code a quarter of their channels at a time."""
    return new_small_model(seed=4, **LIGHT).eval().requires_grad_(False)


def drawn_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth field with noise on it."""
    rng = np.random.default_rng(seed)
    field = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize((width, height))
    return np.clip(np.asarray(field) + rng.integers(-20, 21, (height, width, 3)), 0, 255).astype(np.uint8)


def cut_after(stream: bytes, layer: str) -> bytes:
    """A stream without the bytes of the layers after that one."""
    after = unpack(stream).layers[1 + LAYERS.index(layer) :]
    return stream[: len(stream) - sum(each.length + 3 for each in after)]


# -- what is written is read -------------------------------------------------------------------


def test_stream_holds_exactly_the_latents(small, image):
    stream = small.encode(image, 0.6)
    with torch.inference_mode():
        latents = small.codec.to_latents(to_tensor(image)[None], (72, 72, 72))
    assert small.to_latents([stream]).equals(latents)
    assert latents.embedding.unique().numel() > 6
    assert latents.spatial.unique().numel() > 20 and latents.detail.unique().numel() > 20


sizes = st.one_of(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.just(1), st.integers(1, 900)),
    st.tuples(st.integers(1, 900), st.just(1)),
    st.tuples(st.integers(1, 5), st.integers(200, 700)),
)
levels_of = st.tuples(*[st.integers(0, 120)] * 3)


@settings(max_examples=30)
@given(
    st.sampled_from(["small", "fused", "light"]), sizes, levels_of, st.integers(1, 3), st.integers(1, 2), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_any_photograph_comes_back_layer_by_layer(small, fused, light, name, size, levels, layers, count, mapped, seed):
    """Whatever its size, the qualities of its layers, and a map of them: the very integers that the encoder had."""
    model, levels = {"small": small, "fused": fused, "light": light}[name], levels[:layers]
    images = [drawn_image(*size, seed=seed + n) for n in range(count)]
    importance = np.random.default_rng(seed).random(size) if mapped and layers == 3 else None
    writer = model.writer(images, layers, importance)
    streams, offsets = writer.at(levels), writer.quality_offsets
    if offsets is not None:
        offsets = offsets.clamp_max(-(-levels[2] // QUALITY_OFFSET_STEP))
    with torch.inference_mode():
        latents = model.codec.encode_at(writer.analyzed, size, levels, offsets).latents
    for number in range(1, layers + 1):
        found = model.to_latents(streams, LAYERS[:number])
        assert found.layers == LAYERS[:number] and found.equals(latents.up_to(LAYERS[number - 1]))
    for number, stream in enumerate(streams):
        assert model.to_latents([stream], LAYERS[:layers]).equals(latents[number])
    rows, columns = working_size(*size, longer=96)
    assert layers == 1 or latents.spatial.shape == (count, 8, rows // 16, columns // 16)
    assert layers < 3 or latents.detail.shape == (count, 16, *grid_of(*size))
    info = cda.inspect(streams[0])
    assert (info.height, info.width) == size and [round(120 * x.quality) for x in info.layers] == list(levels)


@settings(max_examples=8)
@given(sizes, st.sampled_from([0.0, 0.5, 1.0]))
def test_every_verb_takes_any_size(small, size, quality):
    stream = small.encode(drawn_image(*size), quality)
    assert small.decode(stream).size == size[::-1]
    assert small.analyze(stream).classification.label in ("cat", "dog", "cup")
    features = small.features(stream, LAYERS)
    assert features.sizes == [size] and features.working == working_size(*size, longer=96)
    assert {name: tuple(bits.shape) for name, bits in small.bit_maps(stream).items()} == {
        "global": (1, 1),
        "spatial": tuple(side // 16 for side in features.working),
        "detail": grid_of(*size),
    }


@pytest.mark.parametrize("which", ["small", "fused", "photo"])
def test_same_latents_whatever_the_machine_does(which, request, chelsea):
    """Threads, batches, routines and precision change floats; whoever wrote a stream, all read the same of it."""
    model = request.getfixturevalue(which)
    crops, streams = [chelsea[:64, 64 * i : 64 * i + 96].copy() for i in range(2)], []
    for number, writing in enumerate(SETTINGS.values()):
        if number == 0 or which != "photo":  # a large model's take longer, and are no others
            with writing():
                streams += model.encode_batch(crops, 0.5)
    expected = model.to_latents(streams)
    for reading in SETTINGS.values():
        with reading():
            assert model.to_latents(streams).equals(expected)
            assert model.to_latents(streams[1:2]).equals(expected[1])


def test_autocast_serves_the_networks_of_pixels(photo, chelsea):
    """What machines read is of full precision all the same; pictures are as good within a few hundredths."""
    image = chelsea[:192, 64:320]
    stream = photo.encode(image, 0.4)
    with torch.autocast("cpu", torch.bfloat16):
        other = photo.encode(image, 0.4)
        decoded = photo.decode(other)
    assert cda.strip(other) == cda.strip(stream) and other != stream
    assert abs(len(other) / len(stream) - 1) < 0.02
    assert abs(psnr(image, np.asarray(decoded)) - psnr(image, np.asarray(photo.decode(stream)))) < 0.15


@pytest.mark.parametrize("working", [(32, 32), (96, 160), (64, 224)])
def test_encoders_may_choose_working_sizes(small, image, working):
    """The header says which; readers go by that, not by what their model would have chosen."""
    other = copy.deepcopy(small.codec)
    other.config = replace(other.config, global_size=working[0], spatial_size=working[1])
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    writer = StreamWriter(other, small.symbols, small.fingerprint, x, 3)
    (stream,) = writer.at((60, 60, 60))
    assert [layer.working for layer in cda.inspect(stream).layers] == [*working, 0]
    with torch.inference_mode():
        assert small.to_latents([stream]).equals(other.encode_at(writer.analyzed, (75, 101), (60, 60, 60)).latents)
    assert small.features(stream, SEMANTIC).working == working_size(75, 101, longer=working[1])
    assert small.decode(stream).size == (101, 75)
    with pytest.raises(ValueError, match="read them apart"):
        small.to_latents([stream, small.encode(image)])
    assert len(small.analyze_batch([stream, small.encode(image)])) == 2


@settings(max_examples=10)
@given(sizes, st.sampled_from([32, 64, 160, 1024]), st.integers(2, 3))
def test_the_spatial_layer_sees_the_size_that_is_asked_for(three_tasks, size, spatial_size, count):
    """It alone changes: other layers' bytes, and with them pictures, are what they are at any size of it."""
    image, layers = drawn_image(*size), LAYERS[:count]
    stream, usual = (
        three_tasks.encode(image, 0.5, layers, spatial_size=spatial_size),
        three_tasks.encode(image, 0.5, layers),
    )
    assert [layer.working for layer in cda.inspect(stream).layers] == [64, spatial_size, 0][:count]
    parts, usual_parts = ([layer.data for layer in unpack(data).layers] for data in (stream, usual))
    assert parts[0] == usual_parts[0] and parts[2:] == usual_parts[2:]
    result = three_tasks.analyze(stream)
    assert result.segmentation.size == size
    ends = result.detection.boxes[:, :2] + result.detection.boxes[:, 2:]
    assert (result.detection.boxes >= 0).all() and (ends <= np.array(size[::-1]) + 1e-3).all()
    if count == 3:
        assert np.array_equal(three_tasks.decode(stream), three_tasks.decode(usual))
    assert three_tasks.encode(image, max_bytes=len(stream), layers=layers, spatial_size=np.int64(spatial_size))


@pytest.mark.parametrize("size", [0, 100, 2048, -32, 96.5, "64"])
def test_a_size_that_no_layer_has_is_refused(small, image, size):
    with pytest.raises(ValueError, match="a working size is a multiple of 32 up to 1024"):
        small.encode(image, spatial_size=size)
    with pytest.raises(ValueError, match="a working size is a multiple of 32 up to 1024"):
        small.encode(image, layers=("global",), spatial_size=size)


@pytest.mark.parametrize("sizes", [{"global_size": 250}, {"spatial_size": 0}, {"spatial_size": 4096}])
def test_working_sizes_that_no_stream_holds_are_refused(small, sizes):
    with pytest.raises(ValueError, match="a working size is a multiple of 32 up to 1024"):
        layered.LayeredCodec(replace(small.codec.config, **sizes))


def test_bytes_are_photographs_however_they_are_held(small, image):
    """Image, array, and tensors of bytes and of floats: one stream, also where they come together."""
    array = np.asarray(image)
    held = [Image.fromarray(array), array, torch.from_numpy(array.copy()).permute(2, 0, 1), to_tensor(array)]
    latents = [small.to_latents([stream]) for stream in small.encode_batch(held)]
    assert all(one.embedding.equal(latents[0].embedding) and one.spatial.equal(latents[0].spatial) for one in latents)
    assert len({small.encode(one, 0.5, SEMANTIC) for one in held}) == 1
    assert len(small.writer(held).at((60, 60, 60))) == 4


# -- the rule by which a fused codec's detail layer sees the spatial one -----------------------


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 14), st.integers(1, 14))
def test_layers_are_resampled_by_the_formats_rule(height, width, rows, columns):
    x = torch.arange(rows * columns).reshape(1, 1, rows, columns)
    found = resampled(x, (height, width))[0, 0]
    assert found.shape == grid_of(height, width)
    for i, j in {(0, 0), (found.shape[0] // 2, found.shape[1] // 3), (found.shape[0] - 1, found.shape[1] - 1)}:
        row = min(rows - 1, (16 * i + 8) * rows // height)
        column = min(columns - 1, (16 * j + 8) * columns // width)
        assert found[i, j] == x[0, 0, row, column]


def test_a_codec_that_is_newly_fused_makes_nothing_of_it(image):
    model = new_small_model(seed=4).eval().requires_grad_(False)
    before, fingerprint = model.encode(image, 0.5), model.fingerprint
    decoded = np.asarray(model.decode(before))
    model.codec.set_fused(True)
    after = model.encode(image, 0.5)
    assert model.fingerprint != fingerprint
    assert [layer.data for layer in unpack(after).layers] == [layer.data for layer in unpack(before).layers]
    assert np.abs(np.asarray(model.decode(after)).astype(int) - decoded).max() <= 1
    model.codec.set_fused(False)
    assert model.fingerprint == fingerprint and model.to_latents([before]).equals(model.to_latents([before]))


def test_previews_are_of_codecs_that_see_the_spatial_layer(small, fused, image):
    for short in (cda.strip(small.encode(image)), cut_after(small.encode(image), "spatial")):
        with pytest.raises(ValueError, match="has no previews"):
            small.decode(short, preview=True)
    stream = fused.encode(image)
    for short in (cda.strip(stream), cut_after(stream, "spatial")):
        assert fused.decode(short, preview=True).size == (101, 75)
        with pytest.raises(cda.StreamError, match="no detail layer"):
            fused.decode(short)
    with pytest.raises(cda.StreamError, match="no spatial layer"):
        fused.decode(cut_after(stream, "global"), preview=True)
    assert fused.decode(stream, preview=True).tobytes() == fused.decode(stream).tobytes()


# -- streams that were cut or stripped ---------------------------------------------------------


def test_what_is_left_of_a_stream_is_analyzed(three_tasks, image):
    model = three_tasks
    stream = model.encode(image, 0.5)
    expected = model.analyze(stream)
    for layer, tasks in (("global", ("classification",)), ("spatial", tuple(model.heads))):
        layers = LAYERS[: 1 + LAYERS.index(layer)]
        stripped, cut = cda.strip(stream, layers), cut_after(stream, layer)
        assert unpack(stripped).layers == unpack(model.encode(image, 0.5, layers)).layers
        for short in (stripped, cut):
            found = model.analyze(short, tasks)
            assert all(getattr(found, task) == getattr(expected, task) for task in tasks if task == "classification")
            assert torch.equal(model.embed(short), model.embed(stream))
            assert model.to_latents([short], layers).equals(model.to_latents([stream]).up_to(layer))
    for task in ("detection", "segmentation"):
        for short in (cda.strip(stream, ("global",)), cut_after(stream, "global")):
            with pytest.raises(cda.StreamError, match="no spatial layer: it was stripped, or cut before that layer"):
                model.analyze(short, (task,))
    with pytest.raises(cda.StreamError, match="no detail layer"):
        model.features(cut_after(stream, "spatial"), LAYERS)


def test_analyze_runs_no_synthesis_and_no_teacher_and_reads_no_detail(small, image, monkeypatch):
    """The spy: neither the synthesis network nor any part of the detail layer may run, nor what looks at images."""

    def forbidden(*_, **__):
        raise AssertionError("analyze touched what only encode or decode may")

    stream, codec = small.encode(image, 0.5), small.codec
    expected = small.analyze(stream)
    for part in (codec.synthesis, codec.detail, codec.classifier, codec.detector, codec.spatial.g_a):
        for module in part.modules():
            for name in ("forward", "exact"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, forbidden)
    assert small.analyze(stream) == expected
    small.features(stream, SEMANTIC)
    for verb in (small.decode, lambda stream: small.encode(image)):
        with pytest.raises(AssertionError):
            verb(stream)


def test_damage_inside_a_stream_never_passes(small, image):
    """Every byte changed once: the verbs raise `StreamError`."""
    stream = small.encode(image[:32, :32], 0.3)
    verbs = (small.analyze, small.embed, small.features, small.decode, cda.inspect, cda.strip)
    for position in range(len(stream)):
        damaged = bytearray(stream)
        damaged[position] ^= 0x55
        for verb in verbs if position < 40 else verbs[position % 6 :][:1]:
            with pytest.raises(cda.StreamError):
                verb(bytes(damaged))


def test_every_cut_raises_or_ends_a_layer(small, image):
    stream = small.encode(image[:32, :32], 0.3)
    ends = [len(cut_after(stream, layer)) for layer in SEMANTIC]
    for length in range(len(stream)):
        if length in ends or length % 5 == 0:
            with pytest.raises(cda.StreamError):
                small.decode(stream[:length])
        if length not in ends:
            with pytest.raises(cda.StreamError):
                small.embed(stream[:length])


def test_another_models_stream_is_refused_by_name(small, image):
    other = pack(replace(unpack(small.encode(image, 0.5, SEMANTIC)), fingerprint="123456"))
    with pytest.raises(cda.StreamError, match=rf"123456.*small.*{small.fingerprint}"):
        small.analyze(other)


@pytest.mark.parametrize("number", range(3))
def test_symbols_that_do_not_fit_their_model_are_refused(small, image, number):
    """Right checksums around wrong symbols: the entropy decoder itself notices."""
    stream = unpack(small.encode(image, 0.5))
    layers = list(stream.layers)
    layers[number] = replace(layers[number], data=layers[number].data + b"\x01\x02\x03\x04\x05")
    with pytest.raises(cda.StreamError, match="symbols"):
        small.decode(pack(replace(stream, layers=tuple(layers))))


# -- batches -----------------------------------------------------------------------------------


def test_photographs_of_several_sizes_with_one_working_size_are_read_together(three_tasks, chelsea, monkeypatch):
    model = three_tasks
    images = [chelsea[:90, :120], chelsea[:96, :128], chelsea[:128, :96], chelsea[30:45, 20:40], chelsea[:90, :120]]
    streams = [model.encode(one, 0.5) for one in images]
    alone, groups = [model.analyze(stream) for stream in streams], []
    read = model.symbols.read
    monkeypatch.setattr(model.symbols, "read", lambda group, layers: groups.append(len(group)) or read(group, layers))
    together = model.analyze_batch(streams)
    assert sorted(groups) == [1, 4], "all but the upright one have a working size of 96 x 64 or 96"
    for one, other, image in zip(alone, together, images, strict=True):
        assert one.classification.label == other.classification.label
        assert one.classification.score == pytest.approx(other.classification.score, abs=1e-4)
        assert other.segmentation.mask.shape == image.shape[:2]
        assert len(one.detection.boxes) == len(other.detection.boxes)
    assert torch.allclose(model.embed_batch(streams)[2], model.embed(streams[2]), atol=1e-4)
    assert model.embed_batch([]).shape == (0, len(model.embed(streams[2])))


def test_batches_keep_their_order(small, image):
    images = [image, image[:40], image[:, :50], image[:40]]
    streams = small.encode_batch(images, 0.5)
    together = [r.classification for r in small.analyze_batch(streams)]
    alone = [small.analyze(s).classification for s in streams]
    assert [c.label for c in together] == [c.label for c in alone]
    assert [c.score for c in together] == pytest.approx([c.score for c in alone], abs=1e-5)
    for decoded, one in zip(small.decode_batch(streams), images, strict=True):
        assert decoded.size == (one.shape[1], one.shape[0])
    assert small.encode_batch([]) == []


def test_latents_are_sequences_of_photographs(small, image):
    latents = small.to_latents(small.encode_batch([image, image[::-1].copy(), image[:, ::-1].copy()]))
    rows = list(latents)
    assert len(rows) == len(latents) == 3 and all(isinstance(row, Latents) and len(row) == 1 for row in rows)
    assert latents[-1].equals(rows[2]) and latents[-3].equals(rows[0]) and not rows[0].equals(rows[1])
    for index in (3, -4):
        with pytest.raises(IndexError):
            latents[index]
    assert latents.up_to("detail").equals(latents)
    assert latents.up_to("spatial").layers == SEMANTIC and len(latents.up_to("spatial").quality) == 2
    assert latents.up_to("spatial").up_to("global").equals(latents.up_to("global"))


# -- rate and fidelity of the model that ships -------------------------------------------------


def test_where_all_cells_have_one_quality_it_is_looked_at_once(light, image):
    """A decoder whose ends see one cell makes the same of a quality and of a map of it."""
    synthesis, detail = light.codec.synthesis, torch.randn(2, 16, 6, 4)
    looked = []
    hook = synthesis.condition.register_forward_hook(lambda module, inputs, output: looked.append(output.shape[-2:]))
    with torch.inference_mode():
        once = synthesis(detail, torch.full((2, 1, 1, 1), 0.3))
        mapped = synthesis(detail, torch.full((2, 1, 6, 4), 0.3))
        differ = synthesis(detail, torch.full((2, 1, 1, 1), 0.9))
    hook.remove()
    assert looked == [(1, 1), (6, 4), (1, 1)]
    assert torch.allclose(once, mapped, atol=1e-5) and not torch.allclose(once, differ, atol=1e-3)


@pytest.mark.parametrize(("width", "channels"), [(16, 16), (128, 160), (128, 256), (160, 256), (192, 300)])
def test_new_transforms_are_cosines_of_any_width(width, channels, chelsea):
    """A new analysis keeps what a 16 x 16 block cosine transform of so many numbers keeps, whatever its width."""
    codec = LayeredCodec(replace(SMALL, width=width, detail_channels=channels)).eval()
    x = to_tensor(chelsea)[None, :, :288, :448]
    with torch.inference_mode():
        y = codec.detail.g_a(x)
        found = codec.synthesis(y, torch.zeros(1, 1, 1, 1))
    rows = cosine.merge_weights(width, channels).flatten(1).norm(dim=1)
    assert rows.min() > 0.98 and rows.max() < 1 + 1e-4  # whole cosines, but for what narrow patches leave out
    assert -10 * torch.log10((found - x).square().mean()) > {16: 28, 160: 37, 256: 41, 300: 43}[channels]


@pytest.mark.parametrize(("width", "height"), [(1001, 777), pytest.param(4000, 3000, marks=pytest.mark.slow)])
def test_large_photographs_come_back(photo, width, height):
    """Most of the pixels are even, so that the decoded ones can be told."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[height - 512 :, width - 512 :] = sample_images()["astronaut"]
    stream = photo.encode(image, 0.2)
    assert (cda.inspect(stream).width, cda.inspect(stream).height) == (width, height)
    assert photo.analyze(cda.strip(stream)).classification is not None
    decoded = np.asarray(photo.decode(stream)).astype(float)
    assert np.abs(decoded[:200, :400] - 90).mean() < 4


def test_estimated_bits_are_the_actual_ones(photo):
    """Within 2 percent, container included, on photographs of Kodak's size."""
    images = sample_images()
    for quality, (name, image) in zip((0.2, 0.7), images.items(), strict=False):
        stream = photo.encode(image, quality)
        estimate = sum(photo.estimated_bits(stream).values())
        assert estimate == pytest.approx(8 * len(stream), rel=0.02), name


def test_rate_and_fidelity_rise_with_quality(photo, chelsea):
    sizes, errors = [], []
    for quality in (0.0, 0.5, 1.0):
        stream = photo.encode(chelsea, quality)
        sizes.append(len(stream))
        errors.append(float(np.square(np.asarray(photo.decode(stream)).astype(float) - chelsea).mean()))
    assert sizes == sorted(sizes) and sizes[-1] > 8 * sizes[0]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 4


def test_beats_jpeg_on_photographs_nobody_trained_on(photo):
    """A real model is in the wheel: at JPEG's own size, with little for machines, it is well ahead."""
    from cdanalysis.codecs.pillow import BASELINES

    gains = []
    for image in sample_images().values():
        stream = photo.encode(image, (0.0, 0.0, 0.4))
        jpeg = BASELINES[0].encode_near(image, len(stream), nearest=True)
        ours = psnr(np.asarray(image), np.asarray(photo.decode(stream)))
        gains.append(ours - psnr(np.asarray(image), BASELINES[0].decode(jpeg)))
    assert np.mean(gains) > 1.0


# -- learning ----------------------------------------------------------------------------------


def test_gradients_reach_the_codec_and_not_the_teachers():
    codec = new_small_model().train().codec
    codec.set_fused(True)
    x, quality = torch.rand(2, 3, 64, 96), torch.full((2, 1, 1, 1), 0.5)
    seen = codec.teachers_see(x)
    side, global_bits = codec.global_layer(seen.embedding, quality)
    spatial, spatial_bits = codec.spatial(analysis_inputs(seen.detected), side, quality)
    coded = codec(x, quality, spatial=spatial)
    known = codec.global_layer.dequantize(side, quality)
    pyramid = codec.spatial.g_s(codec.spatial.dequantize(spatial, quality), quality, known)
    parts = [coded.x_hat, codec.global_layer.embedding(known), *pyramid]
    bits = [coded.detail_bits, global_bits, spatial_bits]
    (sum(part.square().mean() for part in parts) + sum(part.mean() for part in bits)).backward()
    for name, parameter in codec.named_parameters():
        if name.startswith(("classifier.", "detector.")):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_training_sees_what_coding_does(small, image):
    """The differentiable face on rounded values: the integers that are coded, and about the bits that they cost."""
    x = to_tensor(np.pad(image, ((0, 21), (0, 27), (0, 0)), mode="edge"))[None]
    level, quality = 60, torch.full((1, 1, 1, 1), 0.5)
    with torch.inference_mode():
        latents = small.codec.to_latents(x, (level, level, level))
        seen = small.codec.teachers_see(x)
        side, global_bits = small.codec.global_layer(seen.embedding, quality, noisy=False)
        spatial, spatial_bits = small.codec.spatial(analysis_inputs(seen.detected), side, quality, noisy=False)
        coded = small.codec(x, quality, noisy=False)
    for real, values in ((side, latents.embedding), (spatial, latents.spatial)):
        assert ((real - values / 16).abs() < 0.1).float().mean() > 0.9
    estimated = small.estimated_bits(small.encode(x[0], 0.5))
    for name, bits in (("global", global_bits), ("spatial", spatial_bits), ("detail", coded.detail_bits)):
        assert float(bits.sum()) == pytest.approx(estimated[name], rel=0.1), name
    assert quality_plane(level, side).equal(quality[:1])


# -- what is no photograph, and what is no wish ------------------------------------------------


def test_photographs_of_every_kind(small, chelsea):
    base = Image.fromarray(chelsea[:60, :80])
    kinds = [base.convert(mode) for mode in ("RGB", "L", "RGBA", "CMYK", "P", "1", "LA", "I;16", "YCbCr", "HSV")]
    for image in kinds:
        stream = small.encode(image, 0.5)
        assert (cda.inspect(stream).width, cda.inspect(stream).height) == (80, 60)
    array = np.asarray(base)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    assert small.encode(base) == small.encode(array)
    assert cda.strip(small.encode(array)) == cda.strip(small.encode(tensor))
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
    for quality in (-0.1, 1.1, float("nan"), (0.5, 2.0, 0.5), (0.1, 0.2), (0.1, 0.2, 0.3, 0.4)):
        with pytest.raises(ValueError, match="quality"):
            small.encode(image, quality)
    with pytest.raises(ValueError, match="layers must be"):
        small.encode(image, layers=("detail",))
    with pytest.raises(ValueError, match="one for each of global, spatial, got"):
        small.encode(image, (0.1, 0.2, 0.3), layers=SEMANTIC)
    with pytest.raises(ValueError, match="unknown task 'sound'"):
        small.analyze(small.encode(image), tasks=("sound",))


def test_photographs_larger_than_a_model_reads_are_not_written(small, image, monkeypatch):
    monkeypatch.setattr(small, "max_pixels", 96 * 128)
    small.encode(image)
    monkeypatch.setattr(small, "max_pixels", 96 * 128 - 1)
    with pytest.raises(ValueError, match="has 101x75 pixels, padded more than the 12287 of max_pixels"):
        small.encode(image)
