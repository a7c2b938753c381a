"""timm's networks as teachers: features that are timm's own, layers that learn them, and refusals by name."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from conftest import SMALL
from PIL import Image
from torch import nn

from cdanalysis.model import Model
from cdanalysis.structures.features import STRIDES
from cdanalysis.structures.latents import SEMANTIC
from cdanalysis.teachers import Backbone, Classifier, backbone, classifier
from cdanalysis.training import trainer as training
from cdanalysis.training.recipe import Recipe, StageConfig
from cdanalysis.training.semantic_layers import SegmentationProbe
from cdanalysis.training.teacher_features import FeatureConfig
from cdanalysis.zoo import load

SERVE = {  # whether folding batch norms leaves features what they are
    "test_resnet": True,
    "test_efficientnet": True,
    "test_convnext": False,
    "test_mambaout": False,  # its channels come last
    "test_nfnet": False,
    "convnext_atto": False,
}


def drawn(name: str) -> nn.Module:
    """A classifier with random weights, and batch norms whose statistics are not those of a new network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model(name).eval()
    classifier.draw_statistics(net)
    return net


def drawn_pixels(rows: int, columns: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, rows, columns), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SERVE)
@torch.no_grad()
def test_features_are_timms(name):
    """Of given weights, with the network's own normalization, at strides 8, 16 and 32, each is one that the whole
    classifier computes on its way."""
    net, rows, columns = drawn(name), 64, 96
    teacher, pixels = Backbone(name).load(net.state_dict()), drawn_pixels(rows, columns)
    assert teacher.folds == SERVE[name]
    found = teacher(pixels)
    shapes = [(2, c, -(-rows // s), -(-columns // s)) for c, s in zip(teacher.PYRAMID, STRIDES, strict=True)]
    assert [tuple(level.shape) for level in found.pyramid] == shapes and not found.backbone
    mean, deviation = (torch.tensor(net.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    wanted = net.forward_intermediates((pixels / 255 - mean) / deviation, intermediates_only=True)
    for level in found.pyramid[:3]:
        alike = [each for each in wanted if each.shape == level.shape]
        assert any(torch.allclose(level, each, atol=1e-4 * float(each.abs().max()), rtol=1e-3) for each in alike), name
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_weights_of_another_network_are_refused():
    """Where timm would let the missing ones stay random."""
    state = drawn("test_resnet").state_dict()
    with pytest.raises(ValueError, match="does not hold the weights of this Backbone"):
        Backbone("test_efficientnet").load(state)
    del state["layer1.0.conv1.weight"]
    with pytest.raises(ValueError, match="does not hold the weights of this Backbone"):
        Backbone("test_resnet").load(state)


def test_backbones_refuse_sides_that_are_no_multiples_of_32():
    with pytest.raises(ValueError, match="multiples of 32"):
        Backbone("test_convnext")(torch.zeros(1, 3, 64, 80))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_network", "it is neither registered as a teacher nor one of timm's networks"),
        ("test_vit", "it takes photographs of 160x160 pixels alone"),
        ("mobilevitv2_050", "which are not those of its strides"),  # it rounds grids up to its patches
        ("deeplab", "it has no feature pyramid"),
    ],
)
def test_networks_that_cannot_serve_are_refused_by_name(name, reason):
    with pytest.raises(ValueError, match=f"'{name}' cannot be the spatial layer's teacher: .*{reason}") as error:
        Model(replace(SMALL, detector=name), {})
    assert "\n" not in str(error.value)


class Fake(nn.Module):
    """A feature extractor with whatever is wrong with it."""

    def __init__(self, strides=(4, 8, 16, 32), fails=None, **config):
        super().__init__()
        self.pretrained_cfg = {"input_size": (3, 64, 64), "mean": (0.5,) * 3, "std": (0.5,) * 3, **config}
        self.feature_info = SimpleNamespace(
            reduction=lambda: list(strides), channels=lambda: [5] * len(strides), out_indices=tuple(range(len(strides)))
        )
        self.strides, self.fails = strides, fails

    def forward(self, x):
        if self.fails is not None:
            raise self.fails
        return [x.new_zeros(1, 5, x.shape[2] // s, x.shape[3] // s) for s in self.strides[-3:]]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (IndexError("list index out of range"), "timm makes no feature extractor of it .IndexError: list index"),
        (RuntimeError("features_only not\nimplemented"), "timm makes no feature extractor of it"),
        (AssertionError(), "timm makes no feature extractor of it"),
        (Fake(strides=(4, 8, 16)), "its features have strides 4, 8, 16, .* it lacks 32"),
        (Fake(strides=(16, 16, 16)), ".*it lacks 8, 32"),
        (Fake(strides=(2, 4)), ".*it lacks 8, 16, 32"),
        (Fake(input_size=(1, 64, 64), mean=(0.5,), std=(0.5,)), "it takes images of 1 channels, not RGB"),
        (Fake(fails=IndexError("too few")), "it fails on a photograph of 64x96 pixels .IndexError: too few"),
        (Fake(strides=(8, 16, 32, 64)), "its features have the shapes"),
    ],
    ids=str,
)
def test_whatever_is_wrong_with_a_network_is_a_sentence(made, reason, monkeypatch):
    def create(name, indices, **settings):
        if isinstance(made, Exception):
            raise made
        return made

    monkeypatch.setattr(backbone, "_features_of", create)
    backbone.levels_of.cache_clear()
    try:
        with pytest.raises(ValueError, match=f"'test_resnet' cannot be the spatial layer's teacher: {reason}") as error:
            Backbone("test_resnet")
        assert "\n" not in str(error.value)
    finally:
        backbone.levels_of.cache_clear()


@pytest.mark.parametrize("error", [IndexError("list index out of range"), RuntimeError("two\nlines"), AssertionError()])
def test_classifiers_that_fail_are_refused_by_name(error, monkeypatch):
    def create(name):
        raise error

    monkeypatch.setattr(classifier, "drawn_network", create)
    classifier.check_serves.cache_clear()
    try:
        with pytest.raises(ValueError, match="'test_resnet' cannot be a teacher: it fails on a photograph") as refused:
            Classifier("test_resnet")
        assert "\n" not in str(refused.value)
    finally:
        classifier.check_serves.cache_clear()


def test_a_classifier_of_one_size_sees_photographs_of_any(image, tmp_path):
    """Photographs are squeezed to the only size that it takes; streams come out, and back."""
    model = Model(replace(SMALL, classifier="test_vit"), {}).eval()
    assert model.codec.classifier.size == (160, 160)
    wide = np.tile(image, (1, 3, 1))
    for photograph in (image, wide):
        stream = model.encode(photograph, layers=("global",))
        assert model.embed(stream).shape == (64,)
        assert model.reference.features([photograph], 1).embedding.shape == (1, 64)


def new_model(name: str) -> Model:
    torch.manual_seed(0)
    codec = replace(SMALL, detector=name, spatial_hidden=96, spatial_channels=16)
    model = Model(codec, {"classification": {"classes": ["cat", "dog"]}})
    model.codec.detector.load(drawn(name).state_dict())
    return model


@pytest.mark.parametrize("name", ["test_efficientnet", "test_mambaout"])
def test_the_spatial_layer_learns_a_backbones_features(name, chelsea, tmp_path):
    """From a start as principal components; then a head on them learns; both are saved, and read again."""
    (tmp_path / "photographs").mkdir()
    for number in range(6):
        part = chelsea[20 * number : 20 * number + 96, 50 * number : 50 * number + 128]
        Image.fromarray(part).save(tmp_path / "photographs" / f"{number}.png")
    features = FeatureConfig([str(tmp_path / "photographs")], views=2)
    features.spatial.segmentation = 0.0
    features.spatial.rate = [1e-4, 1e-4]
    stage = StageConfig("spatial", ["codec.spatial"], features=features, batch=4, steps=4, warmup=1, lr=1e-3)
    recipe = Recipe(name="mine", codec=new_model(name).codec.config, stages=[stage], precision="32-true")
    trainer = training.Trainer(recipe, tmp_path / "run", new_model(name))
    assert trainer.run()
    model = load(tmp_path / "run" / "model")
    photograph = chelsea[:96, :128].copy()
    found = model.features(model.encode(photograph, 1.0, SEMANTIC), SEMANTIC)
    wanted = model.reference.features([photograph])
    spec = model.codec.feature_spec.pyramid
    assert tuple(level.shape[1] for level in found.pyramid) == spec == model.codec.detector.PYRAMID
    assert [f.shape for f in found.pyramid] == [w.shape for w in wanted.pyramid]
    fresh = new_model(name).eval().requires_grad_(False)
    start = fresh.features(fresh.encode(photograph, 1.0, SEMANTIC), SEMANTIC)
    apart = lambda each: float((each.pyramid[1] - wanted.pyramid[1]).square().mean())  # noqa: E731
    assert apart(found) < 0.8 * apart(start)
    head = model.new_head("segmentation", classes=["a", "b"], width=32).requires_grad_(False)
    assert head(found).shape[1] == 2


def test_a_probe_reads_levels_of_any_widths():
    probe = SegmentationProbe((3, 5, 7), 4, 2, width=8)
    pyramid = [torch.zeros(1, c, 12 // s, 8 // s) for c, s in ((3, 1), (5, 2), (7, 4))]
    assert probe(pyramid, torch.zeros(1, 4)).shape == (1, 2, 6, 4)


def test_a_saved_model_has_its_backbone(tmp_path, image):
    model = new_model("test_mambaout").eval()
    model.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    seen = [each.reference.features([image]).pyramid[0] for each in (model, loaded)]
    assert loaded.codec.config.detector == "test_mambaout"
    torch.testing.assert_close(*seen, atol=0.02 * float(seen[0].abs().max()), rtol=0.02)  # teachers are halved


def test_a_new_model_takes_over_no_head_that_does_not_fit(monkeypatch):
    """A classifier of other classes than ImageNet's thousand gives none; a detector that is none gives none."""
    monkeypatch.setattr(training, "load_pretrained", lambda model: None)
    recipe = Recipe(name="mine", codec=replace(SMALL, detector="test_resnet"))
    assert set(training.new_model(recipe).heads) == {"classification"}
    monkeypatch.setattr(training, "imagenet_classes", lambda: ["one", "two"])
    assert set(training.new_model(recipe).heads) == set()
    assert set(training.new_model(replace(recipe, codec=SMALL)).heads) == {"detection"}
