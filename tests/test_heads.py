"""Detection and segmentation heads: geometry in pixels, losses that fall, scores that independent code confirms."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import with_counterparts
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection.fcos import FCOSHead

import cdanalysis as cda
from cdanalysis.data.coco import CocoImages
from cdanalysis.data.labeled import ClassFolders
from cdanalysis.data.segmentation import LabeledPixels
from cdanalysis.evaluation.folder import evaluate_folder, evaluate_task
from cdanalysis.heads.base import Head
from cdanalysis.heads.detection import KINDS, Detection, DetectionHead
from cdanalysis.heads.nanodet import NanoDet, _assigned
from cdanalysis.heads.segmentation import SAMPLED, Segmentation, SegmentationHead
from cdanalysis.metrics.tasks import ClassificationScorer, DetectionScorer, SegmentationScorer
from cdanalysis.structures.drawing import canvas_of
from cdanalysis.structures.features import STRIDES, Features, FeatureSpec
from cdanalysis.structures.latents import LAYERS, SEMANTIC
from cdanalysis.structures.predictions import Classification
from cdanalysis.structures.targets import IGNORE, Instances, LabelMap
from cdanalysis.zoo import load

SPEC = FeatureSpec(embedding=6, pyramid=(8, 8, 8, 8), detail=4)
CLASSES = ["square", "bar"]


def features_of(*scenes, size=(128, 160)) -> Features:
    """Features in which an object of class c lights channel c of the cells that it covers; one image for each scene."""
    images = torch.zeros(len(scenes), 8, *size)
    for image, objects in zip(images, scenes, strict=True):
        for label, (left, top, right, bottom) in objects:
            image[label, top:bottom, left:right] = 1
    levels = [torch.nn.functional.avg_pool2d(images, stride, ceil_mode=True) for stride in STRIDES]
    return Features([size] * len(scenes), torch.zeros(len(scenes), 6), levels)


def targets_of(objects, masks=False, size=(128, 160)) -> Instances:
    boxes = torch.tensor([box for _, box in objects], dtype=torch.float32).reshape(-1, 4)
    drawn = torch.zeros(len(objects), *size, dtype=torch.bool)
    for row, (_, (left, top, right, bottom)) in zip(drawn, objects, strict=True):
        row[top:bottom, left:right] = True
    return Instances(boxes, torch.tensor([label for label, _ in objects], dtype=torch.int64), drawn if masks else None)


def random_objects(rng) -> list:
    objects = []
    for label in rng.permutation(2)[: rng.integers(1, 3)].tolist():
        width, height = (48, 48) if label == 0 else (32, 64)
        left, top = int(rng.integers(0, 160 - width)), int(rng.integers(0, 128 - height))
        objects.append((label, (left, top, left + width, top + height)))
    return objects


def new_detector(kind: str) -> DetectionHead:
    torch.manual_seed(0)
    return DetectionHead(SPEC, CLASSES, kind, width=64, convs=4 if kind == "retinanet" else 1)


def trained(kind: str, steps: int) -> DetectionHead:
    head = new_detector(kind).train()
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        scenes = [random_objects(rng) for _ in range(4)]
        losses = head.loss(features_of(*scenes), [targets_of(s, masks=kind == "mask_rcnn") for s in scenes])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return head.eval()


def overlap(a, b) -> float:
    """Intersection over union of two (left, top, right, bottom)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


@pytest.mark.parametrize("kind", ["nanodet", "fcos"])
def test_a_detector_finds_drawn_boxes_in_pixels(kind):
    """Known boxes come back where they are, in pixels of the true image, whatever the working size."""
    head = trained(kind, {"nanodet": 400, "fcos": 150}[kind])
    size = (256, 80)  # twice as high as the working size, and half as wide
    objects = [(0, (8, 16, 56, 64)), (1, (88, 40, 120, 104))]
    (found,) = head.predict(replace(features_of(objects), sizes=[size]))
    for label, (left, top, right, bottom) in objects:
        x, y, w, h = found.boxes[found.labels.index(CLASSES[label])].tolist()
        assert overlap((x, y, x + w, y + h), (left / 2, 2 * top, right / 2, 2 * bottom)) > 0.7
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, :2] + found.boxes[:, 2:] <= [size[1], size[0]]).all()
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_and_predicts(kind):
    """Losses are finite and reach all parameters; predictions have their shapes; no objects is no trouble."""
    head = new_detector(kind).train()
    scenes = [[(0, (8, 8, 56, 56)), (1, (90, 20, 122, 84))], []]
    features = replace(features_of(*scenes), sizes=[(120, 150)] * 2)
    losses = head.loss(features, [targets_of(s, masks=kind == "mask_rcnn") for s in scenes])
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    with pytest.raises(RuntimeError, match="evaluation mode"):
        head.predict(features)
    head.eval()
    for found in head.predict(features):
        count = len(found.labels)
        assert found.boxes.shape == (count, 4) and found.scores.shape == (count,)
        if kind == "mask_rcnn":
            assert found.masks.shape == (count, 120, 150) and found.masks.dtype == bool
        else:
            assert found.masks is None
    rebuilt = DetectionHead(SPEC, **head.describe())
    rebuilt.load_state_dict(head.state_dict())


@pytest.mark.parametrize("counts", [(3, 0, 5), (0, 0), (1,)])
def test_losses_of_fcos_are_those_of_torchvision(counts):
    """Values and gradients, though ours are computed only where objects are."""
    torch.manual_seed(len(counts))
    head, targets = DetectionHead(SPEC, CLASSES, "fcos", width=64), []
    for parameter in head.parameters():  # a new head's predictions hardly differ from place to place
        torch.nn.init.normal_(parameter, std=0.1)
    for count in counts:
        corners = torch.rand(count, 2) * 80
        boxes = torch.cat([corners, corners + 8 + 60 * torch.rand(count, 2)], 1)
        targets.append(Instances(boxes, torch.randint(len(CLASSES), (count,))))
    empty = features_of(*([] for _ in counts))
    features, results = replace(empty, pyramid=[torch.randn_like(level) for level in empty.pyramid]), []
    own = head.detector.detector.head
    for compute_loss in (type(own).compute_loss, FCOSHead.compute_loss):
        own.compute_loss = compute_loss.__get__(own)
        losses = head.loss(features, targets)
        results.append((losses, torch.autograd.grad(sum(losses.values()), list(head.parameters()))))
    (ours, slopes), (theirs, known) = results
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)
    for slope, expected in zip(slopes, known, strict=True):
        torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()) + 1e-7)


@pytest.mark.parametrize("kind", ["nanodet", "fcos", "retinanet"])
def test_distillation_is_nothing_where_nothing_differs(kind):
    for head in (new_detector(kind), SegmentationHead(SPEC, CLASSES, width=32)):
        for parameter in head.parameters():  # a new RetinaNet's weights are so small that it says nothing
            torch.nn.init.normal_(parameter, std=0.1)
        features = features_of([(0, (8, 8, 56, 56))])
        other = [(level + torch.randn_like(level)).requires_grad_() for level in features.pyramid]
        assert head.distillation(features, features).tolist() == pytest.approx([0.0], abs=1e-5)
        distance = head.distillation(replace(features, pyramid=other), features)
        assert distance.shape == (1,) and distance.item() > 0
        distance.sum().backward()
        assert all(level.grad is not None for level in other[:3])


def test_a_two_stage_detector_cannot_be_distilled():
    with pytest.raises(ValueError, match="no dense predictions"):
        new_detector("faster_rcnn").distillation(features_of([]), features_of([]))


def test_masks_lie_in_their_boxes():
    """What the mask branch says of a box, 28x28, is laid over that box and nothing else."""
    head = new_detector("mask_rcnn")
    left_half = torch.zeros(1, 1, 28, 28)
    left_half[..., :14] = 1
    box = torch.tensor([[40.0, 24.0, 88.0, 72.0]])
    found = {"boxes": box, "labels": torch.tensor([0]), "scores": torch.tensor([0.9]), "masks": left_half}
    one = head._detection(found, (119, 151), (1.0, 1.0))
    assert one.labels == ["square"] and one.boxes.tolist() == [[40, 24, 48, 48]]
    rows, columns = np.nonzero(one.masks[0])
    assert (rows.min(), rows.max()) == (24, 71) and columns.min() == 40 and abs(columns.max() - 63) <= 1


def test_a_segmentation_learns_which_pixel_is_what():
    torch.manual_seed(0)
    head = SegmentationHead(SPEC, ["ground", *CLASSES], width=32)
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
    rng, losses = np.random.default_rng(0), []
    for _ in range(40):
        scenes = [random_objects(rng) for _ in range(4)]
        loss = head.loss(features_of(*scenes), [LabelMap(labels_of(s)) for s in scenes])["segmentation"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    objects = [(0, (8, 16, 56, 64)), (1, (88, 40, 120, 104))]
    (found,) = head.predict(replace(features_of(objects), sizes=[(256, 80)]))
    assert found.mask.shape == (256, 80) and found.mask.dtype == np.uint8 and losses[-1] < losses[0] / 3
    assert (found.mask[::2].repeat(2, 1) == labels_of(objects).numpy()).mean() > 0.9


def test_objects_are_answered_for_by_cells_in_them_and_what_is_nowhere_by_none():
    torch.manual_seed(0)
    detector = NanoDet((8,) * 4, 3)
    cells = detector.cells([torch.randn(1, 8, 160 // stride, 160 // stride) for stride in STRIDES])
    corners, labels = torch.rand(30, 2) * 120, torch.randint(3, (30,))
    boxes = torch.cat([corners, corners + torch.rand(30, 2) ** 3 * 40], 1)
    at, objects, overlaps = _assigned(cells, 0, boxes, labels)
    assert len(at) == len(set(at.tolist())) and ((overlaps >= 0) & (overlaps <= 1)).all()
    apart = (cells.points[at] - (boxes[objects, :2] + boxes[objects, 2:]) / 2).abs()
    assert (apart <= torch.maximum((boxes[objects, 2:] - boxes[objects, :2]) / 2, cells.strides[at, None])).all()
    alone = [_assigned(cells, 0, boxes[n : n + 1], labels[n : n + 1]) for n in range(30)]
    assert all(len(own[0]) for own in alone)
    away = torch.tensor([[900.0, 900.0, 910.0, 910.0]])
    assert not len(_assigned(cells, 0, away, labels[:1])[0])
    losses = detector.losses(
        [torch.randn(1, 8, 160 // s, 160 // s) for s in STRIDES], [{"boxes": away, "labels": labels[:1]}]
    )
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_the_loss_of_a_segmentation_is_over_all_pixels_and_in_training_over_grids_that_together_are_all(monkeypatch):
    torch.manual_seed(0)
    head, scenes = (
        SegmentationHead(SPEC, ["ground", *CLASSES], width=32),
        [[(0, (8, 16, 61, 70))], [(1, (3, 5, 31, 31))]],
    )
    features, labels = features_of(*scenes), torch.stack([labels_of(scene) for scene in scenes])
    labels[0, 40:, :50] = IGNORE
    targets = [LabelMap(each) for each in labels]
    said = F.interpolate(head(features), size=labels.shape[1:], mode="bilinear")
    wanted = F.cross_entropy(said, labels, ignore_index=IGNORE, reduction="none")
    assert head.eval().loss(features, targets)["segmentation"].item() == pytest.approx(
        wanted[labels != IGNORE].mean().item(), rel=1e-5
    )
    head.train()
    for first in itertools.product(range(SAMPLED), repeat=2):
        monkeypatch.setattr(torch, "randint", lambda *_, first=first: torch.tensor(first))
        rows, columns = (slice(start, None, SAMPLED) for start in first)
        seen, here = labels[:, rows, columns] != IGNORE, wanted[:, rows, columns]
        assert head.loss(features, targets)["segmentation"].item() == pytest.approx(here[seen].mean().item(), rel=1e-5)


def labels_of(objects, size=(128, 160)) -> torch.Tensor:
    labels = torch.zeros(size, dtype=torch.int64)
    for label, (left, top, right, bottom) in objects:
        labels[top:bottom, left:right] = label + 1
    return labels


def test_ignored_pixels_have_no_gradient():
    head = SegmentationHead(SPEC, CLASSES, width=32)
    features = features_of([(0, (0, 0, 160, 128))])
    pyramid = [level.requires_grad_() for level in features.pyramid]
    target = torch.full((128, 160), IGNORE, dtype=torch.int64)
    target[:8, :8] = 1
    head.loss(features, [LabelMap(target)])["segmentation"].backward()
    reached = pyramid[0].grad.abs().sum((0, 1))
    whole = torch.full((128, 160), 1, dtype=torch.int64)
    again = [level.detach().requires_grad_() for level in pyramid]
    head.loss(replace(features, pyramid=again), [LabelMap(whole)])["segmentation"].backward()
    assert reached[0, 0] > 0 and reached.sum() < again[0].grad.abs().sum() * 64


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: DetectionHead(SPEC, CLASSES, "yolo"), "kind must be one of"),
        (lambda: DetectionHead(replace(SPEC, pyramid=(8, 8, 12, 8)), CLASSES), "equal widths"),
        (lambda: DetectionHead(SPEC, CLASSES, "fcos", width=80), "multiple of 32"),
        (lambda: DetectionHead(SPEC, CLASSES, "fcos", width=32), "at least 64"),
        (lambda: DetectionHead(SPEC, CLASSES, "retinanet", convs=2), "four convolutions"),
        (lambda: SegmentationHead(SPEC, CLASSES, width=40), "multiple of 32"),
        (lambda: SegmentationHead(SPEC, ["one"]), "2 to 255 classes"),
    ],
)
def test_impossible_heads_are_refused(build, says):
    with pytest.raises(ValueError, match=says):
        build()


# -- data sets and scores ---------------------------------------------------------------------


def coco_folder(tmp_path, annotations, size=(100, 80), images=1, **more):
    content = {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "width": size[0], "height": size[1]} for i in range(images)],
        "categories": [{"id": 7, "name": "bar"}, {"id": 3, "name": "square"}],
        "annotations": [{"id": i + 1, "area": 1.0, "iscrowd": 0, **a} for i, a in enumerate(annotations)],
        **more,
    }
    for i in range(images):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return CocoImages(tmp_path, tmp_path / "boxes.json")


def boxed(category, box, image=1, **more):
    return {"image_id": image, "category_id": category, "bbox": list(box), "area": box[2] * box[3], **more}


def test_coco_targets_are_inside_the_photograph(tmp_path):
    labeled = coco_folder(
        tmp_path,
        [
            boxed(3, (-10, 5, 30, 20)), boxed(7, (90, 70, 50, 50)), boxed(7, (200, 200, 5, 5)),
            boxed(3, (5, 5, 9, 9), iscrowd=1), boxed(3, (5, 5, 0.5, 9)),
        ],
        images=2,
    )  # fmt: skip
    assert labeled.classes == ["square", "bar"] and len(labeled) == 2
    image, target = labeled[0]
    assert image.size == (100, 80) and target.labels.tolist() == [0, 1]
    assert target.boxes.tolist() == [[0, 5, 20, 25], [90, 70, 100, 80]] and target.masks is None
    assert labeled[1][1].boxes.shape == (0, 4), "a photograph without objects"
    mirrored = target.flipped(100)
    assert mirrored.boxes.tolist() == [[80, 5, 100, 25], [0, 70, 10, 80]]
    assert mirrored.flipped(100).boxes.equal(target.boxes)
    assert labeled.every(2).names == ["0.png"]


def test_bad_coco_files_say_what_is_wrong(tmp_path):
    for wrong, says in (
        ([boxed(9, (0, 0, 5, 5))], "category_id 9, but no"),
        ([boxed(3, (0, 0, 5, 5), image=8)], "image_id 8, but no"),
    ):
        with pytest.raises(ValueError, match=says):
            coco_folder(tmp_path, wrong)
    coco_folder(tmp_path, [], images=2)
    (tmp_path / "1.png").unlink()
    with pytest.raises(ValueError, match=r"1 of its images are missing from .* '1.png'"):
        CocoImages(tmp_path, tmp_path / "boxes.json")
    (tmp_path / "boxes.json").write_text("[]")
    with pytest.raises(ValueError, match="not a COCO annotation file"):
        CocoImages(tmp_path, tmp_path / "boxes.json")


def detection(*found) -> Detection:
    labels, boxes, scores = zip(*found, strict=True) if found else ((), (), ())
    return Detection(np.array(boxes, np.float32).reshape(-1, 4), list(labels), np.array(scores, np.float32))


def test_average_precision_of_cases_worked_out_by_hand(tmp_path):
    objects = [boxed(3, (10, 10, 20, 20)), boxed(3, (60, 40, 20, 20))]
    one = ("square", (10, 10, 20, 20), 0.9)
    other = ("square", (60, 40, 20, 20), 0.8)
    wrong = ("square", (40, 10, 10, 10), 0.95)
    shifted = ("square", (60, 44, 20, 20), 0.8)  # intersection over union 16 / 24
    cases = [
        ((one, other), 1.0, 1.0),
        ((one,), 51 / 101, 51 / 101),  # full precision up to a recall of a half: 51 of 101 points
        ((wrong, one, other), 2 / 3, 2 / 3),  # the best precision at every recall is 2 / 3
        ((one, shifted), 1.0, 51 / 101),
        ((), 0.0, 0.0),
        ((("bar", (10, 10, 20, 20), 0.9),), 0.0, 0.0),
    ]
    for found, ap50, ap75 in cases:
        scorer = DetectionScorer(coco_folder(tmp_path, objects), ["bar", "square", "cup"])
        scorer.update(0, detection(*found))
        scores = scorer.compute()
        assert (scores["AP50"], scores["AP75"]) == pytest.approx((ap50, ap75)), found


def test_average_precision_is_torchmetrics_own(tmp_path):
    rng = np.random.default_rng(3)
    drawn, metric = [], MeanAveragePrecision()
    names, ids = ("square", "bar"), (3, 7)
    truth = [[(rng.integers(2), *rng.uniform((0, 0, 8, 8), (60, 40, 40, 40))) for _ in range(4)] for _ in range(6)]
    for image, objects in enumerate(truth):
        drawn += [boxed(ids[c], [float(side) for side in box], image + 1) for c, *box in objects]
    labeled = coco_folder(tmp_path, drawn, images=6)
    scorer = DetectionScorer(labeled, names)
    for image, objects in enumerate(truth):
        found = [(names[c], np.array(box) + rng.normal(0, 2, 4), rng.random()) for c, *box in objects]
        found += [(names[rng.integers(2)], rng.uniform((0, 0, 8, 8), (60, 40, 40, 40)), rng.random()) for _ in range(3)]
        scorer.update(image, detection(*found))

        def corners(boxes):
            boxes = torch.tensor(np.array(boxes), dtype=torch.float32)
            return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)

        scores, labels = [s for *_, s in found], [names.index(n) for n, *_ in found]
        told = {
            "boxes": corners([b for _, b, _ in found]),
            "scores": torch.tensor(scores),
            "labels": torch.tensor(labels),
        }
        known = {"boxes": corners([b for _, *b in objects]), "labels": torch.tensor([int(c) for c, *_ in objects])}
        metric.update([{**told, "scores": told["scores"].float()}], [known])
    theirs, ours = metric.compute(), scorer.compute()
    expected = [float(theirs[name]) for name in ("map", "map_50", "map_75")]
    assert list(ours.values())[:3] == pytest.approx(expected, abs=1e-5) and 0.2 < ours["AP50"] < 1


def test_scores_of_a_draw_are_those_of_a_data_set_that_holds_it(tmp_path):
    """A photograph drawn three times counts like three photographs; what was kept may have been a file in between."""
    rng, draw, names = np.random.default_rng(3), [0, 0, 2, 5, 5, 5], ("square", "bar")
    truth = [[(rng.integers(2), *rng.uniform((0, 0, 8, 8), (60, 40, 40, 40))) for _ in range(4)] for _ in range(6)]
    found = [
        detection(*((names[c], np.array(box) + rng.normal(0, 2, 4), rng.random()) for c, *box in objects))
        for objects in truth
    ]
    scorers = []
    for folder, images in (("all", range(6)), ("drawn", draw)):
        (tmp_path / folder).mkdir()
        boxes = [
            boxed((3, 7)[c], [float(side) for side in box], place + 1)
            for place, image in enumerate(images)
            for c, *box in truth[image]
        ]
        scorers.append(DetectionScorer(coco_folder(tmp_path / folder, boxes, images=6), names))
        for place, image in enumerate(images):
            scorers[-1].update(place, found[image])
    whole, drawn = scorers
    whole.parts = {int(i): part for i, part in json.loads(json.dumps(whole.parts)).items()}
    assert whole.compute(draw) == pytest.approx(drawn.compute()) and whole.compute(draw) != whole.compute()


def test_scores_of_no_photographs_are_none(tmp_path, chelsea):
    for name in ("cat", "dog"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        Image.fromarray(chelsea[:8, :8]).save(tmp_path / "classes" / name / "a.png")
    (tmp_path / "boxes").mkdir()
    scorers = [
        ClassificationScorer(ClassFolders(tmp_path / "classes"), ["dog", "cat"]),
        DetectionScorer(coco_folder(tmp_path / "boxes", [boxed(3, [1, 1, 9, 9], 1)]), ("square", "bar")),
        SegmentationScorer(labeled_pixels(tmp_path / "pixels", [np.zeros((30, 40), np.uint8)]), ["b", "a"]),
    ]
    for scorer in scorers:
        for found in (scorer.compute(), scorer.compute([])):
            assert scorer.main in found and set(found.values()) == {None}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_detector_is_made_with_its_own_defaults(kind):
    head = DetectionHead(SPEC, CLASSES, kind)
    assert DetectionHead(SPEC, **head.describe()).describe() == head.describe()


def labeled_pixels(folder, images, size=(40, 30)) -> LabeledPixels:
    classes = [{"index": 2, "name": "b", "colour": [0, 0, 9]}, {"index": 0, "name": "a", "colour": [9, 0, 0]},
               {"index": 1, "name": "void", "colour": [0, 0, 0], "ignore": True}]  # fmt: skip
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "classes.json").write_text(json.dumps({"classes": classes}))
    for i, labels in enumerate(images):
        Image.new("RGB", size).save(folder / "images" / f"{i}.jpg")
        Image.fromarray(labels).save(folder / "labels" / f"{i}.png")
    return LabeledPixels(folder)


def test_labeled_pixels_and_their_scores(tmp_path):
    """Indices with a gap become classes in order; mean IoU and accuracy are what NumPy counts."""
    rng = np.random.default_rng(0)
    images = [rng.choice([0, 1, 2], (30, 40), p=[0.5, 0.1, 0.4]).astype(np.uint8) for _ in range(3)]
    labeled = labeled_pixels(tmp_path / "set", images)
    assert labeled.classes == ["a", "b"] and labeled.colors == [(9, 0, 0), (0, 0, 9)]
    assert set(np.unique(labeled[0][1].labels)) == {0, 1, IGNORE}
    scorer = SegmentationScorer(labeled, ["b", "a", "c"])  # another order, and a class that the data lack
    guesses = [rng.integers(0, 3, (30, 40)).astype(np.uint8) for _ in range(3)]
    hits, unions, right, counted = np.zeros(2), np.zeros(2), 0, 0
    for i, guess in enumerate(guesses):
        scorer.update(i, Segmentation(guess, ["b", "a", "c"]))
        ours, truth = np.array([1, 0, 2])[guess], labeled.labels(i)
        counts = truth != IGNORE
        right, counted = right + (ours == truth)[counts].sum(), counted + counts.sum()
        for c in range(2):
            hits[c] += ((ours == c) & (truth == c) & counts).sum()
            unions[c] += (((ours == c) | (truth == c)) & counts).sum()
    scores = scorer.compute()
    iou = MulticlassJaccardIndex(4, average="none", ignore_index=IGNORE)
    for i, guess in enumerate(guesses):
        iou.update(
            torch.from_numpy(np.array([1, 0, 2])[guess])[None], torch.from_numpy(labeled.labels(i).astype(int))[None]
        )
    assert scores["mIoU"] == pytest.approx(float(iou.compute()[:2].mean()), abs=1e-6)
    assert scores["mIoU"] == pytest.approx((hits / unions).mean(), abs=1e-6)
    assert scores["pixel_accuracy"] == pytest.approx(right / counted, abs=1e-6)
    assert scorer.compute([0, 1, 2, 0, 1, 2]) == pytest.approx(scores) != scorer.compute([0, 0, 1])


def test_a_class_that_is_nowhere_does_not_count(tmp_path):
    labeled = labeled_pixels(tmp_path / "set", [np.zeros((8, 8), np.uint8), np.full((8, 8), 2, np.uint8)])
    scorer = SegmentationScorer(labeled, ["a", "b"])
    for i in range(2):
        scorer.update(i, Segmentation(np.zeros((8, 8), np.uint8), ["a", "b"]))
    assert [scorer.compute([i])["mIoU"] for i in range(2)] == [1.0, 0.0] and scorer.compute()["mIoU"] == 0.25


def test_bad_labeled_pixels_say_what_is_wrong(tmp_path):
    labeled = labeled_pixels(tmp_path / "set", [np.zeros((30, 41), np.uint8)])
    with pytest.raises(ValueError, match="differ in size"):
        labeled[0]
    (tmp_path / "set" / "labels" / "0.png").unlink()
    with pytest.raises(ValueError, match="has no label map"):
        LabeledPixels(tmp_path / "set")
    (tmp_path / "set" / "classes.json").write_text("{}")
    with pytest.raises(ValueError, match='has no list "classes"'):
        LabeledPixels(tmp_path / "set")
    (tmp_path / "set" / "classes.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"classes\.json"):
        LabeledPixels(tmp_path / "set")


def test_a_head_that_does_not_know_the_classes_is_refused(tmp_path):
    (tmp_path / "coco").mkdir()
    with pytest.raises(ValueError, match="lacks 1 of the data set's classes, for example 'square'"):
        DetectionScorer(coco_folder(tmp_path / "coco", []), ["bar"])
    with pytest.raises(ValueError, match="lacks 2"):
        SegmentationScorer(labeled_pixels(tmp_path / "set", [np.zeros((30, 40), np.uint8)]), ["x", "y"])


# -- three tasks of one model -----------------------------------------------------------------


def test_one_parse_and_one_synthesis_of_features_serve_all_tasks(three_tasks, image, monkeypatch):
    stream = three_tasks.encode(image, 0.5, layers=SEMANTIC)
    alone = {task: three_tasks.analyze(stream, task) for task in three_tasks.heads}
    calls = []
    for owner, name in ((three_tasks.symbols, "read"), (three_tasks.codec, "features")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, n=name, f=original, **k: calls.append(n) or f(*a, **k))
    result = three_tasks.analyze(stream)
    assert calls == ["read", "features"]
    assert result.classification == alone["classification"].classification
    assert np.array_equal(result.segmentation.mask, alone["segmentation"].segmentation.mask)
    assert np.array_equal(result.detection.boxes, alone["detection"].detection.boxes)
    for task, only in alone.items():
        assert [t for t in three_tasks.heads if getattr(only, t) is not None] == [task]
    height, width = image.shape[:2]
    assert result.segmentation.mask.shape == (height, width) and len(result.detection.labels) > 0
    assert (result.detection.boxes[:, :2] + result.detection.boxes[:, 2:] <= [width + 1e-3, height + 1e-3]).all()


def test_no_task_runs_a_teacher_or_the_synthesis_network(three_tasks, image, monkeypatch):
    stream = three_tasks.encode(image, 0.5)
    for part in (three_tasks.codec.classifier, three_tasks.codec.detector, three_tasks.codec.synthesis):
        monkeypatch.setattr(part, "forward", lambda *a: pytest.fail("a network that has no part in analysis ran"))
    three_tasks.analyze(stream)
    three_tasks.embed(stream)


def test_a_task_needs_no_more_layers_than_its_head_reads(three_tasks, image):
    whole = three_tasks.encode(image, 0.5)
    first = cda.strip(whole, ("global",))
    label = three_tasks.analyze(whole, "classification").classification
    assert three_tasks.analyze(first, "classification").classification == label
    assert torch.equal(three_tasks.embed(first), three_tasks.embed(whole))
    assert three_tasks.embed(first).shape == (three_tasks.codec.feature_spec.embedding,)
    for task in ("detection", "segmentation"):
        with pytest.raises(cda.StreamError, match="no spatial layer"):
            three_tasks.analyze(first, task)
        assert getattr(three_tasks.analyze(cda.strip(whole), task), task) is not None


def test_predictions_do_not_depend_on_the_batch(three_tasks, image):
    """Images of other sizes are read together where their working sizes are equal."""
    images = [image, image[::-1].copy(), image[:40], image[:74, :100].copy()]
    streams = three_tasks.encode_batch(images, 0.5, layers=SEMANTIC)
    for together, stream, one in zip(three_tasks.analyze_batch(streams), streams, images, strict=True):
        alone = three_tasks.analyze(stream)
        assert alone.segmentation.mask.shape == one.shape[:2]
        assert np.array_equal(together.segmentation.mask, alone.segmentation.mask)
        assert np.allclose(together.detection.scores[:5], alone.detection.scores[:5], atol=1e-5)
        assert np.allclose(together.detection.boxes[:5], alone.detection.boxes[:5], atol=1e-3)


def test_a_model_with_three_heads_comes_back(three_tasks, tmp_path, image):
    three_tasks.counterparts["detection"] = copy.deepcopy(three_tasks.heads["detection"])
    three_tasks.save(tmp_path)
    del three_tasks.counterparts["detection"]
    model, plain = load(tmp_path, counterparts=True), load(tmp_path)
    assert list(model.heads) == ["classification", "detection", "segmentation"] and not plain.counterparts
    assert list(model.counterparts) == ["detection"] and not model.counterparts["detection"].training
    stream = model.encode(image)
    assert len(model.analyze(stream).detection.labels) > 0
    assert len(model.reference.analyze([image], ("detection",))[0].detection.labels) > 0
    with pytest.raises(ValueError, match="no counterpart of its segmentation head"):
        model.reference.analyze([image], ("segmentation",))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (33, 7), (64, 96), (500, 20)])
def test_images_of_any_size_have_predictions_of_that_size(three_tasks, height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    result = three_tasks.analyze(three_tasks.encode(image, 0.5, layers=SEMANTIC))
    assert result.segmentation.mask.shape == (height, width)
    boxes = result.detection.boxes
    assert (boxes >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= [width + 1e-3, height + 1e-3]).all()


class DetailReader(Head):
    """Says how much the detail layer varies."""

    layers = LAYERS

    def __init__(self, spec: FeatureSpec, classes: list[str]):
        super().__init__()
        self.classes, self.channels = classes, spec.detail

    def predict(self, features: Features) -> list[Classification]:
        assert features.detail is not None and features.detail.shape[1] == self.channels
        return [Classification("varied", float(row.std()), []) for row in features.detail]


def test_heads_can_read_the_detail_layer_too(three_tasks, image, monkeypatch):
    model = copy.deepcopy(three_tasks)
    model.heads["texture"] = DetailReader(model.codec.feature_spec, ["varied"])
    stream = model.encode(image, 0.5)
    assert model.analyze(stream, "texture")["texture"].score > 0
    assert model.features(stream).detail is not None and model.features(stream, LAYERS[:1]).pyramid == []
    with pytest.raises(cda.StreamError, match="no detail layer"):
        model.analyze(cda.strip(stream))
    with pytest.raises(ValueError, match="has no counterpart of its texture head"):
        model.reference.analyze([image], ("texture",))


def test_evaluation_from_streams_on_disk(three_tasks, tmp_path):
    """Rates are those of the files; scores those of the predictions; the counterpart stands first."""
    rng = np.random.default_rng(0)
    size = (70, 50)
    labeled = coco_folder(tmp_path, [boxed(3, (5, 5, 20, 20)), boxed(7, (30, 10, 30, 30), 2)], size, images=2)
    with pytest.raises(ValueError, match="for example 'square'"):
        evaluate_task(three_tasks, "detection", labeled, (0.5,))
    (tmp_path / "boxes.json").write_text(
        (tmp_path / "boxes.json").read_text().replace("square", "cat").replace("bar", "dog")
    )
    labeled = CocoImages(tmp_path, tmp_path / "boxes.json")
    three_tasks = with_counterparts(three_tasks)
    report = evaluate_folder(three_tasks, labeled, (0.2, 0.8), ("detection",))
    first, low, high = report["detection"]["rows"]
    assert first["input"] == "photograph" and first["bpp"] is None and 0 < low["bpp"] <= high["bpp"]
    sizes = [len(three_tasks.encode(labeled.image(i), 0.2, layers=SEMANTIC)) for i in range(2)]
    assert low["bytes"] == np.mean(sizes) and low["bpp"] == pytest.approx(8 * np.mean(sizes) / (70 * 50))
    assert all(0 <= row["AP"] <= row["AP50"] <= 1 for row in (first, low, high))
    pixels = labeled_pixels(tmp_path / "set", [rng.choice([0, 2], (30, 40)).astype(np.uint8) for _ in range(2)])
    pixels.classes = ["road", "tree"]
    row, _ = evaluate_task(three_tasks, "segmentation", pixels, (0.5,))["rows"]
    assert 0 <= row["mIoU"] <= row["pixel_accuracy"] + 1e-6 <= 1 + 1e-6
    with pytest.raises(ValueError, match="has no sound head"):
        evaluate_task(three_tasks, "sound", pixels, ())


def test_drawings_show_what_was_found():
    found = Detection(
        np.array([[10, 12, 30, 20], [50, 5, 20, 20]], np.float32), ["cat", "dog"], np.array([0.9, 0.1], np.float32)
    )
    canvas = canvas_of(None, (60, 90))
    drawn = np.asarray(found.plot(canvas))
    changed = (drawn != np.asarray(canvas)).any(2)
    assert changed[31, 12:38].all() and changed[20, 10], "the box's edges"
    assert not changed[20:30, 15:35].any() and not changed[14:, 50:].any(), "not its inside, and not the doubtful one"
    masks = np.zeros((2, 60, 90), bool)
    masks[0, 15:30, 12:38] = True
    with_mask = replace(found, masks=masks).plot(canvas)
    assert (np.asarray(with_mask)[20:28, 15:35] != np.asarray(canvas)[20:28, 15:35]).any(2).all()
    segmentation = Segmentation(np.repeat(np.uint8([[0], [1]]), 30, 0).repeat(90, 1), ["sky", "road"])
    colors = np.asarray(segmentation.plot(canvas))
    assert len(np.unique(colors[:, 80:].reshape(-1, 3), axis=0)) == 2
    assert segmentation.shares() == {"sky": 0.5, "road": 0.5}


@pytest.mark.parametrize(
    ("task", "options", "says"),
    [
        ("classification", {"classes": ["a", "b"], "depth": 3}, r"no option 'depth'; it has: classes$"),
        ("detection", {"classes": ["a"], "widht": 96}, r"no option 'widht'; it has: classes, kind, width, convs$"),
        ("segmentation", {"classes": ["a", "b"], "spec": 3}, "no option 'spec'"),
        ("classification", {}, "can be made of no options: .*classes"),
        ("classification", {"classes": 7}, "can be made of classes"),
        ("detection", {"classes": ["a"], "kind": "fcos", "convs": "two"}, "can be made of classes, kind, convs"),
        ("detection", {"classes": ["a"], "kind": "fcos", "width": None}, "can be made of classes, kind, width"),
        ("segmentation", {"classes": ["a", "b"], "width": [96]}, "can be made of classes, width"),
        ("sound", {}, "unknown task 'sound'"),
    ],
)
def test_options_that_a_head_does_not_have_are_named(small, task, options, says):
    with pytest.raises(ValueError, match=says) as caught:
        small.new_head(task, **options)
    assert "\n" not in str(caught.value)
