"""What a model predicts of a photograph, and how lists of photographs and streams are worked on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from ..heads.classification import Classification
from ..heads.detection import Detection
from ..heads.segmentation import Segmentation

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Result:
    """Predictions of one photograph; a task that was not asked for is None."""

    classification: Classification | None = None
    detection: Detection | None = None
    segmentation: Segmentation | None = None


def predict(heads: Mapping[str, nn.Module], pyramid: list[Tensor], sizes: list[tuple[int, int]]) -> list[Result]:
    """One `Result` a photograph, of all heads on one pyramid; sizes are the photographs' true (height, width)."""
    predictions = {task: head.predict(pyramid, sizes) for task, head in heads.items()}
    return [Result(**{task: rows[i] for task, rows in predictions.items()}) for i in range(len(sizes))]


def grouped(items: Sequence[T], kind: Callable[[T], object], work: Callable[[list[T]], list[R]]) -> list[R]:
    """Do ``work`` on the items of each kind together; results in the order of the items."""
    groups: dict[object, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(kind(item), []).append(index)
    results: dict[int, R] = {}
    for indices in groups.values():
        results.update(zip(indices, work([items[i] for i in indices]), strict=True))
    return [results[index] for index in range(len(items))]
