"""Rate and distortion on images that no stage is trained on, measured while a stage runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..codec.tiles import padded
from ..data.images import ImageSet, to_tensor

if TYPE_CHECKING:
    from ..model import Model

VALIDATION = "validation.jsonl"
"""File of the measurements, in the folder of the run; one JSON object per line."""


@dataclass
class ValidationConfig:
    """What a stage that trains the codec is measured on.

    Attributes:
        source: folder or tar archive of images, absolute or below ``CDANALYSIS_DATA``; empty for none.
        every: steps between measurements.
        limit: number of images, evenly spaced over the source.
        qualities: of both layers, in [0, 1].
    """

    source: str = ""
    every: int = 1000
    limit: int = 12
    qualities: list[float] = field(default_factory=lambda: [0.1, 0.4, 0.7])


@torch.no_grad()
def validate(model: Model, config: ValidationConfig, semantics: bool = True) -> dict[str, float]:
    """Measure a model's mean rate and PSNR over images.

    Args:
        model: in training or evaluation mode, in which it is left.
        config: the images and qualities.
        semantics: whether detail layer and decoder get the semantic layer.

    Returns:
        for each quality q ``bpp@q``, bits per pixel as estimated by the entropy models, and ``psnr@q`` in dB.

    Raises:
        FileNotFoundError: if the images do not exist.
        ValueError: if an image cannot be read.
    """
    images = ImageSet(config.source)
    images = images.every(max(1, len(images) // config.limit))
    codec, device, training = model.codec, model.device, model.training
    model.eval()
    row: dict[str, float] = {}
    for quality in config.qualities:
        rates, fidelities = [], []
        for index in range(len(images)):
            x = to_tensor(images.image(index))[None].to(device)
            coded = codec(padded(x), _qualities(quality, x), noisy=False, semantics=semantics)
            x_hat = coded.x_hat[..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
            rates.append(float(coded.semantic_bits + coded.detail_bits) / (x.shape[-1] * x.shape[-2]))
            fidelities.append(-10 * torch.log10((x_hat - x).square().mean()).item())
        row[f"bpp@{quality:g}"] = sum(rates) / len(rates)
        row[f"psnr@{quality:g}"] = sum(fidelities) / len(fidelities)
    model.train(training)
    return row


def _qualities(quality: float, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    level = like.new_full((1, 1, 1, 1), quality)
    return level, level
