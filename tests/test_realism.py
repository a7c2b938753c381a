"""Realism: what it adds to pictures, that streams know nothing of it, and that nothing else moves in its training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SMALL, new_small_model
from PIL import Image
from skimage import data
from torch import nn

import cdanalysis as cda
from cdanalysis.app.view import Photograph
from cdanalysis.cli import main
from cdanalysis.codec import tiles
from cdanalysis.codec.realism import PERIOD, RealismBranch
from cdanalysis.data.crops import Source
from cdanalysis.evaluation.configs import load_experiment, load_study
from cdanalysis.evaluation.experiment import run_experiment
from cdanalysis.evaluation.study import DECODED, REALISTIC, run_study
from cdanalysis.metrics.image import weave
from cdanalysis.model import Model
from cdanalysis.observers import (
    Checkerboard,
    FeatureDistance,
    LowPass,
    SquaredError,
    Texture,
    UnitFeatureDistance,
    WassersteinDistortion,
)
from cdanalysis.reports.demo import run_demo
from cdanalysis.training import distortion as distortion_module
from cdanalysis.training.auxiliary import CropBatch
from cdanalysis.training.distortion import ObserverConfig, WeightedDistortion
from cdanalysis.training.losses import StageLoss
from cdanalysis.training.recipe import Recipe, StageConfig
from cdanalysis.training.stages import select
from cdanalysis.training.trainer import Trainer
from cdanalysis.zoo import round_weights

BRANCH = "codec.synthesis.realism."


def realistic_model(seed: int = 4) -> Model:
    """A model whose branch adds something, too much to be overlooked."""
    model = new_small_model(seed=seed)
    model.codec.set_realism(1)
    torch.manual_seed(seed)
    nn.init.normal_(model.codec.synthesis.realism.out[0].weight, std=0.05)
    round_weights(model)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def realistic() -> Model:
    return realistic_model()


def test_streams_and_the_picture_of_least_error_are_what_they_were(realistic, image):
    plain = new_small_model(seed=4).eval().requires_grad_(False)
    round_weights(plain)
    stream = plain.encode(image)
    assert realistic.fingerprint == plain.fingerprint and realistic.encode(image) == stream
    pictures = [np.asarray(realistic.decode(stream, realism=r)).astype(int) for r in (0.0, 0.5, 1.0)]
    assert np.array_equal(pictures[0], np.asarray(plain.decode(stream)))
    changes = [np.abs(picture - pictures[0]).mean() for picture in pictures[1:]]
    assert 0.1 < changes[0] < changes[1]
    assert np.array_equal(
        pictures[2], np.asarray(realistic.decode(stream, realism=1.0))
    )  # its noise is always the same


def test_a_branch_that_learned_nothing_adds_nothing(image):
    model = new_small_model(seed=4).eval().requires_grad_(False)
    stream = model.encode(image)
    model.codec.set_realism(2)
    assert np.array_equal(np.asarray(model.decode(stream, realism=1.0)), np.asarray(model.decode(stream)))
    model.codec.set_realism(0)
    assert model.codec.synthesis.realism is None and model.codec.config.realism == 0


def test_it_is_kept_with_the_model(realistic, image, tmp_path):
    realistic.save(tmp_path / "model")
    again = cda.load(tmp_path / "model")
    stream = realistic.encode(image)
    wanted, found = (np.asarray(m.decode(stream, realism=1.0)).astype(int) for m in (realistic, again))
    assert again.fingerprint == realistic.fingerprint
    assert np.abs(wanted - found).max() <= 1 and np.abs(found - np.asarray(again.decode(stream))).mean() > 0.1


@pytest.mark.parametrize("realism", [-0.1, 1.1, float("nan"), "1", None, [1.0]])
def test_what_is_no_realism_is_refused(realistic, image, realism):
    with pytest.raises(ValueError, match=r"realism must be a number in \[0, 1\]"):
        realistic.decode(realistic.encode(image), realism=realism)


def test_models_without_it_say_so(small, image):
    with pytest.raises(ValueError, match="not trained for realism"):
        small.decode(small.encode(image), realism=0.5)


def test_there_are_no_seams_in_it(realistic, monkeypatch):
    """Tiles see enough around them, and the noise has its place in the photograph, also beyond its period."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2 * PERIOD + 90, 200, 3), dtype=np.uint8)
    stream = realistic.encode(image)
    monkeypatch.setattr(tiles, "CORE", 8)
    parts = np.asarray(realistic.decode(stream, realism=1.0)).astype(int)
    assert len(list(tiles.tiles((38, 14), realistic.codec.synthesis.reach(1.0), 2 / 3))) > 2
    monkeypatch.setattr(tiles, "CORE", 10**6)
    assert np.abs(parts - np.asarray(realistic.decode(stream, realism=1.0))).max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_receptive_radius_is_not_exceeded(depth):
    torch.manual_seed(0)
    branch = RealismBranch(32, 16, depth).requires_grad_(False)
    nn.init.normal_(branch.out[0].weight)
    x, condition, one = torch.randn(1, 32, 40, 40), torch.randn(1, 16, 40, 40), torch.ones(1, 1, 1, 1)
    y, changed = branch(x, condition, one), x.clone()
    changed[..., 20:22, 20:22] += 1  # one cell at stride 16
    rows = (branch(changed, condition, one) - y).abs().amax((0, 1, 3)).nonzero().flatten()
    first, last = 16 * (10 - branch.receptive_radius), 16 * (11 + branch.receptive_radius)
    assert first <= rows.min() and rows.max() < last


def recipe_of(folder) -> Recipe:
    stage = StageConfig("realism", [BRANCH[:-1]], sources=[Source(str(folder))], steps=3, batch=2, crop=192, lr=1e-2)
    stage.objective.observers = [ObserverConfig(), ObserverConfig(kind="ms_ssim", side="realism", weight=0.1)]
    return Recipe("realism", codec=replace(SMALL, realism=1), stages=[stage])


def test_only_the_branch_learns(image_folder, tmp_path, image):
    model = new_small_model(seed=4)
    round_weights(model)
    model.codec.freeze_tables()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fingerprint = model.fingerprint
    assert Trainer(recipe_of(image_folder), tmp_path, model).run()
    after = model.state_dict()
    own = [name for name in after if name.startswith(BRANCH)]
    assert own and all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert any(bool(after[name].any()) for name in own if name.startswith(f"{BRANCH}out.0."))
    trained = cda.load(tmp_path / "model")
    assert trained.codec.config == replace(SMALL, realism=1) and trained.fingerprint == fingerprint


@pytest.mark.parametrize("trains, depth", [(["codec.synthesis.realism"], 0), (["codec.detail"], 1)])
def test_observers_of_realism_are_for_stages_that_train_it(trains, depth):
    model = new_small_model(seed=4)
    model.codec.set_realism(depth)
    stage = StageConfig("s", trains)
    stage.objective.observers = [ObserverConfig(), ObserverConfig(kind="ms_ssim", side="realism")]
    with pytest.raises(ValueError, match=r"set codec\.realism"):
        StageLoss(model, stage)


@pytest.mark.parametrize("kind", ["texture", "checkerboard", "low_pass", "wasserstein", "unit_features", "mse"])
def test_options_that_an_observer_does_not_know_are_refused(kind):
    with pytest.raises(ValueError, match=f"observer '{kind}': unknown option 'sigma'"):
        WeightedDistortion([ObserverConfig(kind, options={"sigma": 3})])


def test_observers_of_one_kind_count_each_by_its_weight():
    """They are told apart by their layers, or their options."""
    x, y = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    one = ObserverConfig("low_pass", 0.5, options={"windows": [8]})
    two = ObserverConfig("low_pass", 3.0, options={"windows": [32]})
    seen, each = WeightedDistortion([one, ObserverConfig(), two])(x, y, None)
    assert list(each) == ["low_pass", "mse", "low_pass 2"]
    assert torch.allclose(seen, 0.5 * LowPass([8])(x, y) + SquaredError()(x, y) + 3 * LowPass([32])(x, y))


def test_realism_without_observers_is_no_training():
    model = new_small_model(seed=4)
    model.codec.set_realism(1)
    with pytest.raises(ValueError, match="no observer is on the side"):
        StageLoss(model, StageConfig("s", [BRANCH[:-1]]))
    stage = StageConfig("s", ["codec.synthesis"])
    select(model, stage)
    loss, _ = StageLoss(model, stage)(CropBatch(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)), 0)
    loss.backward()
    moving = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moving and not any(name.startswith(BRANCH) for name in moving)


class _Edges(nn.Module):
    """A network of two layers that see texture: differences of neighbors, and those of squares."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, stride=2, padding=1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def test_statistics_prefer_texture_that_lies_elsewhere_to_none():
    """A squared error, of features too, prefers none; all see no difference where there is none."""
    rng = torch.Generator().manual_seed(0)
    texture, another = (0.5 + 0.2 * torch.randn(1, 3, 64, 64, generator=rng) for _ in range(2))
    flat, layers = torch.full_like(texture, 0.5), ["first", "second"]
    statistical, exact = WassersteinDistortion(_Edges(), layers), FeatureDistance(_Edges(), layers)
    assert statistical(texture, another) < 0.3 * statistical(texture, flat)
    assert Texture()(texture, another) < 0.1 * Texture()(texture, flat)
    assert exact(texture, another) > exact(texture, flat)
    assert statistical(texture, texture).item() == exact(texture, texture).item() == 0
    moving = flat.clone().requires_grad_()
    statistical(texture, moving).backward()
    assert torch.isfinite(moving.grad).all() and moving.grad.any()
    for refused in (lambda: WassersteinDistortion(_Edges(), layers, window=1), lambda: Texture(window=1)):
        with pytest.raises(ValueError, match="window"):
            refused()


def test_grain_in_a_clear_sky_counts_beside_a_lawn_without():
    """By the logarithm: a squared error of contrast would count the lawn alone."""
    rng = torch.Generator().manual_seed(0)
    grain = torch.randn(1, 3, 64, 64, generator=rng)
    sky, lawn = 0.6 + 0.002 * grain, 0.4 + 0.1 * grain
    grainy, smooth = 0.6 + 0.02 * grain, 0.4 + 0.01 * grain
    assert Texture()(sky, grainy) > 0.25 * Texture()(lawn, smooth) > 0.5


def test_a_weave_is_no_grain():
    """Though its contrast be the same: texture is told by all its frequencies."""
    rng = torch.Generator().manual_seed(0)
    grain, another = (0.5 + 0.05 * torch.randn(1, 3, 64, 64, generator=rng) for _ in range(2))
    wave = torch.sin(torch.arange(64) * torch.pi / 2 + 0.3)
    weave = (0.5 + 0.1 * wave[:, None] * wave).expand_as(grain)
    assert weave.std().item() == pytest.approx(grain.std().item(), rel=0.05)
    assert Texture()(grain, weave) > 20 * Texture()(grain, another)


def test_what_repeats_itself_with_the_grid_is_told_from_grain():
    """By the observer and by the measure, wherever the grid begins; other periods are none of its business."""
    rng = torch.Generator().manual_seed(0)
    grain = 0.05 * torch.randn(1, 3, 140, 140, generator=rng)

    def woven(period: int) -> torch.Tensor:
        times = -(-140 // period)
        return grain[..., :period, :period].repeat(1, 1, times, times)[..., :140, :140]

    flat, observer = torch.full((1, 3, 140, 140), 0.5), Checkerboard()
    assert observer(flat, flat + 0.3).item() == pytest.approx(0, abs=1e-9)  # another brightness is no pattern
    for period, moved in ((16, 0), (16, 3), (8, 0), (4, 1)):  # whose multiple is the grid's
        assert observer(flat, flat + woven(period).roll(moved, -1)) > 6 * observer(flat, flat + grain)
    assert observer(flat, flat + woven(9)) < 2 * observer(flat, flat + grain)

    def measured(added: torch.Tensor) -> float | None:
        return weave(((flat + added)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())

    assert measured(grain) == pytest.approx(1, abs=0.2) and measured(woven(15)) < 0.1
    assert measured(woven(16)) > 10 and measured(woven(8)) > 10 and measured(0.3 * woven(16) + grain) > 1.5
    assert measured(torch.zeros_like(flat)) is None and weave(np.zeros((101, 200, 3), np.uint8)) is None
    with pytest.raises(ValueError, match="squares of 64 pixels"):
        observer(flat[..., :63, :], flat[..., :63, :])
    with pytest.raises(ValueError, match="at least 2"):
        Checkerboard(period=1)


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_the_model_that_ships_adds_no_weave(photo, name):
    """It did: what realism added to smooth surfaces was the same in every cell, and pictures were twice as woven."""
    image = getattr(data, name)()
    for quality in (0.0, 0.2):
        stream = photo.encode(image, (0.0, 0.0, quality))
        plain, real = (weave(np.asarray(photo.decode(stream, realism=r))) for r in (0.0, 1.0))
        assert real < 1.25 * max(plain, weave(image))


def test_distances_of_unit_features_do_not_depend_on_their_length():
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    louder = _Edges()
    with torch.no_grad():
        louder.second.weight.mul_(5)
        louder.second.bias.mul_(5)
    distances = [UnitFeatureDistance(net, ["second"])(x, y) for net in (_Edges(), louder)]
    assert torch.allclose(*distances, rtol=1e-4) and (distances[0] > 0).all()


def test_observers_of_one_network_look_through_it_once(monkeypatch):
    """Whatever layers each compares; the distances, and their slopes, are those that each would find alone."""
    monkeypatch.setattr(_Edges, "pretrained_cfg", {"mean": (0.4,) * 3, "std": (0.2,) * 3}, raising=False)
    monkeypatch.setattr(distortion_module, "imagenet_classifier", lambda name: _Edges())
    configs = [
        ObserverConfig("features", 0.5, layers=["second"]),
        ObserverConfig("unit_features", layers=["first", "second"]),
        ObserverConfig("wasserstein", 2.0, layers=["first"]),
    ]
    together, looks, run = WeightedDistortion(configs), [], _Edges.forward
    monkeypatch.setattr(_Edges, "forward", lambda self, x: looks.append(x) or run(self, x))
    x, totals, slopes = torch.rand(2, 3, 32, 32), [], []
    for parts in ([WeightedDistortion([config]) for config in configs], [together]):
        y = x.flip(-1).requires_grad_()
        totals.append(torch.stack([each(x, y, None)[0] for each in parts]).sum(0))
        slopes.append(torch.autograd.grad(totals[-1].sum(), y)[0])
    assert len(looks) == 2 * len(configs) + 2
    assert torch.allclose(*totals) and torch.allclose(*slopes, atol=1e-7) and slopes[0].any()
    assert together.observers[0](x, x).eq(0).all(), "outside, nothing is kept"


def test_the_demo_and_the_page_show_it_where_there_is_any(realistic, small, image, tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(image).save(path)
    for model, names in ((realistic, {"cat.realistic.png"}), (small, set())):
        folder = tmp_path / model.fingerprint
        run_demo(model, [str(path)], folder)
        assert {file.name for file in folder.glob("*.realistic.png")} == names
    photograph = Photograph(realistic, Image.fromarray(image))
    plain, invented = (np.asarray(photograph.at(0.5, r).pictures[0][1]).astype(int) for r in (0.0, 1.0))
    assert np.abs(plain - invented).mean() > 0.1
    assert np.array_equal(invented, np.asarray(realistic.decode(photograph.at(0.5).stream, realism=1.0)))


def test_the_command_line_decodes_with_it(realistic, image, tmp_path, capsys):
    realistic.save(tmp_path / "model")
    stream = tmp_path / "cat.cda"
    stream.write_bytes(cda.load(tmp_path / "model").encode(image))
    words = ["decode", str(stream), "--model", str(tmp_path / "model"), "-o"]
    assert main([*words, str(tmp_path / "0.png")]) == main([*words, str(tmp_path / "1.png"), "--realism", "1"]) == 0
    plain, invented = (np.asarray(Image.open(tmp_path / f"{r}.png")).astype(int) for r in (0, 1))
    assert np.abs(plain - invented).mean() > 0.1
    with pytest.raises(SystemExit):
        main([*words, str(tmp_path / "2.png"), "--realism", "2"])
    assert "a number in [0, 1] is wanted" in capsys.readouterr().err


def test_studies_and_experiments_decode_with_it(realistic, image_folder, tmp_path):
    realistic.save(tmp_path / "model")
    (tmp_path / "study.yaml").write_text(
        f"name: s\ntitle: t\nmodel: {tmp_path / 'model'}\nsource: {{path: {image_folder}}}\n"
        "perception: [psnr]\nreconstructions: [0.5]\nrealistic: [0.5]\ndraws: 0\n"
    )
    report, _ = run_study(load_study(tmp_path / "study.yaml"), tmp_path / "study", "test")
    points = {point["series"]: point for point in report["points"]}
    plain, invented = points[DECODED], points[REALISTIC]
    assert plain["bpp"] == invented["bpp"] and plain["psnr"] != invented["psnr"]
    (tmp_path / "experiment.yaml").write_text(
        f"name: e\nquestion: q\nbase: {tmp_path / 'model'}\nrealism: {{realism 1: 1.0}}\n"
        f"measures: {{some: {{title: t, source: {{path: {image_folder}}}, bpp: [6], evaluators: [psnr]}}}}\n"
    )
    found = run_experiment(load_experiment(tmp_path / "experiment.yaml"), tmp_path / "experiment", "test")
    rows = {row["codec"]: row for row in found["tables"]["some"]["rows"]}
    assert list(rows) == ["base", "realism 1"] and rows["base"]["bpp"] == rows["realism 1"]["bpp"]
    assert rows["base"]["psnr"] != rows["realism 1"]["psnr"]
