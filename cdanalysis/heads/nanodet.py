"""NanoDet-Plus's head as a detector on decoded features: where the teacher's own weights start, and learn on.

Boxes' sides are distributions, and class scores say how well the box fits (Li and others, "Generalized Focal Loss",
NeurIPS 2020); which cells answer for an object is decided by what they say of it (Ge and others, "OTA", CVPR 2021, in
the dynamic-k form of YOLOX).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou, generalized_box_iou_loss

from ..structures.features import STRIDES
from ..teachers.nanodet import BINS, DetectorHead, boxes_around, cell_corners
from .classification import binary_divergence

LEAST_SCORE = 0.02
LOOKED_AT, MOST_BOXES = 1000, 100
"""So many of the surest boxes are compared with each other, and kept."""
OVERLAP = 0.6
"""Of two boxes of one class that overlap more, the surer one stays."""
CANDIDATES = 13
"""An object has about as many cells as the overlaps of its best so many boxes add up to."""
FAR = 1e8
PRIOR = 0.01
WEIGHTS = {"classification": 1.0, "boxes": 2.0, "sides": 0.25}


class Cells(NamedTuple):
    """What a head says at every cell: class logits (N, A, C) and logits of sides (N, A, 4 * BINS); and the cells'
    corners (A, 2) and strides (A,)."""

    logits: Tensor
    sides: Tensor
    points: Tensor
    strides: Tensor

    def boxes(self, image: int | slice | Tensor = slice(None), at: slice | Tensor = slice(None)) -> Tensor:
        """The boxes that the cells say.

        Args:
            image: a batch index, or indices; by default all images.
            at: indices of cells; by default all.

        Returns:
            (..., 4): left, top, right, bottom in pixels of the working size.
        """
        return boxes_around(self.points[at], self.sides[image, at], self.strides[at, None])


class NanoDet(nn.Module):
    """One `DetectorHead` for each level of a pyramid of equal widths.

    Args:
        channels: of the pyramid's levels.
        classes: number of classes.

    Raises:
        ValueError: if the levels have different widths.
    """

    def __init__(self, channels: Sequence[int], classes: int):
        super().__init__()
        if len(set(channels)) != 1:
            raise ValueError(f"a nanodet head needs levels of equal widths, not of {tuple(channels)} channels")
        self.heads = nn.ModuleList(DetectorHead(width, classes) for width in channels)
        with torch.no_grad():  # a new head is sure of nothing: objects are rare among cells
            for head in self.heads:
                head.predict.bias[:classes] = -math.log(1 / PRIOR - 1)

    def class_rows(self, classes: int) -> dict[str, Tensor]:
        """Outputs of classes, see `cdanalysis.heads.base.Head.class_rows`; the others are of boxes' sides.

        Args:
            classes: number of classes.

        Returns:
            for each parameter with outputs of classes, by name, indices (classes, 1).
        """
        rows = torch.arange(classes)[:, None]
        return {f"heads.{n}.predict.{kind}": rows for n in range(len(self.heads)) for kind in ("weight", "bias")}

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """What each level's head says.

        Args:
            pyramid: (N, C, h, w) at strides 8, 16, 32 and 64.

        Returns:
            for each level (N, classes + 4 * BINS, h, w).
        """
        return [head(level) for head, level in zip(self.heads, pyramid, strict=True)]

    def cells(self, pyramid: Sequence[Tensor]) -> Cells:
        """What the heads say, cell by cell, those of stride 8 first.

        Args:
            pyramid: as of `forward`.

        Returns:
            float32, of N images and A cells.
        """
        parts = []
        for said, stride in zip(self(pyramid), STRIDES, strict=True):
            rows = said.float().flatten(2).transpose(1, 2)
            logits, sides = rows.split([rows.shape[2] - 4 * BINS, 4 * BINS], 2)
            points = cell_corners(said.shape[-2:], stride, sides)
            parts.append((logits, sides, points, points.new_full((len(points),), stride)))
        logits, sides, points, strides = zip(*parts, strict=True)
        return Cells(torch.cat(logits, 1), torch.cat(sides, 1), torch.cat(points), torch.cat(strides))

    def detect(self, pyramid: Sequence[Tensor], size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """The objects of each image, the surest first: at most ``MOST_BOXES``, with a score above ``LEAST_SCORE``.

        Args:
            pyramid: as of `forward`.
            size: working (height, width) in pixels.

        Returns:
            for each image ``boxes`` (K, 4): left, top, right, bottom in pixels, inside ``size``; ``labels`` (K,) and
            ``scores`` (K,) in [0, 1].
        """
        cells, found = self.cells(pyramid), []
        limit = cells.points.new_tensor([size[1], size[0], size[1], size[0]])
        for image, scores in enumerate(cells.logits.sigmoid()):
            places, labels = (scores > LEAST_SCORE).nonzero(as_tuple=True)
            sure, order = scores[places, labels].sort(descending=True)
            sure, places, labels = sure[:LOOKED_AT], places[order[:LOOKED_AT]], labels[order[:LOOKED_AT]]
            boxes = cells.boxes(image, places).clamp_min(0).minimum(limit)
            kept = batched_nms(boxes, sure, labels, OVERLAP)[:MOST_BOXES]
            found.append({"boxes": boxes[kept], "labels": labels[kept], "scores": sure[kept]})
        return found

    def losses(self, pyramid: Sequence[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            pyramid: as of `forward`, of N images.
            targets: for each image ``boxes`` (K, 4): left, top, right, bottom in pixels of the working size, and
                ``labels`` (K,) int64, from 0.

        Returns:
            scalars by name: "classification", "boxes" and "sides", weighted.
        """
        cells = self.cells(pyramid)
        rows = [_assigned(cells, n, target["boxes"], target["labels"]) for n, target in enumerate(targets)]
        quality = torch.zeros_like(cells.logits)
        images, places, wanted = [], [], []
        for n, (at, objects, overlaps) in enumerate(rows):
            quality[n, at, targets[n]["labels"][objects]] = overlaps
            images.append(torch.full_like(at, n))
            places.append(at)
            wanted.append(targets[n]["boxes"][objects])
        image, at, boxes = torch.cat(images), torch.cat(places), torch.cat(wanted)
        total = quality.sum().clamp_min(1.0)
        # Sides count by how sure the classes are, so that boxes nobody will see teach little.
        weight = cells.logits[image, at].detach().sigmoid().amax(1)
        share = weight / weight.sum().clamp_min(1e-6)
        overlap = generalized_box_iou_loss(cells.boxes(image, at), boxes, reduction="none")
        distances = _distances(cells.points[at], boxes, cells.strides[at])
        losses = {
            "classification": _quality_focal(cells.logits, quality) / total,
            "boxes": (share * overlap).sum(),
            "sides": (share * _distribution_focal(cells.sides[image, at], distances)).sum(),
        }
        return {name: WEIGHTS[name] * loss for name, loss in losses.items()}

    def distance(self, pyramid: Sequence[Tensor], teacher: Sequence[Tensor], by: NanoDet | None = None) -> Tensor:
        """How far what the head says of one pyramid is from what it, or another one, says of another.

        At every cell: divergence of class probabilities and of sides; cells count by how sure either is of an object.

        Args:
            pyramid: as of `forward`, of N images.
            teacher: of the same images, on the same grids.
            by: the head whose outputs on ``teacher`` count; by default this one.

        Returns:
            (N,), at least 0.
        """
        with torch.no_grad():
            right = (by or self).cells(teacher)
        ours = self.cells(pyramid)
        sure = right.logits.sigmoid().amax(2)
        seen = torch.maximum(sure, ours.logits.detach().sigmoid().amax(2))
        classes = binary_divergence(ours.logits, right.logits).sum(2)
        chances, apart = (s.unflatten(2, (4, BINS)).log_softmax(3) for s in (right.sides, ours.sides))
        sides = F.kl_div(apart, chances, log_target=True, reduction="none").sum(3).mean(2)
        return ((seen + 0.02) * classes + 0.7 * sure * sides).sum(1) / (seen.sum(1) + 2)


@torch.no_grad()
def _assigned(cells: Cells, image: int, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which cells of an image answer for which of its objects: (cells (K,), objects (K,), overlaps (K,))."""
    if not len(boxes):
        none = labels.new_zeros(0)
        return none, none, boxes.new_zeros(0)
    x, y = cells.points[:, None].unbind(2)
    inside = torch.stack([x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y]).amin(0) > 0
    # Objects so small that no corner lies in them are answered for by the cell around their middle.
    middle = ((boxes[:, :2] + boxes[:, 2:]) / 2)[None]
    near = ((middle - cells.points[:, None]).sub_(cells.strides[:, None, None] / 2).abs().amax(2)) <= cells.strides[
        :, None
    ] / 2
    inside |= near & ~inside.any(0)
    able = inside.any(1).nonzero()[:, 0]  # no other cell can answer for anything
    if not len(able):
        return able, able, boxes.new_zeros(0)
    inside = inside[able]
    overlaps = box_iou(cells.boxes(image, able), boxes) * inside
    logits = cells.logits[image, able][:, labels]
    miss = F.binary_cross_entropy_with_logits(logits, overlaps, reduction="none")
    miss = miss * (overlaps - logits.sigmoid()).square()
    cost = miss - 3 * (overlaps + 1e-7).log() + FAR * ~inside
    counts = overlaps.topk(min(CANDIDATES, len(overlaps)), 0).values.sum(0).int().clamp_min(1).tolist()
    chosen = torch.zeros_like(inside)
    for number, count in enumerate(counts):
        chosen[cost[:, number].topk(count, largest=False).indices, number] = True
    chosen &= inside
    several = chosen.sum(1) > 1
    chosen[several] = F.one_hot(cost[several].masked_fill(~chosen[several], FAR).argmin(1), len(boxes)).bool()
    at, objects = chosen.nonzero(as_tuple=True)
    return able[at], objects, overlaps[at, objects]


def _distances(points: Tensor, boxes: Tensor, strides: Tensor) -> Tensor:
    """Distances (K, 4) from points to the four sides of boxes, in strides, within what a distribution can say."""
    apart = torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], 1) / strides[:, None]
    return apart.clamp(0, BINS - 1.01)


def _quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Quality focal loss: cross-entropy with an overlap in place of a 1, weighted by the squared error.

    Photograph by photograph: what a batch needs in between would not fit into caches.
    """
    costs = []
    for said, wanted in zip(logits.unbind(), quality.unbind(), strict=True):
        cost = F.binary_cross_entropy_with_logits(said, wanted, reduction="none")
        costs.append((cost * (wanted - said.sigmoid()).square()).sum())
    return torch.stack(costs).sum()


def _distribution_focal(sides: Tensor, distances: Tensor) -> Tensor:
    """Distribution focal loss (K,): the two bins beside a distance share its probability."""
    below = distances.long()
    share = distances - below
    logs = sides.unflatten(1, (4, BINS)).log_softmax(2)
    low, high = (logs.gather(2, (below + step)[..., None])[..., 0] for step in (0, 1))
    return -(low * (1 - share) + high * share).mean(1)
