"""Fits the channel weights of a perceptual observer to human preferences (2AFC)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.preferences import Preference
from ..observers import LPIPS
from ..photographs.read import open_image, to_tensor


@torch.no_grad()
def channel_distances(
    observer: LPIPS, preferences: Sequence[Preference], track: Callable[[Iterable], Iterable] = lambda items: items
) -> tuple[Tensor, Tensor]:
    """Distances of both alternatives from the original, for each channel of the observer's features.

    Args:
        observer: whose features are compared.
        preferences: N pairs of distorted images, with their originals.
        track: wraps an iterable to show progress.

    Returns:
        distances (N, C) of ``a``, and of ``b``.

    Raises:
        ValueError: if an image cannot be read.
    """
    rows = []
    for preference in track(preferences):
        original, a, b = (
            to_tensor(open_image(path))[None] for path in (preference.original, preference.a, preference.b)
        )
        rows.append(observer.channels(original.expand(2, -1, -1, -1), torch.cat([a, b])))
    pairs = torch.stack(rows)
    return pairs[:, 0], pairs[:, 1]


def fit_weights(
    start: Tensor,
    distances: tuple[Tensor, Tensor],
    shares: Tensor,
    groups: Sequence[str],
    steps: int = 400,
    lr: float = 0.05,
    pull: float = 1e-3,
) -> Tensor:
    """Fit channel weights so that the alternative at the smaller distance is the preferred one.

    The probability of choosing ``a`` is modeled as a logistic function of log(distance of b / distance of a), times a
    fitted factor, which is invariant to the scale of the distances. Adam minimizes the cross-entropy of the given
    shares in the logarithm of the weights, regularized towards the initial weights. Every fifth group is held out for
    validation; the weights of the step with the best validation loss are returned.

    Args:
        start: initial weights, (C,), at least 0.
        distances: two of (N, C), see `channel_distances`.
        shares: fractions of people who chose ``a``, (N,), in [0, 1].
        groups: for each of the N pairs what must not be split between training and validation, such as its original.
        steps: of the optimizer.
        lr: learning rate.
        pull: weight of the mean squared distance of log weights from the initial ones.

    Returns:
        (C,), above 0, with the sum of ``start``.

    Raises:
        ValueError: if there are fewer than five groups.
    """
    names = sorted(set(groups))
    if len(names) < 5:
        raise ValueError(f"fitting needs five or more groups (originals), got {len(names)}")
    checked = torch.tensor([names.index(group) % 5 == 4 for group in groups])
    first = start.clamp_min(1e-3 * start.mean()).log()
    logs, scale = first.clone().requires_grad_(), torch.zeros(()).requires_grad_()
    optimizer = torch.optim.Adam([logs, scale], lr=lr)
    best, lowest = first, np.inf
    for _ in range(steps):
        ratio = torch.log((distances[1] @ logs.exp() + 1e-12) / (distances[0] @ logs.exp() + 1e-12))
        each = F.binary_cross_entropy_with_logits(ratio * scale.exp(), shares, reduction="none")
        if each[checked].mean().item() < lowest:
            best, lowest = logs.detach().clone(), each[checked].mean().item()
        loss = each[~checked].mean() + pull * (logs - first).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = best.exp()
    return weights * (start.sum() / weights.sum())
