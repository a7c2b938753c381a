"""detectron2's own models on streams. Needs detectron2: `.ci/run` installs it, so there these tests run."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

if "CDANALYSIS_NEEDS_DETECTRON2" not in os.environ:  # where it is set, a missing detectron2 is an error
    pytest.importorskip("detectron2", reason="detectron2 is not installed: tools/install_detectron2.py")

import detectron2
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage
from detectron2.utils.logger import setup_logger

from cdanalysis.integrations.detectron2 import LEVELS, LatentBackbone, LatentBatch, LatentMapper
from cdanalysis.stream.errors import StreamError
from cdanalysis.structures.latents import SEMANTIC, working_size
from cdanalysis.zoo import load

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs" / "detectron2"
SIZE = (119, 151)  # no multiple of the padding


def drawn(folder: Path, model, count: int, seed: int = 0) -> Path:
    """Photographs of red rectangles and blue discs on noise, their streams, and their COCO file with polygons."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = Image.fromarray(rng.integers(90, 130, (*SIZE, 3), dtype=np.uint8))
        draw = ImageDraw.Draw(image)
        for category in rng.permutation([1, 2])[: rng.integers(1, 3)].tolist():
            w, h = (int(v) for v in rng.integers(32, 56, 2))
            x, y = int(rng.integers(0, SIZE[1] - w)), int(rng.integers(0, SIZE[0] - h))
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            if category == 1:
                draw.rectangle((x, y, x + w, y + h), fill=(220, 30, 30))
            else:
                draw.ellipse((x, y, x + w, y + h), fill=(30, 40, 220))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": category, "bbox": [x, y, w, h],
                 "area": w * h, "iscrowd": 0, "segmentation": [corners]}
            )  # fmt: skip
        image.save(folder / f"{number}.png")
        (folder / f"{number}.cda").write_bytes(model.encode(image, 0.9, layers=SEMANTIC))
        images.append({"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]})
    categories = [{"id": 1, "name": "rectangle"}, {"id": 2, "name": "disc"}]
    path = folder / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture(scope="module")
def shapes(tmp_path_factory, small):
    path = drawn(tmp_path_factory.mktemp("shapes"), small, 3)
    return path, load_coco_json(str(path), str(path.parent), "drawn")


MODELS = ("mask_rcnn", "cascade_mask_rcnn", "retinanet", "fcos", "semantic_fpn", "panoptic_fpn")


SCRIPT = Path(detectron2.__file__).parent.parent / "tools" / "lazyconfig_train_net.py"
"""detectron2's own training script, which is installed with it."""


def small_words(name: str, model: Path | str) -> list[str]:
    """Overrides for few channels and the drawn classes, on streams of a model."""
    words = ["model.backbone.out_channels=32", f"model.backbone.model={model}"]
    if name in ("retinanet", "fcos"):
        return [*words, "model.num_classes=2", "model.head.conv_dims=[32]"]
    if name != "semantic_fpn":
        words += [f"model.{part}.batch_size_per_image=64" for part in ("proposal_generator", "roi_heads")]
        words += ["model.roi_heads.num_classes=2", "model.roi_heads.mask_head.conv_dims=[32,32]"]
        for number in (".0", ".1", ".2") if name.startswith("cascade") else ("",):
            part = "s" * bool(number) + number
            words += [f"model.roi_heads.box_head{part}.fc_dims=[64]"]
            words += [f"model.roi_heads.box_predictor{part}.input_shape.channels=64"]
    if name in ("semantic_fpn", "panoptic_fpn"):
        words += ["model.sem_seg_head.num_classes=3", "model.sem_seg_head.conv_dims=32"]
    return words


def small_config(name: str, model: Path | str):
    """The committed config of a model with few channels and the drawn classes, on streams of a model."""
    config = LazyConfig.load(str(CONFIGS / f"{name}.py"))
    return LazyConfig.apply_overrides(config, small_words(name, model)).model


@pytest.fixture(scope="module")
def registered(shapes):
    """The drawn photographs as detectron2's data sets: with label pictures, "drawn-all", and these alone."""
    path, records = shapes
    described = {"json_file": str(path), "ignore_label": 255, "stuff_classes": ["ground", "rectangle", "disc"]}
    described["thing_dataset_id_to_contiguous_id"] = {1: 0, 2: 1}
    described["thing_classes"] = ["rectangle", "disc"]
    for record in records:
        labels = np.zeros(SIZE, np.uint8)
        for annotation in record["annotations"]:
            x, y, w, h = (int(v) for v in annotation["bbox"])
            labels[y : y + h, x : x + w] = annotation["category_id"] + 1
        record["sem_seg_file_name"] = record["file_name"].replace(".png", ".labels.png")
        Image.fromarray(labels).save(record["sem_seg_file_name"])
    bare = [{k: v for k, v in record.items() if k != "annotations"} for record in records]
    for name, content in (("drawn-all", records), ("drawn-labels", bare)):
        DatasetCatalog.register(name, lambda content=content: content)
        MetadataCatalog.get(name).set(**described)
    yield
    for name in ("drawn-all", "drawn-labels"):
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


@pytest.fixture
def train(monkeypatch, registered, small_folder, tmp_path):
    """Runs detectron2's own script as `python` would, with few channels; gives the lines of its metrics."""

    def run(name: str, *words: str, config: Path | None = None) -> list[dict]:
        data = "drawn-labels" if name == "semantic_fpn" else "drawn-all"
        settings = [f"train.output_dir={tmp_path}", "train.device=cpu", "train.seed=0", "train.log_period=1"]
        settings += ["train.max_iter=20", "optimizer.lr=1e-3", "dataloader.train.total_batch_size=2"]
        for part in ("train", "test"):
            settings += [f"dataloader.{part}.num_workers=0"]
            settings += [] if config else [f"dataloader.{part}.dataset.names={data}"]
        options = [word for word in words if word.startswith("--")]
        settings += [*small_words(name, small_folder), *(word for word in words if word not in options)]
        command = [str(SCRIPT), "--config-file", str(config or CONFIGS / f"{name}.py"), *options, *settings]
        monkeypatch.setattr("sys.argv", command)
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]

    yield run
    setup_logger.cache_clear()
    for logger in (logging.getLogger("detectron2"), logging.getLogger("fvcore")):
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()


def loss(model, batch) -> float:
    """The sum of a model's losses of a batch."""
    torch.manual_seed(0)
    with EventStorage(), torch.no_grad():
        losses = model.train()(batch)
    assert losses and all(torch.isfinite(value) for value in losses.values())
    return sum(losses.values()).item()


@pytest.mark.parametrize("name", MODELS)
def test_detectron2s_own_script_trains_and_evaluates(name, small, small_folder, shapes, train, tmp_path):
    """Twenty steps of every config; what was trained is in the checkpoint, and the codec stands still."""
    *_, step, end = train(name)
    wanted = {"sem_seg/mIoU"} if name == "semantic_fpn" else {"bbox/AP", "bbox/AP50"}
    wanted |= {"segm/AP"} if "rcnn" in name else {"segm/AP", "sem_seg/mIoU"} if name == "panoptic_fpn" else set()
    assert step["iteration"] == 19 and step["lr"] == pytest.approx(1e-5) and wanted <= end.keys()
    mapper = LatentMapper(small, masks="rcnn" in name or name == "panoptic_fpn")
    batch = [mapper(record) for record in DatasetCatalog.get("drawn-all")]
    torch.manual_seed(0)
    model = instantiate(small_config(name, small_folder))
    synthesis = {n: p.clone() for n, p in model.backbone.synthesis.state_dict().items()}
    before = loss(model, batch)
    DetectionCheckpointer(model).load(str(tmp_path / "model_final.pth"))
    assert loss(model, batch) < before
    assert all(torch.equal(p, synthesis[n]) for n, p in model.backbone.synthesis.state_dict().items()), "it is frozen"
    with torch.no_grad():
        for one in model.eval()(batch):
            if "sem_seg" in one:
                assert one["sem_seg"].shape == (3, *SIZE)
            if name == "panoptic_fpn":
                assert one["panoptic_seg"][0].shape == SIZE
            if name != "semantic_fpn":
                assert isinstance(one["instances"], Instances) and one["instances"].image_size == SIZE


def test_detectron2s_own_script_goes_on_and_evaluates_alone(train, tmp_path, capsys):
    first = train("retinanet", "train.max_iter=2")
    both = train("retinanet", "--resume", "train.max_iter=4")
    assert [line["iteration"] for line in both[len(first) :]] == [2, 3, 4] and both[: len(first)] == first
    capsys.readouterr()
    train("retinanet", "--eval-only", f"train.init_checkpoint={tmp_path / 'model_final.pth'}")
    assert f"'AP50': {both[-1]['bbox/AP50']}" in capsys.readouterr().out


def test_the_guides_config_for_ones_own_data_trains(shapes, train, tmp_path, monkeypatch):
    (text,) = re.findall(r'```python title="pets.py"\n(.*?)```', (ROOT / "docs" / "detectron2.md").read_text(), re.S)
    (tmp_path / "pets.py").write_text(text)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "photographs").symlink_to(shapes[0].parent)
    for part in ("train", "val"):
        (tmp_path / "pets" / f"{part}.json").symlink_to(shapes[0])
    monkeypatch.chdir(tmp_path)
    try:
        *_, end = train("retinanet", "train.max_iter=1", config=tmp_path / "pets.py")
    finally:
        for name in {"pets_train", "pets_val"} & set(DatasetCatalog.list()):
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name)
    assert {"bbox/AP", "bbox/AP50"} <= end.keys()


def test_the_backbone_says_what_it_gives(small, shapes):
    _, records = shapes
    backbone, mapper = LatentBackbone(small, out_channels=32).eval(), LatentMapper(small)
    assert backbone.size_divisibility == 32
    entries = [mapper(record) for record in records]
    height, width = entries[0]["size"]
    assert (height, width) == working_size(*SIZE, longer=small.codec.config.spatial_size)
    with torch.no_grad():
        features = backbone(LatentBatch(*([e[key] for e in entries] for key in ("latents", "quality", "context"))))
    for name, spec in backbone.output_shape().items():
        assert spec.stride == LEVELS[name]
        assert features[name].shape == (len(entries), spec.channels, height // spec.stride, -(-width // spec.stride))
    with pytest.raises(ValueError, match="unknown feature 'p9'"):
        LatentBackbone(small, out_features=("p9",))
    moving = LatentBackbone(small, out_channels=32, frozen=False)
    assert all(p.requires_grad for p in moving.parameters())


def test_annotations_are_scaled_to_the_working_size(small, shapes):
    """Boxes and masks cover the same share of the picture as they do of the photograph."""
    _, records = shapes
    for record in records:
        entry = LatentMapper(small, masks=True)(record)
        across, down = (new / old for new, old in zip(entry["size"][::-1], SIZE[::-1], strict=True))
        assert (entry["height"], entry["width"]) == SIZE and entry["instances"].image_size == entry["size"]
        wanted = [
            [x * across, y * down, (x + w) * across, (y + h) * down]
            for x, y, w, h in (a["bbox"] for a in record["annotations"])
        ]
        assert torch.allclose(entry["instances"].gt_boxes.tensor, torch.tensor(wanted), atol=0.5)
        masks = entry["instances"].gt_masks.get_bounding_boxes().tensor
        assert torch.allclose(masks, torch.tensor(wanted), atol=1)


def test_photographs_of_different_sizes_share_a_batch(small, small_folder, tmp_path):
    """Padding goes right and down, and predictions of each are those it has alone."""
    torch.manual_seed(0)
    model = instantiate(small_config("retinanet", small_folder)).eval()
    model.test_score_thresh = 0.0
    mapper = LatentMapper(small, is_train=False)
    entries = []
    for index, (height, width) in enumerate([(64, 100), (119, 151)]):
        image = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
        (tmp_path / f"{index}.cda").write_bytes(small.encode(image, 0.5))
        entries.append(mapper({"file_name": str(tmp_path / f"{index}.png")}))
    with torch.no_grad():
        for result, (height, width) in zip(model(entries), [(64, 100), (119, 151)], strict=True):
            found = result["instances"]
            assert found.image_size == (height, width)
            assert (found.pred_boxes.tensor <= torch.tensor([width, height, width, height])).all()


def test_what_is_no_latent_is_refused(small, small_folder, shapes, tmp_path):
    _, records = shapes
    model = instantiate(small_config("retinanet", small_folder)).eval()
    with pytest.raises(ValueError, match="LatentMapper"):
        model([{"image": torch.zeros(3, 64, 64)}])
    mapper = LatentMapper(small)
    with pytest.raises(ValueError, match="151x119, not the data set's"):
        mapper({**records[0], "width": 150})
    with pytest.raises(FileNotFoundError):
        mapper({"file_name": str(tmp_path / "none.png")})
    (tmp_path / "bad.cda").write_bytes(b"not a stream")
    with pytest.raises(StreamError):
        mapper({"file_name": str(tmp_path / "bad.png")})
    empty = mapper({**records[0], "annotations": []})
    assert len(empty["instances"]) == 0


class Remembered(torch.nn.Module):
    """A frozen synthesis that is run once for each photograph."""

    def __init__(self, synthesis: torch.nn.Module):
        super().__init__()
        self.synthesis, self.known = synthesis, {}

    def forward(self, *columns: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for rows in zip(*(column.split(1) for column in columns), strict=True):
            key = b"".join(row.numpy().tobytes() for row in rows)
            if key not in self.known:
                self.known[key] = self.synthesis(*rows)
            found.append(self.known[key])
        return [torch.cat(level) for level in zip(*found, strict=True)]


def test_it_learns_16_photographs_by_heart(tmp_path):
    """From streams alone to an AP50 of at least 0.9, by detectron2's own evaluator."""
    torch.manual_seed(0)
    photo = load("photo")
    photo.codec.config = dataclasses.replace(photo.codec.config, spatial_size=160)  # small ones need not be enlarged
    path = drawn(tmp_path, photo, 16, seed=1)
    DatasetCatalog.register("drawn-16", lambda: load_coco_json(str(path), str(tmp_path), "drawn-16"))
    MetadataCatalog.get("drawn-16").set(json_file=str(path))
    try:
        records = DatasetCatalog.get("drawn-16")
        config = small_config("retinanet", "photo")
        config.backbone.out_channels, config.head.conv_dims = 64, [64, 64]
        model = instantiate(config).train()
        model.backbone.synthesis = Remembered(model.backbone.synthesis)
        batch = [LatentMapper(photo)(record) for record in records]
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
        steps = 80
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
        with EventStorage():
            for step in range(steps):
                losses = model([batch[i] for i in np.random.default_rng(step).permutation(16)[:8]])
                optimizer.zero_grad()
                sum(losses.values()).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        model.eval()
        evaluator = COCOEvaluator("drawn-16", ("bbox",), output_dir=None)
        evaluator.reset()
        with torch.no_grad():
            for entry in batch:
                evaluator.process([entry], model([entry]))
        assert evaluator.evaluate()["bbox"]["AP50"] >= 90
    finally:
        DatasetCatalog.remove("drawn-16")
        MetadataCatalog.pop("drawn-16", None)
