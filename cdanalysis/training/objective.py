"""The objective: rate + weighted distortions + weighted distillation, one formula.

    L = w_s(q) R_semantic + w_f D_features + w_e D_embedding + sum_t w_t D_t + sum_t v_t L_t
        + (f R_detail + lambda(q) 255^2 sum_k w_k D_k) / sqrt(lambda(q) / lambda(1/2))

R_semantic are kilobits a photograph of the global and the spatial layer, which see any photograph, and so any crop, at
one working size; R_detail are bits a pixel. f is 1, or what a rate controller makes of it. D_features and D_embedding
are how far the decoded pyramid and embedding are from the teachers', D_t how far what the frozen counterpart of task t
predicts has moved, L_t the loss of the head of task t on labeled crops. D_k is the distortion that observer k sees;
with the squared error alone, the last sum is the pixels' mean squared error. Both may differ from place to place:
lambda by a quality map, and what an observer's place counts by saliency. Qualities are drawn anew for every crop, so
that one model learns all rates; the last division keeps the rates' gradients alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed

from ..codec.latent_search import LAMBDAS
from .distortion import ObserverConfig

FLOOR = 0.3
"""Features that hardly vary count by this share of the median deviation."""


@dataclass
class ObjectiveConfig:
    """Weights of the objective. A pair [a, b] is the weight at quality 0 and at quality 1, interpolated geometrically.

    Attributes:
        semantic_rate: weight of the semantic layers' kilobits a photograph.
        features: weights of the feature distillation at strides 8, 16, 32 and 64 (mean squared error relative
            to the channel's variance, see `raised`).
        embedding: weight of the embedding's, relative to the variance of its numbers.
        distillation: for a task, the weight of how far its counterpart's predictions on the decoded features are from
            those on what the teachers see.
        lambdas: what the observers' distortion counts, against the detail layer's bpp, times 255^2.
        observers: who looks at the reconstruction; by default the squared error of pixels.
        alpha: from the human observers alone (0) to the machine ones alone (1).
        saliency: what says where people look, so that observers count those places more: "saliency" (spectral
            residuals), or U2-Net-P's ONNX file, below ``CDANALYSIS_DATA`` or absolute; empty for everywhere alike. Each
            crop is looked at by itself. After Patel, Appalaraju, Manmatha (WACV 2021).
        rest: what the least salient place then counts, where the most salient one counts 1.
    """

    semantic_rate: list[float] = field(default_factory=lambda: [0.1, 0.006])
    features: list[float] = field(default_factory=lambda: [0.3, 0.6, 1.0, 0.3])
    embedding: float = 0.3
    distillation: dict[str, float] = field(default_factory=lambda: {"classification": 1.0})
    lambdas: list[float] = field(default_factory=lambda: list(LAMBDAS))
    observers: list[ObserverConfig] = field(default_factory=lambda: [ObserverConfig()])
    alpha: float = 0.5
    saliency: str = ""
    rest: float = 0.2


def raised(variance: Tensor) -> Tensor:
    """Variances of channels; those of channels that hardly vary are raised to a share of the median one's.

    Args:
        variance: at least 0, of any shape.

    Returns:
        the same shape, above 0.
    """
    return variance + FLOOR**2 * variance.median() + 1e-12


def feature_distance(features: Sequence[Tensor], targets: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted squared error of feature maps relative to each channel's variance, `raised`.

    Args:
        features: maps (N, C, h, w).
        targets: as many maps, of the same shapes; the variances are theirs, over the batch.
        weights: of the maps.

    Returns:
        (N,), at least 0.
    """
    total = torch.zeros(len(targets[0]), device=targets[0].device)
    for feature, target, weight in zip(features, targets, weights, strict=True):
        target = target.float()
        scale = raised(_variance(target))
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
