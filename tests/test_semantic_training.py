"""How the global and the spatial layer learn: features on the disk, starts, losses that reach what they should."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cdanalysis.codec.global_layer import GlobalLayer
from cdanalysis.codec.spatial_layer import SpatialLayer
from cdanalysis.data.images import ImageSet
from cdanalysis.teachers.nanodet import DetectorHead
from cdanalysis.training.semantic_layers import (
    PYRAMID,
    Fit,
    GlobalLoss,
    SegmentationProbe,
    SpatialLoss,
    Statistics,
    analysis_inputs,
    fit,
    start_global_layer,
    start_spatial_layer,
)  # fmt: skip
from cdanalysis.training.teacher_features import FeatureBatch, FeatureCache, View, working_size, write_features

EMBEDDING, CLASSES = 24, 9
CHANNELS = {"p3": 4, "p4": 4, "p5": 4, "p6": 4, "c4": 5, "c5": 6, "segmentation": 3}


def maps_of(seed: int, rows: int, columns: int) -> dict[str, torch.Tensor]:
    """Maps (C, h, w) that few components explain, as those of real teachers."""
    draw = torch.Generator().manual_seed(seed)
    base = torch.randn(3, rows, columns, generator=draw)
    mixing = torch.Generator().manual_seed(0)
    found = {}
    for name, count in CHANNELS.items():
        scale = {"p3": 2, "p5": 0.5, "c5": 0.5, "p6": 0.25}.get(name, 1)
        size = (-(-rows * scale // 1), -(-columns * scale // 1))
        level = nn.functional.interpolate(base[None], size=tuple(map(int, size)), mode="nearest")[0]
        weights = torch.randn(count, 3, generator=mixing)
        found[name] = torch.einsum("kc,chw->khw", weights, level) + 0.5
    return found


def batch_of(count: int, rows: int = 4, columns: int = 6, seed: int = 0) -> FeatureBatch:
    every = [maps_of(seed + i, rows, columns) for i in range(count)]
    maps = {name: torch.stack([each[name] for each in every]) for name in CHANNELS}
    return FeatureBatch(maps, torch.randn(count, EMBEDDING, generator=torch.Generator().manual_seed(seed)))


def new_layers() -> tuple[GlobalLayer, SpatialLayer]:
    torch.manual_seed(1)
    spatial = SpatialLayer((4, 9, 10), (4, 4, 4), 12, channels=8, hidden=32, depth=1, context=8)
    return GlobalLayer(EMBEDDING, (4, 8), hidden=8, context=8), spatial


def loss_of(layers) -> SpatialLoss:
    known = Statistics.of([batch_of(4)])
    heads = nn.ModuleList(DetectorHead(4, 5) for _ in PYRAMID)
    return SpatialLoss(layers[1], SegmentationProbe(4, EMBEDDING, 3, width=8), layers[0], heads, known)


class Stub:
    """Teachers whose features are a function of the image's first pixel."""

    def __init__(self):
        self.seen = 0

    def maps(self, image):
        self.seen += 1
        width, height = working_size(*image.size, longer=128)
        return maps_of(image.getpixel((0, 0))[0], height // 16, width // 16)

    def embedding(self, image):
        return torch.full((EMBEDDING,), image.getpixel((0, 0))[0] / 8)


@pytest.fixture
def pictures(tmp_path):
    for number in range(10):
        array = np.full((60, 100 if number % 3 else 40, 3), 10 * number, np.uint8)
        Image.fromarray(array).save(tmp_path / f"{number}.png")
    return ImageSet(tmp_path)


def test_features_come_back_as_they_were_written(pictures, tmp_path):
    teachers = Stub()
    write_features(tmp_path / "cache", [pictures], teachers, views=2)
    cache = FeatureCache(tmp_path / "cache")
    assert len(cache) == 20 and {view.number for view in cache.views[:10]} == {0}
    for grid, rows in cache.grids.items():
        batch = cache.batch(rows)
        for place, number in enumerate(rows):
            view = cache.views[number]
            image = view.of(pictures.named(view.name))
            for name, value in teachers.maps(image).items():
                assert (batch.maps[name][place] - value).abs().max() <= cache.scales[name].max() * 0.51, (grid, name)
            assert batch.embeddings[place].equal(teachers.embedding(image))


def test_writing_goes_on_where_it_was_stopped(pictures, tmp_path):
    """Also after a crash that left more in a file than the index knows of."""
    write_features(tmp_path / "whole", [pictures], Stub(), views=2)
    write_features(tmp_path / "parts", [pictures], Stub(), views=1)
    for path in (tmp_path / "parts").glob("*.bin"):
        path.write_bytes(path.read_bytes() + b"torn")
    rest = Stub()
    write_features(tmp_path / "parts", [pictures], rest, views=2)
    assert rest.seen == 10
    whole, parts = FeatureCache(tmp_path / "whole"), FeatureCache(tmp_path / "parts")
    assert whole.views == parts.views
    for rows in whole.grids.values():
        a, b = whole.batch(rows), parts.batch(rows)
        assert all(a.maps[name].equal(b.maps[name]) for name in a.maps) and a.embeddings.equal(b.embeddings)


def test_batches_hold_one_grid_and_are_drawn_by_a_seed(pictures, tmp_path):
    write_features(tmp_path / "cache", [pictures], Stub(), views=2)
    cache = FeatureCache(tmp_path / "cache")
    first, again = (list(itertools.islice(cache.batches(2, seed=3), 6)) for _ in range(2))
    assert all(a.embeddings.equal(b.embeddings) for a, b in zip(first, again, strict=True))
    assert len({batch.maps["p4"].shape for batch in first}) > 1


def test_missing_features_are_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="write them first"):
        FeatureCache(tmp_path)


def test_a_view_is_the_same_whenever_it_is_asked_for():
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    assert View("a", 0).of(image) is image
    one, two = (View("a", 1).of(image) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert View("b", 1).of(image).size != one.size


@pytest.mark.parametrize(
    ("size", "shorter", "longer"),
    [
        ((640, 480), (288, 224), (448, 352)),
        ((480, 640), (224, 288), (352, 448)),
        ((100, 100), (224, 224), (448, 448)),
        ((4000, 100), (448, 224), (448, 32)),
        ((1, 1), (224, 224), (448, 448)),
    ],
)
def test_working_sizes(size, shorter, longer):
    """Multiples of 32, in proportion, and bounded however long an image is."""
    assert working_size(*size, shorter=224) == shorter
    assert working_size(*size, longer=448) == longer


def test_the_global_layer_starts_as_principal_components():
    """With as many channels as numbers nothing is lost; with fewer, what the classes do not see goes first."""
    torch.manual_seed(0)
    embeddings, weight = torch.randn(400, EMBEDDING) + 2, torch.randn(CLASSES, EMBEDDING)
    whole = GlobalLayer(EMBEDDING, (12, 12), hidden=8)
    start_global_layer(whole, embeddings, weight)
    back = whole.embedding(whole.g_a(embeddings)[..., None, None])
    assert torch.allclose(back, embeddings, atol=1e-2)
    few = GlobalLayer(EMBEDDING, (4, 5), hidden=8)
    start_global_layer(few, embeddings, weight)
    lost = few.embedding(few.g_a(embeddings)[..., None, None]) - embeddings
    logits = lost @ (weight - weight.mean(0)).T
    assert logits.square().mean() < 0.02 * lost.square().mean() * weight.square().sum(1).mean()


def test_the_spatial_layer_starts_as_principal_components():
    batches = [batch_of(4, seed=10 * i) for i in range(8)]
    layer, known = new_layers()[1], Statistics.of(batches)
    start_spatial_layer(layer, batches, known)
    batch = batch_of(3, seed=500)
    with torch.no_grad():
        y = layer.g_a(analysis_inputs(batch.maps))
        pyramid = layer.g_s(y, torch.zeros(3, 1, 1, 1), torch.zeros(3, 12, 1, 1))
    for name, found in zip(PYRAMID[:3], pyramid, strict=False):
        apart = (found - batch.maps[name]).square().mean() / batch.maps[name].var()
        assert apart < 0.35 if name == "p3" else apart < 0.6, (name, float(apart))


def test_the_spatial_loss_reaches_the_layer_and_the_probe_alone():
    layers = new_layers()
    loss = loss_of(layers)
    value, terms = loss(batch_of(3), 1000)
    value.backward()
    assert set(terms) == {"bytes", "features", "head", "segmentation"} and torch.isfinite(value)
    reached = {n for n, p in loss.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(n.startswith("layer.g_a") for n in reached) and any(n.startswith("probe") for n in reached)
    assert not any(n.startswith(("heads", "conditions")) for n in reached)


def test_a_head_that_hears_the_truth_has_nothing_to_say():
    """The loss of the head is zero where decoded features are the true ones, and above it elsewhere."""
    loss, batch = loss_of(new_layers()), batch_of(2)
    true = [batch.maps[name] for name in PYRAMID]
    with torch.no_grad():
        assert loss._head(true, batch.maps).abs().max() < 1e-5
        assert loss._head([2 * t + 1 for t in true], batch.maps).min() > 5e-5
        assert loss._features(true, batch.maps).max() == 0


def test_training_lowers_both_losses_and_leaves_what_is_frozen():
    embedding, spatial = new_layers()
    torch.manual_seed(0)
    embeddings, weight = torch.randn(200, EMBEDDING), torch.randn(CLASSES, EMBEDDING)
    start_global_layer(embedding, embeddings, weight)
    linear = embedding.g_a[0].weight.clone()
    loss = GlobalLoss(embedding, weight, torch.zeros(CLASSES), embeddings)
    frozen = [embedding.g_a, embedding.g_s]
    rows = list(fit(loss, embedding, itertools.repeat(embeddings), Fit(60, 5e-3, warmup=5, average=0.9, frozen=frozen)))
    assert rows[-1][0] == 60 and rows[-1][1]["bytes"] < rows[0][1]["bytes"]
    assert embedding.g_a[0].weight.equal(linear)
    batches = [batch_of(2, seed=i) for i in range(4)]
    spatial_loss = loss_of((embedding, spatial))
    done = list(fit(spatial_loss, spatial_loss, itertools.cycle(batches), Fit(40, 2e-3, warmup=5, average=0.9)))
    assert done[-1][1]["features"] < done[0][1]["features"]
