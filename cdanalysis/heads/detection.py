"""Object detection from the feature pyramid: torchvision's detectors, fed with features instead of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import MultiScaleRoIAlign

from ..structures.predictions import Detection
from ..structures.targets import Instances, Target
from .base import Head
from .fcos import SparseFCOSHead
from .neck import FeaturePyramid

KINDS = ("fcos", "retinanet", "faster_rcnn", "mask_rcnn")


class DetectionHead(Head):
    """A torchvision detector on features at strides 8, 16, 32 and, pooled, 64.

    "fcos" (Tian and others, ICCV 2019), "retinanet" (Lin and others, ICCV 2017), "faster_rcnn" (Ren and
    others, NeurIPS 2015), "mask_rcnn" (He and others, ICCV 2017; the only one with masks).

    Args:
        features: channels at strides 8, 16 and 32.
        classes: class names.
        kind: one of ``KINDS``.
        width: channels of the feature pyramid, a multiple of 32, at least 64.
        convs: convolutions before the predictions of "fcos" and "retinanet".
    """

    levels = 3

    def __init__(
        self, features: tuple[int, int, int], classes: list[str], kind: str = "fcos", width: int = 96, convs: int = 2
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if width % 32 or width < 64:  # FCOS normalizes 32 groups of channels, even of a single cell
            raise ValueError(f"width must be a multiple of 32 and at least 64, got {width}")
        self.classes, self.kind, self.width, self.convs = list(classes), kind, width, convs
        self.detector = _BUILDERS[kind](FeaturePyramid(features, width), len(self.classes), convs)

    def describe(self) -> dict[str, Any]:
        """What rebuilds this head, beside the features' channels."""
        return {"classes": self.classes, "kind": self.kind, "width": self.width, "convs": self.convs}

    @classmethod
    def prepared(cls, target: Target, options: Mapping[str, Any]) -> Target:
        """Masks are large, and only a Mask R-CNN reads them."""
        if options.get("kind") != "mask_rcnn" and isinstance(target, Instances):
            return replace(target, masks=None)
        return target

    @property
    def first_label(self) -> int:
        """torchvision's two-stage detectors keep label 0 for the background."""
        return int(self.kind in ("faster_rcnn", "mask_rcnn"))

    def forward(self, pyramid: list[Tensor]) -> dict[str, Tensor]:
        """Raw predictions of a one-stage detector at every place: see `torchvision.models.detection`.

        Raises:
            ValueError: for a two-stage detector, which has none.
        """
        if self.first_label:
            raise ValueError(f"a {self.kind} has no dense predictions")
        return self.detector.head(list(self.detector.backbone(pyramid).values()))

    def loss(self, pyramid: list[Tensor], targets: list[Instances], sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
        """The detector's losses by name.

        Args:
            pyramid: features (N, c, H/s, W/s) at strides 8, 16, 32; photographs lie left and top.
            sizes: true (height, width) of each photograph.
        """
        wanted = [self._target(target) for target in targets]
        return self._run(pyramid, sizes, wanted)[1]

    def _target(self, target: Instances) -> dict[str, Tensor]:
        entry = {"boxes": target.boxes.float(), "labels": target.labels + self.first_label}
        if self.kind == "mask_rcnn":
            if target.masks is None:
                raise ValueError("a Mask R-CNN needs masks to learn from, and this data set has none")
            entry["masks"] = target.masks.to(torch.uint8)
        return entry

    def distillation(self, pyramid: list[Tensor], features: list[Tensor]) -> Tensor:
        """How far (N,) what a one-stage detector says of ``pyramid`` is from what it says of ``features``.

        At every place: the divergence of its class probabilities, and the difference of its box in
        strides; places count by how sure the detector is of an object there, seeing ``features``.

        Raises:
            ValueError: for a two-stage detector.
        """
        with torch.no_grad():
            target = {name: value.float() for name, value in self(features).items()}
        ours = {name: value.float() for name, value in self(pyramid).items()}
        boxes = F.smooth_l1_loss(ours["bbox_regression"], target["bbox_regression"], reduction="none").mean(2)
        if "bbox_ctrness" in ours:
            boxes = boxes + _divergence(ours["bbox_ctrness"], target["bbox_ctrness"]).sum(2)
        weight = target["cls_logits"].sigmoid().amax(2)
        total = weight * (_divergence(ours["cls_logits"], target["cls_logits"]).sum(2) + boxes)
        return total.sum(1) / weight.sum(1)

    @torch.no_grad()
    def predict(self, pyramid: list[Tensor], sizes: list[tuple[int, int]]) -> list[Detection]:
        """One `Detection` a photograph."""
        if self.training:
            raise RuntimeError("predict needs the head in evaluation mode: call eval() first")
        found, _ = self._run(pyramid, sizes, None)
        return [self._detection(result, size) for result, size in zip(found, sizes, strict=True)]

    def _detection(self, found: dict[str, Tensor], size: tuple[int, int]) -> Detection:
        boxes = found["boxes"].float().cpu()
        corner, opposite = boxes[:, :2], boxes[:, 2:]
        masks = None
        if "masks" in found:
            pasted = paste_masks_in_image(found["masks"].float().cpu(), boxes, size)
            masks = (pasted[:, 0] > 0.5).numpy()
        labels = [self.classes[i - self.first_label] for i in found["labels"].tolist()]
        xywh = torch.cat([corner, opposite - corner], 1).numpy()
        return Detection(xywh, labels, found["scores"].float().cpu().numpy(), masks)

    def _run(
        self, pyramid: list[Tensor], sizes: list[tuple[int, int]], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """(detections, losses): one of them is empty."""
        detector, features = self.detector, self.detector.backbone(pyramid)
        # The detectors ask a batch of pictures for nothing but its shape.
        padded = (len(sizes), 3, 8 * pyramid[0].shape[-2], 8 * pyramid[0].shape[-1])
        images = ImageList(pyramid[0].new_zeros(1, dtype=torch.float32).expand(padded), sizes)
        if self.first_label:
            proposals, first = detector.rpn(images, features, targets)
            found, second = detector.roi_heads(features, proposals, sizes, targets)
            return found, {**first, **second}
        levels = list(features.values())
        outputs = {name: value.float() for name, value in detector.head(levels).items()}
        anchors = detector.anchor_generator(images, levels)
        places = [x.shape[-2] * x.shape[-1] for x in levels]
        if targets is not None:
            counts = (places,) if self.kind == "fcos" else ()
            return [], detector.compute_loss(targets, outputs, anchors, *counts)
        repeats = outputs["cls_logits"].shape[1] // sum(places)
        split = {name: list(value.split([repeats * p for p in places], 1)) for name, value in outputs.items()}
        anchors = [list(a.split([repeats * p for p in places])) for a in anchors]
        return detector.postprocess_detections(split, anchors, sizes), {}


def _divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence, in nats, of probabilities of two outcomes, element by element."""
    wanted = targets.sigmoid()
    cost, least = (F.binary_cross_entropy_with_logits(x, wanted, reduction="none") for x in (logits, targets))
    return cost - least


def _fcos(backbone: FeaturePyramid, classes: int, convs: int) -> nn.Module:
    head = SparseFCOSHead(backbone.out_channels, classes, convs)
    anchors = AnchorGenerator(((8,), (16,), (32,), (64,)), ((1.0,),) * 4)
    return FCOS(backbone, classes, anchor_generator=anchors, head=head, score_thresh=0.02)


def _retinanet(backbone: FeaturePyramid, classes: int, convs: int) -> nn.Module:
    if convs != 4:
        raise ValueError("torchvision's RetinaNet has four convolutions before its predictions; set convs to 4")
    anchors = _anchors()
    head = RetinaNetHead(backbone.out_channels, anchors.num_anchors_per_location()[0], classes)
    return RetinaNet(backbone, classes, anchor_generator=anchors, head=head, score_thresh=0.02)


def _anchors() -> AnchorGenerator:
    """Anchors of 24 to 256 pixels in thirds of an octave."""
    sizes = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (24, 48, 96, 192))
    return AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 4)


def _faster_rcnn(backbone: FeaturePyramid, classes: int, convs: int) -> nn.Module:
    return FasterRCNN(backbone, classes + 1, rpn_anchor_generator=_anchors(), box_roi_pool=_roi_align(7))


def _mask_rcnn(backbone: FeaturePyramid, classes: int, convs: int) -> nn.Module:
    pools = {"box_roi_pool": _roi_align(7), "mask_roi_pool": _roi_align(14)}
    return MaskRCNN(backbone, classes + 1, rpn_anchor_generator=_anchors(), **pools)


def _roi_align(size: int) -> MultiScaleRoIAlign:
    return MultiScaleRoIAlign(["8", "16", "32"], size, 2)


_BUILDERS = {"fcos": _fcos, "retinanet": _retinanet, "faster_rcnn": _faster_rcnn, "mask_rcnn": _mask_rcnn}
