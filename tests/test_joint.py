"""Stages that train everything together: auxiliary tasks for heads, adversaries, a rate that is held."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, new_small_model
from PIL import Image

from cdanalysis.data.crops import Source
from cdanalysis.data.labeled import LabeledSource
from cdanalysis.data.labeled_crops import LabeledCrops
from cdanalysis.model import Model
from cdanalysis.structures.latents import LAYERS
from cdanalysis.structures.targets import IGNORE, Instances
from cdanalysis.training.auxiliary import AuxiliaryConfig, AuxiliaryLoss, AuxiliaryTargets, CropBatch
from cdanalysis.training.distortion import ObserverConfig
from cdanalysis.training.losses import StageLoss
from cdanalysis.training.rate_controller import RateController
from cdanalysis.training.recipe import Recipe, StageConfig
from cdanalysis.training.stages import select
from cdanalysis.training.trainer import Trainer
from cdanalysis.zoo import load, round_weights


def auxiliary_in(world: Path, batch: int = 2) -> list[AuxiliaryConfig]:
    boxes = LabeledSource(str(world / "pixels" / "images"), str(world / "boxes.json"))
    return [
        AuxiliaryConfig("classification", [LabeledSource(str(world / "classes"))], batch),
        AuxiliaryConfig("detection", [boxes], batch),
        AuxiliaryConfig("segmentation", [LabeledSource(str(world / "pixels"))], batch),
    ]


def new_model(fused: bool = False) -> Model:
    """The small model with three heads, and a detector whose features differ from place to place at all strides."""
    model = new_small_model()
    torch.manual_seed(2)
    for module in model.codec.detector.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, 0.1)
    with torch.no_grad():
        model.codec.spatial.g_a.out.weight.div_(40)
        # The global layer has yet to learn what embeddings are: it decodes large numbers where they are small.
        model.codec.classifier.net.conv_head.weight.div_(40)
        model.codec.global_layer.g_a[0].weight.mul_(1000 / 30)
    model.codec.global_layer.g_s[1].reset_parameters()
    model.heads["classification"] = model.new_head("classification", classes=["cat", "blue", "red"])
    model.heads["detection"] = model.new_head("detection", classes=["red", "blue"])
    model.heads["segmentation"] = model.new_head("segmentation", classes=list("brd"), width=32)
    model.codec.set_fused(fused)
    return model


def joint_recipe(world: Path, **changes) -> Recipe:
    stage = StageConfig(
        "joint",
        ["codec.global_layer", "codec.spatial", "codec.detail", "codec.synthesis", "heads"],
        sources=[Source(str(world / "pixels" / "images"), scale=[1.0, 1.0])],
        auxiliary=auxiliary_in(world),
        **{"steps": 3, "batch": 2, "crop": 64, "warmup": 1, "lr": 2e-3, "clip": 5.0, **changes},
    )
    stage.objective.distillation = {}
    stage.objective.embedding = 1e-5  # those of a classifier of random weights hardly differ
    codec = replace(SMALL, fused=True)
    return Recipe(name="joint", codec=codec, stages=[stage], precision="32-true", workers=0)


# -- labeled crops ----------------------------------------------------------------------------


@pytest.mark.parametrize("crop", [64, 160])
def test_targets_follow_their_crops(world, crop):
    """Rectangles are where boxes and labels say, whatever was cut out, enlarged or mirrored."""
    by_task = {task.task: LabeledCrops(task.task, task.sources, crop, 1, 20) for task in auxiliary_in(world)}
    for index in range(20):
        image, target = by_task["classification"][index]
        red, _, blue = image.float().mean((1, 2))
        assert image.shape == (3, crop, crop)
        assert by_task["classification"].classes[target] == ("red" if red > blue else "blue")
        image, target = by_task["segmentation"][index]
        labels = target.labels
        kind = (image[0] > 200).long() + 2 * (image[2] > 200).long()
        assert labels.shape == (crop, crop) and (kind == labels).float().mean() > 0.95
        image, objects = by_task["detection"][index]
        marked = (image.amax(0) > 200).nonzero()
        for box in objects.boxes:
            corners = torch.cat([marked.amin(0).flip(0), marked.amax(0).flip(0) + 1])
            assert (box - corners).abs().max() <= 3


def test_crops_are_a_function_of_seed_and_number(world):
    first, second = (LabeledCrops("detection", auxiliary_in(world)[1].sources, 64, 5, 9) for _ in range(2))
    assert torch.equal(first[7][0], second[7][0]) and torch.equal(first[7][1].boxes, second[7][1].boxes)
    assert not torch.equal(first[7][0], first[6][0])


def test_boxes_are_cut_and_dropped_at_a_window():
    masks = torch.zeros(3, 50, 60, dtype=torch.bool)
    masks[0, 10:20, 10:30] = True
    objects = Instances(torch.tensor([[10.0, 10, 30, 20], [0, 0, 12, 12], [40, 40, 60, 50]]), torch.arange(3), masks)
    cut = objects.cropped(10, 10, 30, 30)
    assert cut.boxes.tolist() == [[0, 0, 20, 10]] and cut.labels.tolist() == [0]
    assert cut.masks.shape == (1, 30, 30) and cut.masks[0, :10, :20].all() and cut.masks.sum() == 200
    assert objects.scaled(2, 2).masks[0].nonzero().amin(0).tolist() == [20, 20]
    assert Instances(objects.boxes, objects.labels).scaled(2, 3).boxes[0].tolist() == [20, 30, 60, 60]


@pytest.mark.parametrize(
    ("task", "sources", "says"),
    [("detection", [], "has no photographs"), ("segmentation", ["pixels", "other"], "different classes")],
)
def test_impossible_auxiliary_tasks_are_refused(world, task, sources, says):
    (world / "other" / "images").mkdir(parents=True)
    (world / "other" / "labels").mkdir()
    for kind in ("images", "labels"):
        Image.new("L", (70, 70)).save(world / "other" / kind / "a.png")
    (world / "other" / "classes.json").write_text(
        json.dumps({"classes": [{"index": 0, "name": "x", "colour": [0] * 3}]})
    )
    with pytest.raises(ValueError, match=says):
        LabeledCrops(task, [LabeledSource(str(world / s)) for s in sources], 64, 0, 1)


def test_auxiliary_tasks_need_heads_that_know_their_classes(world):
    model = new_model()
    with pytest.raises(ValueError, match="no mask head"):
        AuxiliaryLoss(model, AuxiliaryConfig("mask"), [])
    with pytest.raises(ValueError, match="the class 'tree' of the data is not among"):
        AuxiliaryLoss(model, AuxiliaryConfig("detection"), ["tree"])
    with pytest.raises(ValueError, match="other classes than the data"):
        AuxiliaryLoss(model, AuxiliaryConfig("segmentation"), ["r", "d"])
    model.heads["detection"].layers = LAYERS
    with pytest.raises(ValueError, match="reads the detail layer"):
        AuxiliaryLoss(model, AuxiliaryConfig("detection"), ["red"])
    stage = joint_recipe(world).stages[0]
    stage.trains = ["codec.detail"]
    with pytest.raises(ValueError, match="auxiliary tasks train heads, or the semantic layers"):
        StageLoss(model, stage, [["red", "blue"]] * 3)


def test_targets_of_crops_are_those_of_the_working_size(world, monkeypatch):
    """A head sees crops at the size that the teachers saw them at, and so do its targets."""
    model, task = new_model(), auxiliary_in(world)[1]
    crops = LabeledCrops("detection", task.sources, 64, 1, 2)
    images, targets = zip(*(crops[i] for i in range(2)), strict=True)
    stage, heard = joint_recipe(world).stages[0], []
    stage.trains, stage.auxiliary = ["codec.spatial", "heads.detection"], [task]
    loss_of = StageLoss(model, stage, [crops.classes])
    monkeypatch.setattr(
        model.heads["detection"], "loss", lambda f, t: heard.append((f, t)) or {"loss": f.embedding.sum()}
    )
    batch = CropBatch(torch.stack(images), [AuxiliaryTargets("detection", 0, list(targets))])
    loss_of(batch, 0)
    (features, scaled), *_ = heard
    assert features.working == (96, 96) and len(features) == 2
    for before, after in zip(targets, scaled, strict=True):
        assert torch.allclose(after.boxes, 1.5 * before.boxes)


def test_a_head_that_moves_is_compared_with_what_it_was(world, tmp_path):
    recipe = joint_recipe(world, steps=2)
    recipe.stages[0].objective.distillation = {"detection": 1.0}
    trainer = Trainer(recipe, tmp_path, new_model())
    before = {n: t.clone() for n, t in trainer.model.heads["detection"].state_dict().items()}
    assert not trainer.run(stop_after=1)
    kept = trainer.model.counterparts["detection"].state_dict()
    assert list(trainer.model.counterparts) == ["detection"]
    assert trainer.run(resume=True)
    assert not trainer.model.counterparts, "what learned from streams is no counterpart to compare with"
    assert all(torch.equal(kept[n].half(), before[n].half()) for n in before)
    after = trainer.model.heads["detection"].state_dict()
    assert any(not torch.equal(after[n], kept[n]) for n in before)


# -- the controller ----------------------------------------------------------------------------


def test_the_controller_finds_the_factor_that_gives_the_rate():
    """A codec whose rate falls with the root of its weight; the world doubles its rate half way."""
    controller = RateController(0.25, speed=0.05)
    rates = []
    for step in range(600):
        rate = torch.tensor((0.8 if step < 300 else 1.6) / controller.factor**0.5)
        controller.observe(rate)
        rates.append(float(rate))
    assert rates[299] == pytest.approx(0.25, rel=0.01) and rates[-1] == pytest.approx(0.25, rel=0.01)
    before = controller.factor
    for bad in (float("nan"), float("inf"), 0.0):
        controller.observe(torch.tensor(bad))
    assert controller.factor == before
    for _ in range(10_000):
        controller.observe(torch.tensor(10.0))
    assert controller.factor == pytest.approx(50.0)


@pytest.mark.parametrize(("target", "speed"), [(0.0, 0.1), (-1.0, 0.1), (0.2, 0.0)])
def test_impossible_targets_are_refused(target, speed):
    with pytest.raises(ValueError, match="above 0"):
        RateController(target, speed)


# -- stages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
def test_an_adversarial_stage_moves_codec_and_discriminator_each_by_its_own(world, fused):
    """One backward pass: the codec's gradients are those of its own loss, the discriminator's those of its own loss."""
    stage = joint_recipe(world).stages[0]
    stage.auxiliary, stage.trains, stage.varied = [], ["codec.synthesis"], 0.0
    stage.objective.observers = [ObserverConfig(), ObserverConfig("adversarial", 0.01)]
    model = new_model(fused)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("codec.synthesis"))
    loss_of = StageLoss(model, stage).train()
    adversary = loss_of.own["adversaries"][0]
    x = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)

    def gradients() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        torch.manual_seed(1)
        before = {n: b.clone() for n, b in adversary.named_buffers()}
        model.zero_grad(), adversary.zero_grad()
        loss, terms = loss_of(CropBatch(x), 0)
        loss.backward()
        for name, buffer in adversary.named_buffers():  # power iterations move them
            buffer.copy_(before[name])
        assert {"adversarial", "psnr"} <= set(terms)
        parts = (model.codec.synthesis, adversary)
        return tuple([p.grad.clone() for p in part.parameters() if p.grad is not None] for part in parts)

    codec, discriminator = gradients()
    assert codec and any(g.any() for g in discriminator)
    loss_of.distortion.adversary_loss = lambda *_: None  # without it the codec's gradients are the same
    alone, nothing = gradients()
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(codec, alone, strict=True)) and not nothing


def test_an_adversary_is_told_of_latents_and_counts_by_realism(world):
    stage = joint_recipe(world).stages[0]
    stage.auxiliary, stage.trains, stage.varied = [], ["codec.synthesis"], 0.0
    stage.objective.observers = [ObserverConfig(), ObserverConfig("adversarial", 0.5, side="realism")]
    model = new_model()
    model.codec.set_realism(1)
    distortion = StageLoss(model, stage).distortion
    channels = model.codec.config.detail_channels
    x, y, known = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64, requires_grad=True), torch.rand(2, channels, 4, 4)
    total, each = distortion(x, y, None, known, torch.tensor([0.0, 1.0]))
    (slopes,) = torch.autograd.grad(total.sum(), y, retain_graph=True)
    (plain,) = torch.autograd.grad((x - y).square().mean((1, 2, 3)).sum(), y)
    assert torch.allclose(slopes[0], plain[0]) and not torch.allclose(slopes[1], plain[1])
    assert not torch.allclose(distortion(x, y, None, 0 * known, torch.ones(2))[1]["adversarial"], each["adversarial"])
    losses = [distortion.adversary_loss(x, y, known, torch.full((2,), amount)) for amount in (0.0, 0.5, 1.0)]
    assert losses[0] == 0 and losses[2] > losses[1] > 0


def test_the_pull_of_an_adversary_grows_with_its_weight(world):
    model, pulls = new_model(), []
    for weight in (0.01, 0.1):
        stage = joint_recipe(world).stages[0]
        stage.auxiliary, stage.trains, stage.varied = [], ["codec.synthesis"], 0.0
        stage.objective.observers = [ObserverConfig(), ObserverConfig("adversarial", weight)]
        torch.manual_seed(0)
        loss_of = StageLoss(model, stage).train()
        torch.manual_seed(1)
        x = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
        pulls.append(float(loss_of(CropBatch(x), 0)[1]["adversary_pull"]))
        assert "adversary_pull" not in loss_of(CropBatch(x), 1)[1]
    assert pulls[1] == pytest.approx(10 * pulls[0], rel=0.01)


def test_mixed_precision_rounds_no_photograph(world, tmp_path):
    recipe = joint_recipe(world)
    recipe.precision = "bf16-mixed"
    recipe.stages[0].auxiliary = []
    trainer, seen = Trainer(recipe, tmp_path / "run", new_model()), []
    codec = trainer.model.codec
    codec.detail.g_a.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    codec.detector.register_forward_hook(lambda _, inputs, out: seen.extend((inputs[0], out.pyramid[0])))
    trainer.run(stop_after=1)
    pixels, told, x = seen
    assert x.dtype == torch.float32 and torch.equal(x, (x * 255).round() / 255)
    assert pixels.dtype == torch.uint8 and told.dtype == torch.float32


def test_observers_count_places_by_their_saliency(world):
    stage = joint_recipe(world).stages[0]
    stage.auxiliary, stage.trains, stage.varied = [], ["codec.synthesis"], 0.0
    stage.objective.saliency, stage.objective.rest = "saliency", 0.25
    loss_of, seen = StageLoss(new_model(), stage).train(), []
    batch = CropBatch(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8))
    attention = loss_of._attention(batch.pixels())
    assert attention.shape == (2, 1, 4, 4) and 0.25 <= attention.min() < attention.max() <= 1
    loss_of.model.codec.synthesis.register_forward_hook(lambda *call: (call[2].retain_grad(), seen.append(call[2]))[0])
    for saliency in (None, lambda crop: (np.indices((64, 64))[1] < 32).astype(np.float32)):
        torch.manual_seed(1)
        loss_of.saliency = saliency
        loss_of(batch, 0)[0].backward()
    alike, left = (reconstruction.grad for reconstruction in seen)
    assert torch.allclose(left[..., :24], alike[..., :24]) and alike.abs().sum() > 0
    assert torch.allclose(left[..., 40:], 0.25 * alike[..., 40:])
    stage.objective.saliency = "gaze"
    with pytest.raises(FileNotFoundError, match="neither 'saliency' nor a network's file"):
        StageLoss(new_model(), stage)


@pytest.mark.parametrize("stop", [1, 2])
def test_stages_with_everything_resume_to_the_bit(world, tmp_path, stop):
    def trainer(name: str) -> Trainer:
        recipe = joint_recipe(world, target_bpp=0.5)
        observers = [ObserverConfig(), ObserverConfig("adversarial", 0.001)]
        recipe.stages[0].objective.observers = observers
        return Trainer(recipe, tmp_path / name, new_model())

    whole = trainer("whole")
    assert whole.run()
    assert not trainer("pieces").run(stop_after=stop)
    pieces = trainer("pieces")
    assert pieces.run(resume=True)
    states = [t.model.state_dict() for t in (whole, pieces)]
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
    states = [torch.load(tmp_path / n / "checkpoint.pt", weights_only=True) for n in ("whole", "pieces")]
    assert states[0]["skipped"] == states[1]["skipped"] == 0


def test_the_controller_scales_the_detail_layers_rate(world):
    """And nothing else; it takes note of every step's rate, but of none that is only looked at."""
    stage = joint_recipe(world, target_bpp=0.01).stages[0]
    stage.auxiliary, stage.trains, stage.varied = [], ["codec.detail"], 0.0
    stage.objective.lambdas = [0.01, 0.01]  # one for all qualities, so that nothing balances them
    loss_of, x = StageLoss(new_model(), stage), torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    controller, found = loss_of.own["controller"], []
    for factor in (1.0, 4.0):
        controller.error.zero_(), controller.integral.fill_(math.log(factor))
        torch.manual_seed(3)
        with torch.no_grad():
            found.append(loss_of(CropBatch(x), 0))
        assert controller.error == 0 and found[-1][1]["rate_factor"] == pytest.approx(factor)
    (first, terms), (second, _) = found
    assert (second - first).item() == pytest.approx(3 * terms["bpp_detail"].item(), rel=1e-3)
    loss_of(CropBatch(x), 0)
    assert terms["bpp_detail"] > 0.01 and controller.factor > 4


def test_every_term_of_a_joint_run_falls(world, tmp_path):
    """Codec, fusion decoder and three heads, an observer and a controller, on drawn data."""
    recipe = joint_recipe(world, steps=50, lr=3e-3, warmup=10)
    stage = recipe.stages[0]
    stage.objective.semantic_rate = [4.0, 1.0]
    trainer = Trainer(recipe, tmp_path, new_model())
    history: list[dict[str, float]] = []
    original = Trainer._train_step

    def listening(self, *arguments):
        history.append(original(self, *arguments))
        return history[-1]

    Trainer._train_step = listening
    try:
        assert trainer.run()
    finally:
        Trainer._train_step = original
    assert trainer.skipped == 0
    first, last = ({n: np.mean([h[n] for h in part]) for n in history[0]} for part in (history[:12], history[-12:]))
    assert last["psnr"] > first["psnr"] + 2
    for name in ("loss", "bytes", "bpp_detail", "features"):
        assert last[name] < 0.9 * first[name], name
    for task in ("classification", "detection", "segmentation"):
        assert last[f"{task} auxiliary"] < 0.7 * first[f"{task} auxiliary"], task


def test_heads_alone_learn_from_auxiliary_tasks(world, tmp_path):
    """A stage that trains heads and no layer: they move, and nothing else does."""
    recipe = joint_recipe(world)
    recipe.codec, recipe.stages[0].trains = SMALL, ["heads"]
    model = new_model()
    round_weights(model)  # as a trainer does at its end
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = Trainer(recipe, tmp_path, model)
    assert trainer.run() and trainer.skipped == 0
    moved = {name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"heads"}


def test_a_fused_codec_starts_silent_and_learns_to_look(world, tmp_path, image):
    """What the recipe says of fusion is done where the detail layer or the decoder learn, and nowhere else."""
    recipe = joint_recipe(world, steps=2)
    recipe.stages[0].auxiliary, recipe.stages[0].trains = [], ["codec.detail", "codec.synthesis"]
    model = new_model()
    before = model.codec(torch.rand(1, 3, 64, 64), torch.full((1, 1, 1, 1), 0.5))
    assert before.x_hat.shape == (1, 3, 64, 64)
    trainer = Trainer(recipe, tmp_path, model)
    assert model.codec.config.fused
    channels = SMALL.spatial_channels
    seen = [model.codec.synthesis.condition[0], model.codec.detail.h_s.side]
    assert all(not conv.weight[:, :channels].any() for conv in seen)
    assert trainer.run() and all(conv.weight[:, :channels].any() for conv in seen)
    assert load(tmp_path / "model").codec.config.fused
    for trains, fused in ((["heads.detection"], True), (["codec.detail"], False)):
        recipe.stages[0].trains, recipe.codec = trains, SMALL
        assert Trainer(recipe, tmp_path / "other", model).model.codec.config.fused == fused


@pytest.mark.parametrize("part", ["codec.global_layer", "codec.spatial", "codec.detail", "codec.synthesis"])
def test_gradients_reach_what_moves_and_never_a_teacher(world, part):
    """Also from the decoder's loss to the spatial layer, in a fused codec, where that moves too."""
    model, stage = new_model(True), joint_recipe(world).stages[0]
    stage.trains, stage.auxiliary, stage.objective.distillation = [part], [], {"classification": 1.0}
    select(model, stage)
    loss, _ = StageLoss(model, stage)(CropBatch(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)), 0)
    loss.backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached and all(n.startswith(part) for n in reached)


def test_the_decoders_loss_reaches_a_spatial_layer_that_moves_too(world):
    model, stage = new_model(True), joint_recipe(world).stages[0]
    torch.nn.init.normal_(model.codec.synthesis.condition[0].weight)
    for block in model.codec.synthesis.fine:
        torch.nn.init.normal_(block.adain.to_style.weight)
    stage.trains, stage.auxiliary, stage.objective.distillation = ["codec.spatial.g_a", "codec.synthesis"], [], {}
    stage.objective.features, stage.objective.embedding = [0.0] * 4, 0.0
    stage.objective.semantic_rate = [1e-30, 1e-30]
    select(model, stage)
    loss, _ = StageLoss(model, stage)(CropBatch(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)), 0)
    loss.backward()
    assert model.codec.spatial.g_a.out.weight.grad.abs().sum() > 1e-9


def test_ignored_pixels_stay_ignored(world):
    labels = np.full((70, 80), IGNORE, np.uint8)
    Image.fromarray(np.full((70, 80), 9, np.uint8)).save(world / "pixels" / "labels" / "0.png")
    described = json.loads((world / "pixels" / "classes.json").read_text())["classes"]
    described.append({"index": 9, "name": "void", "ignore": True})
    (world / "pixels" / "classes.json").write_text(json.dumps({"classes": described}))
    Image.fromarray(np.zeros((70, 80, 3), np.uint8)).save(world / "pixels" / "images" / "0.png")
    crops = LabeledCrops("segmentation", auxiliary_in(world)[2].sources, 128, 0, 40)
    seen = [target.labels for _, target in (crops[i] for i in range(40)) if (target.labels == IGNORE).all()]
    assert seen and labels.shape != seen[0].shape == (128, 128)
