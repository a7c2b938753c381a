"""Accuracy of classification, detection and segmentation, by pycocotools and torchmetrics.

Scorers keep plain data for each photograph, so that a measurement can be interrupted and resumed, and scores can be
computed for any subset of photographs, such as bootstrap resamples.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from ..data.coco import CocoImages
from ..data.labeled import ClassFolders
from ..data.labels import class_index
from ..data.segmentation import LabeledPixels
from ..structures.predictions import Detection, Segmentation
from ..structures.targets import IGNORE
from .image import accuracy, calibration_gap


class Scorer(Protocol):
    """The protocol of task metrics: accumulates predictions, one photograph at a time, and computes scores.

    Attributes:
        main: name of the score that comparisons use.
        biased: whether resampling photographs with replacement biases the score.
        parts: plain data kept for each photograph, by its index.
    """

    main: str
    biased: bool
    parts: dict[int, Any]

    def update(self, index: int, prediction: Any) -> None:
        """Add the prediction for a photograph.

        Args:
            index: of the photograph in the labeled set.
            prediction: of the task's kind, such as `cdanalysis.structures.Detection`.
        """
        ...

    def compute(self, chosen: Sequence[int] | None = None) -> dict[str, float | None]:
        """Compute the scores.

        Args:
            chosen: indices of added photographs, possibly repeated; by default all of them.

        Returns:
            scores by name; None if undefined, as without any labels.
        """
        ...


class ClassificationScorer:
    """Accuracy and calibration, in [0, 1]; predictions are logits (classes,).

    ``top1`` chooses among the data's classes, and is None where there is but one, which nobody could miss; ``top1_all``
    and ``top5_all`` among all that the logits are of. ``calibration_error`` is computed of all photographs alone.

    Args:
        labeled: the photographs, in folders named by class.
        classes: class names of the logits.

    Raises:
        ValueError: if a folder is not named after one of them.
    """

    main, biased = "top1", False

    def __init__(self, labeled: ClassFolders, classes: Sequence[str]):
        self.labeled = labeled
        self.parts: dict[int, Any] = {}
        found = [class_index(name, classes) for name in labeled.classes]
        if None in found:
            raise ValueError(
                f"the folder {labeled.classes[found.index(None)]!r} is not named after a class of the head"
            )
        self.among = [index for index in found if index is not None]
        self.choices = sorted(set(self.among))

    def target(self, index: int) -> int:
        """The class of a photograph, as an index into the head's classes.

        Args:
            index: of the photograph in the labeled set.
        """
        return self.among[self.labeled.classes.index(self.labeled.class_of(index))]

    def update(self, index: int, prediction: Tensor) -> None:
        """As `Scorer.update`; the prediction is logits (classes,), whose softmax is the head's confidence."""
        logits, target = prediction[None].cpu(), torch.tensor([self.target(index)])
        right = accuracy(logits, target, self.choices), accuracy(logits, target), accuracy(logits, target, top=5)
        self.parts[index] = [*map(int, right), float(logits.softmax(1).max())]

    def compute(self, chosen: Sequence[int] | None = None) -> dict[str, float | None]:
        """As `Scorer.compute`."""
        parts = [self.parts[int(i)] for i in (sorted(self.parts) if chosen is None else chosen)]
        names = ("top1", "top1_all", "top5_all")
        if not parts:
            return dict.fromkeys(names if chosen is not None else (*names, "calibration_error"))
        *right, confidence = zip(*parts, strict=True)
        found: dict[str, float | None] = {n: sum(each) / len(parts) for n, each in zip(names, right, strict=True)}
        if chosen is None:
            found["calibration_error"] = calibration_gap(torch.tensor(confidence), torch.tensor(right[1]))
        return found if len(self.choices) > 1 else {**found, "top1": None}


class DetectionScorer:
    """COCO's average precision (Lin and others, ECCV 2014), by pycocotools.

    ``AP`` is the mean over IoU thresholds of 0.50 to 0.95, ``AP50`` and ``AP75`` are at 0.50 and 0.75; each is in
    [0, 1], the mean over the classes that occur, and None if no objects occur. If data and predictions have masks,
    there are also ``mask_AP``, ``mask_AP50`` and ``mask_AP75``.

    Args:
        labeled: the photographs, with their annotations.
        classes: class names of the head.

    Raises:
        ValueError: if the head lacks one of the data set's classes.
    """

    main, biased = "AP50", True  # many resamples lack the classes of few photographs, which are mostly hard ones

    def __init__(self, labeled: CocoImages, classes: Sequence[str]):
        _same_classes(labeled.classes, classes)
        self.labeled = labeled
        self.parts: dict[int, Any] = {}
        self.ids = dict(zip(labeled.classes, labeled.category_ids, strict=True))
        self._matched: dict[str, Any] = {}

    def update(self, index: int, prediction: Detection) -> None:
        """As `Scorer.update`; boxes are in pixels of the photograph."""
        self._matched, results = {}, prediction.to_coco(self.labeled.ids[index], self.ids)
        self.parts[index] = {"masked": prediction.masks is not None, "results": results}

    def compute(self, chosen: Sequence[int] | None = None) -> dict[str, float | None]:
        """As `Scorer.compute`."""
        kinds = {"bbox": ""}
        annotations = self.labeled.coco.dataset["annotations"]
        masked = all(part["masked"] for part in self.parts.values()) and any(p["results"] for p in self.parts.values())
        if masked and all(a.get("segmentation") for a in annotations):
            kinds["segm"] = "mask_"
        order = {index: place for place, index in enumerate(sorted(self.parts))}
        places = list(order.values()) if chosen is None else [order[int(i)] for i in chosen]
        return {f"{mark}{n}": v for kind, mark in kinds.items() for n, v in self._precision(kind, places).items()}

    def _precision(self, kind: str, places: list[int]) -> dict[str, float | None]:
        """Average precision over photographs by their place among those that were added."""
        indices = sorted(self.parts)
        if not any(self._has_objects(indices[place]) for place in places):
            return dict.fromkeys(("AP", "AP50", "AP75"))
        if not any(part["results"] for part in self.parts.values()):
            return dict.fromkeys(("AP", "AP50", "AP75"), 0.0)
        if kind not in self._matched:
            self._matched[kind] = self._match(kind)
        evaluation, matches = self._matched[kind]
        with contextlib.redirect_stdout(io.StringIO()):  # it reports on standard output, which is for programs
            evaluation.evalImgs = matches[:, places].ravel().tolist()
            evaluation.params.imgIds = evaluation._paramsEval.imgIds = list(range(len(places)))
            evaluation.accumulate()
        precision = evaluation.eval["precision"][..., 0, -1]  # (thresholds, recalls, classes)
        each = {"AP": precision, "AP50": precision[0], "AP75": precision[5]}
        return {name: float(p[p > -1].mean()) if (p > -1).any() else None for name, p in each.items()}

    def _has_objects(self, index: int) -> bool:
        """Whether a photograph has an object that counts, which crowds do not."""
        return any(not a.get("iscrowd") for a in self.labeled.coco.imgToAnns[self.labeled.ids[index]])

    def _match(self, kind: str) -> tuple[Any, np.ndarray]:
        """pycocotools' evaluation, and its matches: (classes, photographs)."""
        from pycocotools.cocoeval import COCOeval

        results = [dict(r) for index in sorted(self.parts) for r in self.parts[index]["results"]]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self.labeled.coco, self.labeled.coco.loadRes(results), kind)
            evaluation.params.imgIds = sorted(self.labeled.ids[i] for i in self.parts)
            evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
            evaluation.params.maxDets = evaluation.params.maxDets[-1:]
            evaluation.evaluate()
        matches = np.empty(len(evaluation.evalImgs), dtype=object)
        matches[:] = evaluation.evalImgs
        return evaluation, matches.reshape(len(evaluation.params.catIds), len(self.parts))


class SegmentationScorer:
    """Mean intersection over union (mIoU) and pixel accuracy, in [0, 1]; pixels labeled ``IGNORE`` do not count.

    The mean is over the classes that occur in the labels or in the predictions.

    Args:
        labeled: the photographs, with their label maps.
        classes: class names of the head.

    Raises:
        ValueError: if the head lacks one of the data set's classes.
    """

    main, biased = "mIoU", False

    def __init__(self, labeled: LabeledPixels, classes: Sequence[str]):
        _same_classes(labeled.classes, classes)
        # A head's index to the data set's; a class that only the head knows is wrong everywhere.
        known = [labeled.classes.index(name) if name in labeled.classes else len(labeled.classes) for name in classes]
        self.labeled, self.table = labeled, np.array(known, np.int64)
        self.count = len(labeled.classes)
        self.parts: dict[int, Any] = {}

    def update(self, index: int, prediction: Segmentation) -> None:
        """As `Scorer.update`; the prediction is of the size of the label map."""
        target = torch.from_numpy(self.labeled.labels(index, prediction.mask.shape).astype(np.int64))
        mask = torch.from_numpy(self.table[prediction.mask])
        confusion = multiclass_confusion_matrix(mask, target, self.count + 1, ignore_index=IGNORE)
        self.parts[index] = confusion.tolist()  # true class, predicted class

    def compute(self, chosen: Sequence[int] | None = None) -> dict[str, float | None]:
        """As `Scorer.compute`."""
        chosen = sorted(self.parts) if chosen is None else chosen
        if not len(chosen):
            return {"mIoU": None, "pixel_accuracy": None}
        confusion = np.asarray(np.sum([self.parts[int(i)] for i in chosen], axis=0, dtype=np.float64))
        right, counted = confusion.diagonal(), confusion.sum()
        union = confusion.sum(0) + confusion.sum(1) - right
        each = [float(r / u) for r, u in zip(right[: self.count], union[: self.count], strict=True) if u]
        accuracy = float(right.sum() / counted) if counted else None
        return {"mIoU": float(np.mean(each)) if each else None, "pixel_accuracy": accuracy}


def _same_classes(wanted: Sequence[str], known: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ValueError(f"the head lacks {len(missing)} of the data set's classes, for example {missing[0]!r}")
