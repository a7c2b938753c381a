"""Predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..registry import HEADS

SURE = 0.35
"""Detections below this score are neither listed in one line nor drawn."""


class Prediction(Protocol):
    """A head's prediction for one image."""

    def to_dict(self) -> Any:
        """The prediction as JSON."""
        ...

    def summary(self) -> str:
        """The prediction in one short line, for people."""
        ...


@dataclass(frozen=True)
class Classification:
    """The classes of one image.

    Attributes:
        label: the most probable class.
        score: its calibrated probability, in [0, 1].
        top5: the five (or fewer, where there are fewer classes) most probable (label, score).
    """

    label: str
    score: float
    top5: list[tuple[str, float]]

    def to_dict(self) -> dict[str, Any]:
        return {"label": self.label, "score": self.score, "top5": self.top5}

    def summary(self) -> str:
        return f"{self.label.split(',')[0]} {self.score:.2f}"


@dataclass(frozen=True)
class Detection:
    """Objects in one image, by descending score.

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

    def to_dict(self) -> list[dict[str, Any]]:
        """One entry an object: label, score, and box (x, y, width, height)."""
        found = zip(self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True)
        return [{"label": label, "score": score, "box": box} for label, score, box in found]

    def summary(self) -> str:
        """Number of objects per class, of those with a score of at least ``SURE``."""
        sure = [label for label, score in zip(self.labels, self.scores, strict=True) if score >= SURE]
        return ", ".join(f"{n} {label}" for label, n in Counter(sure).most_common()) or "-"


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of one image.

    Attributes:
        mask: (H, W) uint8 class indices.
        classes: names in the order of the indices.
    """

    mask: np.ndarray
    classes: list[str]

    def shares(self) -> dict[str, float]:
        """Share of the photograph's pixels by class, the largest first; classes without a pixel are left out."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.classes)) / self.mask.size
        order = np.argsort(-counts, kind="stable")
        return {self.classes[i]: float(counts[i]) for i in order if counts[i]}

    def to_dict(self) -> dict[str, Any]:
        return {"classes": self.shares()}

    def summary(self) -> str:
        """The four largest classes."""
        return ", ".join(f"{name} {share:.0%}" for name, share in list(self.shares().items())[:4])


class Result(Mapping[str, Any]):
    """Predictions of one image by task, as items and as attributes: ``result["detection"]``, ``result.detection``.

    As an attribute, a task that was not requested is None. Tasks are in the order of the model's heads.

    >>> result = Result(classification=Classification("cat", 0.9, [("cat", 0.9)]))
    >>> result.classification.label, result["classification"].score, result.detection, list(result)
    ('cat', 0.9, None, ['classification'])
    """

    def __init__(self, **predictions: Any):
        self._predictions = predictions

    @property
    def classification(self) -> Classification | None:
        return self._predictions.get("classification")

    @property
    def detection(self) -> Detection | None:
        return self._predictions.get("detection")

    @property
    def segmentation(self) -> Segmentation | None:
        return self._predictions.get("segmentation")

    def __getattr__(self, task: str) -> Any:
        if not task.startswith("_"):
            if task in self._predictions:
                return self._predictions[task]
            if task in HEADS:
                return None
        raise AttributeError(f"there is no task {task!r}; there are predictions of: {', '.join(self) or 'none'}")

    def __getitem__(self, task: str) -> Any:
        return self._predictions[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._predictions)

    def __len__(self) -> int:
        return len(self._predictions)

    def __repr__(self) -> str:
        return f"Result({', '.join(f'{task}={prediction!r}' for task, prediction in self.items())})"
