"""How much arithmetic each way to an answer takes, by torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..heads.base import layers_of
from ..model import Model
from ..reference import Reference
from ..stream.container import strip
from ..structures.latents import LAYERS


def macs(work: Callable[[], object]) -> int:
    """Multiplications with additions in the convolutions and matrix products of a piece of work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() // 2


def reads_pixels(model: Model) -> Reference:
    """A model's heads on photographs: for time and arithmetic, which do not depend on what a head learned from."""
    heads = dict(model.heads.items())
    return Reference(model.codec, heads, {**heads, **dict(model.counterparts.items())}, model.name)


@torch.inference_mode()
def costs(model: Model, image: np.ndarray, task: str, quality: float = 0.5) -> dict[str, int]:
    """Multiply-accumulates for one photograph, uint8 (H, W, 3): what each step takes.

    ``encode`` all layers; ``decode`` with the synthesis network; and with a task ``encode for the head`` (no more
    layers than it reads), ``from latents`` (entropy networks, synthesis of features, head) and ``from pixels``
    (teachers and head).
    """
    stream = model.encode(image, quality)
    counted = {"encode": macs(lambda: model.encode(image, quality)), "decode": macs(lambda: model.decode(stream))}
    if task:
        count = layers_of([model.heads[task]])
        base = strip(stream, LAYERS[:count])
        counted["encode for the head"] = macs(lambda: model.encode(image, quality, LAYERS[:count]))
        counted["from latents"] = macs(lambda: model.analyze(base, (task,)))
        counted["from pixels"] = macs(lambda: reads_pixels(model).analyze([image], (task,)))
    return counted
