"""detectron2's own models on streams. Needs detectron2: `.ci/run` installs it, so there these tests run."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

if "CDANALYSIS_NEEDS_DETECTRON2" not in os.environ:  # where it is set, a missing detectron2 is an error
    pytest.importorskip("detectron2", reason="detectron2 is not installed: tools/install_detectron2.py")

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage

from cdanalysis.integrations.detectron2 import LEVELS, LatentBackbone, LatentBatch, LatentMapper
from cdanalysis.stream.errors import StreamError
from cdanalysis.structures.latents import SEMANTIC, working_size
from cdanalysis.zoo import load

CONFIGS = Path(__file__).parent.parent / "configs" / "detectron2"
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


def small_config(name: str, model: Path | str):
    """The committed config with few channels and the drawn classes, on streams of a model."""
    config = LazyConfig.load(str(CONFIGS / f"{name}.py")).model
    config.backbone.out_channels, config.backbone.model = 32, str(model)
    if "roi_heads" in config:
        config.roi_heads.num_classes = 2
        cascade = name.startswith("cascade")
        for head in config.roi_heads.box_heads if cascade else [config.roi_heads.box_head]:
            head.fc_dims = [64]
        for predictor in config.roi_heads.box_predictors if cascade else [config.roi_heads.box_predictor]:
            predictor.input_shape.channels = 64
        config.roi_heads.mask_head.conv_dims = [32, 32]
    if "sem_seg_head" in config:
        config.sem_seg_head.num_classes, config.sem_seg_head.conv_dims = 3, 32
    if "head" in config:
        config.num_classes, config.head.conv_dims = 2, [32]
    return config


def batch_of(name: str, model, records, folder) -> list[dict]:
    """The records as the mapper gives them, with label pictures for models that want them."""
    mapper = LatentMapper(model, masks="rcnn" in name or name == "panoptic_fpn")
    wanted = []
    for record in records:
        record = dict(record)
        if name in ("semantic_fpn", "panoptic_fpn"):
            record["sem_seg_file_name"] = str(folder / (Path(record["file_name"]).stem + ".labels.png"))
            labels = np.zeros(SIZE, np.uint8)
            for annotation in record["annotations"]:
                x, y, w, h = (int(v) for v in annotation["bbox"])
                labels[y : y + h, x : x + w] = annotation["category_id"] + 1
            Image.fromarray(labels).save(record["sem_seg_file_name"])
        if name == "semantic_fpn":
            del record["annotations"]
        wanted.append(mapper(record))
    return wanted


@pytest.mark.parametrize("name", MODELS)
def test_train_step_prediction_and_checkpoint(name, small, small_folder, shapes, tmp_path):
    torch.manual_seed(0)
    _, records = shapes
    model = instantiate(small_config(name, small_folder)).train()
    batch = batch_of(name, small, records, tmp_path)
    synthesis = {n: p.clone() for n, p in model.backbone.synthesis.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    totals = []
    with EventStorage():
        for _ in range(12):
            model.__dict__.pop("loss_normalizer", None)  # a running mean, by which losses would rise while it settles
            losses = model(batch)
            assert losses and all(torch.isfinite(v) for v in losses.values())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            totals.append(sum(losses.values()).item())
    assert totals[-1] < totals[0]
    assert all(torch.equal(p, synthesis[n]) for n, p in model.backbone.synthesis.state_dict().items()), "it is frozen"
    DetectionCheckpointer(model, str(tmp_path)).save("model")
    torch.manual_seed(1)
    again = instantiate(small_config(name, small_folder))
    DetectionCheckpointer(again).load(str(tmp_path / "model.pth"))
    model.eval(), again.eval()
    with torch.no_grad():
        first, second = model(batch), again(batch)
    for one, other in zip(first, second, strict=True):
        if "sem_seg" in one:
            assert one["sem_seg"].shape == (3, *SIZE) and torch.equal(one["sem_seg"], other["sem_seg"])
        if name == "panoptic_fpn":
            assert one["panoptic_seg"][0].shape == SIZE
        if name != "semantic_fpn":
            assert isinstance(one["instances"], Instances) and one["instances"].image_size == SIZE
            assert torch.equal(one["instances"].pred_boxes.tensor, other["instances"].pred_boxes.tensor)


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


def test_it_learns_32_photographs_by_heart(tmp_path):
    """From streams alone to an AP50 of at least 0.9, by detectron2's own evaluator."""
    torch.manual_seed(0)
    photo = load("photo")
    photo.codec.config = dataclasses.replace(photo.codec.config, spatial_size=160)  # small ones need not be enlarged
    path = drawn(tmp_path, photo, 32, seed=1)
    DatasetCatalog.register("drawn-32", lambda: load_coco_json(str(path), str(tmp_path), "drawn-32"))
    MetadataCatalog.get("drawn-32").set(json_file=str(path))
    try:
        records = DatasetCatalog.get("drawn-32")
        config = small_config("retinanet", "photo")
        config.backbone.out_channels, config.head.conv_dims = 64, [64, 64]
        model = instantiate(config).train()
        batch = [LatentMapper(photo)(record) for record in records]
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
        steps = 120
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
        with EventStorage():
            for step in range(steps):
                losses = model([batch[i] for i in np.random.default_rng(step).permutation(32)[:8]])
                optimizer.zero_grad()
                sum(losses.values()).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        model.eval()
        evaluator = COCOEvaluator("drawn-32", ("bbox",), output_dir=None, use_fast_impl=False)
        evaluator.reset()
        with torch.no_grad():
            for entry in batch:
                evaluator.process([entry], model([entry]))
        assert evaluator.evaluate()["bbox"]["AP50"] >= 90
    finally:
        DatasetCatalog.remove("drawn-32")
        MetadataCatalog.pop("drawn-32", None)
