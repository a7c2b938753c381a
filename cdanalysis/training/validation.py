"""Rate and distortion on images that no stage is trained on, measured while a stage runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..codec.layered import LayeredCodec, to_real
from ..codec.tiles import padded
from ..data.images import ImageSet
from ..photographs.read import to_tensor
from ..structures.latents import quality_levels

if TYPE_CHECKING:
    from ..model import Model

VALIDATION = "validation.jsonl"
"""File of the measurements, in the folder of the run; one JSON object per line."""


@dataclass
class ValidationConfig:
    """What a stage that trains the detail layer or the decoder is measured on.

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
def validate(model: Model, config: ValidationConfig) -> dict[str, float]:
    """Rate and distortion of the detail layer on images; the model is left in the mode that it was in.

    In a fused codec the semantic layers, which do not count, have the same quality q.

    Args:
        model: to measure.
        config: names images and qualities.

    Returns:
        for each quality q means over the images: ``bpp@q``, bits per pixel of the detail layer by the entropy models'
        estimate, and ``psnr@q``, PSNR in dB.

    Raises:
        FileNotFoundError: as `ImageSet`.
        ValueError: as `ImageSet`, and for an image that cannot be read.
    """
    images = ImageSet(config.source)
    images = images.every(max(1, len(images) // config.limit))
    codec, device, training = model.codec, model.device, model.training
    model.eval()
    row: dict[str, float] = {}
    for quality in config.qualities:
        rates, fidelities = [], []
        for image, _ in images:
            x = to_tensor(image)[None].to(device)
            spatial = _spatial_layer(codec, x, quality) if codec.config.fused else None
            coded = codec(padded(x), x.new_full((1, 1, 1, 1), quality), noisy=False, spatial=spatial)
            x_hat = coded.x_hat[..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
            rates.append(float(coded.detail_bits) / (x.shape[-1] * x.shape[-2]))
            fidelities.append(-10 * torch.log10((x_hat - x).square().mean()).item())
        row[f"bpp@{quality:g}"] = sum(rates) / len(rates)
        row[f"psnr@{quality:g}"] = sum(fidelities) / len(fidelities)
    model.train(training)
    return row


def _spatial_layer(codec: LayeredCodec, x: Tensor, quality: float) -> Tensor:
    """y_hat in steps of the spatial layer of an image, as a stream would hold it."""
    return to_real(codec.to_latents(x, quality_levels(quality, 2), 2).spatial)
