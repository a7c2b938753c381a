"""Label maps from COCO's masks."""

import json

import numpy as np
import pytest
from PIL import Image

from cdanalysis.data.coco_labels import VOC_CLASSES
from cdanalysis.data.labeled import LabeledSource, open_labeled
from cdanalysis.structures.targets import IGNORE
from cdanalysis.teachers import DeepLab


def polygon(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def source(tmp_path):
    """A couch with a cat on it, a crowd of persons, a kite."""
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    drawn = [("cat", (20, 10, 30, 20)), ("couch", (10, 5, 50, 35)), ("person", (52, 0, 60, 10)), ("kite", (0, 0, 8, 4))]
    categories = [{"id": i, "name": name} for i, name in enumerate(("kite", "cat", "couch", "person"), 3)]
    ids = {c["name"]: c["id"] for c in categories}
    annotations = []
    for number, (name, (left, top, right, bottom)) in enumerate(drawn):
        box = [left, top, right - left, bottom - top]
        shape = {"bbox": box, "area": box[2] * box[3], "segmentation": polygon(left, top, right, bottom)}
        annotations.append({"id": number + 1, "image_id": 1, "category_id": ids[name], "iscrowd": 0, **shape})
    runs = np.zeros((40, 60), np.uint8)
    runs[0:10, 52:60] = 1
    changes = np.flatnonzero(np.diff(np.concatenate([[0], runs.ravel(order="F"), [2]])))
    counts = np.diff(np.concatenate([[0], changes])).tolist()
    annotations[2] |= {"iscrowd": 1, "segmentation": {"size": [40, 60], "counts": counts}}
    images = [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "masks.json").write_text(json.dumps(content))
    return LabeledSource(str(tmp_path), str(tmp_path / "masks.json"), "coco_voc")


def test_masks_become_vocs_classes(source):
    labeled = open_labeled("segmentation", source)
    image, target = labeled[0]
    labels = target.labels.numpy()
    assert labels.shape == (40, 60) and image.size == (60, 40)
    assert len(labeled.every(1)) == len(labeled.chosen([0])) == 1
    names = lambda part: {VOC_CLASSES[v] for v in np.unique(part)}  # noqa: E731
    assert names(labels[11:19, 21:29]) == {"cat"} and names(labels[22:34, 12:48]) == {"sofa"}
    assert (labels[:10, 52:] == IGNORE).all() and names(labels[:4, :8]) == names(labels[36:, :50]) == {"background"}


def test_classes_are_those_of_the_segmenter():
    assert list(DeepLab.CLASSES) == VOC_CLASSES


def test_annotations_must_be_named(source):
    source.annotations = ""
    with pytest.raises(ValueError, match="set annotations"):
        open_labeled("segmentation", source)
