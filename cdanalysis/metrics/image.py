"""Image quality, rate, and classification metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

PERCEPTION = ("psnr", "ms_ssim", "lpips")
"""Names of the image quality metrics."""
LOWER = ("lpips",)
"""Those for which lower is better."""
LEFT_OUT = "_left_out"
"""Suffix of the key that counts the photographs without a value."""


def defined(value: float | None) -> float | None:
    """The value, or None if it is not finite: NaN, or the infinite PSNR of equal images.

    Args:
        value: a number or None.

    >>> defined(0.5), defined(math.inf), defined(None)
    (0.5, None, None)
    """
    return None if value is None or not math.isfinite(value) else value


def mean_of(name: str, values: Iterable[float | None]) -> dict[str, float | int | None]:
    """The mean of the finite values.

    Args:
        name: key of the mean.
        values: numbers or None.

    Returns:
        the mean, None if there are no finite values; and, if there are others, their number as ``NAME_left_out``.

    >>> mean_of("psnr", [30.0, 40.0, math.inf])
    {'psnr': 35.0, 'psnr_left_out': 1}
    """
    values = [defined(value) for value in values]
    known = [value for value in values if value is not None]
    found: dict[str, float | int | None] = {name: float(np.mean(known)) if known else None}
    return found if len(known) == len(values) else {**found, name + LEFT_OUT: len(values) - len(known)}


def psnr(original: np.ndarray, reconstruction: np.ndarray) -> float:
    """Peak signal-to-noise ratio.

    Args:
        original: uint8, any shape.
        reconstruction: uint8, of the same shape.

    Returns:
        PSNR in dB, at a peak of 255; infinite if both are equal.

    Raises:
        ValueError: for two shapes.

    >>> black, gray = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 16, np.uint8)
    >>> round(psnr(black, gray), 2)
    24.05
    >>> psnr(gray, gray)
    inf
    """
    if original.shape != reconstruction.shape:
        raise ValueError(f"both images must have one shape, got {original.shape} and {reconstruction.shape}")
    mse = float(np.mean((original.astype(np.float64) - reconstruction.astype(np.float64)) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(255**2 / mse))


def ms_ssim(original: np.ndarray, reconstruction: np.ndarray) -> float | None:
    """Multi-scale structural similarity: Wang, Simoncelli, Bovik (Asilomar 2003), by torchmetrics.

    Args:
        original: uint8 RGB, (H, W, 3).
        reconstruction: uint8 RGB, of the same shape.

    Returns:
        MS-SSIM in [0, 1]; None if a side is below 176 pixels, where the window of 11 pixels does not fit the fifth
        scale.

    >>> ms_ssim(np.zeros((64, 200, 3), np.uint8), np.zeros((64, 200, 3), np.uint8)) is None
    True
    """
    if min(original.shape[:2]) < 11 * 2**4:
        return None
    a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() for x in (original, reconstruction))
    return float(multiscale_structural_similarity_index_measure(a, b, data_range=255.0))


def weave(image: np.ndarray, period: int = 16, cells: int = 6) -> float | None:
    """How much of a picture repeats itself from cell to cell of a grid, beside what does so in cells a pixel smaller
    and larger: a regular texture that a decoder drew, or edges of blocks.

    Not a distance: the picture alone is looked at, as in Wang, Bovik, Evans, "Blind measurement of blocking artifacts
    in images" (ICIP 2000).

    Args:
        image: uint8 (H, W, 3).
        period: of the grid, in pixels.
        cells: over whose square, each way, the mean of each pixel of the grid is taken.

    Returns:
        variance over the grid of these means, over that at the periods beside it: about 1 for photographs. None for a
        picture that has no whole square, or nothing that could repeat itself.

    >>> rng = np.random.default_rng(0)
    >>> grain = rng.integers(0, 256, (128, 128, 3), np.uint8)
    >>> woven = np.tile(grain[:16, :16], (8, 8, 1))
    >>> bool(0.8 < weave(grain) < 1.25), bool(weave(woven) > 10)
    (True, True)
    """
    if min(image.shape[:2]) < (period + 1) * cells:
        return None
    x = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    x = x - F.avg_pool2d(x, period + 1 - period % 2, 1, period // 2, count_include_pad=False)  # no slow shades
    found, *beside = (_repeated(x, length, cells) for length in (period, period - 1, period + 1))
    return found / float(np.mean(beside)) if all(beside) else None


def _repeated(x: Tensor, period: int, cells: int) -> float:
    """Variance over a grid of the means of its pixels over some cells, the mean over all squares of such."""
    height, width = (length // period * period for length in x.shape[-2:])
    means = F.avg_pool2d(F.pixel_unshuffle(x[..., :height, :width], period), cells)
    return float(means.unflatten(1, (-1, period**2)).var(2, correction=0).mean())


def bpp(size_bytes: int, width: int, height: int) -> float:
    """Bits per pixel.

    Args:
        size_bytes: of the whole file.
        width: of the photograph in pixels.
        height: of the photograph in pixels.

    >>> bpp(12_288, 768, 512)
    0.25
    """
    return 8 * size_bytes / (width * height)


def accuracy(logits: Tensor, targets: Tensor, among: list[int] | None = None, top: int = 1) -> float:
    """Top-k accuracy.

    Args:
        logits: (N, C).
        targets: (N,) class indices.
        among: classes to restrict the predictions to, as indices into C; by default all.
        top: k.

    Returns:
        the fraction, in [0, 1], of rows whose k best classes include the target.

    >>> logits = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]])
    >>> accuracy(logits, torch.tensor([1, 2])), accuracy(logits, torch.tensor([1, 2]), top=2)
    (0.5, 1.0)
    >>> accuracy(logits, torch.tensor([1, 2]), among=[1, 2])
    1.0
    """
    if among is not None:
        lookup = {index: place for place, index in enumerate(among)}
        targets = torch.tensor([lookup[int(t)] for t in targets])
        logits = logits[:, among]
    best = logits.topk(min(top, logits.shape[1]), dim=1).indices
    return float((best == targets[:, None]).any(1).double().mean())


def calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    """Expected calibration error over 15 bins (Naeini, Cooper, Hauskrecht, AAAI 2015), by torchmetrics.

    Args:
        probabilities: (N, C), rows that sum to 1.
        targets: (N,) class indices.

    Returns:
        the mean gap between confidence and accuracy, in [0, 1].
    """
    confidence, best = probabilities.max(1)
    return calibration_gap(confidence, best == targets)


def calibration_gap(confidence: Tensor, right: Tensor) -> float:
    """`calibration_error` where no more is known than confidences, and whether they were right.

    Args:
        confidence: (N,) probabilities in [0, 1] of the classes that were predicted.
        right: (N,) bool or integer: whether each prediction was right.

    Returns:
        the mean gap between confidence and accuracy, in [0, 1].
    """
    return float(binary_calibration_error(confidence, right.long(), n_bins=15))
