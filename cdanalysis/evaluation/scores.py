"""Scores of detections and segmentations, by the field's own evaluators: pycocotools and torchmetrics."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from ..data.coco import CocoPhotographs
from ..data.segmentation import LabelledPixels
from ..heads.detection import Detection
from ..heads.segmentation import Segmentation
from ..targets import IGNORE


class Scorer(Protocol):
    """Collects predictions, photograph after photograph, and scores them."""

    def add(self, index: int, prediction: Any) -> None: ...
    def scores(self) -> dict[str, float]: ...


class DetectionScorer:
    """Average precision after COCO (Lin and others, ECCV 2014), by pycocotools.

    ``AP`` is the mean over intersections over union of 0.50 to 0.95, ``AP50`` and ``AP75`` those at 0.50 and 0.75; each
    in [0, 1], over the classes that occur. With masks on both sides also ``mask_AP``, ``mask_AP50``, ``mask_AP75``.

    Args:
        labelled: the photographs, with their annotations.
        classes: names that the head predicts.

    Raises:
        ValueError: if the head does not know one of the data set's classes.
    """

    def __init__(self, labelled: CocoPhotographs, classes: Sequence[str]):
        _same_classes(labelled.classes, classes)
        self.labelled = labelled
        self.ids = dict(zip(labelled.classes, labelled.category_ids, strict=True))
        self.results: list[dict[str, Any]] = []
        self.masked = True

    def add(self, index: int, prediction: Detection) -> None:
        from pycocotools import mask as rle

        self.masked &= prediction.masks is not None
        for place, label in enumerate(prediction.labels):
            if label not in self.ids:
                continue
            result = {
                "image_id": self.labelled.ids[index],
                "category_id": self.ids[label],
                "bbox": prediction.boxes[place].tolist(),
                "score": float(prediction.scores[place]),
            }
            if prediction.masks is not None:
                result["segmentation"] = rle.encode(np.asfortranarray(prediction.masks[place].astype(np.uint8)))
            self.results.append(result)

    def scores(self) -> dict[str, float]:
        scores = self._average_precision("bbox")
        annotations = self.labelled.coco.dataset["annotations"]
        if self.masked and self.results and all(a.get("segmentation") for a in annotations):
            scores |= {f"mask_{name}": value for name, value in self._average_precision("segm").items()}
        return scores

    def _average_precision(self, kind: str) -> dict[str, float]:
        from pycocotools.cocoeval import COCOeval

        if not self.results:
            return dict.fromkeys(("AP", "AP50", "AP75"), 0.0)
        with contextlib.redirect_stdout(io.StringIO()):  # it reports on standard output, which is for programs
            found = self.labelled.coco.loadRes([dict(r) for r in self.results])
            evaluation = COCOeval(self.labelled.coco, found, kind)
            evaluation.params.imgIds = list(self.labelled.ids)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return {name: float(value) for name, value in zip(("AP", "AP50", "AP75"), evaluation.stats[:3], strict=True)}


class SegmentationScorer:
    """Mean intersection over union, and accuracy of pixels, by torchmetrics; pixels of no class do not count.

    Args:
        labelled: the photographs, with their labels.
        classes: names that the head predicts.

    Raises:
        ValueError: if they are not the data set's classes.
    """

    def __init__(self, labelled: LabelledPixels, classes: Sequence[str]):
        _same_classes(labelled.classes, classes)
        # A head's index to the data set's; a class that only the head knows is wrong everywhere.
        known = [
            labelled.classes.index(name) if name in labelled.classes else len(labelled.classes) for name in classes
        ]
        self.labelled, self.table = labelled, np.array(known, np.int64)
        self.count = len(labelled.classes)
        self.iou = MulticlassJaccardIndex(self.count + 1, average="none", ignore_index=IGNORE)
        self.accuracy = MulticlassAccuracy(self.count + 1, average="micro", ignore_index=IGNORE)

    def add(self, index: int, prediction: Segmentation) -> None:
        target = torch.from_numpy(self.labelled.labels(index).astype(np.int64))[None]
        mask = torch.from_numpy(self.table[prediction.mask])[None]
        self.iou.update(mask, target)
        self.accuracy.update(mask, target)

    def scores(self) -> dict[str, float]:
        each = self.iou.compute()[: self.count]
        return {"mIoU": float(each.mean()), "pixel_accuracy": float(self.accuracy.compute())}


SCORERS = {"detection": DetectionScorer, "segmentation": SegmentationScorer}
"""What scores a task's predictions."""


def _same_classes(wanted: Sequence[str], known: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ValueError(f"the head does not know {len(missing)} of the data set's classes, {missing[0]!r} first")
