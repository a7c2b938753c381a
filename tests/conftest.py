"""What many tests share: a small model with random weights, the model that ships, and photographs."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

import cdanalysis as cda
from cdanalysis.codec.layered import CodecConfig
from cdanalysis.model import Model
from cdanalysis.zoo import load

hypothesis.settings.register_profile("untimed", deadline=None)  # speed is a benchmark, never a test
hypothesis.settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))

ROOT = Path(__file__).parent.parent
SMALL = CodecConfig(
    classifier="test_efficientnet",  # timm's, for tests: 0.4 million weights
    global_size=64,
    global_groups=[4, 12],
    global_hidden=8,
    global_context=16,
    spatial_size=96,
    spatial_channels=8,
    spatial_hidden=24,
    spatial_depth=1,
    spatial_context=16,
    detail_channels=16,
    hyper_channels=8,
    width=16,
    analysis_depth=1,
    synthesis_depth=1,
)


def module_of(path: Path) -> ModuleType:
    """A module by its file: tools are no part of the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # where its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


LIGHT = {"ends": 1, "detail_passes": 4, "analysis_depth": 2, "synthesis_depth": 2}
"""Of a codec whose pixel layers look around in blocks alone."""


def new_small_model(seed: int = 0, **shape: Any) -> Model:
    """A small model with random weights, whose residual branches speak and whose latents take many values."""
    torch.manual_seed(seed)
    model = Model(
        dataclasses.replace(SMALL, **shape), heads={"classification": {"classes": ["cat", "dog", "cup"]}}, name="small"
    )
    with torch.no_grad():
        analysis, decoder = model.codec.global_layer.g_a[0], model.codec.global_layer.g_s[1]
        model.codec.classifier.net.conv_head.weight.mul_(40)  # embeddings of about a tenth
        analysis.weight.mul_(30)
        # What is decoded is near what was coded, or the search for the best symbols would find none worth a bit.
        decoder.weight.copy_(torch.linalg.pinv(analysis.weight))
        decoder.bias.copy_(-decoder.weight @ analysis.bias)
        model.codec.spatial.g_a.out.weight.mul_(40)
        for part in (*model.codec.global_layer.context.heads, model.codec.spatial.g_s.context):
            part.weight.normal_(std=0.05)
        for name, parameter in model.codec.named_parameters():
            if "narrow.weight" in name and not name.startswith(("classifier", "detector")):
                parameter.normal_(std=0.1)
    model.codec.freeze_tables()
    return model


def with_counterparts(model: Model) -> Model:
    """A copy of a model whose heads have counterparts that are as they are, as if they had learned so little."""
    model = copy.deepcopy(model)
    for task, head in model.heads.items():
        model.counterparts[task] = copy.deepcopy(head)
    return model


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    new_small_model().save(folder)
    return folder


@pytest.fixture(scope="session")
def small(small_folder) -> Model:
    return load(small_folder)


@pytest.fixture(scope="session")
def three_tasks(small) -> Model:
    """The small model with heads, of random weights, for all three tasks."""
    model = new_small_model()
    model.load_state_dict(small.state_dict())
    torch.manual_seed(1)
    model.heads["detection"] = model.new_head("detection", classes=["cat", "dog"])
    model.heads["segmentation"] = model.new_head("segmentation", classes=["sky", "road", "tree"], width=32)
    for head in model.heads["detection"].detector.heads:
        torch.nn.init.constant_(head.predict.bias, 0.0)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def three_tasks_folder(three_tasks, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "three"
    three_tasks.save(folder)
    return folder


@pytest.fixture(scope="session")
def photo() -> Model:
    return cda.load("photo")


@pytest.fixture(scope="session")
def chelsea() -> np.ndarray:
    """A photograph of a cat, (300, 451, 3) uint8."""
    from skimage import data

    return data.chelsea()


@pytest.fixture
def image(chelsea) -> np.ndarray:
    """A corner of a photograph whose sides are no multiple of anything, (75, 101, 3) uint8."""
    return chelsea[100:175, 150:251].copy()


@pytest.fixture
def image_folder(tmp_path, chelsea) -> Path:
    """Two classes with two small photographs each."""
    folder = tmp_path / "photographs"
    for index, name in enumerate(["cat/a", "cat/b", "dog/c", "dog/d"]):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chelsea[40 * index : 40 * index + 64, 50 * index : 50 * index + 96]).save(path)
    return folder


@pytest.fixture
def world(tmp_path) -> Path:
    """Drawn data for all three tasks: red or blue rectangles on a coarse field, known to the pixel."""
    rng, side = np.random.default_rng(0), 96
    images, annotations = [], []
    (tmp_path / "pixels" / "images").mkdir(parents=True)
    (tmp_path / "pixels" / "labels").mkdir()
    for i in range(6):
        field = Image.fromarray(rng.integers(90, 160, (4, 4, 3), dtype=np.uint8)).resize((side, side))
        array, kind = np.asarray(field).copy(), i % 2
        x, y = (int(v) for v in rng.integers(8, 40, 2))
        array[y : y + 44, x : x + 40] = ((230, 20, 20), (20, 20, 230))[kind]
        labels = np.zeros((side, side), np.uint8)
        labels[y : y + 44, x : x + 40] = 1 + kind
        folder = tmp_path / "classes" / ("red", "blue")[kind]
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder / f"{i}.png", tmp_path / "pixels" / "images" / f"{i}.png"):
            Image.fromarray(array).save(path)
        Image.fromarray(labels).save(tmp_path / "pixels" / "labels" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": side, "height": side})
        annotations.append({"id": i + 1, "image_id": i, "category_id": 1 + kind, "bbox": [x, y, 40, 44], "area": 1760})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    described = [{"index": i, "name": n, "colour": [i, i, i], "ignore": False} for i, n in enumerate("brd")]
    (tmp_path / "pixels" / "classes.json").write_text(json.dumps({"classes": described}))
    return tmp_path


@pytest.fixture
def data_root() -> Path:
    root = Path(os.environ.get("CDANALYSIS_DATA", ROOT.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("CDANALYSIS_DATA names no folder of data sets")
    return root
