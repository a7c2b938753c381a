"""The figures that are published, measured again on a part of the data they were measured on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cdanalysis.data.images import ImageSet
from cdanalysis.evaluation.folder import evaluate_reconstruction, evaluate_task
from cdanalysis.zoo import METRICS, find

METRICS_FILE = find("photo") / METRICS


@pytest.fixture(scope="module")
def published() -> dict:
    return json.loads(METRICS_FILE.read_text())


def within(rows: list[dict[str, Any]], most: float) -> list[dict[str, Any]]:
    """Streams of at most so many bytes."""
    return [row for row in rows if row["bytes"] and row["bytes"] <= most]


def test_published_figures_are_of_the_model_that_ships(published, photo):
    sets = ("labels", "kodak", "coco_boxes", "segmentation")
    assert {published[name]["fingerprint"] for name in sets} == {photo.fingerprint}
    assert [published[name]["photographs"] for name in sets] == [620, 24, 500, 150]


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
    """Points of a hundred lost, at most, in so many bytes of whole files."""
    rows = published["labels"]["classification"]["rows"]
    assert rows[0]["top1_all"] >= 0.8, "the counterpart is no strawman"
    for most, points in ((60, 1.5), (110, 1), (160, 0.5), (250, 0.5)):
        lost = [100 * (rows[0]["top1_all"] - row["top1_all"]) for row in within(rows, most)]
        assert lost and min(lost) <= points


def test_published_boxes_are_what_the_model_must_give(published):
    """Average precision, at least, in so many bytes of whole files. (Wanted in 2,500: AP50 0.33, AP 0.2.)"""
    rows = published["coco_boxes"]["detection"]["rows"]
    assert rows[0]["AP50"] >= 0.33, "the counterpart is no strawman"
    for most, ap50, ap in ((1500, 0.31, 0.185), (2500, 0.315, 0.19)):
        assert max(row["AP50"] for row in within(rows, most)) >= ap50
        assert max(row["AP"] for row in within(rows, most)) >= ap


def test_published_segmentations_keep_what_they_must(published):
    """At least 90 % of the RGB counterpart's mIoU in 2,500 bytes. (Wanted of the counterpart: 0.43.)"""
    rows = published["segmentation"]["segmentation"]["rows"]
    assert rows[0]["mIoU"] >= 0.38, "the counterpart is no strawman"
    assert max(row["kept"] for row in within(rows, 2500)) >= 0.9


@pytest.mark.data
def test_estimated_bits_are_the_actual_ones_on_kodak(photo, data_root):
    images = ImageSet(data_root / "kodak").every(12)
    for row in evaluate_reconstruction(photo, images, (0.3,), baselines=False)["rows"]:
        assert row["estimated_bpp"] == pytest.approx(row["bpp"], rel=0.02)


@pytest.mark.data
def test_labels_from_streams(photo, data_root, published):
    """Every twentieth photograph: within what a sample of 31 allows of the published accuracy."""
    images = ImageSet(data_root / "wide" / "val.tar").every(20)
    expected = published["labels"]["classification"]["rows"][2]
    reference, stream = evaluate_task(photo, "classification", images, (expected["quality"],))["rows"]
    assert stream["bytes"] == pytest.approx(expected["bytes"], rel=0.1)
    spread = 3 * np.sqrt(expected["top1_all"] * (1 - expected["top1_all"]) / len(images))
    assert abs(stream["top1_all"] - expected["top1_all"]) <= spread
    assert reference["top1_all"] >= 0.6
