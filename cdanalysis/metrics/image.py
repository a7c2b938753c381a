"""Measures of a reconstruction, a rate and a classifier."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

PERCEPTION = ("psnr", "ms_ssim", "lpips")
"""What is measured of reconstructions."""
LOWER = ("lpips",)
"""Of these, less is better."""


LEFT_OUT = "_left_out"
"""Ends the name of the number of photographs over which a mean does not go."""


def defined(value: float | None) -> float | None:
    """The value; None where there is none, or no number: NaN, or the infinite PSNR of equal pictures."""
    return None if value is None or not math.isfinite(value) else value


def mean_of(name: str, values: Iterable[float | None]) -> dict[str, float | int | None]:
    """Mean of what is defined, None where nothing is; ``NAME_left_out`` counts the others, where there are any."""
    values = [defined(value) for value in values]
    known = [value for value in values if value is not None]
    found: dict[str, float | int | None] = {name: float(np.mean(known)) if known else None}
    return found if len(known) == len(values) else {**found, name + LEFT_OUT: len(values) - len(known)}


def psnr(original: np.ndarray, reconstruction: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays of one shape, in dB; infinite if they are equal."""
    mse = float(np.mean((original.astype(np.float64) - reconstruction.astype(np.float64)) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(255**2 / mse))


def ms_ssim(original: np.ndarray, reconstruction: np.ndarray) -> float | None:
    """Multi-scale structural similarity (Wang, Simoncelli, Bovik, 2003) of uint8 RGB arrays (H, W, 3).

    In [0, 1]; None where a side is below 176 pixels: at the fifth scale the filter's 11 would not fit.
    """
    if min(original.shape[:2]) < 11 * 2**4:
        return None
    a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() for x in (original, reconstruction))
    return float(multiscale_structural_similarity_index_measure(a, b, data_range=255.0))


def bpp(size_bytes: int, width: int, height: int) -> float:
    """Bits of a file per pixel of the photograph."""
    return 8 * size_bytes / (width * height)


def accuracy(logits: Tensor, targets: Tensor, among: list[int] | None = None, top: int = 1) -> float:
    """Share of (N, C) logits whose ``top`` best classes hold the target (N,); ``among`` restricts the classes."""
    if among is not None:
        lookup = {index: place for place, index in enumerate(among)}
        targets = torch.tensor([lookup[int(t)] for t in targets])
        logits = logits[:, among]
    best = logits.topk(min(top, logits.shape[1]), dim=1).indices
    return float((best == targets[:, None]).any(1).double().mean())


def calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    """Expected calibration error over 15 bins: mean gap between confidence and accuracy, in [0, 1]."""
    return float(multiclass_calibration_error(probabilities, targets, probabilities.shape[1], n_bins=15))
