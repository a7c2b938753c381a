"""The figures that are published, measured again on a part of the data they were measured on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cdanalysis.data.images import ImageSet
from cdanalysis.evaluation.folder import evaluate_reconstruction, evaluate_task
from cdanalysis.zoo import METRICS, find

METRICS_FILE = find("photo") / METRICS


@pytest.fixture(scope="module")
def published() -> dict:
    return json.loads(METRICS_FILE.read_text())


def test_published_figures_are_of_the_model_that_ships(published, photo):
    sets = ("imagenette", "kodak", "coco_boxes", "camvid_val", "camvid_test")
    assert {published[name]["fingerprint"] for name in sets} == {photo.fingerprint}
    assert [published[name]["photographs"] for name in sets] == [1500, 24, 500, 101, 233]


def test_published_reconstructions_are_what_the_model_must_give(published):
    by_quality: dict[str, dict[str, dict]] = {}
    for row in published["kodak"]["reconstruction"]["rows"]:
        by_quality.setdefault(str(row["quality"]), {})[row["codec"]] = row
    ours = [rows["cdanalysis"] for rows in by_quality.values()]
    assert sum(0.1 <= row["bpp"] <= 1.0 for row in ours) >= 3
    assert max(row["bpp"] for row in ours) >= 8 * min(row["bpp"] for row in ours)
    assert all(abs(row["estimated_bpp"] / row["bpp"] - 1) < 0.02 for row in ours)
    near = min(by_quality.values(), key=lambda rows: abs(rows["cdanalysis"]["bpp"] - 0.25))
    assert 0.2 <= near["cdanalysis"]["bpp"] <= 0.3
    assert near["cdanalysis"]["psnr"] >= near["JPEG"]["psnr"] + 1.5


def test_published_labels_are_what_the_model_must_give(published):
    """Within 1.5 points of the photographs themselves, at 0.05 bpp or less."""
    rows = published["imagenette"]["classification"]["rows"]
    assert min(row["points_lost"] for row in rows if row["bpp"] and row["bpp"] <= 0.05) <= 1.5


@pytest.mark.parametrize("name", ["camvid_val", "camvid_test"])
def test_published_segmentations_keep_what_they_must(published, name):
    """At least 92 % of the RGB counterpart's mIoU, at 0.08 bpp or less."""
    rows = published[name]["segmentation"]["rows"]
    assert max(row["kept"] for row in rows if row["bpp"] and row["bpp"] <= 0.08) >= 0.92


def test_published_boxes_keep_what_they_must(published):
    """At least 92 % of the RGB counterpart's AP50, at 0.08 bpp or less."""
    rows = published["coco_boxes"]["detection"]["rows"]
    assert max(row["kept"] for row in rows if row["bpp"] and row["bpp"] <= 0.08) >= 0.92


def test_published_counterparts_are_no_strawmen(published):
    assert published["camvid_val"]["segmentation"]["rows"][0]["mIoU"] >= 0.67
    assert published["camvid_test"]["segmentation"]["rows"][0]["mIoU"] >= 0.60


@pytest.mark.data
def test_estimated_bits_are_the_actual_ones_on_kodak(photo, data_root):
    images = ImageSet(data_root / "kodak").every(8)
    for row in evaluate_reconstruction(photo, images, (0.3,), baselines=False)["rows"]:
        assert row["estimated_bpp"] == pytest.approx(row["bpp"], rel=0.02)


@pytest.mark.data
def test_labels_from_streams_on_imagenette(photo, data_root, published):
    """Every thirtieth photograph: within what a sample of 50 allows of the published accuracy."""
    images = ImageSet(data_root / "imagenette224" / "val.tar").every(30)
    quality = published["imagenette"]["classification"]["rows"][2]["quality"]
    reference, stream = evaluate_task(photo, "classification", images, (quality,))["rows"]
    expected = published["imagenette"]["classification"]["rows"][2]
    assert stream["bpp"] == pytest.approx(expected["bpp"], rel=0.1)
    spread = 3 * np.sqrt(expected["top1"] * (1 - expected["top1"]) / len(images))
    assert abs(stream["top1"] - expected["top1"]) <= spread
    assert reference["top1"] >= 0.97
