"""Integer probability tables: what the coder multiplies with.

Tables are computed once, when a model is made, and travel with its weights, because a logarithm
or an error function may differ in its last digit between two machines.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PRECISION = 24
"""A table's entries sum to about 2**24."""
SCALES = 64
SMALLEST_SCALE, LARGEST_SCALE = 0.11, 64.0
LOG_SCALE_STEP = math.log(LARGEST_SCALE / SMALLEST_SCALE) / (SCALES - 1)
SYMBOL_BOUND = 255
"""Symbols lie in -255..255; the encoder clamps what lies beyond."""


def gaussian_cdf_tables() -> Tensor:
    """The probabilities of symbols under a Gaussian of each scale.

    Returns:
        (64, 511) int32, in 2**-24, at least 1: symbols -255..255, scales from 0.11 to 64 steps.
    """
    edges = torch.arange(-SYMBOL_BOUND, SYMBOL_BOUND + 2, dtype=torch.float64) - 0.5
    scales = SMALLEST_SCALE * torch.exp(torch.arange(SCALES, dtype=torch.float64) * LOG_SCALE_STEP)
    return _to_integers(torch.special.ndtr(edges / scales[:, None]).diff(dim=1))


def logistic_mixture_cdf_tables(weights: Tensor, means: Tensor, scales: Tensor, symbol_bound: int) -> Tensor:
    """The probabilities of symbols under mixtures of logistics.

    Args:
        weights: (C, K), rows that sum to 1.
        means: (C, K), in steps.
        scales: (C, K), in steps, above 0.
        symbol_bound: the largest symbol R.

    Returns:
        (C, 2 R + 1) int32, in 2**-24, at least 1: symbols -R..R.
    """
    edges = torch.arange(-symbol_bound, symbol_bound + 2, dtype=torch.float64) - 0.5
    z = (edges - means.double()[..., None]) / scales.double()[..., None]
    cdf = (weights.double()[..., None] * torch.sigmoid(z)).sum(1)
    return _to_integers(cdf.diff(dim=1))


def _to_integers(pmf: Tensor) -> Tensor:
    return torch.round(pmf * 2**PRECISION).clamp_min(1).to(torch.int32)
