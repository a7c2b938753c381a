"""How the global and the spatial layer learn: features on the disk, starts, losses that reach what they should."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image
from torch import nn

from cdanalysis.codec.global_layer import GlobalLayer
from cdanalysis.codec.spatial_layer import SpatialLayer, analysis_inputs
from cdanalysis.data.images import ImageSet
from cdanalysis.heads.nanodet import NanoDet
from cdanalysis.model import Model
from cdanalysis.notices import InputWarning, collected
from cdanalysis.structures.latents import working_size
from cdanalysis.teachers import DeepLab
from cdanalysis.training.recipe import Recipe, StageConfig
from cdanalysis.training.semantic_layers import (
    PYRAMID,
    SegmentationProbe,
    SpatialLoss,
    Statistics,
    start_global_layer,
    start_spatial_layer,
)  # fmt: skip
from cdanalysis.training.stages import layer_of
from cdanalysis.training.teacher_features import (
    FeatureBatch,
    FeatureCache,
    FeatureConfig,
    Seen,
    Teachers,
    View,
    cached_features,
    write_features,
)  # fmt: skip
from cdanalysis.training.trainer import Trainer

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
    return SpatialLoss(
        layers[1], SegmentationProbe((4,) * 3, EMBEDDING, 3, width=8), layers[0], NanoDet((4,) * 4, 5), known
    )


class Stub:
    """Teachers whose features are a function of the image's first pixel."""

    def __init__(self, maps: bool = True):
        self.looked, self.maps = 0, maps

    def key(self) -> str:
        return f"stub{self.maps}"

    def see(self, image) -> Seen:
        self.looked += 1
        height, width = working_size(image.height, image.width, longer=128)
        first = image.getpixel((0, 0))[0]
        maps = maps_of(first, height // 16, width // 16) if self.maps else {}
        return Seen(torch.full((EMBEDDING,), first / 8), maps)


@pytest.fixture
def pictures(tmp_path):
    for number in range(10):
        array = np.full((60, 100 if number % 3 else 40, 3), 10 * number, np.uint8)
        Image.fromarray(array).save(tmp_path / f"{number}.png")
    return ImageSet(tmp_path)


@pytest.mark.parametrize("maps", [True, False])
def test_features_come_back_as_they_were_written(pictures, tmp_path, maps):
    teachers = Stub(maps)
    write_features(tmp_path / "cache", [pictures], teachers, views=2)
    cache = FeatureCache(tmp_path / "cache")
    assert len(cache) == 20 and {view.number for view in cache.views[:10]} == {0}
    for grid, rows in cache.grids.items():
        batch = cache.batch(rows)
        for place, number in enumerate(rows):
            view = cache.views[number]
            image = view.of(pictures.named(view.name))
            seen = teachers.see(image)
            assert set(batch.maps) == set(seen.maps)
            for name, value in seen.maps.items():
                assert (batch.maps[name][place] - value).abs().max() <= cache.scales[name].max() * 0.51, (grid, name)
            assert batch.embeddings[place].equal(seen.embedding)


def test_writing_goes_on_where_it_was_stopped(pictures, tmp_path):
    """Also after a crash that left more in a file than the index knows of."""
    write_features(tmp_path / "whole", [pictures], Stub(), views=2)
    write_features(tmp_path / "parts", [pictures], Stub(), views=1)
    for path in (tmp_path / "parts").glob("*.bin"):
        path.write_bytes(path.read_bytes() + b"torn")
    rest = Stub()
    write_features(tmp_path / "parts", [pictures], rest, views=2)
    assert rest.looked == 10
    write_features(tmp_path / "parts", [pictures], rest, views=2)
    assert rest.looked == 10, "all is there"
    whole, parts = FeatureCache(tmp_path / "whole"), FeatureCache(tmp_path / "parts")
    assert whole.views == parts.views
    for rows in whole.grids.values():
        a, b = whole.batch(rows), parts.batch(rows)
        assert all(a.maps[name].equal(b.maps[name]) for name in a.maps) and a.embeddings.equal(b.embeddings)


def test_many_images_that_cannot_be_read_before_the_first_that_can_stop_nothing(pictures, tmp_path):
    write_features(tmp_path / "whole", [pictures], Stub(), views=1)
    order = [view.name for view in FeatureCache(tmp_path / "whole").views]
    for name in order[:6]:
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.warns(InputWarning, match="left out"):
        write_features(tmp_path / "cache", [ImageSet(tmp_path)], Stub(), views=1, every=3)
    cache = FeatureCache(tmp_path / "cache")
    assert [view.name for view in cache.views] == order[6:] and len(cache.left_out) == 6


@pytest.mark.parametrize("left", [b"", b"cut", None])
@pytest.mark.parametrize("kind", ["*.bin", "index.pt"])
def test_damaged_features_are_written_again(pictures, tmp_path, kind, left):
    write_features(tmp_path / "cache", [pictures], Stub(), views=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "cache").glob("*.bin")}
    path = sorted((tmp_path / "cache").glob(kind))[0]
    path.write_bytes(path.read_bytes()[:-9] if left is None else left)
    write_features(tmp_path / "cache", [pictures], Stub(), views=2)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "cache").glob("*.bin")}
    assert FeatureCache(tmp_path / "cache").is_whole()


@pytest.mark.parametrize("bad", [["3.png"], ["0.png", "7.png", "9.png"]])
def test_what_cannot_be_read_is_left_out_and_told(pictures, tmp_path, bad):
    """Wherever writing is stopped."""
    for name in bad:
        (pictures.root / name).write_bytes(b"no picture")
    with collected() as told:
        write_features(tmp_path / "parts", [pictures], Stub(), views=1)
        write_features(tmp_path / "parts", [pictures], Stub(), views=2)
    assert len(told) == len(bad) and all(any(name in text for text in told) for name in bad)
    write_features(tmp_path / "whole", [pictures], Stub(), views=2)
    whole, parts, rest = FeatureCache(tmp_path / "whole"), FeatureCache(tmp_path / "parts"), Stub()
    assert whole.views == parts.views and {view.name for view in whole.views} == set(pictures.names) - set(bad)
    assert whole.unreadable == parts.unreadable and len(whole.unreadable) == len(bad)
    write_features(tmp_path / "parts", [pictures], rest, views=2)
    assert rest.looked == 0, "all is there"


def test_images_that_all_cannot_be_read_are_refused(pictures, tmp_path):
    for name in pictures.names:
        (pictures.root / name).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"teachers can read none of the images; error of the first: .*\.png"):
        write_features(tmp_path / "cache", [pictures], Stub(), views=2)


def test_batches_hold_one_grid_and_are_a_function_of_a_seed(pictures, tmp_path):
    write_features(tmp_path / "cache", [pictures], Stub(), views=2)
    cache = FeatureCache(tmp_path / "cache")
    first, again = ([cache.drawn(2, f"3/{step}") for step in range(60)] for _ in range(2))
    assert first == again != [cache.drawn(2, f"4/{step}") for step in range(60)]
    assert {cache.batch(rows).maps["p4"].shape[-2:] for rows in first} == set(cache.grids) and len(cache.grids) > 2
    assert {len(cache.drawn(1000, str(step))) for step in range(60)} == {len(r) for r in cache.grids.values()}


def test_a_cache_belongs_to_its_images_views_and_teachers(pictures, tmp_path):
    """What was written for others is neither used nor overwritten."""
    config, teachers = FeatureConfig([str(pictures.root)], views=1), Stub()
    for changed, looked in ((config, 20), (config, 20), (replace(config, views=2), 50)):
        cached_features(tmp_path / "cache", changed, teachers)
        assert teachers.looked == looked  # the first 64 are seen twice: their spread gives the scales
    cached_features(tmp_path / "cache", config, Stub(False))
    Image.new("RGB", (60, 60)).save(pictures.root / "0.png")
    cached_features(tmp_path / "cache", config, teachers)
    assert teachers.looked == 70 and len(list((tmp_path / "cache").iterdir())) == 4


def test_teachers_see_what_the_codec_will(small, chelsea):
    """What is learned from is what is encoded: embedding and pyramid of `LayeredCodec.teachers_see`."""
    image = Image.fromarray(chelsea)
    seen = Teachers(small.codec).see(image)
    features = small.reference.features([image])
    assert seen.embedding.equal(features.embedding[0])
    assert all(seen.maps[name].equal(level[0]) for name, level in zip(PYRAMID, features.pyramid, strict=True))
    assert Teachers(small.codec, maps=False).see(image).maps == {}
    assert Teachers(small.codec).key() == Teachers(small.codec).key() != Teachers(small.codec, False).key()


def test_missing_features_are_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="write them first"):
        FeatureCache(tmp_path)


def test_a_view_is_the_same_whenever_it_is_asked_for():
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    assert View("a", 0).of(image) is image
    one, two = (View("a", 1).of(image) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert View("b", 1).of(image).size != one.size


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
        y = layer.g_a(analysis_inputs(batch.detected()))
        pyramid = layer.g_s(y, torch.zeros(3, 1, 1, 1), torch.zeros(3, 12, 1, 1))
    for name, found in zip(PYRAMID[:3], pyramid, strict=False):
        apart = (found - batch.maps[name]).square().mean() / batch.maps[name].var()
        assert apart < 0.35 if name == "p3" else apart < 0.6, (name, float(apart))


def test_the_spatial_loss_reaches_the_layer_and_the_probe_alone():
    layers = new_layers()
    loss = loss_of(layers)
    value, terms = loss(batch_of(3), 1000)
    value.backward()
    assert set(terms) == {"bytes", "features", "head", "segmentation", "loss"} and torch.isfinite(value)
    reached = {n for n, p in loss.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(n.startswith("layer.g_a") for n in reached) and any(n.startswith("probe") for n in reached)
    assert not any(n.startswith(("head", "conditions")) for n in reached)


def test_features_that_are_the_true_ones_cost_nothing():
    loss, batch = loss_of(new_layers()), batch_of(2)
    true = [batch.maps[name] for name in PYRAMID]
    with torch.no_grad():
        assert loss.head.distance(true, true).abs().max() < 1e-5
        assert loss.head.distance([2 * t + 1 for t in true], true).min() > 5e-5
        assert loss._features(true, batch.maps).max() == 0


def test_a_start_needs_room():
    spatial = SpatialLayer((4, 9, 10), (20, 20, 20), 12, channels=8, hidden=32, depth=1, context=8)
    with pytest.raises(ValueError, match="spatial_hidden must be at least 40, got 32"):
        start_spatial_layer(spatial, [batch_of(2)], Statistics.of([batch_of(2)]))
    with pytest.raises(ValueError, match="global_groups must add up to at most 24, got 32"):
        start_global_layer(GlobalLayer(EMBEDDING, (8, 24), 8), torch.randn(5, EMBEDDING), torch.randn(9, EMBEDDING))


# -- stages ------------------------------------------------------------------------------------

CODEC = replace(SMALL, spatial_hidden=192, spatial_channels=16)
LEARNED = ("context", "gain", "inverse_gain")


def recipe_for(pictures, **changes) -> Recipe:
    """A stage of each layer; the global layer's transforms stay as they start."""
    features = FeatureConfig([str(pictures.root)], views=2)
    features.spatial.segmentation = 0.0
    common = {"features": features, "batch": 3, "warmup": 1, "steps": 3, "lr": 1e-3, "average": 0.5, **changes}
    stages = [
        StageConfig("global", [f"codec.global_layer.{part}" for part in LEARNED], **common),
        StageConfig("spatial", ["codec.spatial"], rate_warmup=2, **common),
    ]
    return Recipe(name="semantic", codec=CODEC, stages=stages, precision="32-true")


def new_model() -> Model:
    torch.manual_seed(0)
    return Model(CODEC, {"classification": {"classes": ["cat", "dog"]}})


def trained(folder, recipe, **run) -> Trainer:
    trainer = Trainer(recipe, folder, new_model())
    trainer.run(**run)
    return trainer


@pytest.fixture
def photographs(tmp_path, chelsea):
    (tmp_path / "photographs").mkdir()
    for number in range(6):
        part = chelsea[20 * number :, 30 * number :][:160, : 160 if number % 2 else 240]
        Image.fromarray(part).save(tmp_path / "photographs" / f"{number}.png")
    return ImageSet(tmp_path / "photographs")


def test_stages_on_features_resume_to_the_bit_and_move_what_they_name(photographs, tmp_path):
    recipe = recipe_for(photographs)
    whole, before = trained(tmp_path / "whole", recipe), new_model().state_dict()
    for stop in (1, 3):  # in the midst of a stage, and behind one; the cache is that of the first time
        trained(tmp_path / "parts", recipe, stop_after=stop, resume=(tmp_path / "parts").exists())
    parts = trained(tmp_path / "parts", recipe, resume=True)
    states = whole.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(*pair) for pair in zip(*(s.values() for s in states), strict=True))
    moved = {name for name, tensor in states[0].items() if not torch.equal(tensor.half(), before[name].half())}
    allowed = ("codec.global_layer", "codec.spatial", "codec.detail.prior.table")
    assert all(name.startswith(allowed) for name in moved)
    assert any("global_layer.context" in name for name in moved) and any("spatial.context" in name for name in moved)
    model = new_model()
    centers = whole.model.codec.global_layer.g_s[1].bias
    images = [photographs.image(i) for i in range(len(photographs))]
    seen = torch.cat([model.reference.features([image], 1).embedding for image in images])
    assert torch.allclose(centers, seen.mean(0), rtol=1e-2, atol=1e-3), "principal components stay as they start"
    assert len(list((tmp_path / "whole" / "features").iterdir())) == 2, "maps are kept for the spatial layer alone"


def repainted(folder):
    Image.new("RGB", (160, 160), "red").save(folder / "3.png")


def fewer(folder):
    (folder / "3.png").unlink()


def renamed(folder):
    (folder / "3.png").rename(folder / "9.png")


@pytest.mark.parametrize("change", [repainted, fewer, renamed])
@pytest.mark.parametrize("stop", [1, 4])
def test_a_stage_on_features_does_not_go_on_with_other_images(photographs, tmp_path, change, stop):
    recipe = recipe_for(photographs)
    trained(tmp_path / "run", recipe, stop_after=stop)
    change(photographs.root)
    with pytest.raises(ValueError, match=r"the data of stage .* are others than when the run was stopped"):
        trained(tmp_path / "run", recipe, resume=True)


def test_a_stage_on_features_tells_what_it_left_out(photographs, tmp_path):
    (photographs.root / "bad.png").write_bytes(b"no picture")
    trainer = trained(tmp_path / "run", recipe_for(photographs))
    assert len(trainer.unreadable) == 1 and "bad.png" in next(iter(trainer.unreadable))


def test_training_lowers_both_losses(photographs, tmp_path, monkeypatch):
    """The spatial layer also listens to a segmenter, by a probe that learns along and is gone in the end."""
    monkeypatch.setattr("cdanalysis.training.teacher_features.SEGMENTER_SIDE", 65)
    monkeypatch.setattr(DeepLab, "load", lambda self: self)
    monkeypatch.setattr("cdanalysis.training.stages.data_path", lambda name: name)
    recipe, history = recipe_for(photographs, steps=20, lr=3e-3), []
    for stage in recipe.stages:
        stage.features = FeatureConfig([str(photographs.root)], views=1)
    recipe.stages[0].steps, recipe.stages[0].batch, recipe.stages[0].lr = 60, 6, 1e-2
    original = Trainer._train_step
    monkeypatch.setattr(Trainer, "_train_step", lambda *a: history.append(original(*a)) or history[-1])
    trainer = trained(tmp_path / "run", recipe)
    parts = history[:60], history[60:]
    for part, names in zip(parts, (["loss"], ["loss", "features", "segmentation"]), strict=True):
        first, last = ({n: np.mean([h[n] for h in rows]) for n in part[0]} for rows in (part[:8], part[-8:]))
        assert all(last[name] < first[name] for name in names), (first, last)
    assert trainer.skipped == 0 and not any("probe" in name for name in trainer.model.state_dict())


def test_what_starts_as_principal_components_is_not_left_as_it_was_drawn(photographs, tmp_path, monkeypatch):
    """A new model may keep the global layer's transforms; the detail layer is another matter."""
    monkeypatch.setattr("cdanalysis.training.trainer.load_pretrained", lambda model: None)
    recipe = recipe_for(photographs)
    for start, part in ((True, "codec.detail"), (False, "codec.global_layer")):
        recipe.stages[0].features = replace(recipe.stages[0].features, start=start)
        with pytest.raises(ValueError, match=f"would leave {part} untrained"):
            Trainer(recipe, tmp_path / "run").run()


@pytest.mark.parametrize("trains", [["codec"], ["codec.spatial", "codec.detail"], [], ["codec.spatials"], ["heads"]])
def test_a_stage_on_features_trains_one_layer(trains):
    with pytest.raises(ValueError, match=r"codec\.global_layer or codec\.spatial is trained, and it alone"):
        layer_of(StageConfig("x", trains, features=FeatureConfig()))
