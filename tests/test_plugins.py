"""Other packages: what they register by entry points is trained, analyzed, evaluated and reported like what is here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cdanalysis as cda
from cdanalysis.cli import main
from cdanalysis.codecs.base import open_codec
from cdanalysis.data.labeled import LabeledSource, open_labeled
from cdanalysis.evaluation.configs import load_study
from cdanalysis.evaluation.evaluators import Context, new_evaluators
from cdanalysis.registry import CODECS, DATASETS, EVALUATORS, HEADS, LIBRARIES, METRICS, OBSERVERS, TEACHERS, Registry
from cdanalysis.reports.study_page import report_page, study_report
from cdanalysis.teachers.imagenet import imagenet_classifier
from cdanalysis.training.distortion import ObserverConfig, WeightedDistortion
from cdanalysis.training.recipe import load_recipe
from cdanalysis.training.trainer import Trainer

REGISTRIES = (HEADS, TEACHERS, OBSERVERS, CODECS, METRICS, EVALUATORS, DATASETS, LIBRARIES)
ENTRY_POINTS = """
[cdanalysis.heads]
keypoints = acme_keypoints:KeypointHead
[cdanalysis.datasets]
keypoints = acme_keypoints:PointFolder
[cdanalysis.metrics]
keypoints = acme_keypoints:PCK
[cdanalysis.observers]
blurred = acme_keypoints:blurred
[cdanalysis.codecs]
palette PNG = acme_keypoints:PALETTE_PNG
[cdanalysis.evaluators]
brightness = acme_keypoints:brightness
[cdanalysis.teachers]
tiny = acme_keypoints:tiny_teacher
"""


def packaged(folder: Path) -> Path:
    """A folder with a package and the entry points that installing it would have written."""
    described = folder / "acme_keypoints-1.0.dist-info"
    described.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("acme_keypoints.py"), folder)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-keypoints\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@pytest.fixture
def acme(tmp_path, monkeypatch) -> None:
    """The package is on the path."""
    monkeypatch.syspath_prepend(packaged(tmp_path / "site"))


def draw_squares(folder: Path) -> Path:
    """Bright squares on a dark field; their centers and corners are the points."""
    rng, points = np.random.default_rng(0), {}
    (folder / "squares").mkdir()
    for number in range(8):
        array = rng.integers(0, 40, (96, 96, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(8, 56, 2))
        array[y : y + 32, x : x + 32] = 230
        Image.fromarray(array).save(folder / "squares" / f"{number}.png")
        points[f"{number}.png"] = [[x + 16, y + 16], [x, y]]
    (folder / "points.json").write_text(json.dumps({"classes": ["center", "corner"], "points": points}))
    return folder / "squares"


@pytest.fixture
def squares(tmp_path) -> Path:
    return draw_squares(tmp_path)


@pytest.fixture(scope="module")
def trained_once(small_folder, tmp_path_factory) -> Path:
    """The folder of the small model with a keypoint head that learned for a few steps."""
    folder = tmp_path_factory.mktemp("keypoints")
    squares, recipe = draw_squares(folder), folder / "keypoints.yaml"
    recipe.write_text(f"""
name: keypoints
init: {small_folder}
precision: 32-true
workers: 0
stages:
- name: keypoints
  trains: [heads.keypoints]
  batch: 4
  lr: 0.01
  warmup: 1
  head:
    task: keypoints
    sources: [{{path: {squares}, annotations: {squares.parent / "points.json"}}}]
    qualities: [1.0]
    flip: true
    epochs: 40
    options: {{width: 24}}
""")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(packaged(folder / "site"))
        assert Trainer(load_recipe(recipe), folder / "run").run()
    return folder / "run" / "model"


@pytest.fixture
def trained(acme, trained_once) -> Path:
    return trained_once


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_all_that_is_named_is_there(registry):
    assert all(registry[name] is not None for name in registry)
    with pytest.raises(ValueError, match=f"unknown {registry.kind} 'none'; there are "):
        registry["none"]


def test_names_are_registered_once():
    registry = Registry("thing", "cdanalysis.things", {"builtin": "version:__version__"})

    @registry.register("mine")
    def mine():
        pass

    assert registry["mine"] is mine and list(registry) == ["builtin", "mine"] and "mine" in registry
    registry.register("mine")(mine)
    for name in ("mine", "builtin"):
        with pytest.raises(ValueError, match=f"there is a thing '{name}' already"):
            registry.register(name)(print)


def test_own_names_are_known_without_reading_every_packages_files(monkeypatch):
    monkeypatch.setattr("cdanalysis.registry.entry_points", None)
    assert all(name in registry for registry in REGISTRIES for name in registry._builtin)


def test_without_the_package_nobody_knows_of_it():
    assert not any(name in registry for registry in REGISTRIES for name in ("keypoints", "palette PNG", "blurred"))


def test_a_head_of_another_package_learns_and_reads_streams(trained, squares):
    model = cda.load(str(trained))
    labeled = open_labeled("keypoints", LabeledSource(str(squares), str(squares.parent / "points.json")))
    result = model.analyze(model.encode(labeled.image(0), 1.0, layers=("global", "spatial")))
    assert list(result) == ["classification", "keypoints"] and result.keypoints is result["keypoints"]
    assert result.keypoints.xy.shape == (2, 2) and result.detection is None
    with pytest.raises(AttributeError, match="no task 'poses'; there are predictions of: classification, keypoints"):
        _ = result.poses
    distances = []
    for head in (model.heads["keypoints"], model.new_head("keypoints", classes=labeled.classes).eval()):
        model.heads["keypoints"] = head
        streams = [model.encode(image, 1.0, layers=("global", "spatial")) for image, _ in labeled]
        found = [result.keypoints for result in model.analyze_batch(streams)]
        wanted = [target.xy.numpy() for _, target in labeled]
        distances.append(np.mean([np.linalg.norm(f.xy - w, axis=1) for f, w in zip(found, wanted, strict=True)]))
    assert distances[0] < 0.7 * distances[1]


def test_the_command_line_knows_it_too(trained, squares, capsys):
    stream = squares / "0.cda"
    assert main(["encode", str(squares / "0.png"), "-o", str(stream), "--model", str(trained)]) == 0
    capsys.readouterr()
    assert main(["analyze", str(stream), "--model", str(trained), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["tasks"]["keypoints"]) == {"center", "corner"}
    words = ["--tasks", "keypoints", "--annotations", str(squares.parent / "points.json"), "--quality", "1.0"]
    assert main(["evaluate", str(squares), "--model", str(trained), *words]) == 0
    assert "PCK" in capsys.readouterr().out


def test_a_study_reports_it(trained, squares, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(f"""
name: keypoints
title: Keypoints from streams.
task: keypoints
model: {trained}
source: {{path: {squares}, annotations: {squares.parent / "points.json"}}}
streams: [0.2, 1.0]
baselines: {{palette PNG: [1, 4]}}
perception: [psnr]
draws: 5
""")
    report, images = study_report(load_study(path), tmp_path / "out", "a command")
    assert report["main"] == "PCK" and {row["series"] for row in report["points"]} > {"palette PNG"}
    assert all(0 <= row["scores"]["PCK"] <= 1 for row in report["points"])
    page = report_page(report, images)
    assert "<th>PCK</th>" in page and "palette PNG" in page
    assert "score" in (tmp_path / "out" / "photographs.csv").read_text().splitlines()[0]


def test_observers_codecs_evaluators_and_teachers_of_another_package(acme, chelsea, small):
    x = torch.rand(2, 3, 32, 32)
    distortion = WeightedDistortion([ObserverConfig("blurred", weight=2.0, options={"radius": 1})])
    total, each = distortion(x, x.flip(3), None)
    assert list(each) == ["blurred"] and torch.allclose(total, 2 * each["blurred"]) and (total > 0).all()

    codec, image = open_codec("palette PNG"), Image.fromarray(chelsea)
    data = codec.encode_near(image, 40_000)
    assert len(data) <= 40_000 < len(codec.encode(image, codec.max_level))
    (evaluator,) = new_evaluators(["brightness"], Context(codec=codec))
    own = evaluator.update(0, chelsea, codec.decode(data), data)
    assert evaluator.compute() == own and 0 < own["brightness"] < 20

    teacher = imagenet_classifier("tiny")
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
