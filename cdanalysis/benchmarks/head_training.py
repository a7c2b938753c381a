"""How fast heads learn from latents beside from photographs: ratios of two things measured in one run."""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..data.images import open_image, to_tensor
from ..data.samples import sample_images
from ..model import Model
from ..structures.targets import Instances, LabelMap

SIDE = 224
OPTIONS: dict[str, dict[str, Any]] = {
    "classification": {"classes": [f"class {i}" for i in range(10)], "hidden": 256},
    "detection": {"classes": [f"class {i}" for i in range(80)]},
    "segmentation": {"classes": [f"class {i}" for i in range(11)]},
}
"""Heads of the shape that a recipe makes by default."""
PRECISIONS = ("float32", "bfloat16")
"""Of both ways to train, each is timed in the one that is faster for it; the second is torch's autocast."""


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
    files = jpegs(images)
    started = time.perf_counter()
    streams = model.encode_batch([open_image(data) for data in files], 0.5, model.layers)
    encoded = time.perf_counter()
    latents = [torch.stack(layer) for layer in zip(*(model.read_latents(s)[0] for s in streams), strict=True)]
    read = time.perf_counter()
    rows = []
    for task, options in OPTIONS.items():
        targets = drawn_targets(task, images)
        rgb, first = _fastest(_end_to_end(model, task, options, files, targets, batch), repeats)
        ours, second = _fastest(_from_latents(model, task, options, latents, targets, batch), repeats)
        times = {"end_to_end_s": rgb, "end_to_end_in": first, "from_latents_s": ours, "from_latents_in": second}
        rows.append({"task": task, **times, "ratio": rgb / ours})
    return {
        "photographs": images,
        "encode_s": encoded - started,
        "read_s": read - encoded,
        "rows": rows,
    }


def jpegs(count: int) -> list[bytes]:
    """Crops of ``SIDE`` pixels of the photographs that scikit-image carries, as JPEG files of quality 75."""
    images, crops = list(sample_images().values()), []
    for number in range(count):
        image = images[number % len(images)]
        left = 37 * number % (image.width - SIDE + 1)
        top = 53 * number % (image.height - SIDE + 1)
        buffer = io.BytesIO()
        image.crop((left, top, left + SIDE, top + SIDE)).save(buffer, "JPEG", quality=75)
        crops.append(buffer.getvalue())
    return crops


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


Step = Callable[[slice], Tensor]


def _end_to_end(model: Model, task: str, options: dict, files: list[bytes], targets: list, batch: int):
    backbone = copy.deepcopy(model.codec.backbone).requires_grad_(True)
    head = model.new_head(task, **options).train()

    def loss(rows: slice) -> Tensor:
        images: Sequence[Image.Image] = [open_image(data) for data in files[rows]]
        x = torch.stack([to_tensor(image) for image in images]).to(model.device, memory_format=torch.channels_last)
        return _total(head, backbone(x), targets[rows])

    return loss, [*backbone.parameters(), *head.parameters()], len(files), batch


def _from_latents(model: Model, task: str, options: dict, latents: list[Tensor], targets: list, batch: int):
    head = model.new_head(task, **options).train()
    quality = torch.full((1, 1, 1, 1), 0.5, device=model.device)

    def loss(rows: slice) -> Tensor:
        with torch.no_grad():
            pyramid = model.neck([layer[rows] for layer in latents], quality)
        return _total(head, pyramid, targets[rows])

    return loss, list(head.parameters()), len(targets), batch


def _total(head: nn.Module, pyramid: list[Tensor], targets: list) -> Tensor:
    return sum(head.loss(pyramid, targets, [(SIDE, SIDE)] * len(targets)).values())


Work = tuple[Step, list[nn.Parameter], int, int]


def _fastest(work: Work, repeats: int) -> tuple[float, str]:
    """Least seconds of an epoch, and in which precision."""
    return min((_epoch(work, repeats, precision), precision) for precision in PRECISIONS)


def _epoch(work: Work, repeats: int, precision: str) -> float:
    """Least seconds of an epoch, after one step to warm up."""
    loss, parameters, count, batch = work
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    device = parameters[0].device.type

    def step(start: int) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            total = loss(slice(start, start + batch))
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    step(0)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        for start in range(0, count, batch):
            step(start)
        times.append(time.perf_counter() - started)
    return min(times)
