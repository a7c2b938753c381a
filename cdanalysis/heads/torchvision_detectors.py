"""torchvision's detectors on feature pyramids in place of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import MultiScaleRoIAlign

from .classification import binary_divergence
from .fcos import SparseFCOSHead
from .pyramid import FeaturePyramid

TWO_STAGES = ("faster_rcnn", "mask_rcnn")


class TorchvisionDetector(nn.Module):
    """A torchvision detector on features at strides 8, 16, 32 and, pooled, 64.

    "fcos" (Tian and others, ICCV 2019), "retinanet" (Lin and others, ICCV 2017), "faster_rcnn" (Ren and
    others, NeurIPS 2015), "mask_rcnn" (He and others, ICCV 2017; the only one with masks).

    Args:
        kind: which of them.
        channels: of the pyramid's levels.
        classes: number of classes.
        width: channels of the feature pyramid, a multiple of 32, at least 64.
        convs: convolutions before the predictions of "fcos"; 4, and no other number, for "retinanet".

    Attributes:
        first_label: the first class's label: two-stage detectors keep 0 for the background.

    Raises:
        ValueError: for another width, or number of convolutions of "retinanet".
    """

    def __init__(self, kind: str, channels: Sequence[int], classes: int, width: int, convs: int):
        super().__init__()
        if width % 32 or width < 64:  # FCOS normalizes 32 groups of channels, even of a single cell
            raise ValueError(f"width must be a multiple of 32 and at least 64, got {width}")
        self.kind, self.first_label = kind, int(kind in TWO_STAGES)
        self.detector = BUILDERS[kind](FeaturePyramid(channels, width), classes, convs)

    def class_rows(self, classes: int) -> dict[str, Tensor]:
        """Outputs of classes, see `cdanalysis.heads.base.Head.class_rows`; the background's are no class's.

        Args:
            classes: number of classes.

        Returns:
            for each parameter with outputs of classes, by name, indices (classes, n).
        """
        label = torch.arange(classes)[:, None] + self.first_label
        sides, found = 4 * label + torch.arange(4), dict[str, Tensor]()
        for name, tensor in self.state_dict().items():
            layer = name.rpartition(".")[0].rpartition(".")[2]
            if ".rpn." in f".{name}":  # proposals have no classes
                continue
            if layer == "cls_logits":  # of the first anchor at a place all classes, then of the second
                found[name] = label + classes * torch.arange(len(tensor) // classes)
            elif layer in ("cls_score", "mask_fcn_logits"):
                found[name] = label
            elif layer == "bbox_pred":
                found[name] = sides
        return found

    def forward(self, pyramid: Sequence[Tensor]) -> dict[str, Tensor]:
        """Raw predictions of a one-stage detector at every place: see `torchvision.models.detection`.

        Args:
            pyramid: (N, C, h, w) at strides 8, 16 and 32; what follows is not read.

        Returns:
            (N, P, ...) at P places, by name: "cls_logits", "bbox_regression" and, of "fcos", "bbox_ctrness".

        Raises:
            ValueError: for a two-stage detector, which has none.
        """
        if self.first_label:
            raise ValueError(f"a {self.kind} has no dense predictions")
        return self.detector.head(list(self.detector.backbone(pyramid).values()))

    def losses(self, pyramid: Sequence[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The losses of a batch; a two-stage detector must be in training mode.

        Args:
            pyramid: as of `forward`.
            targets: for each image ``boxes`` (K, 4): left, top, right, bottom in pixels of the working size, ``labels``
                (K,) int64, from 0, and, for a Mask R-CNN, ``masks`` (K, H, W) uint8.

        Returns:
            scalars by torchvision's names.
        """
        wanted = [{**target, "labels": target["labels"] + self.first_label} for target in targets]
        return self._run(pyramid, wanted)[1]

    def detect(self, pyramid: Sequence[Tensor], size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """The objects of each image; a two-stage detector must be in evaluation mode.

        Args:
            pyramid: as of `forward`.
            size: not used: the working size is eight times that of the pyramid's first level.

        Returns:
            for each image ``boxes`` (K, 4): left, top, right, bottom in pixels of the working size, ``labels`` (K,),
            from 0, ``scores`` (K,) and, of a Mask R-CNN, ``masks`` (K, 1, 28, 28) inside their boxes.
        """
        found, _ = self._run(pyramid, None)
        return [{**row, "labels": row["labels"] - self.first_label} for row in found]

    def distance(
        self, pyramid: Sequence[Tensor], teacher: Sequence[Tensor], by: TorchvisionDetector | None = None
    ) -> Tensor:
        """How far what a one-stage detector says of one pyramid is from what it, or another one, says of another.

        At every place: the divergence of its class probabilities, and the difference of its box in
        strides; places count by how sure the detector is of an object there, seeing ``teacher``.

        Args:
            pyramid: as of `forward`, of N images.
            teacher: of the same images, on the same grids.
            by: the detector whose outputs on ``teacher`` count; by default this one.

        Returns:
            (N,), at least 0.

        Raises:
            ValueError: for a two-stage detector.
        """
        with torch.no_grad():
            target = {name: value.float() for name, value in (by or self)(teacher).items()}
        ours = {name: value.float() for name, value in self(pyramid).items()}
        boxes = F.smooth_l1_loss(ours["bbox_regression"], target["bbox_regression"], reduction="none").mean(2)
        if "bbox_ctrness" in ours:
            boxes = boxes + binary_divergence(ours["bbox_ctrness"], target["bbox_ctrness"]).sum(2)
        weight = target["cls_logits"].sigmoid().amax(2)
        total = weight * (binary_divergence(ours["cls_logits"], target["cls_logits"]).sum(2) + boxes)
        return total.sum(1) / weight.sum(1)

    def _run(
        self, pyramid: Sequence[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """(detections, losses): one of them is empty."""
        detector, features = self.detector, self.detector.backbone(pyramid)
        count, size = len(pyramid[0]), (8 * pyramid[0].shape[-2], 8 * pyramid[0].shape[-1])
        sizes = [size] * count  # whole images were resized to the working size: nothing is padded
        # The detectors ask a batch of pictures for nothing but its shape.
        padded = (count, 3, *size)
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


BUILDERS = {"fcos": _fcos, "retinanet": _retinanet, "faster_rcnn": _faster_rcnn, "mask_rcnn": _mask_rcnn}
