"""What a model predicts of a photograph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Classification:
    """Labels of one photograph.

    Attributes:
        label: the most probable class.
        score: its calibrated probability, in [0, 1].
        top5: the five (or fewer, where there are fewer classes) most probable (label, score).
    """

    label: str
    score: float
    top5: list[tuple[str, float]]


@dataclass(frozen=True)
class Detection:
    """Objects of one photograph, the surest first.

    Attributes:
        boxes: (N, 4) float32: x, y, width, height in pixels of the photograph.
        labels: N class names.
        scores: (N,) float32 in [0, 1].
        masks: (N, H, W) bool, or None where the head gives none.
    """

    boxes: np.ndarray
    labels: list[str]
    scores: np.ndarray
    masks: np.ndarray | None = None


@dataclass(frozen=True)
class Segmentation:
    """A class for every pixel of one photograph.

    Attributes:
        mask: (H, W) uint8 class indices.
        classes: names in the order of the indices.
    """

    mask: np.ndarray
    classes: list[str]


@dataclass(frozen=True)
class Result:
    """Predictions of one photograph; a task that was not asked for is None."""

    classification: Classification | None = None
    detection: Detection | None = None
    segmentation: Segmentation | None = None
