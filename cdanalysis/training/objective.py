"""The objective: rate + weighted distortions + weighted distillation, one formula.

    L = f w_s(q) R_semantic + w_f D_features + sum_t w_t D_t + sum_t v_t L_t
        + (f R_detail + lambda(q) 255^2 sum_k w_k D_k) / sqrt(lambda(q) / lambda(1/2))

f is 1, or the factor of a rate controller. D_t is the distance of the predictions of task t's frozen counterpart on the
decoded pyramid from those on the photograph, L_t the loss of the head of task t on labeled crops. D_k is the distortion
of observer k; with the squared error alone, the last sum is the mean squared error of pixels. Both may vary over the
image: lambda by a quality map, observers by saliency. Rates are in bits per pixel. Qualities q are drawn for every
crop, so that one model learns all rates; the last division balances the gradients of different rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed

from .distortion import ObserverConfig


@dataclass
class ObjectiveConfig:
    """Weights of the objective. A pair [a, b] is the weight at quality 0 and at quality 1, interpolated geometrically.

    Attributes:
        semantic_rate: weights of the semantic layer's rate in bpp, both above 0.
        features: weights of the feature distillation at strides 8, 16 and 32 (squared error relative to each channel's
            variance).
        distillation: weight for each task of the distance between its counterpart's predictions on the decoded pyramid
            and on the photograph's own features.
        lambdas: weights of the distortion, times 255^2, relative to the detail layer's rate in bpp, both above 0.
        observers: whose distortions are summed; by default the squared error of pixels.
        alpha: in [0, 1], from human observers alone to machine observers alone.
        saliency: weights distortions by saliency, crop by crop: "saliency" (spectral residuals), or U2-Net-P's ONNX
            file, absolute or below ``CDANALYSIS_DATA``; empty for equal weights. After Patel, Appalaraju, Manmatha
            (WACV 2021).
        rest: weight of the least salient places, in [0, 1]; the most salient ones have weight 1.
    """

    semantic_rate: list[float] = field(default_factory=lambda: [20.0, 2.0])
    features: list[float] = field(default_factory=lambda: [0.3, 0.6, 1.0])
    distillation: dict[str, float] = field(default_factory=lambda: {"classification": 1.0})
    lambdas: list[float] = field(default_factory=lambda: [0.001, 0.05])
    observers: list[ObserverConfig] = field(default_factory=lambda: [ObserverConfig()])
    alpha: float = 0.5
    saliency: str = ""
    rest: float = 0.2


def log_interpolate(ends: list[float], quality: Tensor) -> Tensor:
    """Geometric interpolation.

    Args:
        ends: values at quality 0 and at quality 1, above 0.
        quality: in [0, 1], any shape.

    >>> log_interpolate([1.0, 100.0], torch.tensor([0.0, 0.5, 1.0])).round()
    tensor([  1.,  10., 100.])
    """
    low, high = (math.log(end) for end in ends)
    return torch.exp(low + (high - low) * quality)


def feature_distance(features: list[Tensor], targets: list[Tensor], weights: list[float]) -> Tensor:
    """Weighted squared error of feature maps, relative to each channel's variance over the batch.

    Args:
        features: maps (N, C, h, w), one per stride.
        targets: maps of the same shapes.
        weights: one per stride.

    Returns:
        (N,), at least 0.
    """
    total = torch.zeros(len(targets[0]), device=targets[0].device)
    for feature, target, weight in zip(features, targets, weights, strict=True):
        target = target.float()
        scale = _variance(target) + 1e-4
        total = total + weight * ((feature.float() - target).square() / scale).mean((1, 2, 3))
    return total


def _variance(target: Tensor) -> Tensor:
    """Variance of each channel (1, C, 1, 1) over the batch, of which other processes may hold equal shares."""
    variance, mean = torch.var_mean(target, (0, 2, 3), correction=0, keepdim=True)
    if not (distributed.is_available() and distributed.is_initialized()):
        return variance
    moments = torch.stack([variance + mean.square(), mean])
    distributed.all_reduce(moments)
    square, mean = moments / distributed.get_world_size()
    return square - mean.square()
