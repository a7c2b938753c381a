"""Predictions as data, in other libraries' formats, drawn, and in notebooks: what goes out says what is there."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cdanalysis.data.coco import CocoImages
from cdanalysis.metrics.tasks import DetectionScorer
from cdanalysis.photographs.read import to_tensor
from cdanalysis.structures import Classification, Detection, Result, Segmentation
from cdanalysis.structures.drawing import SHOWN_ROWS, canvas_of

SIZE = (40, 60)
NAMES = ["cat", "dog", "traffic light", "<b>&'\"", "écureuil"]


@st.composite
def detections(draw, masks: bool | None = None) -> Detection:
    """Up to 30 objects in a photograph of ``SIZE``, some with masks."""
    count = draw(st.integers(0, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    corners, sides = rng.uniform(0, 20, (count, 2)), rng.uniform(0, 19, (count, 2))
    ids = rng.integers(0, len(NAMES), count)
    drawn = rng.random((count, *SIZE)) > 0.5 if (draw(st.booleans()) if masks is None else masks) else None
    scores = np.sort(rng.random(count).astype(np.float32))[::-1].copy()
    boxes = np.concatenate([corners, sides], 1).astype(np.float32)
    return Detection(boxes, [NAMES[i] for i in ids], scores, drawn, ids, list(NAMES), SIZE)


@st.composite
def segmentations(draw) -> Segmentation:
    """A photograph of ``SIZE`` in up to five classes."""
    count = draw(st.integers(1, len(NAMES)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return Segmentation(rng.integers(0, count, SIZE).astype(np.uint8), list(NAMES))


few = settings(max_examples=8)


@few
@given(detections(), st.floats(0, 1))
def test_boxes_ids_and_thresholds_fit_each_other(found, threshold):
    corners, sides = found.xyxy.numpy(), found.xywh.numpy()
    assert corners.shape == sides.shape == (len(found), 4) and np.array_equal(sides, found.boxes)
    assert np.allclose(corners[:, 2:] - corners[:, :2], sides[:, 2:], atol=1e-4)
    assert [found.classes[i] for i in found.class_ids] == found.labels
    kept = found.above(threshold)
    assert kept.scores.tolist() == [s for s in found.scores.tolist() if s >= np.float32(threshold)]
    assert len(kept) == len(kept.labels) and kept == found[: len(kept)] and kept.classes == found.classes
    assert len(found) == 0 or found[0].labels == found.labels[:1]
    assert json.loads(found.to_json()) == found.to_dict()
    assert Result(detection=found).above(threshold).detection == kept


def test_objects_made_by_hand_number_their_classes():
    boxes, scores = np.ones((3, 4), np.float32), np.full(3, 0.5)
    found = Detection(boxes, ["dog", "cat", "dog"], scores)
    assert found.class_ids.tolist() == [0, 1, 0] and found.classes == ["dog", "cat"] and found.size is None
    assert Detection(boxes, ["dog", "cat", "dog"], scores, classes=["cat", "dog"]).class_ids.tolist() == [1, 0, 1]
    # Two classes may have one name; their ids tell them apart.
    cranes = Detection(
        boxes[:2], ["crane", "crane"], scores[:2], class_ids=np.array([0, 2]), classes=["crane", "b"] * 2
    )
    assert cranes.class_ids.tolist() == [0, 2] and cranes.to_coco(7)[1]["category_id"] == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": ["cat"]}, "1 objects have boxes"),
        ({"scores": np.zeros((2, 1))}, "scores \\(2, 1\\)"),
        ({"masks": np.zeros((3, *SIZE), bool)}, "masks of 2 objects"),
        ({"classes": ["cat"]}, "'dog' is not among the classes"),
        ({"class_ids": np.array([1, 0])}, "labels must be the names"),
        ({"class_ids": np.array([0, 5])}, "labels must be the names"),
        ({"class_ids": np.array([0, -1])}, "labels must be the names"),
    ],
)
def test_objects_whose_parts_do_not_fit_are_refused(changes, says):
    parts = {"boxes": np.zeros((2, 4)), "labels": ["cat", "dog"], "scores": np.zeros(2), "classes": ["cat", "dog"]}
    with pytest.raises(ValueError, match=says):
        Detection(**{**parts, **changes})


def test_equal_predictions_are_equal_and_others_are_not(three_tasks, image):
    stream = three_tasks.encode(image, layers=("global", "spatial"))
    one, same = three_tasks.analyze(stream), three_tasks.analyze(stream)
    assert one == same and len(one) == 3
    assert one != three_tasks.analyze(stream, ["detection"]) and one.detection != one.detection[1:]
    mask = one.segmentation.mask.copy()
    mask[0, 0] += 1
    assert one.segmentation != Segmentation(mask, one.segmentation.classes) != one.detection


@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result))])
def test_results_can_be_copied_and_sent_to_other_processes(travel):
    """Once, asking a copy in the making for an attribute went on without end."""
    masks = np.arange(SIZE[0] * SIZE[1]).reshape(1, *SIZE) % 2 == 0
    found = Detection(np.ones((1, 4), np.float32), ["dog"], np.ones(1, np.float32), masks)
    classes = Segmentation(masks[0].astype(np.uint8), ["sky", "road"])
    result = Result(classification=Classification("a", 0.5, [("a", 0.5)]), detection=found, segmentation=classes)
    assert travel(result) == result and [travel(each) for each in result.values()] == list(result.values())
    assert not hasattr(result, "_nothing") and travel(Result()) == Result()


def test_heads_say_ids_and_sizes(three_tasks, image):
    result = three_tasks.analyze(three_tasks.encode(image, layers=("global", "spatial")))
    heads, height_width = three_tasks.heads, image.shape[:2]
    found, label, classes = result.detection, result.classification, result.segmentation
    assert found.size == classes.size == height_width and len(found)
    assert found.classes == heads["detection"].classes
    assert [heads["classification"].classes[i] for i in label.class_ids] == [name for name, _ in label.top5]
    assert {classes.classes[i] for i in classes.class_ids} == set(classes.shares())


def coco_of(objects: list[Detection]) -> dict:
    """Ground truth in which every second object of photographs 11, 12, … is true; category ids are 7, 14, …"""
    truth, categories = [], [{"id": 7 * (i + 1), "name": name} for i, name in enumerate(NAMES)]
    for image_id, found in enumerate(objects, 11):
        for entry in found[::2].to_dict():
            x, y, width, height = entry["box"]
            box = [x + 0.5, y, max(1.0, width), max(1.0, height)]
            about = {"id": len(truth) + 1, "image_id": image_id, "category_id": 7 * (entry["class_id"] + 1)}
            truth.append({**about, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    images = [
        {"id": i, "file_name": f"{i}.png", "width": SIZE[1], "height": SIZE[0]} for i in range(11, 11 + len(objects))
    ]
    return {"images": images, "annotations": truth, "categories": categories}


@settings(max_examples=6)
@given(st.lists(detections(masks=False), min_size=2, max_size=4).filter(lambda found: all(len(f) > 2 for f in found)))
def test_coco_results_have_the_scorers_average_precision(tmp_path_factory, objects):
    folder, truth = tmp_path_factory.mktemp("coco"), coco_of(objects)
    for entry in truth["images"]:
        Image.new("RGB", SIZE[::-1]).save(folder / entry["file_name"])
    (folder / "truth.json").write_text(json.dumps(truth))
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    results = [r for n, found in enumerate(objects, 11) for r in found.to_coco(n, ids)]
    with contextlib.redirect_stdout(io.StringIO()):
        (folder / "results.json").write_text(json.dumps(results))  # plain data, as a file holds them
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scorer = DetectionScorer(CocoImages(folder, folder / "truth.json"), NAMES)
    for index, found in enumerate(objects):
        scorer.update(index, found)
    scores = scorer.compute()
    assert evaluation.stats[:3].tolist() == pytest.approx([scores[name] for name in ("AP", "AP50", "AP75")])
    assert scores["AP50"] > 0


@few
@given(detections(masks=True), segmentations())
def test_coco_masks_come_back(found, classes):
    for mask, entry in zip(found.masks, found.to_coco("a.jpg"), strict=True):
        assert entry["image_id"] == "a.jpg" and np.array_equal(run_lengths.decode(entry["segmentation"]), mask)
    whole = np.full(SIZE, 255, np.uint8)
    for entry in json.loads(json.dumps(classes.to_coco(3))):
        whole[run_lengths.decode(entry["segmentation"]).astype(bool)] = entry["category_id"] - 1
    assert np.array_equal(whole, classes.mask)
    assert {e["category_id"] for e in found.to_coco(1, {"dog": 18})} <= {18}
    assert {e["category_id"] for e in classes.to_coco(1, {"dog": 18})} <= {18}


@few
@given(detections(), segmentations())
def test_data_frames_have_the_same_rows(found, classes):
    pandas = pytest.importorskip("pandas")
    frame = found.to_pandas()
    rows = [
        {"label": row["label"], "class_id": row["class_id"], "score": row["score"], "box": [row[k] for k in sides]}
        for sides in [("x", "y", "width", "height")]
        for row in frame.to_dict("records")
    ]
    assert rows == found.to_dict() and frame["class_id"].dtype == np.int64
    shares = classes.to_pandas()
    assert dict(zip(shares["label"], shares["share"], strict=True)) == classes.shares()
    assert shares["pixels"].sum() == classes.mask.size
    label = Classification("dog", 0.75, [("dog", 0.75), ("cat", 0.25)], [1, 0])
    both = Result(classification=label, detection=found, segmentation=classes).to_pandas()
    assert isinstance(both, pandas.DataFrame) and len(both) == 2 + len(frame) + len(shares)
    assert both[both["task"] == "classification"]["class_id"].tolist() == [1, 0]
    assert both[both["task"] == "detection"]["x"].tolist() == frame["x"].tolist()


@few
@given(detections(), segmentations())
def test_supervision_sees_the_same(found, classes):
    supervision = pytest.importorskip("supervision")
    theirs = found.to_supervision()
    assert len(theirs) == len(found) and np.array_equal(theirs.xyxy, found.xyxy.numpy())
    assert np.array_equal(theirs.confidence, found.scores) and np.array_equal(theirs.class_id, found.class_ids)
    assert theirs.data["class_name"].tolist() == found.labels
    assert (theirs.mask is None) == (found.masks is None)
    expected = supervision.Detections(
        found.xyxy.numpy(), found.masks, found.scores, found.class_ids, data={"class_name": np.array(found.labels, str)}
    )
    assert theirs == expected and theirs[theirs.confidence >= 0.5] == found.above(0.5).to_supervision()
    parts = classes.to_supervision()
    assert parts.mask.sum(0).min() == parts.mask.sum(0).max() == 1, "every pixel is in one mask"
    assert all((classes.mask[mask] == i).all() for mask, i in zip(parts.mask, parts.class_id, strict=True))
    label = Classification("dog", 0.75, [("dog", 0.75), ("cat", 0.25)], [1, 0]).to_supervision()
    assert label.class_id.tolist() == [1, 0] and label.get_top_k(1)[0].tolist() == [1]
    with pytest.raises(ValueError, match="without class_ids"):
        Classification("dog", 0.75, [("dog", 0.75)]).to_supervision()


@pytest.mark.parametrize("package", ["pandas", "supervision"])
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    found = Detection(np.zeros((0, 4), np.float32), [], np.zeros(0, np.float32))
    with pytest.raises(ModuleNotFoundError, match=rf"{package} is not installed: pip install 'cdanalysis\[results\]'"):
        getattr(found, f"to_{package}")()


@few
@given(detections(), segmentations(), st.floats(0, 1))
def test_plots_are_pictures_of_the_photograph(found, classes, threshold):
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    before = photograph.tobytes()
    result = Result(classification=Classification("dog", 0.75, []), detection=found, segmentation=classes)
    for prediction in (*result.values(), result):
        shown = prediction.plot(photograph)
        assert shown.size == SIZE[::-1] and shown.mode == "RGB" and photograph.tobytes() == before
    kept = found.above(threshold)
    assert np.array_equal(found.plot(photograph, threshold), found.plot(np.asarray(photograph), threshold))
    assert (found.plot(photograph, threshold).tobytes() == before) == (len(kept) == 0)
    assert found.plot(threshold=2).tobytes() == canvas_of(None, SIZE).tobytes()
    assert result.plot().size == SIZE[::-1]


@pytest.mark.parametrize("kind", ["16 bits", "transparency", "gray", "palette", "text", "tensor", "floats"])
def test_plots_read_pictures_as_encoding_does(kind, tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "a.png"
    ways: dict[str, object] = {
        "16 bits": Image.fromarray(rng.integers(0, 2**16, SIZE, dtype=np.uint16)),
        "transparency": Image.fromarray(rng.integers(0, 256, (*SIZE, 4), dtype=np.uint8)),
        "gray": Image.fromarray(rng.integers(0, 256, SIZE, dtype=np.uint8)),
        "palette": Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).quantize(7),
        "tensor": torch.from_numpy(rng.integers(0, 256, (3, *SIZE), dtype=np.uint8)),
        "floats": torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0)),
    }
    found = Detection(np.zeros((0, 4), np.float32), [], np.zeros(0), size=SIZE)
    if kind == "text":
        path.write_text("no picture")
        with pytest.raises(ValueError, match=r"a\.png is not an image file that Pillow can open"):
            found.plot(path)
        return
    picture = ways[kind]
    if isinstance(picture, Image.Image):
        picture.save(path)
        picture = path
    expected = (255 * to_tensor(picture)).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(found.plot(picture)), expected)


def test_plots_of_files_are_upright(tmp_path):
    """A photograph that EXIF turns is encoded upright, and so are its boxes."""
    photograph, exif = Image.new("RGB", SIZE, "white"), Image.Exif()  # stored lying: its width is the true height
    exif[0x0112] = 6
    photograph.save(tmp_path / "turned.jpg", exif=exif)
    found = Detection(np.array([[5, 5, 20, 20]], np.float32), ["dog"], np.array([0.9]), size=SIZE)
    drawn = np.asarray(found.plot(tmp_path / "turned.jpg"))
    assert drawn.shape == (*SIZE, 3) and (drawn[15, 5] != 255).any() and (drawn[24:26, 15] != 255).any()
    with pytest.raises(ValueError, match="the image has 10x10 pixels and the photograph"):
        found.plot(Image.new("RGB", (10, 10)))
    with pytest.raises(FileNotFoundError):
        found.plot(tmp_path / "none.jpg")
    for without_size in (Classification("dog", 0.75, []), Result(), Detection(found.boxes, ["dog"], found.scores)):
        with pytest.raises(ValueError, match="give plot an image"):
            without_size.plot()


class Page(HTMLParser):
    """The tags and texts of some HTML."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


@few
@given(detections(), st.text("<>&;'\"ai é/", min_size=1, max_size=20))
def test_notebooks_show_all_predictions_and_no_foreign_html(found, name):
    classes = Segmentation(np.zeros(SIZE, np.uint8), [f"<script>{name}"])
    label = Classification(f"<i>{name}", 0.5, [(f"<i>{name}", 0.5)])
    result = Result(classification=label, detection=found, segmentation=classes)
    page = Page(result._repr_html_())
    assert set(page.tags) <= {"p", "table", "tr", "th", "td", "img"} and page.tags.count("img") == 2
    assert page.tags.count("tr") == 4 + 2 + (1 + min(len(found), SHOWN_ROWS)) + 2
    assert {f"<i>{name}", *found.labels[:SHOWN_ROWS]} <= set(page.texts)
    assert (f"… and {len(found) - SHOWN_ROWS} more" in page.texts) == (len(found) > SHOWN_ROWS)


def test_what_another_package_predicts_takes_part():
    """It must have no more than `to_dict` and `summary`."""

    class Center:
        def to_dict(self):
            return {"x": 3}

        def summary(self):
            return "center 3"

    pytest.importorskip("pandas")
    label = Classification("dog", 0.75, [("dog", 0.75)])
    result = Result(center=Center(), classification=label)
    assert result.summary() == {"center": "center 3", "classification": "dog 0.75"}
    assert json.loads(result.to_json())["center"] == {"x": 3} and "center 3" in result._repr_html_()
    assert result.plot(Image.new("RGB", (50, 50))).size == (50, 50) and len(result.to_pandas()) == 1
    assert Result(center=Center()).to_pandas().columns.tolist() == ["task"]
