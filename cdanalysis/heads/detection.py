"""Object detection from the feature pyramid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from ..structures.features import Features, FeatureSpec
from ..structures.predictions import Detection
from ..structures.targets import Instances, Target
from .base import Head
from .nanodet import NanoDet
from .torchvision_detectors import BUILDERS, TorchvisionDetector

KINDS = ("nanodet", *BUILDERS)


class DetectionHead(Head):
    """A detector that reads features in place of pixels: NanoDet-Plus's, or one of torchvision's.

    Args:
        spec: of the features.
        classes: class names.
        kind: one of ``KINDS``. "nanodet" reads the pyramid as it is, and is the quickest by far; the others put a
            feature pyramid network between: see `TorchvisionDetector`.
        width: channels of that pyramid, a multiple of 32, at least 64.
        convs: convolutions before the predictions of "fcos", by default 2; "retinanet" has 4, and no other number.

    Raises:
        ValueError: for another kind, width or number of convolutions; or if "nanodet" is to read levels of different
            widths.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        classes: list[str],
        kind: str = "nanodet",
        width: int = 96,
        convs: int | None = None,
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if convs is None:
            convs = 4 if kind == "retinanet" else 2
        self.classes, self.kind, self.width, self.convs = list(classes), kind, width, convs
        self.detector = (
            NanoDet(spec.pyramid, len(self.classes))
            if kind == "nanodet"
            else TorchvisionDetector(kind, spec.pyramid, len(self.classes), width, convs)
        )

    def describe(self) -> dict[str, Any]:
        """What rebuilds this head, beside the features' shape."""
        return {"classes": self.classes, "kind": self.kind, "width": self.width, "convs": self.convs}

    def class_rows(self) -> dict[str, Tensor]:
        """As `Head.class_rows`."""
        return {f"detector.{name}": rows for name, rows in self.detector.class_rows(len(self.classes)).items()}

    @classmethod
    def prepared(cls, target: Target, options: Mapping[str, Any]) -> Target:
        """As `Head.prepared`: masks are large, and only a Mask R-CNN reads them."""
        if options.get("kind") != "mask_rcnn" and isinstance(target, Instances):
            return replace(target, masks=None)
        return target

    def loss(self, features: Features, targets: list[Instances]) -> dict[str, Tensor]:
        """As `Head.loss`: the detector's losses by name.

        Raises:
            ValueError: if a Mask R-CNN is to learn from targets without masks.
        """
        return self.detector.losses(features.pyramid, [self._target(target) for target in targets])

    def _target(self, target: Instances) -> dict[str, Tensor]:
        entry = {"boxes": target.boxes.float(), "labels": target.labels}
        if self.kind == "mask_rcnn":
            if target.masks is None:
                raise ValueError("a Mask R-CNN needs masks to learn from, and this data set has none")
            entry["masks"] = target.masks.to(torch.uint8)
        return entry

    def distillation(self, features: Features, teacher: Features, by: Any = None) -> Tensor:
        """As `Head.distillation`, for one-stage detectors.

        Raises:
            ValueError: for a two-stage detector.
        """
        other = self.detector if by is None else by.detector
        return self.detector.distance(features.pyramid, teacher.pyramid, other)

    @torch.no_grad()
    def predict(self, features: Features) -> list[Detection]:
        """As `Head.predict`.

        Raises:
            RuntimeError: if the head is in training mode.
            ValueError: for a padded batch of images whose working sizes differ.
        """
        if self.training:
            raise RuntimeError("predict needs the head in evaluation mode: call eval() first")
        found = self.detector.detect(features.pyramid, features.working)
        rows = zip(found, features.sizes, features.scales(), strict=True)
        return [self._detection(row, size, scale) for row, size, scale in rows]

    def _detection(self, found: dict[str, Tensor], size: tuple[int, int], scale: tuple[float, float]) -> Detection:
        boxes = found["boxes"].float().cpu()
        boxes = boxes * boxes.new_tensor([*scale, *scale])
        corner, opposite = boxes[:, :2], boxes[:, 2:]
        masks = None
        if "masks" in found:
            masks = (paste_masks_in_image(found["masks"].float().cpu(), boxes, size)[:, 0] > 0.5).numpy()
        ids = found["labels"].cpu().numpy()
        labels = [self.classes[i] for i in ids]
        xywh = torch.cat([corner, opposite - corner], 1).numpy()
        scores = found["scores"].float().cpu().numpy()
        return Detection(xywh, labels, scores, masks, ids, self.classes, size)
