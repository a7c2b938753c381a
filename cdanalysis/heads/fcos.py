"""torchvision's FCOS head, its loss computed at the few places that hold objects."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import generalized_box_iou_loss

from ..blocks import GroupNorm

ALPHA = 0.25
"""Weight of objects against background in the focal loss (Lin and others, ICCV 2017); its exponent is 2."""


class SparseFCOSHead(FCOSHead):
    """The head of Tian and others, "FCOS" (ICCV 2019), with torchvision's weights, predictions and losses.

    torchvision computes boxes, center-ness and the classes' targets at every place, to mask nearly all of them out
    afterwards: on the CPU that costs as much as the convolutions do.

    Args:
        channels: of the features that it reads.
        classes: number of classes.
        convs: convolutions before the predictions.
    """

    def __init__(self, channels: int, classes: int, convs: int):
        super().__init__(channels, 1, classes, convs)
        for tower in (self.classification_head.conv, self.regression_head.conv):
            for number, layer in enumerate(tower):
                if isinstance(layer, torch.nn.GroupNorm):
                    tower[number] = GroupNorm(layer.num_groups, layer.num_channels)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """The losses of `torchvision.models.detection.fcos.FCOSHead`, a sum over places, per place with an object.

        Args:
            targets: boxes (M, 4), corners in pixels, and labels (M,) of each of N photographs.
            head_outputs: predictions by name, (N, P, ...) at P places.
            anchors: (P, 4) of each photograph: a square around each place, as wide as its stride.
            matched_idxs: (P,) of each photograph: which of its objects a place answers for; -1: none.

        Returns:
            scalars by name: "classification", "bbox_regression" and "bbox_ctrness".
        """
        matched = torch.stack(matched_idxs)
        image, place = torch.nonzero(matched >= 0, as_tuple=True)
        starts = [0]
        for target in targets[:-1]:
            starts.append(starts[-1] + len(target["labels"]))
        objects = matched[image, place] + torch.tensor(starts, device=matched.device)[image]
        labels = torch.cat([target["labels"] for target in targets])[objects]
        wanted = torch.cat([target["boxes"] for target in targets])[objects]
        squares = torch.stack(anchors)[image, place]

        boxes = self.box_coder.decode(head_outputs["bbox_regression"][image, place], squares)
        offsets = self.box_coder.encode(squares, wanted)
        sides = torch.stack([offsets[:, 0::2], offsets[:, 1::2]], 1)  # left and right, top and bottom
        centerd = (sides.amin(2) / sides.amax(2)).prod(1).sqrt()
        said = head_outputs["bbox_ctrness"][image, place, 0]
        losses = {
            "classification": _focal(head_outputs["cls_logits"], (image, place, labels)),
            "bbox_regression": generalized_box_iou_loss(boxes, wanted, reduction="sum"),
            "bbox_ctrness": F.binary_cross_entropy_with_logits(said, centerd, reduction="sum"),
        }
        return {name: loss / max(1, len(image)) for name, loss in losses.items()}


def _focal(logits: Tensor, objects: tuple[Tensor, ...]) -> Tensor:
    """Sum of the focal loss: as if all were background, and what the few places of objects differ from that."""
    ours = logits[objects]
    background = (1 - ALPHA) * (_miss(logits).sum() - _miss(ours).sum())
    return background + ALPHA * _miss(-ours).sum()


def _miss(logits: Tensor) -> Tensor:
    """Focal loss of taking background for an object with these logits; of the reverse, with their negatives."""
    probability = logits.sigmoid()
    return probability * probability * F.softplus(logits)
