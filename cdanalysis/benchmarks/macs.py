"""How much arithmetic each way to an answer takes, by torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..data.images import to_tensor
from ..model import Model
from ..stream.container import strip


def macs(work: Callable[[], object]) -> int:
    """Multiplications with additions in the convolutions and matrix products of a piece of work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() // 2


@torch.inference_mode()
def costs(model: Model, image: np.ndarray, task: str, quality: float = 0.5) -> dict[str, int]:
    """Multiply-accumulates for one photograph, uint8 (H, W, 3): what each step takes.

    ``encode`` both layers; ``decode`` with the synthesis network; and with a task ``from latents`` (entropy networks,
    neck and head) and ``from pixels`` (backbone and head).
    """
    stream = model.encode(image, quality)
    base = strip(stream)
    counted = {"encode": macs(lambda: model.encode(image, quality)), "decode": macs(lambda: model.decode(stream))}
    if task:
        head = model.counterpart(task)
        counted["from latents"] = macs(lambda: model.analyze(base, (task,)))
        sizes = [image.shape[:2]]
        counted["from pixels"] = macs(lambda: head.predict(model.reference.pyramid(to_tensor(image)[None]), sizes))
    return counted
