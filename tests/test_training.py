"""Training: recipes, exact resumption, what moves and what stands still, heads on cached streams."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, new_small_model
from PIL import Image, ImageOps

import cdanalysis as cda
from cdanalysis.codec.gains import log_interpolate
from cdanalysis.data.crops import Source
from cdanalysis.data.labeled import LabeledSource
from cdanalysis.heads.classification import ClassificationHead, divergence, fit_temperature
from cdanalysis.model import Model
from cdanalysis.registry import HEADS
from cdanalysis.structures.features import Features, FeatureSpec
from cdanalysis.structures.latents import LAYERS
from cdanalysis.teachers.imagenet import imagenet_classes, imagenet_classifier
from cdanalysis.teachers.nanodet import NanoDetPlus
from cdanalysis.training.auxiliary import CropBatch
from cdanalysis.training.distortion import ObserverConfig, WeightedDistortion
from cdanalysis.training.head_data import Examples, open_sets
from cdanalysis.training.heads import prepare_head
from cdanalysis.training.losses import StageLoss
from cdanalysis.training.objective import FLOOR, feature_distance
from cdanalysis.training.pretrained import load_pretrained
from cdanalysis.training.recipe import HeadConfig, Recipe, StageConfig, load_recipe
from cdanalysis.training.trainer import Trainer, learning_rate
from cdanalysis.zoo import load, round_weights

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
PHOTO = next(path for path in CONFIGS if path.stem == "photo")


def recipe_for(folder, steps=(3, 3), **changes) -> Recipe:
    sources = [Source(path=str(folder))]
    common = {"sources": sources, "batch": 2, "crop": 64, "warmup": 1}
    stages = [
        StageConfig("semantic", ["codec.global_layer", "codec.spatial"], steps=steps[0], rate_warmup=2, **common),
        StageConfig("detail", ["codec.detail", "codec.synthesis"], steps=steps[1], **common),
    ]
    return Recipe(name="tiny", codec=SMALL, stages=stages, precision="32-true", workers=0, **changes)


def train(folder, recipe, **run) -> tuple[Trainer, bool]:
    trainer = Trainer(recipe, folder, new_small_model())
    return trainer, trainer.run(**run)


def same_weights(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(image_folder, tmp_path, stop):
    recipe = recipe_for(image_folder)
    whole, finished = train(tmp_path / "whole", recipe)
    assert finished
    _, finished = train(tmp_path / "pieces", recipe, stop_after=stop)
    assert not finished
    pieces, finished = train(tmp_path / "pieces", recipe, resume=True)
    assert finished and same_weights(whole.model, pieces.model)
    assert load(tmp_path / "whole" / "model").fingerprint == load(tmp_path / "pieces" / "model").fingerprint


def test_only_what_a_stage_names_moves(image_folder, tmp_path):
    start = new_small_model()
    round_weights(start)  # as the trained model's are at the end
    before = start.state_dict()
    trainer, _ = train(tmp_path, recipe_for(image_folder, steps=(0, 2)))
    for name, tensor in trainer.model.state_dict().items():
        moved = not torch.equal(tensor, before[name])
        may_move = name.startswith(("codec.detail", "codec.synthesis"))
        assert moved <= may_move, name
    assert any(not torch.equal(t, before[n]) for n, t in trainer.model.state_dict().items())


def test_what_is_not_finite_is_skipped_and_counted(image_folder, tmp_path, monkeypatch):
    original = StageLoss.forward

    def sometimes_nan(self, x, step):
        loss, terms = original(self, x, step)
        return (loss * math.nan, terms) if step == 1 else (loss, terms)

    monkeypatch.setattr(StageLoss, "forward", sometimes_nan)
    trainer, finished = train(tmp_path, recipe_for(image_folder))
    assert finished and trainer.skipped == 2
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_a_foreign_checkpoint_is_refused(image_folder, tmp_path):
    train(tmp_path, recipe_for(image_folder), stop_after=2)
    with pytest.raises(ValueError, match="another recipe"):
        train(tmp_path, recipe_for(image_folder, seed=1), resume=True)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        train(tmp_path / "elsewhere", recipe_for(image_folder), resume=True)


def test_a_stage_that_trains_nothing_is_refused(image_folder, tmp_path):
    recipe = recipe_for(image_folder)
    recipe.stages[0].trains = ["nonsense"]
    with pytest.raises(ValueError, match="trains nothing"):
        train(tmp_path, recipe)


def test_every_term_falls_on_drawn_pictures(tmp_path):
    """The real thing in small: all layers learn."""
    rng = np.random.default_rng(0)
    for i in range(6):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((96, 96), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.png")
    recipe = recipe_for(tmp_path, steps=(50, 70))
    for stage in recipe.stages:
        stage.lr, stage.batch, stage.warmup, stage.rate_warmup = 3e-3, 4, 10, 0
    trainer = Trainer(recipe, tmp_path / "run", new_small_model())
    x = torch.stack(
        [torch.from_numpy(np.asarray(Image.open(tmp_path / f"{i}.png"))[:64, :64].copy()) for i in range(6)]
    )
    x = x.permute(0, 3, 1, 2)

    def terms() -> dict[str, float]:
        found = {}
        for stage in recipe.stages:
            torch.manual_seed(5)
            with torch.no_grad():
                loss, parts = StageLoss(trainer.model, stage)(CropBatch(x), 10**6)
            found |= {f"{stage.name} {name}": float(value) for name, value in {**parts, "loss": loss}.items()}
        return found

    before = terms()
    trainer.run()
    trainer.model.train()
    after = terms()
    assert after["semantic loss"] < 0.8 * before["semantic loss"]
    assert after["semantic features"] < before["semantic features"]
    assert after["semantic bytes"] < before["semantic bytes"]
    assert after["detail bpp_detail"] < before["detail bpp_detail"]
    assert after["detail psnr"] > before["detail psnr"] + 3


def test_the_detail_loss_is_its_formula(chelsea):
    """Rate and lambda times 255^2 times the squared error, over the root of lambda by its middle."""
    stage = StageConfig("detail", ["codec.detail"], varied=0.0)
    stage.objective.lambdas = [0.002, 0.02]
    x = torch.from_numpy(chelsea[:64, :96].copy()).permute(2, 0, 1)[None]
    loss_of = StageLoss(new_small_model(), stage)
    torch.manual_seed(3)
    loss, terms = loss_of(CropBatch(x), 0)
    torch.manual_seed(3)
    lam = log_interpolate([0.002, 0.02], torch.rand(1, 1, 1, 1)).item()
    mse = 10 ** (-terms["psnr"].item() / 10)
    expected = (terms["bpp_detail"].item() + lam * 255**2 * mse) / math.sqrt(lam / math.sqrt(0.002 * 0.02))
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_panel_weighs_its_observers(chelsea):
    x = torch.from_numpy(chelsea[:192, :192].copy()).permute(2, 0, 1)[None].float() / 255
    y = (x + 0.05 * torch.randn_like(x)).clamp(0, 1).requires_grad_()
    configs = [
        ObserverConfig("mse", 2.0),
        ObserverConfig("ms_ssim", 0.5, "human"),
        ObserverConfig("features", 0.1, "machine", layers=["blocks.1"]),
    ]
    for alpha, names in ((0.0, ["mse", "ms_ssim"]), (0.25, ["mse", "ms_ssim", "features"]), (1.0, ["mse", "features"])):
        total, each = WeightedDistortion(configs, alpha)(x, y, None)
        assert list(each) == names
        counts = {"mse": 2.0, "ms_ssim": 0.5 * (1 - alpha), "features": 0.1 * alpha}
        assert total.item() == pytest.approx(sum(counts[n] * each[n].item() for n in names))
    total.sum().backward()
    assert y.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_panel_looks_in_single_precision(chelsea, dtype):
    x = torch.from_numpy(chelsea[:192, :192].copy()).permute(2, 0, 1)[None].float() / 255
    y = (x + 0.05 * torch.randn_like(x)).clamp(0, 1).to(dtype)
    panel = WeightedDistortion(
        [ObserverConfig("mse"), ObserverConfig("ms_ssim"), ObserverConfig("features", layers=["blocks.1"])]
    )
    expected = panel(x, y.float(), None)[1]
    with torch.autocast("cpu", torch.bfloat16):
        for name, distortion in panel(x, y, None)[1].items():
            assert distortion.dtype == torch.float32
            assert distortion.item() == expected[name].item()


@pytest.mark.parametrize(
    ("configs", "alpha", "says"),
    [
        ([], 0.5, "no observer"),
        ([ObserverConfig(side="human")], 1.0, "no observer"),
        ([ObserverConfig(side="alien")], 0.5, "both, human, machine"),
        (
            [ObserverConfig("sharpness")],
            0.5,
            "unit_features, wasserstein, low_pass, texture, checkerboard, adversarial",
        ),
        ([ObserverConfig("adversarial", loss="earth")], 0.5, "hinge, non_saturating"),
        ([ObserverConfig()], 1.5, "alpha must be in"),
        ([ObserverConfig("features", layers=["fc"])], 0.5, "no layer 'fc'"),
    ],
)
def test_impossible_panels_are_refused(configs, alpha, says):
    with pytest.raises(ValueError, match=says):
        WeightedDistortion(configs, alpha)


def test_a_stage_may_ask_other_observers(image_folder, tmp_path):
    recipe = recipe_for(image_folder, steps=(1, 3))
    recipe.stages[1].crop = 192
    recipe.stages[1].objective.observers = [
        ObserverConfig("ms_ssim", 0.02, "human"), ObserverConfig("features", 0.01, "machine", layers=["blocks.2"]),
    ]  # fmt: skip
    trainer, finished = train(tmp_path, recipe)
    assert finished and trainer.skipped == 0


def test_the_learning_rate_warms_up_and_decays():
    stage = StageConfig("s", warmup=10, lr=1.0)
    rates = [learning_rate(stage, step, 100) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[9] == pytest.approx(1.0) and rates[-1] < 0.02
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_objective_terms_have_known_values():
    quality = torch.tensor([0.0, 0.5, 1.0])
    assert log_interpolate([0.01, 1.0], quality).tolist() == pytest.approx([0.01, 0.1, 1.0])
    features = [torch.randn(4, 3, 8, 8)]
    assert feature_distance(features, features, [1.0]).abs().max() == 0
    mean = [features[0].mean((0, 2, 3), keepdim=True).expand_as(features[0])]
    assert float(feature_distance(mean, features, [1.0]).mean()) == pytest.approx(1 / (1 + FLOOR**2), rel=0.05)
    near_dead = torch.tensor([1e-9, 1.0, 1.0])[:, None, None] * features[0]
    apart = near_dead + 0.1 * torch.tensor([1.0, 0, 0])[:, None, None]  # counts by the others' spread, not its own
    assert float(feature_distance([apart], [near_dead], [1.0]).mean()) == pytest.approx(0.01 / FLOOR**2 / 3, rel=0.2)
    logits = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(divergence(*logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_recipes_that_ship_load(path):
    recipe = load_recipe(path)
    assert recipe.name and load_recipe(path, ["preset=quick", "seed=3"]).seed == 3


def test_recipe_overrides_reach_stages_and_lists():
    recipe = load_recipe(PHOTO, ["stages.pixels.steps=7", "codec.width=64"])
    assert [s.steps for s in recipe.stages if s.name == "pixels"] == [7] and recipe.codec.width == 64
    assert load_recipe(PHOTO, ["preset=quick"]).stages[0].steps < recipe.stages[0].steps


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sed=1"], "unknown key 'sed'; the nearest known one is 'seed'"),
        (["codec.widht=3"], "the nearest known one is 'width'"),
        (["stages.pixel.steps=3"], "unknown stage 'pixel'; the nearest known one is 'pixels'"),
        (["stages.pixels.stepz=3"], "the nearest known one is 'steps'"),
        (["seed=many"], "seed"),
        (["preset=slow"], "no preset 'slow'; it has: quick"),
    ],
)
def test_bad_recipes_say_what_is_wrong(words, says):
    with pytest.raises(ValueError, match=r".+") as caught:
        load_recipe(PHOTO, words)
    assert says in str(caught.value)


def test_recipes_that_are_none_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_recipe(tmp_path / "none.yaml")
    for text in ("- a\n- b\n", "a: [b\n"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.yaml"):
            load_recipe(tmp_path / "bad.yaml")


def test_the_reference_is_the_pretrained_classifier(monkeypatch, chelsea):
    """Embedding and head, folded and split, still are timm's classifier."""
    monkeypatch.setattr(NanoDetPlus, "load", lambda self: self)
    net = imagenet_classifier("tf_efficientnet_lite0")
    codec = replace(SMALL, classifier="tf_efficientnet_lite0", global_size=224)
    model = Model(codec, {"classification": {"classes": imagenet_classes()}}).eval()
    load_pretrained(model)
    image = chelsea[:224, :224].copy()
    with torch.inference_mode():
        x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        ours, theirs = model.reference.logits([image]), net(2 * x - 1)
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_temperature_calibrates():
    torch.manual_seed(0)
    logits = 2 * torch.randn(4000, 5)
    targets = torch.distributions.Categorical(logits=logits).sample()
    assert fit_temperature(3 * logits, targets) == pytest.approx(3.0, rel=0.06)


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("right", [0, 1, 2])
def test_a_temperature_is_a_number_however_few_photographs_there_are(scale, right):
    """Of two photographs none, one or both are classified rightly: there may be no best temperature."""
    logits = scale * torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    temperature = fit_temperature(logits, torch.tensor([int(right < 1), int(right < 2)]))
    assert 0.0099 < temperature < 100.1 and torch.tensor(temperature).half().isfinite()


def head_stage(folder, trains, batch=4, lr=0.01, **head) -> StageConfig:
    config = HeadConfig("classification", [LabeledSource(str(folder))], **head)
    return StageConfig("head", trains, head=config, batch=batch, lr=lr, warmup=1)


def test_a_head_learns_from_cached_streams(image_folder, tmp_path, small_folder):
    """From class folders to a model that tells the classes apart, through streams on disk."""
    stage = head_stage(image_folder, ["heads.classification"], qualities=[0.5, 0.7], epochs=60, holdout=4)
    recipe = Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true")
    assert Trainer(recipe, tmp_path / "run").run()
    model = load(tmp_path / "run" / "model")
    assert model.heads["classification"].classes == ["cat", "dog"] and model.name == "pets"
    assert model.fingerprint == load(small_folder).fingerprint, "heads do not change the streams"
    streams = sorted((tmp_path / "run" / "streams").rglob("*.cda"))
    assert len(streams) == 2 * 3 and not any(path.name.startswith("a.png") for path in streams), (
        "every fourth is held out"
    )
    labels = [model.analyze(path.read_bytes()).classification.label for path in streams]
    assert labels == [path.parent.name for path in streams]


def test_examples_are_those_asked_for(image_folder, tmp_path, small):
    """Mirror images are encoded like any other; what is held out or passed over is not there."""

    def examples(**options):
        config = HeadConfig("classification", [LabeledSource(str(image_folder))], **options)
        return Examples(small, config, tmp_path)

    assert len(examples()) == 4 and len(examples(every=2)) == 2 and len(examples(holdout=2)) == 2
    both = examples(flip=True, qualities=[0.3, 0.6])
    assert len(both) == 16
    path = sorted(image_folder.rglob("*.png"))[1]
    mirrored = small.encode(ImageOps.mirror(Image.open(path).convert("RGB")), 0.3, layers=("global",))
    cached = list(tmp_path.rglob(f"0.3/{path.parent.name}/{path.name}.flip-*.cda"))
    assert [c.read_bytes() for c in cached] == [mirrored]
    batch = examples(input="features").batch([0, 1], torch.device("cpu"))
    images = [Image.open(path) for path in sorted(image_folder.rglob("*.png"))[:2]]
    seen = small.reference.features(images, 1).embedding
    assert torch.allclose(batch.features.embedding, seen, rtol=1e-3, atol=1e-6)
    assert batch.targets == [0, 0] and batch.teacher is None and not batch.features.pyramid


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_examples_are_what_a_stream_tells_and_targets_follow_the_working_size(world, tmp_path, small, task):
    """Boxes and label maps are enlarged as the image was; features are those of the stream; batches have one size."""
    wide = Image.open(world / "pixels" / "images" / "0.png").resize((192, 96))
    sources = {
        "detection": LabeledSource(str(world / "pixels" / "images"), str(world / "boxes.json")),
        "segmentation": LabeledSource(str(world / "pixels")),
    }
    if task == "segmentation":  # a photograph of another shape
        wide.save(world / "pixels" / "images" / "0.png")
        labels = Image.open(world / "pixels" / "labels" / "0.png").resize((192, 96), Image.Resampling.NEAREST)
        labels.save(world / "pixels" / "labels" / "0.png")
    config = HeadConfig(task, [sources[task]], qualities=[0.4], flip=True, distill=1.0)
    examples = Examples(small, config, tmp_path / "streams")
    assert len(examples) == 12
    for rows in examples.batches(4):
        batch = examples.batch(rows, torch.device("cpu"))
        height, width = batch.features.working
        assert batch.features.embedding.dtype == torch.float32 and len(batch.teacher) == len(rows)
        assert batch.teacher.pyramid[1].shape == batch.features.pyramid[1].shape
        for target in batch.targets:
            if task == "segmentation":
                assert tuple(target.labels.shape) == (height, width)
            else:
                across, down = (target.boxes[0, 2:] - target.boxes[0, :2]).tolist()
                assert (across, down) == pytest.approx((40 * width / 96, 44 * height / 96))
    if task == "segmentation":
        assert {examples.batch(rows, torch.device("cpu")).features.working for rows in examples.batches(4)} == {
            (64, 96), (96, 96)
        }  # fmt: skip
    stream = sorted((tmp_path / "streams").rglob("1.png-*.cda"))[0]
    told = small.features(stream, ("global", "spatial"))
    features = [row.features.to(torch.float32) for row in examples.rows[:6]]
    assert sum(torch.allclose(f.embedding, told.embedding, rtol=1e-2, atol=1e-3) for f in features) >= 1
    same = [f for f in features if f.working == told.working]
    assert any(torch.allclose(f.pyramid[1], told.pyramid[1], rtol=1e-2, atol=1e-2) for f in same)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_head_equals_an_unbroken_one_to_the_bit(image_folder, tmp_path, small_folder, stop):
    stage = head_stage(image_folder, ["heads.classification"], batch=2, epochs=2, flip=True)
    recipe = Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true")
    whole, pieces = Trainer(recipe, tmp_path / "whole"), Trainer(recipe, tmp_path / "pieces")
    assert whole.run() and not pieces.run(stop_after=stop)
    pieces = Trainer(recipe, tmp_path / "pieces")
    assert pieces.run(resume=True) and same_weights(whole.model, pieces.model)


def test_a_kept_head_learns_and_feels_the_pull_of_what_it_was(image_folder, tmp_path, small_folder):
    """Classes stay, only what is named moves; what the head was is distilled, and is no counterpart to compare with."""
    moved, before = {}, load(small_folder)
    for distill in (0.0, 100.0):
        stage = head_stage(image_folder, ["heads"], 2, 1e-2, classes="keep", epochs=5, distill=distill)
        recipe = Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true")
        trainer = Trainer(recipe, tmp_path / f"{distill}")
        assert not trainer.run(stop_after=1)
        assert same_weights(trainer.model.counterparts["classification"], before.heads["classification"])
        assert trainer.run(resume=True)
        assert trainer.model.heads["classification"].classes == ["cat", "dog", "cup"]
        assert same_weights(trainer.model.codec, before.codec)
        assert not load(tmp_path / f"{distill}" / "model", counterparts=True).counterparts
        weight = trainer.model.heads["classification"].classify.weight
        moved[distill] = (weight - before.heads["classification"].classify.weight).norm().item()
    assert moved[0.0] > moved[100.0] > 0


class DetailHead(ClassificationHead):
    """Classifies by the means of the detail layer alone."""

    layers = LAYERS

    def __init__(self, spec, classes):
        super().__init__(replace(spec, embedding=spec.detail), classes)

    def forward(self, features):
        return self.classify(features.detail.mean((2, 3)))


def test_a_head_can_learn_from_all_layers(image_folder, tmp_path, small_folder, monkeypatch):
    monkeypatch.setitem(HEADS._registered, "looks", DetailHead)
    stage = head_stage(image_folder, ["heads.looks"], epochs=40)
    stage.head.task, stage.head.sources[0].reader = "looks", "classification"
    recipe = Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true")
    assert Trainer(recipe, tmp_path).run()
    model, streams = load(tmp_path / "model"), sorted((tmp_path / "streams").rglob("*.cda"))
    assert all(len(cda.inspect(path).layers) == 3 for path in streams)
    assert [model.analyze(path, "looks").looks.label for path in streams] == [path.parent.name for path in streams]
    for change in ({"distill": 1.0}, {"input": "features"}):
        with pytest.raises(ValueError, match="no teacher sees the detail layer"):
            open_sets(replace(stage.head, **change))


@pytest.mark.parametrize(
    ("source", "says"), [("streams", "a classification counterpart of"), ("features", "on streams")]
)
def test_what_is_distilled_must_be_there(image_folder, small, source, says):
    """A new head that has no counterpart of its classes cannot be compared with one."""
    config = HeadConfig("classification", [LabeledSource(str(image_folder))], distill=1.0, input=source)
    with pytest.raises(ValueError, match=says):
        prepare_head(copy.deepcopy(small), config, open_sets(config)[0].classes)


@pytest.mark.parametrize(
    ("trains", "source"),
    [
        (["codec.spatial", "heads"], "streams"),
        (["codec"], "streams"),
        (["counterparts"], "streams"),
        (["heads"], "features"),
    ],
)
def test_a_heads_stage_moves_that_head_and_nothing_of_the_codec(image_folder, tmp_path, small_folder, trains, source):
    stage = head_stage(image_folder, trains, input=source)
    model = load(small_folder)
    model.counterparts["classification"] = model.new_head("classification", classes=["cat", "dog"])
    recipe = Recipe(name="pets", stages=[stage], precision="32-true")
    with pytest.raises(ValueError, match=r"trains (heads|counterparts)\.classification and nothing of the codec"):
        Trainer(recipe, tmp_path, model).run()


def test_counterparts_learn_from_photographs_and_heads_start_from_them(image_folder, tmp_path, small_folder):
    counterpart = head_stage(image_folder, ["counterparts"], input="features", epochs=40)
    head = head_stage(image_folder, ["heads.classification"], lr=0.0, epochs=1)
    recipe = Recipe(name="pets", init=str(small_folder), stages=[counterpart, head], precision="32-true")
    assert Trainer(recipe, tmp_path).run()
    assert "classification" not in load(tmp_path / "model").counterparts
    model = load(tmp_path / "model", counterparts=True)
    assert same_weights(model.counterparts["classification"], model.heads["classification"])
    images = [Image.open(path) for path in sorted(image_folder.rglob("*.png"))]
    labels = [r.classification.label for r in model.reference.analyze(images)]
    assert labels == ["cat", "cat", "dog", "dog"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": "new"}, "'data' or 'keep'"),
        ({"options": {"depth": 3}}, "head has no option 'depth'; it has: classes"),
        ({"qualities": []}, r"qualities must be one or more numbers in \[0, 1\], got \[\]"),
        ({"qualities": [1.5]}, "qualities must be one or more"),
        ({"holdout": 1}, "holdout must be 0, for none, or at least 2"),
        ({"holdout": 2, "every": 4}, "no photographs of .* are left to train on"),
        ({"every": 0}, "every must be at least 1"),
        ({"epochs": 0}, "epochs 0, which would leave its new classification head untrained"),
        ({"input": "pixels"}, "streams, features"),
        ({"task": "sound"}, "unknown task 'sound'"),
        ({"task": "detection"}, "annotations"),
        ({"sources": []}, "no photographs to train"),
    ],
)
def test_bad_head_stages_say_what_is_wrong(image_folder, tmp_path, small_folder, change, says):
    stage = head_stage(image_folder, ["heads"])
    stage.head = replace(stage.head, **change)
    recipe = Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true")
    with pytest.raises(ValueError, match=says):
        Trainer(recipe, tmp_path).run()


def test_top5_is_sorted_and_sums_to_at_most_one():
    torch.manual_seed(0)
    head = ClassificationHead(FeatureSpec(4, (4, 4, 4, 4), 4), [f"class {i}" for i in range(8)])
    (one,) = head.predict(Features([(96, 96)], torch.randn(1, 4), []))
    scores = [score for _, score in one.top5]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True) and 0 < sum(scores) <= 1
    assert (one.label, one.score) == one.top5[0]
