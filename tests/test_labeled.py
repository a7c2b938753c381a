"""Labeled sets as people have them: what can be repaired gives the right targets, and the rest is refused by name."""

from __future__ import annotations

import json
import shutil
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from pycocotools import mask as rle

from cdanalysis.data.coco import CocoImages
from cdanalysis.data.coco_file import runs_of
from cdanalysis.data.crops import Crops, Source
from cdanalysis.data.images import Damaged, ImageSet
from cdanalysis.data.labeled import ClassFolders, LabeledSource, open_labeled
from cdanalysis.data.labels import class_index
from cdanalysis.data.segmentation import LabeledPixels
from cdanalysis.heads.segmentation import SegmentationHead
from cdanalysis.metrics.tasks import DetectionScorer, SegmentationScorer
from cdanalysis.notices import InputWarning, collected
from cdanalysis.structures.features import STRIDES, Features, FeatureSpec
from cdanalysis.structures.predictions import Detection, Segmentation
from cdanalysis.structures.targets import IGNORE, LabelMap
from cdanalysis.teachers.imagenet import imagenet_classes
from cdanalysis.training.head_data import Examples, HeadConfig

EACH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
BOXES = [[10, 5, 20, 30], [50, 20, 30, 25], [30, 40, 15, 15]]


def content() -> dict:
    """Two photographs of 100x80, three objects with polygons, two categories."""
    polygon = lambda x, y, w, h: [[x, y, x + w, y, x + w, y + h, x, y + h]]  # noqa: E731
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in (1, 2)],
        "categories": [{"id": 3, "name": "cup"}, {"id": 7, "name": "bar"}],
        "annotations": [
            {"id": 11 + n, "image_id": 1 + n // 2, "category_id": (3, 7)[n % 2], "bbox": box, "area": box[2] * box[3],
             "iscrowd": 0, "segmentation": polygon(*box)}
            for n, box in enumerate(BOXES)
        ],
    }  # fmt: skip


@pytest.fixture
def photographs(tmp_path) -> Path:
    for i in (1, 2):
        Image.new("RGB", (100, 80), (50 * i, 0, 0)).save(tmp_path / f"{i}.png")
    return tmp_path


def opened(folder: Path, changed: dict | list) -> CocoImages:
    (folder / "boxes.json").write_text(json.dumps(changed))
    return CocoImages(folder, folder / "boxes.json")


def perfect(labeled: CocoImages) -> dict:
    """Scores of somebody who finds every object where `content` has it, masks included."""
    scorer = DetectionScorer(labeled, ["bar", "cup", "fish"])
    for index in range(len(labeled)):
        mine = [n for n in range(3) if n // 2 == index]
        masks = np.zeros((len(mine), 80, 100), bool)
        for mask, n in zip(masks, mine, strict=True):
            x, y, w, h = BOXES[n]
            mask[y : y + h, x : x + w] = True
        boxes = np.array([BOXES[n] for n in mine], np.float32)
        scorer.update(index, Detection(boxes, [("cup", "bar")[n % 2] for n in mine], np.full(len(mine), 0.9), masks))
    return scorer.compute()


# -- what is repaired ------------------------------------------------------------------------------


ODD = st.lists(st.sampled_from([0, 1, 5, None, "x", -3, 2.5, 1e12, float("nan"), "missing"]), min_size=3, max_size=3)


@EACH
@given(ODD, st.sampled_from(["id", "area"]))
def test_ids_and_areas_of_annotations_do_not_matter(photographs, values, key):
    """To the evaluator id 0 was "no match"; of several with one id it saw the last; areas below 0 it passed over."""
    changed = content()
    for annotation, value in zip(changed["annotations"], values, strict=True):
        annotation[key] = value
        if value == "missing":
            del annotation[key]
    scores = perfect(opened(photographs, changed))
    assert all(scores[name] == 1 for name in ("AP", "AP50", "mask_AP")), scores


REPAIRED = {
    "no area": lambda c: [a.pop("area") for a in c["annotations"]],
    "area is null": lambda c: [a.update(area=None) for a in c["annotations"]],
    "no iscrowd": lambda c: [a.pop("iscrowd") for a in c["annotations"]],
    "iscrowd is null": lambda c: [a.update(iscrowd=None) for a in c["annotations"]],
    "no sides": lambda c: [(i.pop("width"), i.pop("height")) for i in c["images"]],
    "one side": lambda c: [i.pop("width") for i in c["images"]],
    "sides are null": lambda c: [i.update(width=None, height=None) for i in c["images"]],
    "sides are floats": lambda c: [i.update(width=100.0, height=80.0) for i in c["images"]],
    "a degenerate polygon beside": lambda c: [a["segmentation"].append([1, 1, 2, 2]) for a in c["annotations"]],
    "an empty polygon beside": lambda c: [a["segmentation"].append([]) for a in c["annotations"]],
    "dots before names": lambda c: [i.update(file_name="./" + i["file_name"]) for i in c["images"]],
    "no info": lambda c: c.pop("info", None),
    "extra keys": lambda c: c.update(licenses=None, info=None),
    "texts for ids": lambda c: (
        [i.update(id=str(i["id"])) for i in c["images"]],
        [a.update(image_id=str(a["image_id"])) for a in c["annotations"]],
    ),
}


@pytest.mark.parametrize("what", REPAIRED)
def test_what_can_be_repaired_is(photographs, what):
    changed = content()
    REPAIRED[what](changed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)  # nobody need be told
        labeled = opened(photographs, changed)
        assert all(perfect(labeled)[name] == 1 for name in ("AP", "AP50", "mask_AP"))
        target = labeled[0][1]
    assert target.boxes.tolist() == [[10, 5, 30, 35], [50, 20, 80, 45]] and target.labels.tolist() == [0, 1]
    assert target.masks.sum((1, 2)).tolist() == [20 * 30, 30 * 25]


@pytest.mark.parametrize("empty", [None, [], [[]], [[1, 2, 3, 4]], "missing"])
def test_objects_without_polygons_are_boxes(photographs, empty):
    changed = content()
    for annotation in changed["annotations"]:
        annotation["segmentation"] = empty
        if empty == "missing":
            del annotation["segmentation"]
    labeled = opened(photographs, changed)
    scores = perfect(labeled)
    assert scores["AP"] == 1 and "mask_AP" not in scores and labeled[0][1].masks is None


def test_a_byte_order_mark_and_backslashes_come_from_another_system(photographs):
    (photographs / "sub").mkdir()
    (photographs / "1.png").rename(photographs / "sub" / "1.png")
    changed = content()
    changed["images"][0]["file_name"] = "sub\\1.png"
    (photographs / "boxes.json").write_text(json.dumps(changed), encoding="utf-8-sig")
    labeled = CocoImages(photographs, photographs / "boxes.json")
    assert perfect(labeled)["AP"] == 1 and labeled.names == ["sub/1.png", "2.png"]
    with tarfile.open(photographs / "all.tar", "w") as archive:
        archive.add(photographs / "sub", arcname="./sub")
        archive.add(photographs / "2.png", arcname="./2.png")
    assert len(CocoImages(photographs / "all.tar", photographs / "boxes.json")[0][1].boxes) == 2


def test_categories_of_one_name_are_one(photographs):
    """As in exports with a super-category of the same name: half of the objects were of a class that nobody scored."""
    changed = content()
    changed["categories"].append({"id": 9, "name": "cup"})
    changed["annotations"][2]["category_id"] = 9
    with pytest.warns(InputWarning, match=r"boxes\.json: 1 categories with repeated names .*'cup', id 9"):
        labeled = opened(photographs, changed)
    assert labeled.classes == ["cup", "bar"] and labeled[1][1].labels.tolist() == [0]
    assert perfect(labeled)["AP"] == 1


# -- what is told ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ([90, 70, 40, 40], r"1 of 4 boxes extend beyond .* \[90, 70, 40, 40\] of '1.png'"),
        ([200, 200, 40, 40], "1 of 4 boxes cover less than a pixel"),
        ([3, 3, 0.5, 9], "1 of 4 boxes cover less than a pixel"),
        ([10, 5, 20, 30], "2 of 4 boxes are duplicates"),
    ],
)
def test_odd_boxes_are_told(photographs, box, says):
    changed = content()
    changed["annotations"].append({"id": 1, "image_id": 1, "category_id": 3, "bbox": box})
    with pytest.warns(InputWarning, match=says):
        opened(photographs, changed)


# -- what is refused -----------------------------------------------------------------------------------


def drop(part: str, key: str):
    return lambda c: c[part][0].pop(key)


def put(part: str, key: str, value):
    return lambda c: c[part][0].update({key: value})


REFUSED = {
    "a list": (lambda c: [], "is not a COCO annotation file: it is a list"),
    "a number": (lambda c: 5, "is not a COCO annotation file"),
    "no annotations": (lambda c: c.pop("annotations"), "'annotations' must be a list of objects"),
    "annotations are null": (lambda c: c.update(annotations=None), "'annotations' must be a list of objects"),
    "annotations by id": (lambda c: c.update(annotations={"1": {}}), "'annotations' must be a list of objects"),
    "no categories": (lambda c: c.update(categories=[]), "'categories' is empty"),
    "an image without id": (drop("images", "id"), "image number 1 has no id"),
    "an image without name": (drop("images", "file_name"), "image 1 has no file_name"),
    "a category without id": (drop("categories", "id"), "category number 1 has no id"),
    "a category without name": (drop("categories", "name"), "category 3 has no name"),
    "no bbox": (drop("annotations", "bbox"), "annotation 11 of '1.png' must have a bbox"),
    "no category_id": (drop("annotations", "category_id"), "annotation 11 of '1.png' has no category_id"),
    "no image_id": (drop("annotations", "image_id"), "annotation 11 has no image_id"),
    "an unknown category": (put("annotations", "category_id", 4), "11 of '1.png' has the category_id 4, but"),
    "an unknown image": (put("annotations", "image_id", 4), "annotation 11 has the image_id 4, but"),
    "a list for an id": (put("annotations", "image_id", [1]), r"annotation 11 has the image_id \[1\]"),
    "a bbox of corners": (put("annotations", "bbox", [90, 60, 10, -20]), "annotation 11 of '1.png' .*negative size"),
    "a bbox of three": (put("annotations", "bbox", [1, 2, 3]), "annotation 11 of '1.png' must have a bbox"),
    "a bbox of texts": (put("annotations", "bbox", ["1", "2", "3", "4"]), "annotation 11 of '1.png' must have a bbox"),
    "a bbox that is no number": (put("annotations", "bbox", [1, 2, float("nan"), 4]), "11 of '1.png' must have a bbox"),
    "an endless bbox": (put("annotations", "bbox", [1, 2, 10**400, 4]), "annotation 11 of '1.png' must have a bbox"),
    "a segmentation of texts": (put("annotations", "segmentation", "abc"), "annotation 11 of '1.png' has a segm"),
    "a flat polygon": (put("annotations", "segmentation", [1, 1, 5, 1, 5, 5]), "annotation 11 of '1.png' has a segm"),
    "an odd polygon": (put("annotations", "segmentation", [[1, 1, 5, 1, 5, 5, 3]]), "an odd number of coordinates"),
    "runs of another size": (
        put("annotations", "segmentation", {"size": [100, 80], "counts": [8000]}), "mask of 80x100 .* has 100x80"
    ),
    "runs of another size than the photograph": (
        lambda c: (
            c["images"][0].pop("width"), put("annotations", "segmentation", {"size": [5, 5], "counts": [25]})(c)
        ),
        "an RLE mask of 5x5 pixels, but its image has 100x80",
    ),
    "a polygon without end": (put("annotations", "segmentation", [[1, 1, 1e12, 1, 5, 5]]), "points far outside"),
    "too short runs": (put("annotations", "segmentation", {"size": [80, 100], "counts": [5, 5]}), "do not add up"),
    **{
        f"compressed runs {text!r}": (
            put("annotations", "segmentation", {"size": [80, 100], "counts": text}), "do not add up"
        )
        for text in ("", "0", "52", "zzzzzzz", "é", "PPPPPPP", "o")
    },
    "negative runs": (put("annotations", "segmentation", {"size": [80, 100], "counts": [8001, -1]}), "do not add up"),
    "runs without size": (put("annotations", "segmentation", {"counts": [8000]}), "without counts or size"),
    "two images of one id": (put("images", "id", 2), "two images have the id 2"),
    "two images of one file": (put("images", "file_name", "./2.png"), r"two images have the file_name '2\.png'"),
    "two categories of one id": (put("categories", "id", 7), "two categories have the id 7"),
    "ids of two kinds": (put("images", "id", "one"), "all numbers or all strings"),
    "a width of text": (put("images", "width", "100"), "image 1, '1.png', has the width '100'"),
    "a width of 0": (put("images", "width", 0), "image 1, '1.png', has the width 0"),
    "a reduced copy": (put("images", "width", 200), r"1 of 2 .* differ in size .* 200x80, .* 100x80"),
    "a missing photograph": (put("images", "file_name", "3.png"), r"1 of its images are missing from .* '3\.png'"),
    "fractions": (
        lambda c: [a.update(bbox=[v / 100 for v in a["bbox"]]) for a in c["annotations"]], "relative coordinates"
    ),
    "all boxes elsewhere": (
        lambda c: [a.update(bbox=[v + 500 for v in a["bbox"]]) for a in c["annotations"]], "none of its 3 boxes"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_contradicts_itself_is_refused(photographs, what):
    change, says = REFUSED[what]
    changed = content()
    found = change(changed)
    changed = found if what in ("a list", "a number") else changed
    with pytest.raises(ValueError, match=rf"boxes\.json.*{says}"):
        opened(photographs, changed)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 300), st.floats(), st.text(max_size=3),
    st.lists(st.integers(-3, 99), max_size=5),
    st.lists(st.lists(st.floats(-5, 200) | st.floats(), max_size=9), max_size=3),
    st.dictionaries(st.text(max_size=2), st.none()),
    st.fixed_dictionaries({"size": st.just([80, 100]), "counts": st.lists(st.integers(0, 8000), max_size=3)}),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_no_file_leads_to_anything_but_targets_or_a_sentence(photographs, data):
    """Whatever stands in place of a value or two: either all photographs have targets and scores, or it is refused."""
    changed = content()
    for _ in range(data.draw(st.integers(1, 2))):
        rows = changed[data.draw(st.sampled_from(["images", "categories", "annotations"]))]
        if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
            break
        row = data.draw(st.sampled_from(rows))
        key = data.draw(st.sampled_from(sorted(row) or ["id"]))
        if data.draw(st.booleans()):
            row.pop(key, None)
        else:
            row[key] = data.draw(JUNK)
    with collected():
        try:
            labeled = opened(photographs, changed)
        except ValueError as error:
            assert "boxes.json" in str(error) and "\n" not in str(error)
            return
        for index in range(len(labeled)):
            image, target = labeled[index]
            boxes = target.boxes
            assert (boxes >= 0).all() and (boxes[:, 2::2] <= image.width).all() and (boxes[:, 3] <= image.height).all()
            assert target.masks is None or target.masks.shape == (len(boxes), image.height, image.width)
        if set(labeled.classes) <= {"bar", "cup", "fish"}:
            perfect(labeled)


# -- photographs that EXIF turns -------------------------------------------------------------------------

STORED = {  # what brings an upright photograph to how it is stored
    1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180], 4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}  # fmt: skip


def turned(folder: Path, orientation: int, size=(100, 80)) -> dict:
    """A red rectangle in an upright photograph, stored turned; the annotations of the upright one."""
    upright = Image.new("RGB", size, "white")
    upright.paste((255, 0, 0), (10, 5, 30, 35))
    stored = upright
    for method in STORED[orientation]:
        stored = stored.transpose(method)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored.save(folder / "1.png", exif=exif)
    annotation = {"image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 30]}
    image = {"id": 1, "file_name": "1.png", "width": size[0], "height": size[1]}
    return {"images": [image], "annotations": [annotation], "categories": [{"id": 3, "name": "cup"}]}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("told", ["upright", "stored", "nothing"])
@pytest.mark.parametrize("size", [(100, 80), (90, 90)])
def test_boxes_lie_on_upright_photographs_or_are_refused(tmp_path, orientation, told, size):
    changed = turned(tmp_path, orientation, size)
    image = changed["images"][0]
    swapped = orientation > 4 and size[0] != size[1]
    if told == "stored" and swapped:
        image["width"], image["height"] = image["height"], image["width"]
        with pytest.raises(ValueError, match=rf"image 1, '1\.png', .* EXIF orientation {orientation} .*upright"):
            opened(tmp_path, changed)
        return
    if told == "nothing":
        del image["width"], image["height"]
    with collected() as notices:
        labeled = opened(tmp_path, changed)
    ambiguous = orientation > 1 and (told == "nothing" or not swapped)
    assert ["rotated or mirrored by their EXIF" in text for text in notices] == [True] * ambiguous
    photograph, target = labeled[0]
    assert photograph.size == size and target.boxes.tolist() == [[10, 5, 30, 35]]
    inside = np.asarray(photograph.crop((10, 5, 30, 35)))
    assert (inside == (255, 0, 0)).all() and (np.asarray(photograph) == (255, 0, 0)).all(2).sum() == 600


def test_an_unreadable_photograph_is_not_the_annotations_fault(photographs):
    (photographs / "1.png").write_bytes(b"no image")
    labeled = opened(photographs, content())
    assert len(labeled[1][1].boxes) == 1
    with pytest.raises(ValueError, match=r"1\.png"):
        labeled[0]


@EACH
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_compressed_runs_are_counted_as_pycocotools_writes_them(height, width, seed, share):
    mask = np.asfortranarray(np.random.default_rng(seed).random((height, width)) < share)
    flat = mask.ravel(order="F")
    starts = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1), len(flat)]
    runs = [0] * int(flat[0]) + np.diff(starts).tolist()
    assert runs_of(rle.encode(mask.astype(np.uint8))["counts"].decode()) == runs


def test_photographs_that_annotations_do_not_list_are_told(photographs):
    changed = content()
    changed["images"] = changed["images"][:1]
    changed["annotations"] = [a for a in changed["annotations"] if a["image_id"] == changed["images"][0]["id"]]
    with collected() as told:
        assert len(opened(photographs, changed)) == 1
    assert any("does not list 1 of 2 photographs" in text and "'2.png'" in text for text in told)


# -- masks ----------------------------------------------------------------------------------------------


def pixels(folder: Path, labels: dict[str, Image.Image], classes: list[dict] | None = None) -> LabeledPixels:
    """A set whose ``classes.json`` lists 0, 1 and an ignored 2 by default."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    listed = [{"index": i, "name": name, "ignore": name == "void"} for i, name in enumerate(["sky", "road", "void"])]
    (folder / "classes.json").write_text(json.dumps({"classes": listed if classes is None else classes}))
    for name, picture in labels.items():
        Image.new("RGB", picture.size).save(folder / "images" / f"{name}.png")
        picture.save(folder / "labels" / f"{name}.png")
    return LabeledPixels(folder)


@EACH
@given(st.lists(st.integers(0, 255), min_size=1, max_size=12))
def test_every_value_of_a_mask_is_listed_or_refused(tmp_path, values):
    picture = Image.fromarray(np.array([values], np.uint8))
    unlisted = sorted(set(values) - {0, 1, 2})
    if not unlisted:
        labels = pixels(tmp_path / "set", {"a": picture}).labels(0)
        assert labels.tolist() == [[IGNORE if v == 2 else v for v in values]]
        return
    with pytest.raises(ValueError, match=r"labels/a\.png has the values? .*classes\.json does not list") as caught:
        pixels(tmp_path / "set", {"a": picture})
    assert all(f" {value}" in str(caught.value) for value in unlisted[:8])


def test_a_label_map_without_pixels_is_damaged(tmp_path):
    """A PNG's head without what follows: Pillow opens it."""
    labeled = pixels(tmp_path / "set", {"a": Image.new("L", (4, 4)), "b": Image.new("L", (4, 4))})
    path = tmp_path / "set" / "labels" / "b.png"
    path.write_bytes(path.read_bytes()[:33])
    with pytest.raises(Damaged, match=r"labels/b\.png"):
        labeled[1]


def test_a_mask_that_is_wrong_later_is_refused_when_it_is_read(tmp_path):
    good, bad = (Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (1, 255))
    labeled = pixels(tmp_path / "set", {"a": good, "b": bad})
    assert (labeled[0][1].labels == 1).all()
    with pytest.raises(ValueError, match=r"labels/b\.png has the value 255, which .*classes\.json"):
        labeled[1]


def gray_png(samples: np.ndarray, bits: int) -> bytes:
    """A gray PNG of few bits a sample, as other tools write it."""
    import struct
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None].astype(np.uint8), axis=1)[:, -bits:].ravel()).tobytes()
        for row in samples
    )
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_mask_holds_the_numbers_that_are_stored(tmp_path, bits):
    """Pillow stretches gray of 2 and 4 bits to 255: class 1 would be 85 or 17."""
    samples = np.array([[0, 1, 1, 0], [1, 0, 1, 1]])
    labeled = pixels(tmp_path / "set", {"a": Image.new("L", (4, 2))})
    (tmp_path / "set" / "labels" / "a.png").write_bytes(gray_png(samples, bits))
    assert np.array_equal(labeled.labels(0), samples)


def test_masks_of_colors_or_of_large_numbers_are_refused(tmp_path):
    for picture, says in (
        (Image.new("RGB", (4, 4)), "a label map must be gray"),
        (Image.fromarray(np.full((4, 4), 1000, np.uint16)), "has the value 1000, but class indices must be 0 to 255"),
    ):
        with pytest.raises(ValueError, match=rf"labels/a\.png .*{says}"):
            pixels(tmp_path / "set", {"a": picture})
    assert (pixels(tmp_path / "set", {"a": Image.fromarray(np.full((4, 4), 1, np.uint16))}).labels(0) == 1).all()


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ([{"name": "sky"}], "index None"),
        ([{"index": "0", "name": "sky"}], "index '0'"),
        ([{"index": 256, "name": "sky"}], "index 256"),
        ([{"index": -1, "name": "sky"}], "index -1"),
        ([{"index": 0}], "class 0 has no name"),
        ([{"index": 0, "name": "sky"}, {"index": 0, "name": "road"}], "two classes have the index 0"),
        ([{"index": 0, "name": "sky"}, {"index": 1, "name": "sky"}], "two classes have the name 'sky'"),
        ([{"index": 0, "name": "sky", "colour": "blue"}], "color 'blue'"),
        ([{"index": 0, "name": "void", "ignore": True}], "only ignored ones"),
        ([{"index": 0, "name": "sky", "ignore": "false"}], "'false'; it must be true or false"),
        ([], "only ignored ones"),
        (["sky"], 'has no list "classes"'),
        ({"0": "sky"}, 'has no list "classes"'),
    ],
)
def test_class_lists_say_what_is_wrong_with_them(tmp_path, classes, says):
    with pytest.raises(ValueError, match=rf"classes\.json.*{says}"):
        pixels(tmp_path / "set", {"a": Image.new("L", (4, 4))}, classes)


def test_photographs_do_not_share_labels(tmp_path):
    pixels(tmp_path, {"a": Image.fromarray(np.ones((8, 9), np.uint8))})
    Image.new("RGB", (9, 8)).save(tmp_path / "images" / "a.bmp")
    with pytest.raises(ValueError, match=r"a\.bmp and images/a\.png share the label map labels/a\.png"):
        LabeledPixels(tmp_path)


@pytest.mark.parametrize("prefix", ["", "./", "set/"])
def test_archives_of_labels_may_be_packed_from_anywhere(tmp_path, prefix):
    """``tar cf set.tar .`` writes a dot before every name."""
    pixels(tmp_path / "set", {"a": Image.fromarray(np.ones((8, 9), np.uint8))})
    (tmp_path / "set" / "images" / "._a.png").write_bytes(b"what macOS leaves")
    shutil.copy(tmp_path / "set" / "classes.json", tmp_path)
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for path in (tmp_path / "set").rglob("*"):
            archive.add(path, prefix + path.relative_to(tmp_path / "set").as_posix(), recursive=False)
    labeled = LabeledPixels(tmp_path / "set.tar")
    assert len(labeled) == 1 and (labeled[0][1].labels == 1).all()


def test_labels_of_a_turned_photograph_are_upright(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    pixels(tmp_path / "set", {"a": Image.new("L", (4, 3))})
    Image.new("RGB", (4, 3)).save(tmp_path / "set" / "images" / "a.png", exif=exif)
    with pytest.warns(InputWarning, match="1 photographs are rotated or mirrored by their EXIF"):
        LabeledPixels(tmp_path / "set")
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (4, 3)).save(tmp_path / "set" / "images" / "a.png", exif=exif)
    with (
        pytest.warns(InputWarning),
        pytest.raises(ValueError, match=r"labels/a\.png .*differ in size: the label map is 4x3, .* EXIF says\) 3x4"),
    ):
        LabeledPixels(tmp_path / "set")[0]


def test_labels_of_another_size_are_refused_where_they_are_scored_too(tmp_path):
    labeled = pixels(tmp_path / "set", {"a": Image.new("L", (4, 3))})
    scorer = SegmentationScorer(labeled, ["sky", "road"])
    with pytest.raises(ValueError, match=r"labels/a\.png .*differ in size"):
        scorer.update(0, Segmentation(np.zeros((4, 3), np.uint8), ["sky", "road"]))


def test_a_photograph_without_labeled_pixels_teaches_nothing_and_spoils_nothing():
    """The mean over no pixel is NaN, and the step that it was in was skipped, the other photographs with it."""
    torch.manual_seed(0)
    head = SegmentationHead(FeatureSpec(4, (8, 8, 8, 8), 0), ["sky", "road"], 32).eval()
    pyramid = [torch.randn(2, 8, 64 // stride, 64 // stride) for stride in STRIDES]
    features = Features([(64, 64)] * 2, torch.randn(2, 4), pyramid)
    void, seen = LabelMap(torch.full((64, 64), IGNORE)), LabelMap(torch.randint(0, 2, (64, 64)))
    both = head.loss(features, [void, seen])["segmentation"]
    assert both.item() == pytest.approx(head.loss(features[1:], [seen])["segmentation"].item(), rel=1e-5)
    nothing = head.loss(features[1:], [void])["segmentation"]
    nothing.backward()
    assert nothing.item() == 0 and all(p.grad is None or not p.grad.any() for p in head.parameters())


# -- class folders -------------------------------------------------------------------------------------------


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return root


NAMES = st.sampled_from(["cat", "dog", "cup"])
DEPTHS = st.lists(st.sampled_from(["monday", "tuesday", "cat", "a.b"]), max_size=3)


@EACH
@given(st.lists(st.tuples(NAMES, DEPTHS), min_size=1, max_size=8), st.integers(0, 3))
def test_the_top_folder_is_the_class_however_deep_photographs_lie(tmp_path, where, strays):
    root = tmp_path / "set"
    shutil.rmtree(root, ignore_errors=True)
    (tmp_path / "set.tar").unlink(missing_ok=True)
    files = ["/".join([name, *depth, f"{i}.png"]) for i, (name, depth) in enumerate(where)]
    folders(root, *files, *(f"stray {i}.png" for i in range(strays)))
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(root, arcname=".")
    for source in (root, tmp_path / "set.tar"):
        if len({name for name, _ in where}) < 2:
            with pytest.raises(ValueError, match="two or more class folders"):
                ClassFolders(source)
            continue
        with collected() as notices:
            labeled = ClassFolders(source)
        assert labeled.classes == sorted({name for name, _ in where}) and len(labeled) == len(where)
        for index in range(len(labeled)):
            name = Path(labeled.names[index]).parts[0]
            assert labeled.classes[labeled[index][1]] == name == labeled.class_of(index)
        assert [text.split(" of ")[0] for text in notices] == [str(strays)] * bool(strays)
        assert all("are in no class folder and are left out" in text for text in notices)


@pytest.mark.parametrize("packed", [False, True])
def test_what_macos_hides_is_no_class_and_no_photograph(tmp_path, packed):
    for name in ("cat/a.png", "dog/b.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / name)
    for name in ("cat/._a.png", "__MACOSX/._c.png", ".hidden/d.png"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"no picture")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(tmp_path / "set", ".")
    labeled = ClassFolders(tmp_path / ("set.tar" if packed else "set"))
    assert labeled.classes == ["cat", "dog"] and len(labeled) == 2
    assert any("hidden" in line for line in labeled.left_out.lines())


def test_folders_that_are_no_classes_are_refused(tmp_path):
    split = folders(tmp_path / "split", "train/cat/a.png", "Val/cat/b.png")
    with pytest.raises(ValueError, match="Val and train, not classes: use one of them"):
        ClassFolders(split)
    assert len(ClassFolders(folders(tmp_path / "vehicles", "train/a.png", "bus/b.png"))) == 2
    for one, other in (("Cat", "cat"), ("red cup", "red_cup")):
        root = folders(tmp_path / one, f"{one}/a.png", f"{other}/b.png", "dog/c.png")
        with pytest.raises(ValueError, match=f"'{one}' and '{other}' .* are the same class"):
            ClassFolders(root)


def test_a_name_of_several_classes_is_refused():
    classes = imagenet_classes()
    for name in ("crane", "panda", "Polecat"):
        with pytest.raises(ValueError, match=f"'{name}' means several classes"):
            class_index(name, classes)
    assert class_index("maillot", classes) == classes.index("maillot"), "a full name goes before a synonym"
    assert class_index("n02012849", classes) == 134 and class_index("n03126707", classes) == 517


# -- nothing left to train on --------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "holdout"), [(1, 1), (9, 5), (4, 2)])
def test_everything_held_out_is_said_so(small, image_folder, tmp_path, every, holdout):
    config = HeadConfig(sources=[LabeledSource(str(image_folder))], holdout=holdout, every=every)
    says = rf"no photographs of .*photographs are left to train on: .*one in {every}, .*leaves out one in {holdout}"
    with pytest.raises(ValueError, match=says):
        Examples(small, config, tmp_path / "streams")
    with pytest.raises(ValueError, match="holdout must be at least 0"):
        Examples(small, replace(config, holdout=-3), tmp_path / "streams")


def test_crops_come_from_the_folder_that_is_named(image_folder):
    folders(image_folder, "category/e.png")
    crops = Crops([Source(str(image_folder), folder="cat")], 8, 0, 1)
    assert [ImageSet(image_folder).names[i] for i in crops.members[0]] == ["cat/a.png", "cat/b.png"]
    for folder in ("dog/", "./dog"):
        assert len(Crops([Source(str(image_folder), folder=folder)], 8, 0, 1).members[0]) == 2
    for source, says in (
        (Source(str(image_folder), folder="ca"), "no photographs below its folder 'ca'"),
        (Source(str(image_folder), weight=0), "source weights must be"),
        (Source(str(image_folder), weight=-1), "source weights must be"),
        (Source(str(image_folder), weight=float("nan")), "source weights must be"),
        (Source(str(image_folder), scale=[0.0, 1.0]), "scale of"),
        (Source(str(image_folder), scale=[2.0, 1.0]), "scale of"),
    ):
        with pytest.raises(ValueError, match=says):
            Crops([source], 8, 0, 1)


def test_coco_masks_become_vocs_classes(tmp_path):
    """The smallest object wins, crowds do not count, and what VOC does not know is background."""
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")

    def square(number: int, category: int, left: int, top: int, side: int, **more) -> dict:
        right, bottom = left + side, top + side
        outline = [[left, top, right, top, right, bottom, left, bottom]]
        box = {"bbox": [left, top, side, side], "area": side * side, "segmentation": outline}
        return {"id": number, "image_id": 1, "category_id": category, **box, **more}

    rows = {"counts": [0, 200], "size": [10, 20]}
    crowd = {"id": 9, "image_id": 1, "category_id": 4, "bbox": [0, 0, 20, 10], "area": 200, "iscrowd": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "categories": [{"id": 3, "name": "couch"}, {"id": 4, "name": "dog"}, {"id": 5, "name": "zebra"}],
        "annotations": [
            square(1, 4, 2, 2, 2), square(2, 3, 0, 0, 8), square(3, 5, 10, 1, 6), {**crowd, "segmentation": rows},
        ],
    }  # fmt: skip
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    source = LabeledSource(str(tmp_path), str(tmp_path / "boxes.json"), "coco_voc")
    labeled = open_labeled("segmentation", source)
    labels = labeled[0][1].labels.numpy()
    assert labeled.classes[labels[2, 2]] == "dog" and labeled.classes[labels[5, 5]] == "sofa"
    assert labels[3, 12] == 0 and labels[9, 19] == 255 and len(labeled.every(2)) == 1
