"""The figures that are published, measured again on a part of the data they were measured on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cdanalysis.data.photographs import Photographs
from cdanalysis.evaluation.runner import evaluate_classification, evaluate_reconstruction
from cdanalysis.zoo import METRICS, find

METRICS_FILE = find("photo") / METRICS


@pytest.fixture(scope="module")
def published() -> dict:
    return json.loads(METRICS_FILE.read_text())


def test_published_figures_are_of_the_model_that_ships(published, photo):
    assert published["imagenette"]["fingerprint"] == published["kodak"]["fingerprint"] == photo.fingerprint


def test_published_figures_are_within_what_the_model_must_do(published):
    kodak = published["kodak"]["reconstruction"]["rows"]
    ours = [row for row in kodak if row["codec"] == "cdanalysis"]
    assert sum(0.1 <= row["bpp"] <= 1.0 for row in ours) >= 3
    assert all(abs(row["estimated_bpp"] / row["bpp"] - 1) < 0.02 for row in ours)


@pytest.mark.data
def test_estimated_bits_are_the_actual_ones_on_kodak(photo, data_root):
    photographs = Photographs(data_root / "kodak").every(8)
    for row in evaluate_reconstruction(photo, photographs, (0.3,), baselines=False)["rows"]:
        assert row["estimated_bpp"] == pytest.approx(row["bpp"], rel=0.02)


@pytest.mark.data
def test_labels_from_streams_on_imagenette(photo, data_root, published):
    """Every thirtieth photograph: within what a sample of 50 allows of the published accuracy."""
    photographs = Photographs(data_root / "imagenette224" / "val.tar").every(30)
    quality = published["imagenette"]["classification"]["rows"][2]["quality"]
    reference, stream = evaluate_classification(photo, photographs, (quality,))["rows"]
    expected = published["imagenette"]["classification"]["rows"][2]
    assert stream["bpp"] == pytest.approx(expected["bpp"], rel=0.1)
    spread = 3 * np.sqrt(expected["top1"] * (1 - expected["top1"]) / len(photographs))
    assert abs(stream["top1"] - expected["top1"]) <= spread
    assert reference["top1"] >= 0.97
