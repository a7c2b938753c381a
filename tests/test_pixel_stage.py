"""A stage that learns pixels alone, for long: averaged weights, a rate that stays, validation while it runs."""

import itertools
import json

import numpy as np
import pytest
import torch
from conftest import SMALL, new_small_model
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cdanalysis.data.crops import Source
from cdanalysis.data.images import ImageSet
from cdanalysis.training.averaging import WeightAverage
from cdanalysis.training.losses import StageLoss
from cdanalysis.training.recipe import Recipe, StageConfig, ValidationConfig
from cdanalysis.training.trainer import Trainer, learning_rate
from cdanalysis.training.validation import VALIDATION, validate


def stage(folder, **changes) -> StageConfig:
    options = {"sources": [Source(path=str(folder))], "batch": 2, "crop": 64, "warmup": 1, "steps": 4, **changes}
    return StageConfig("pixels", ["codec.detail", "codec.synthesis"], **options)


def recipe_for(folder, **changes) -> Recipe:
    stages = [stage(folder, **changes)]
    return Recipe(name="pixels", codec=SMALL, stages=stages, precision="32-true", workers=0)


def trained(folder, recipe, **run) -> Trainer:
    trainer = Trainer(recipe, folder, new_small_model())
    trainer.run(**run)
    return trainer


def test_the_average_is_what_its_definition_says():
    weights = nn.Parameter(torch.zeros(2))
    average, mean = WeightAverage([weights], 0.9), torch.zeros(2)
    for step in range(1, 30):
        with torch.no_grad():
            weights.copy_(torch.tensor([step, step**0.5]))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * weights.detach()
    assert torch.allclose(average.weights[0], mean, rtol=1e-5)
    with average.as_weights():
        assert torch.allclose(weights, mean, rtol=1e-5)
    assert weights[0] == 29  # and then as they were


def test_as_weights_gives_back_what_was_there_when_something_fails():
    weights = nn.Parameter(torch.ones(1))
    average = WeightAverage([weights], 0.5)
    with torch.no_grad():
        weights.fill_(3)
    with pytest.raises(RuntimeError), average.as_weights():
        assert weights.item() == 1
        raise RuntimeError
    assert weights.item() == 3


@pytest.mark.parametrize("stop", [1, 3])
def test_an_averaged_run_resumes_to_the_bit(image_folder, tmp_path, stop):
    recipe = recipe_for(image_folder, average=0.9)
    whole = trained(tmp_path / "whole", recipe)
    trained(tmp_path / "pieces", recipe, stop_after=stop)
    pieces = trained(tmp_path / "pieces", recipe, resume=True)
    states = (t.model.state_dict().values() for t in (whole, pieces))
    assert all(a.equal(b) for a, b in zip(*states, strict=True))


def test_the_average_is_what_a_stage_leaves_behind(image_folder, tmp_path):
    """Other weights than the last step's; those of parts that stand still are untouched."""
    last, mean = (trained(tmp_path / str(a), recipe_for(image_folder, average=a)) for a in (0.0, 0.9))
    start, last, differ = new_small_model().state_dict(), last.model.state_dict(), 0
    for name, tensor in mean.model.state_dict().items():
        if not name.startswith(("codec.detail", "codec.synthesis")):
            assert tensor.equal(last[name]), name
        elif tensor.is_floating_point() and not tensor.half().equal(start[name].half()):
            differ += not tensor.equal(last[name])
    assert differ > 5


@given(st.floats(0, 1), st.integers(0, 50), st.integers(60, 500))
def test_the_rate_stays_until_its_decay_and_never_rises_after_the_warmup(decay, warmup, steps):
    config = StageConfig("x", lr=1.0, warmup=warmup, decay=decay)
    rates = [learning_rate(config, step, steps) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    after = rates[warmup:]
    assert all(a >= b for a, b in itertools.pairwise(after))
    stays = max(warmup, round((1 - decay) * steps))
    assert all(rate == 1 for rate in rates[warmup : stays + 1])


def test_pixels_are_learned_without_the_semantic_layers(image_folder, monkeypatch):
    """No teacher looks, and gradients reach the detail layer and the decoder alone."""
    model = new_small_model()
    model.requires_grad_(True)
    for part in (model.codec.classifier, model.codec.detector, model.codec.global_layer, model.codec.spatial):
        monkeypatch.setattr(part, "forward", lambda *_: pytest.fail("a pixel stage asked for semantics"))
    loss = StageLoss(model, stage(image_folder))
    value, terms = loss(images_batch(), 0)
    value.backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached and all(n.startswith(("codec.detail", "codec.synthesis")) for n in reached)
    assert {"bpp_detail", "psnr"} <= set(terms)


def images_batch():
    from cdanalysis.training.auxiliary import CropBatch

    torch.manual_seed(0)
    return CropBatch(torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"blank": 0.1}, "blank needs a decoder that sees"),
        ({"trains": ["codec.spatial"], "target_bpp": 0.3}, "target_bpp holds the rate of the detail layer"),
        ({"trains": ["heads"]}, "trains nothing that learns from crops"),
        ({"trains": ["codec.detector"]}, "trains nothing that learns from crops"),
    ],
)
def test_a_stage_is_refused_what_it_cannot_do(image_folder, changes, says):
    config = stage(image_folder)
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=says):
        StageLoss(new_small_model(), config)


def test_validation_of_a_fused_codec_is_what_its_streams_are(image_folder):
    """The estimated rate is near that of the stream's bytes; the picture is the decoded one."""
    model = new_small_model().eval()
    model.codec.set_fused(True)
    with torch.no_grad():
        torch.nn.init.normal_(model.codec.synthesis.condition[0].weight)
    config = ValidationConfig(source=str(image_folder), limit=1, qualities=[0.5])
    row, (image, _) = validate(model, config), ImageSet(str(image_folder))[0]
    stream = model.encode(image, 0.5)
    original, decoded = (np.asarray(x, dtype=float) / 255 for x in (image, model.decode(stream)))
    assert row["psnr@0.5"] == pytest.approx(-10 * np.log10(((original - decoded) ** 2).mean()), abs=0.3)
    bits = model.estimated_bits(stream)["detail"]
    assert row["bpp@0.5"] == pytest.approx(bits / (image.width * image.height), rel=0.02)


def test_validation_is_measured_when_its_time_has_come(image_folder, tmp_path):
    validation = ValidationConfig(source=str(image_folder), every=2, limit=2, qualities=[0.1, 0.9])
    trainer = trained(tmp_path / "run", recipe_for(image_folder, average=0.5, validation=validation))
    rows = [json.loads(line) for line in (tmp_path / "run" / VALIDATION).read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert rows[0]["bpp@0.1"] > 0 and rows[0]["bpp@0.9"] > rows[0]["bpp@0.1"]
    # The last row is of the weights that the stage left behind, but for their rounding to half precision.
    again = validate(trainer.model, validation)
    assert again["psnr@0.9"] == pytest.approx(rows[-1]["psnr@0.9"], abs=0.05)


def test_missing_validation_images_are_said_before_training(image_folder, tmp_path):
    recipe = recipe_for(image_folder, validation=ValidationConfig(source=str(tmp_path / "nowhere")))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        trained(tmp_path / "run", recipe)
