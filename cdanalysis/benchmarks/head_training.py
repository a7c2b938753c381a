"""How fast heads learn from latents beside from photographs: ratios of two things measured in one run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..data.images import open_image, to_tensor
from ..data.samples import jpegs
from ..model import Model
from ..structures.targets import Instances, LabelMap
from .speed import PRECISIONS, SIDE, least, timed

Work = Callable[[], None]
OPTIONS: dict[str, dict[str, Any]] = {
    "classification": {"classes": [f"class {i}" for i in range(10)], "hidden": 256},
    "detection": {"classes": [f"class {i}" for i in range(80)]},
    "segmentation": {"classes": [f"class {i}" for i in range(11)]},
}
"""Heads of the shape that a recipe makes by default."""


def head_speed(model: Model, images: int = 64, batch: int = 16, repeats: int = 3) -> dict[str, Any]:
    """Seconds an epoch of training a head takes: from cached latents, and end to end from photographs.

    *End to end* decodes JPEG files, runs the backbone forwards and backwards and moves its weights with the head's;
    *from latents* is what a head's stage of a recipe does: the neck forwards, the head in both directions.
    Photographs are crops of those that scikit-image carries, targets are drawn: neither changes the work to be done.

    Args:
        images: how many make an epoch.
        batch: photographs a step.
        repeats: each figure is the least of so many.

    Returns:
        in ``rows`` for each task both times, each in the precision that is faster for it, and their ratio; and the
        seconds that encoding and reading the streams took once before.
    """
    files = jpegs(images, SIDE)
    streams: list[bytes] = []
    encoded = timed(lambda: streams.extend(model.encode_batch(list(map(open_image, files)), 0.5, model.layers)))
    latents: list[Tensor] = []
    read = timed(
        lambda: latents.extend(map(torch.stack, zip(*(model.read_latents(s)[0] for s in streams), strict=True)))
    )
    rows = []
    for task, options in OPTIONS.items():
        targets = drawn_targets(task, images)
        ways = {
            "end_to_end": _end_to_end(model, model.new_head(task, **options), files, targets, batch),
            "from_latents": _from_latents(model, model.new_head(task, **options), latents, targets, batch),
        }
        found, row = {precision: least(ways, repeats, precision) for precision in PRECISIONS}, dict[str, Any](task=task)
        for way in ways:
            row[f"{way}_s"], row[f"{way}_in"] = min((seconds[way], precision) for precision, seconds in found.items())
        rows.append({**row, "ratio": row["end_to_end_s"] / row["from_latents_s"]})
    return {"photographs": images, "encode_s": encoded, "read_s": read, "rows": rows}


def drawn_targets(task: str, count: int) -> list[Any]:
    """Targets of each kind, seven objects a photograph for detection."""
    random = torch.Generator().manual_seed(0)
    if task == "classification":
        return torch.randint(10, (count,), generator=random).tolist()
    if task == "segmentation":
        return [LabelMap(labels) for labels in torch.randint(11, (count, SIDE, SIDE), generator=random)]
    corners = torch.rand(count, 7, 2, generator=random) * (SIDE - 64)
    sides = 16 + 48 * torch.rand(count, 7, 2, generator=random)
    labels = torch.randint(80, (count, 7), generator=random)
    return [Instances(torch.cat([c, c + s], 1), kinds) for c, s, kinds in zip(corners, sides, labels, strict=True)]


def _end_to_end(model: Model, head: nn.Module, files: list[bytes], targets: list[Any], batch: int) -> Work:
    backbone = copy.deepcopy(model.codec.backbone).requires_grad_(True)

    def pyramid(rows: slice) -> list[Tensor]:
        x = torch.stack([to_tensor(open_image(data)) for data in files[rows]])
        return backbone(x.to(model.device, memory_format=torch.channels_last))

    return _epoch(head, pyramid, nn.ModuleList([backbone, head]), targets, batch)


def _from_latents(model: Model, head: nn.Module, latents: list[Tensor], targets: list[Any], batch: int) -> Work:
    quality = torch.full((1, 1, 1, 1), 0.5, device=model.device)

    @torch.no_grad()
    def pyramid(rows: slice) -> list[Tensor]:
        return model.neck([layer[rows] for layer in latents], quality)

    return _epoch(head, pyramid, head, targets, batch)


def _epoch(head: nn.Module, pyramid: Callable, moves: nn.Module, targets: list[Any], batch: int) -> Work:
    """An epoch of training, once for every call; ``pyramid``: of a slice of the photographs."""
    optimizer = torch.optim.AdamW(moves.train().parameters(), lr=1e-4)

    def epoch() -> None:
        for start in range(0, len(targets), batch):
            rows = slice(start, start + batch)
            total = sum(head.loss(pyramid(rows), targets[rows], [(SIDE, SIDE)] * len(targets[rows])).values())
            with torch.autocast(total.device.type, enabled=False):
                total.backward()
            optimizer.step()
            optimizer.zero_grad()

    return epoch
