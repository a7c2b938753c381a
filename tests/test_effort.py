"""Latents fitted to one photograph: more picture for the bits, and a stream like any other."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

import cdanalysis as cda
from cdanalysis.cli import main
from cdanalysis.codec import latent_search
from cdanalysis.codec.budget import searched_level
from cdanalysis.codec.entropy.models import ContextModel
from cdanalysis.codec.latent_search import LAMBDAS, STRUCTURE, LatentSearch
from cdanalysis.codecs.base import level_at
from cdanalysis.codecs.ours import ModelCodec
from cdanalysis.observers.pixel import MSSSIM, SCALES
from cdanalysis.observers.semantic import UnitFeatureDistance
from cdanalysis.photographs.read import to_tensor
from cdanalysis.stream.container import unpack
from cdanalysis.structures.latents import LAYERS

QUALITY = 0.5


def cost(model, image: np.ndarray, stream: bytes) -> float:
    """What the codec learned to make small, in bits a pixel: real bytes, and pixels as they are decoded."""
    low, high = LAMBDAS
    original, decoded = (to_tensor(np.asarray(x))[None] for x in (image, model.decode(stream)))
    structure = MSSSIM(SCALES[:4])(original, decoded)
    distortion = (original - decoded).square().mean() + STRUCTURE * float(structure)
    return float(8 * len(stream) / image[..., 0].size + low * (high / low) ** QUALITY * 255**2 * distortion)


def test_effort_pays(photo, chelsea):
    """The more the better, at no change of what machines read; the same bytes whenever it is asked for."""
    image = chelsea[40:167, 100:301]
    streams = [photo.encode(image, QUALITY, effort=steps) for steps in (0, 6, 16)]
    plain, some, more = (cost(photo, image, stream) for stream in streams)
    assert more < some < 0.995 * plain
    assert more < 0.99 * plain
    assert len({cda.strip(stream) for stream in streams}) == 1
    assert photo.encode(image, QUALITY, effort=np.int64(6)) == streams[1]


@pytest.mark.parametrize("realism", [0.0, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (21, 5), (33, 40)])
def test_effort_serves_the_smallest_photographs(photo, chelsea, size, realism):
    image = np.ascontiguousarray(chelsea[: size[0], : size[1]])
    stream = photo.encode(image, 0.5, effort=2, realism=realism)
    assert photo.decode(stream).size == size[::-1]


def seen(model, image: np.ndarray, stream: bytes, realism: float = 1.0) -> float:
    """How far a picture is from the photograph by what the classifier sees."""
    classifier = model.codec.classifier
    mean, std = ((value / 255).flatten().tolist() for value in (classifier.mean, classifier.deviation))
    observer = UnitFeatureDistance(classifier.net, classifier.stages, mean, std)
    original, decoded = (to_tensor(np.asarray(x))[None] for x in (image, model.decode(stream, realism=realism)))
    return float(observer(original, decoded))


def test_effort_at_a_realism_serves_what_the_classifier_sees(photo, chelsea):
    """At the bytes of no effort; and more than effort that serves pixels does."""
    image = chelsea[40:167, 100:301]
    plain = photo.encode(image, 0.3)
    pixels, both = (photo.encode(image, max_bytes=len(plain), effort=8, realism=r) for r in (0.0, 1.0))
    assert len(both) <= len(plain)
    distances = [seen(photo, image, stream) for stream in (plain, pixels, both)]
    assert distances[2] < 0.95 * min(distances[:2])
    assert cost(photo, image, pixels) < cost(photo, image, both)


def test_effort_at_a_realism_sees_no_tiles(photo, chelsea, monkeypatch):
    image = chelsea[40:136, :384]
    plain, whole = photo.encode(image, 0.3), photo.encode(image, 0.3, effort=4, realism=1.0)
    monkeypatch.setattr(latent_search, "SHARE", 1 / 24)
    tiled = photo.encode(image, 0.3, effort=4, realism=1.0)
    away, seamless, seamed = (seen(photo, image, stream) for stream in (plain, whole, tiled))
    assert tiled != whole and seamed - seamless < 0.5 * (away - seamless)


def test_a_realism_that_effort_cannot_serve_is_refused(photo, small, image, monkeypatch):
    with pytest.raises(ValueError, match="give effort, or no realism"):
        photo.encode(image, realism=1.0)
    with pytest.raises(ValueError, match=r"realism must be a number in \[0, 1\]"):
        photo.encode(image, effort=1, realism=2.0)
    with pytest.raises(ValueError, match="not trained for realism"):
        small.encode(image, effort=1, realism=1.0)
    monkeypatch.setattr(photo.codec.classifier, "size", (224, 224))
    with pytest.raises(ValueError, match="takes no part of a photograph"):
        photo.encode(image, effort=1, realism=1.0)


@given(st.floats(0.8, 1.3), st.just(0.0) | st.floats(0, 0.04), st.integers(100, 90_000), st.integers(0, 2**32 - 1))
def test_few_searches_find_about_the_best_level(share, spread, budget, seed):
    """Where sizes grow with the level, and a search takes about the same share more or fewer bytes everywhere: that, or
    one nearby whose size the share did not tell."""
    random, asked = np.random.default_rng(seed), set()
    plain = 200 * 1.05 ** np.arange(121)
    sizes = np.maximum.accumulate(plain * share * (1 + spread * random.uniform(-1, 1, 121)))

    def size_at(level: int) -> float:
        asked.add(level)
        return float(sizes[level])

    level = max((level for level in range(121) if plain[level] <= budget), default=0)
    best = max((level for level in range(121) if sizes[level] <= budget), default=-1)
    found = searched_level(size_at, lambda each: float(plain[each]), level, budget, 120)
    assert (found == best) if best < 0 or spread < 1e-6 else (0 <= best - found <= 3)
    assert len(asked) <= 5


def test_codecs_with_effort_keep_a_wanted_size(photo, chelsea):
    image = Image.fromarray(chelsea[40:136, 100:228])
    codec = ModelCodec("effort", photo, 0.0, realism=1.0, effort=2)
    assert codec.quick.facts() == codec.facts() | {"effort": 0}
    size = len(codec.quick.encode(image, 40))
    assert 0.9 * size < len(codec.encode_near(image, size)) <= size
    rate = 8 * size / (image.width * image.height)
    level = level_at(codec, [image], rate)
    assert level is not None and len(codec.encode(image, level)) <= size < len(codec.encode(image, level + 3))


def test_effort_pays_where_a_photograph_is_many_tiles(photo, chelsea, monkeypatch):
    image = chelsea[40:136, :384]
    whole = photo.encode(image, QUALITY, effort=8)
    monkeypatch.setattr(latent_search, "SHARE", 1 / 24)
    tiled = photo.encode(image, QUALITY, effort=8)
    plain, seamless, seamed = (cost(photo, image, s) for s in (photo.encode(image, QUALITY), whole, tiled))
    assert tiled != whole
    assert seamed - seamless < 0.5 * (plain - seamless)


def test_effort_pays_in_a_fused_codec(small, image):
    """Also where a spatial layer modulates the decoder, and conditions the entropy model."""
    model = copy.deepcopy(small)
    model.codec.set_fused(True)
    with torch.no_grad():
        for conv in (model.codec.detail.h_s.side, model.codec.synthesis.condition[0]):
            conv.weight.normal_(std=0.05)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    search = LatentSearch(model.codec.detail, model.codec.synthesis, x, 8)
    rounded, searched = objective(model, search, x)
    assert searched < 0.98 * rounded


def objective(model, search: LatentSearch, x: torch.Tensor) -> tuple[float, float]:
    """Bits and squared error, in bits, of latents as they are rounded, before and after a search."""
    codec, size, level = model.codec, (x.shape[-2], x.shape[-1]), 60
    analyzed = codec.analyze(x, 3)
    costs = []
    for each in (None, search):
        latents = codec.encode_at(analyzed._replace(search=each), size, (60, 60, level)).latents
        bits = float(codec.bit_maps(latents)["detail"].sum())
        error = (codec.to_images(latents).float() - x).square().mean(1).sum()
        low, high = LAMBDAS
        costs.append(bits + low * (high / low) ** (level / 120) * float(error))
    return costs[0], costs[1]


@settings(max_examples=6)
@given(st.integers(17, 80), st.integers(17, 80), st.sampled_from([0, 0.3, 1.0]), st.integers(0, 2**32 - 1))
def test_streams_are_like_any_other(three_tasks, height, width, quality, seed):
    """Of any size and quality, with bits wherever they are wanted; a budget is kept, and weights stay as they are."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    image = np.asarray(Image.fromarray(pixels).resize((width, height)))
    model = copy.deepcopy(three_tasks).requires_grad_(True)
    before = model.fingerprint
    stream = model.encode(image, quality, effort=2, importance=[(0, 0, width // 2, height)])
    assert model.decode(stream).size == (width, height)
    assert model.analyze(stream, ["classification"]).classification
    assert model.encode(image, quality, LAYERS[:2]) == cda.strip(stream)
    budget = len(model.encode(image, 0.5))
    assert len(model.encode(image, max_bytes=budget, effort=2)) <= budget
    assert model.fingerprint == before and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("quality", [0.5, 0.95])
def test_a_budget_buys_more_of_the_picture(photo, quality):
    """Also at high qualities, where effort spends bits rather than saves them."""
    # Several photographs: a level more or less is 2 % of one's error.
    images = [data.astronaut()[:112, 64:192], data.coffee()[100:212, 200:328], data.chelsea()[100:212, 150:278]]
    streams = [photo.encode(image, quality) for image in images]
    budgets = [len(stream) for stream in streams]
    parts = [tuple(len(layer.data) for layer in unpack(stream).layers) for stream in streams]

    def error(allowed: list, effort: int = 0) -> float:
        found = []
        for image, budget, most in zip(images, budgets, allowed, strict=True):
            stream = photo.encode(image, max_bytes=most, effort=effort)
            assert len(stream) <= budget
            found.append(np.log(np.square(np.asarray(photo.decode(stream), float) - image).mean()))
        return float(np.exp(np.mean(found)))

    assert error(budgets, effort=16) < 0.97 * error(budgets)
    assert error(parts, effort=16) < 0.97 * error(parts)


def test_under_autocast_the_decoder_that_is_fitted_to_is_in_its_precision(photo, chelsea):
    image = chelsea[40:168, 100:292]
    with torch.autocast("cpu", torch.bfloat16):
        stream = photo.encode(image, QUALITY, effort=16)
    assert cost(photo, image, stream) < 0.99 * cost(photo, image, photo.encode(image, QUALITY))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_what_is_expected_of_whole_symbols_is_what_they_cost(seed):
    torch.manual_seed(seed)
    model, base = ContextModel(8, base=4, hidden=8, passes=2), torch.randn(1, 4, 4, 6)
    with torch.no_grad():
        for head in model.heads:
            head.weight.normal_(std=0.3)
        y_hat, bits = model(3 * torch.randn(1, 8, 4, 6), base, noisy=False)
        known, expected, variance = model.expected(y_hat, base)
        assert torch.allclose(known, y_hat, atol=1e-4)
        assert torch.allclose(expected.clamp_max(16), bits.clamp_max(16), atol=0.02)
        assert float(variance.max()) < 1e-3


@pytest.mark.parametrize("steps", [-1, 2.5, "8", 10**9, None])
def test_effort_that_is_none_is_refused(small, image, steps):
    with pytest.raises(ValueError, match="effort is a number of steps from 0 to 10,000, got"):
        small.encode(image, effort=steps)


def test_the_command_line(small_folder, image, tmp_path, capsys):
    Image.fromarray(image).save(tmp_path / "a.png")
    ask = ["encode", str(tmp_path / "a.png"), "--model", str(small_folder), "-o", str(tmp_path / "a.cda")]
    assert main([*ask, "--effort", "2"]) == 0
    assert (tmp_path / "a.cda").read_bytes() == cda.load(small_folder).encode(image, effort=2)
    assert main([*ask, "--effort", "2", "--layers", "global", "--overwrite"]) == 1
    assert "effort is spent on the detail layer, which is not written" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--effort", "20000"], ["--effort", "-1"], ["--spatial-size", "100"]])
def test_settings_that_are_none_are_refused_once_before_the_first_file(image_folder, small_folder, words, capsys):
    """Also where all layers are written."""
    ask = ["encode", str(image_folder), "--model", str(small_folder), "-o", str(image_folder / "out"), *words]
    assert main(ask) == 1 and not (image_folder / "out").exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
