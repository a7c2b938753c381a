"""How fast heads learn from latents beside from photographs: ratios of two things measured in one run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..codec.layered import resized
from ..data.samples import jpegs
from ..heads.base import Head
from ..model import Model
from ..photographs.read import open_image, to_pixels
from ..structures.features import Features
from ..structures.latents import SEMANTIC, layer_count
from ..structures.targets import Instances, LabelMap
from .speed import PRECISIONS, SIDE, least, timed

Work = Callable[[], None]
OPTIONS: dict[str, dict[str, Any]] = {
    "classification": {"classes": [f"class {i}" for i in range(10)]},
    "detection": {"classes": [f"class {i}" for i in range(80)]},
    "segmentation": {"classes": [f"class {i}" for i in range(21)]},
}
"""Heads of the shape that a recipe makes by default."""


def head_speed(model: Model, images: int = 64, batch: int = 16, repeats: int = 3) -> dict[str, Any]:
    """Seconds an epoch of training a head takes: from cached features, and end to end from photographs.

    *End to end* decodes JPEG files, runs the teacher that the head's layer has forwards and backwards, and moves its
    weights with the head's; *from latents* is what a head's stage of a recipe does: the head in both directions, on
    features that were decoded from streams once. Photographs are crops of those that scikit-image carries, targets are
    drawn: neither changes the work to be done.

    Args:
        images: how many make an epoch.
        batch: photographs a step.
        repeats: each figure is the least of so many.

    Returns:
        in ``rows`` for each task both times, each in the precision that is faster for it, and their ratio; and the
        seconds that encoding and reading the streams took once before.
    """
    files = jpegs(images, (SIDE, SIDE))
    streams: list[bytes] = []
    encoded = timed(lambda: streams.extend(model.encode_batch(list(map(open_image, files)), 0.5, SEMANTIC)))
    rows_read: list[Features] = []
    read = timed(lambda: rows_read.extend(model.features(stream, SEMANTIC) for stream in streams))
    features, rows = Features.joined(rows_read).to(torch.float16), []
    for task, options in OPTIONS.items():
        drawn = drawn_targets(task, images, features.working[0])
        targets = drawn if task == "classification" else [target.to(model.device) for target in drawn]
        fresh = lambda task=task, options=options: model.new_head(task, **options).to(model.device)  # noqa: E731
        ways = {
            "end_to_end": _end_to_end(model, fresh(), files, targets, batch),
            "from_latents": _from_latents(fresh(), features, targets, batch),
        }
        found, row = {precision: least(ways, repeats, precision) for precision in PRECISIONS}, dict[str, Any](task=task)
        for way in ways:
            row[f"{way}_s"], row[f"{way}_in"] = min((seconds[way], precision) for precision, seconds in found.items())
        rows.append({**row, "ratio": row["end_to_end_s"] / row["from_latents_s"]})
    return {"photographs": images, "encode_s": encoded, "read_s": read, "rows": rows}


def drawn_targets(task: str, count: int, side: int) -> list[Any]:
    """Targets of each kind for squares of ``side`` pixels, seven objects a photograph for detection."""
    random = torch.Generator().manual_seed(0)
    if task == "classification":
        return torch.randint(10, (count,), generator=random).tolist()
    if task == "segmentation":
        return [LabelMap(labels) for labels in torch.randint(21, (count, side, side), generator=random)]
    corners = torch.rand(count, 7, 2, generator=random) * 0.7 * side
    sides = (0.07 + 0.2 * torch.rand(count, 7, 2, generator=random)) * side
    labels = torch.randint(80, (count, 7), generator=random)
    return [Instances(torch.cat([c, c + s], 1), kinds) for c, s, kinds in zip(corners, sides, labels, strict=True)]


def _end_to_end(model: Model, head: Head, files: list[bytes], targets: list[Any], batch: int) -> Work:
    """An epoch from files, in which the network before the head learns, too."""
    codec, sizes = model.codec, [(SIDE, SIDE)]
    count = layer_count(head.layers)
    teacher = copy.deepcopy(codec.classifier if count == 1 else codec.detector).requires_grad_(True)
    embedding = codec.feature_spec.embedding

    def read(rows: slice) -> Features:
        pixels = torch.stack([to_pixels(open_image(data)) for data in files[rows]])
        x = resized(pixels, codec.config.working_size(SIDE, SIDE, count))
        seen = teacher(x.to(model.device, memory_format=torch.channels_last))
        if count == 1:
            return Features(sizes * len(x), seen, [])
        return Features(sizes * len(x), torch.zeros(len(x), embedding, device=model.device), list(seen.pyramid))

    learns = [teacher, head] if count == 1 else [teacher.backbone, teacher.pan, head]
    return _epoch(head, read, nn.ModuleList(learns), targets, batch)


def _from_latents(head: Head, features: Features, targets: list[Any], batch: int) -> Work:
    return _epoch(head, lambda rows: features[rows].to(torch.float32), head, targets, batch)


def _epoch(head: Head, read: Callable[[slice], Features], moves: nn.Module, targets: list[Any], batch: int) -> Work:
    """An epoch of training, once for every call; ``read`` gives the features of a slice of the photographs."""
    optimizer = torch.optim.AdamW(moves.train().parameters(), lr=1e-4)

    def epoch() -> None:
        for start in range(0, len(targets), batch):
            rows = slice(start, start + batch)
            total = torch.stack(list(head.loss(read(rows), targets[rows]).values())).sum()
            with torch.autocast(total.device.type, enabled=False):
                total.backward()
            optimizer.step()
            optimizer.zero_grad()

    return epoch
