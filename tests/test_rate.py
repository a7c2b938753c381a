"""Streams of a wanted size, and bits where they are wanted."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from conftest import ROOT, module_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cdanalysis as cda
from cdanalysis.codec.budget import best_level, budget_of
from cdanalysis.roi import importance as importance_module
from cdanalysis.roi.importance import DEPTH, importance_map, quality_offsets_of
from cdanalysis.roi.saliency import Remembered
from cdanalysis.stream.coder import SymbolReader, SymbolWriter
from cdanalysis.stream.container import unpack
from cdanalysis.stream.quality_map import pop_map, push_map
from cdanalysis.structures.latents import MAX_QUALITY_OFFSET, QUALITY_OFFSET_STEP, SEMANTIC, lowered


@pytest.fixture(scope="module")
def scene(chelsea) -> np.ndarray:
    """(130, 190, 3) uint8: sides that are no multiple of the padding."""
    return chelsea[60:190, 130:320].copy()


# -- budgets -----------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(0, 40), min_size=121, max_size=121), share=st.floats(0, 1))
def test_the_best_level_within_a_budget_is_found(sizes, share):
    total = np.cumsum(sizes)
    budget = int(total[0] + share * (total[-1] - total[0]))
    level = best_level(lambda n: int(total[n]), budget, "it")
    assert total[level] <= budget and (level == 120 or total[level + 1] > budget)


@given(st.integers(1, 10**6))
def test_a_budget_out_of_range_names_the_range(budget):
    if 1000 <= budget <= 9000 / 0.95:
        assert best_level(lambda n: 1000 + n * 8000 // 120, budget, "it") >= 0
    else:
        with pytest.raises(ValueError, match="it of this photograph can have 1000 to 9000 bytes"):
            best_level(lambda n: 1000 + n * 8000 // 120, budget, "it")


def test_numbers_of_numpy_are_budgets_and_truth_is_none():
    assert budget_of(80, None, np.int64(3000)) == 3000 and budget_of(80, np.float32(4), None) == 40
    assert budget_of(80, (np.float64(1), 2, 3), None) == (10, 20, 30)
    for wrong in (True, np.float32("nan"), np.int64(0), "3000"):
        with pytest.raises(ValueError, match="a budget is one positive number"):
            budget_of(80, None, wrong)


def test_streams_hit_their_budget_from_below(photo, scene):
    least, most = (len(photo.encode(scene, quality=q)) for q in (0.0, 1.0))
    pixels = scene.shape[0] * scene.shape[1]
    for share in (0.1, 0.7):
        budget = int(least + share * (most - least))
        stream = photo.encode(scene, max_bytes=budget)
        assert 0.95 * budget <= len(stream) <= budget
        assert photo.encode(scene, bpp=8 * (budget + 0.5) / pixels) == stream
        level = unpack(stream).layers[0].level
        assert photo.encode(scene, quality=level / 120) == stream
    with pytest.raises(ValueError, match=f"{least} to {most} bytes"):
        photo.encode(scene, max_bytes=least - 1)
    with pytest.raises(ValueError, match=f"{least} to {most} bytes"):
        photo.encode(scene, max_bytes=2 * most)


def test_layers_can_have_budgets_of_their_own(photo, scene):
    wanted = (0.3, 0.8, 0.2)
    rich = cda.inspect(photo.encode(scene, quality=wanted)).layers
    sizes = tuple(layer.bytes for layer in rich)
    stream = photo.encode(scene, max_bytes=sizes)
    layers = cda.inspect(stream).layers
    assert all(abs(layer.quality - asked) < 0.05 for layer, asked in zip(layers, wanted, strict=True))
    assert all(0.95 * asked <= layer.bytes <= asked for layer, asked in zip(layers, sizes, strict=True))
    assert photo.encode(scene, layers=SEMANTIC, max_bytes=sizes[:2]) == cda.strip(stream)
    pixels = scene.shape[0] * scene.shape[1]
    rates = tuple(8 * (size + 0.5) / pixels for size in sizes[:2])
    assert photo.encode(scene, layers=SEMANTIC, bpp=rates) == cda.strip(stream)
    alone = photo.encode(scene, layers=("global",), max_bytes=len(cda.strip(stream, ("global",))))
    assert cda.inspect(alone).layers[0].quality == layers[0].quality
    for budget in (sizes[:2], sizes[:1]):
        with pytest.raises(ValueError, match=r"one for each layer that is written \(global, spatial, detail\), got"):
            photo.encode(scene, max_bytes=budget)
    with pytest.raises(ValueError, match="the spatial layer of this photograph can have"):
        photo.encode(scene, layers=SEMANTIC, max_bytes=(sizes[0], 5))


@pytest.mark.parametrize("wanted", [0, -1, float("nan"), float("inf"), "9", (1, 2, 3, 4), (1, 0), ()])
def test_budgets_that_are_none_are_refused(wanted):
    with pytest.raises(ValueError, match="a budget is one positive number, or one for each of global, spatial, detail"):
        budget_of(100, wanted, None)
    with pytest.raises(ValueError, match="a budget is one positive number, or one for each of global, spatial, detail"):
        budget_of(100, None, wanted)


def test_there_is_one_wish_at_a_time(small, image):
    with pytest.raises(ValueError, match="give one of quality, bpp and max_bytes"):
        small.encode(image, quality=0.5, bpp=1.0)


# -- quality maps ------------------------------------------------------------------------------

shapes = st.tuples(st.integers(1, 7), st.integers(1, 7))


@given(shape=shapes, seed=st.integers(0, 10**6), most=st.integers(0, MAX_QUALITY_OFFSET))
def test_maps_round_trip(shape, seed, most):
    quality_offsets = np.random.default_rng(seed).integers(0, most + 1, shape)
    writer = SymbolWriter()
    push_map(writer, quality_offsets)
    reader = SymbolReader(writer.finish())
    assert (pop_map(reader, shape) == quality_offsets).all()
    reader.close()


@settings(max_examples=60)
@given(data=st.binary(min_size=0, max_size=40).filter(lambda b: not b.endswith(b"\0")), shape=shapes)
def test_any_bytes_give_a_map_or_an_error(data, shape):
    try:
        quality_offsets = pop_map(SymbolReader(data), shape)
    except cda.StreamError:
        return
    assert quality_offsets.shape == shape and quality_offsets.min() >= 0 and quality_offsets.max() <= MAX_QUALITY_OFFSET


def test_a_marked_rectangle_costs_few_bytes():
    quality_offsets = np.full((12, 24), DEPTH)
    quality_offsets[3:8, 5:14] = 0
    writer = SymbolWriter()
    push_map(writer, quality_offsets)
    assert len(writer.finish()) <= 24


def test_lowered_levels_stay_levels():
    levels = lowered(20, torch.tensor([[[[0, 2], [3, 15]]]]))
    assert levels.tolist() == [[[[20, 20, 4, 4], [20, 20, 4, 4], [0, 0, 0, 0], [0, 0, 0, 0]]]]
    assert QUALITY_OFFSET_STEP * MAX_QUALITY_OFFSET >= 120


def test_streams_with_a_map_decode_to_what_was_encoded(small, photo, scene):
    for model in (small, photo):
        stream = model.encode(scene, 0.6, importance=[(40, 30, 60, 50)])
        info = cda.inspect(stream)
        assert [layer.mapped for layer in info.layers] == [False, False, True]
        again = model.encode_batch([scene, scene[::-1].copy()], 0.6, importance=[(40, 30, 60, 50)])
        assert cda.inspect(again[0]).layers[2].mapped
        latents = model.to_latents([stream])
        assert latents.quality_offsets.shape == (1, 1, 5, 6) and set(latents.quality_offsets.unique().tolist()) == {
            0,
            DEPTH,
        }
        assert model.to_latents(again)[0].equals(model.to_latents(again[:1]))
        assert model.decode(stream).size == (190, 130)
        same = [model.analyze(s, ("classification",)) for s in (stream, cda.strip(stream))]
        assert same[0] == same[1]
        assert not cda.inspect(cda.strip(stream)).layers[1].mapped


def test_a_map_of_ones_is_no_map(small, scene):
    assert small.encode(scene, importance=np.ones(scene.shape[:2])) == small.encode(scene)


def test_estimates_hold_with_a_map(photo, chelsea):
    stream = photo.encode(chelsea, 0.5, importance=[(100, 50, 150, 150)])
    estimated = photo.estimated_bits(stream)["detail"]
    assert abs(estimated / (8 * cda.inspect(stream).layers[2].bytes) - 1) < 0.02


def test_important_places_are_better_at_equal_bytes(photo, scene):
    x, y, width, height = box = (32, 32, 64, 64)
    even = photo.encode(scene, quality=0.5)
    steered = photo.encode(scene, max_bytes=len(even), importance=[box])
    assert 0.95 * len(even) <= len(steered) <= len(even)

    def psnr(stream: bytes) -> float:
        part = np.s_[y : y + height, x : x + width]
        return -10 * np.log10(np.square(np.asarray(photo.decode(stream))[part] / 255.0 - scene[part] / 255.0).mean())

    assert psnr(steered) > psnr(even) + 0.5


def test_bits_have_a_place(photo, scene):
    latents = photo.to_latents([photo.encode(scene, importance=[(32, 32, 64, 64)])])
    maps = photo.codec.bit_maps(latents)
    assert maps["global"].shape == (1, 1, 1) and maps["detail"].shape == (1, 10, 12)
    assert maps["spatial"].shape == (1, *latents.spatial.shape[-2:])
    marked = torch.zeros(10, 12, dtype=torch.bool)
    marked[2:6, 2:6] = True
    assert maps["detail"][0][marked].mean() > 1.5 * maps["detail"][0][~marked].mean()


# -- what says what is important ---------------------------------------------------------------


def test_masks_boxes_and_callables_say_the_same(tmp_path, small, scene):
    marked = np.zeros(scene.shape[:2])
    marked[30:80, 40:100] = 1
    path = tmp_path / "mask.png"
    Image.fromarray((marked * 255).astype(np.uint8)).save(path)
    box = (40, 30, 60, 50)
    kinds = [marked, torch.from_numpy(marked), Image.open(path), path, str(path), [box], np.array([box])]
    streams = {small.encode(scene, importance=kind) for kind in [*kinds, lambda image: marked]}
    assert len(streams) == 1


def test_a_callable_sees_the_photograph(scene):
    seen = []
    x = torch.from_numpy(scene).permute(2, 0, 1) / 255
    importance_map(lambda image: seen.append(image) or np.ones(image.shape[:2]), x)
    assert (seen[0] == scene).all() and seen[0].dtype == np.uint8


def test_a_cell_is_as_important_as_its_most_important_pixel():
    values = np.zeros((33, 70))
    values[32, 64] = 1
    values[3, 3] = 0.6
    quality_offsets = quality_offsets_of(values, [torch.rand(3, 33, 70)])
    assert quality_offsets.tolist() == [[[[2, 5, 5], [5, 5, 0]]]]


@pytest.mark.parametrize(
    ("importance", "error", "message"),
    [
        (np.ones((3, 3)), ValueError, r"\(height, width\) = \(130, 190\)"),
        (np.full((130, 190), np.nan), ValueError, "in \\[0, 1\\]"),
        (np.full((130, 190), -0.1), ValueError, "in \\[0, 1\\]"),
        (np.full((130, 190), 2), ValueError, "in \\[0, 1\\]"),
        (np.zeros((130, 190)), ValueError, "must be above 0 somewhere"),
        ([(500, 500, 3, 3)], ValueError, "must be above 0 somewhere"),
        ([(1, 1, 0, 3)], ValueError, "with width and height above 0"),
        ([(1, 1, float("nan"), 3)], ValueError, "boxes must be"),
        ("gaze", FileNotFoundError, "must be 'saliency', boxes or a file; there is no file gaze"),
        (3, ValueError, "a map, mask, boxes or saliency model, got int"),
        (lambda image: None, ValueError, "NoneType"),
    ],
)
def test_bad_maps_are_refused(small, scene, importance, error, message):
    with pytest.raises(error, match=message):
        small.encode(scene, importance=importance)


def test_files_that_are_no_saliency_model_are_refused(tmp_path, small, scene):
    pytest.importorskip("onnxruntime")
    for name, message in (("net.onnx", "not an ONNX network"), ("notes.txt", "cannot be read")):
        (tmp_path / name).write_text("nothing of the kind")
        with pytest.raises(ValueError, match=message):
            small.encode(scene, importance=str(tmp_path / name))


def test_saliency_without_weights(photo, scene):
    pytest.importorskip("cv2")
    stream = photo.encode(scene, importance="saliency")
    quality_offsets = photo.to_latents([stream]).quality_offsets
    assert quality_offsets.min() == 0 and quality_offsets.max() >= DEPTH - 1 and len(stream) < len(photo.encode(scene))


@pytest.mark.data
def test_u2netp_finds_the_astronaut(data_root):
    pytest.importorskip("onnxruntime")
    from skimage import data

    from cdanalysis.roi.saliency import U2NetP

    values = U2NetP(data_root / "weights" / "u2netp.onnx")(data.astronaut())
    assert values.shape == (512, 512) and values.min() >= 0 and values.max() <= 1
    assert values[50:250, 160:290].mean() > 0.8 > 0.3 > values[:150, 380:].mean()


def test_a_saliency_network_is_loaded_once(tmp_path, small, scene, monkeypatch):
    """However many photographs ask for it; again when its file has changed."""
    (tmp_path / "net.onnx").write_bytes(b"a network")
    loaded = []

    def network(path):
        loaded.append(path)
        return lambda image: np.ones(image.shape[:2])

    monkeypatch.setattr(importance_module, "U2NetP", network)
    small.encode_batch([scene, scene], importance=str(tmp_path / "net.onnx"))
    small.encode(scene, importance=tmp_path / "net.onnx")
    assert len(loaded) == 1
    os.utime(tmp_path / "net.onnx", (1, 1))
    small.encode(scene, importance=str(tmp_path / "net.onnx"))
    assert len(loaded) == 2


def test_remembered_maps_are_asked_for_once():
    asked = []

    def saliency(image):
        asked.append(image.shape)
        return image[..., 0] / 255

    remembered = Remembered(saliency)
    first, second = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 51, np.uint8)
    for image in (first, second, first, second):
        assert np.abs(remembered(image.copy()) - image[..., 0] / 255).max() < 1e-3
    assert len(asked) == 2


def test_the_tool_draws_where_bits_go(small, tmp_path):
    tool = module_of(ROOT / "tools" / "rate_control.py")
    sizes = tool.drawn(small, tmp_path / "pictures")
    assert list(sizes) == ["everywhere alike", "saliency", "a box"]
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"bits.webp", "crops.webp"}


@pytest.mark.parametrize(
    ("layers", "asked"),
    [
        (("global",), {"importance": "saliency"}),
        (("global", "spatial"), {"importance": [(0, 0, 8, 8)]}),
        (("global", "spatial"), {"effort": 4}),
        (("global",), {"spatial_size": 64}),
    ],
)
def test_what_is_asked_of_a_layer_that_is_not_written_is_refused(photo, chelsea, layers, asked):
    with pytest.raises(ValueError, match="is not written"):
        photo.encode(chelsea[:32, :32], layers=layers, **asked)
