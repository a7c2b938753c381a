"""Fits a perceptual observer's weights to choices between distortions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.images import open_image, to_tensor
from ..data.preferences import Preference
from ..observers import LPIPS


@torch.no_grad()
def channel_distances(
    observer: LPIPS, preferences: Sequence[Preference], track: Callable[[Iterable], Iterable] = lambda items: items
) -> tuple[Tensor, Tensor]:
    """How far both alternatives of every choice are from the original, channel by channel: two of (N, C)."""
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
    """Weights of channels, (C,), under which the nearer alternative is the one that was chosen.

    The share that chooses ``a`` is modeled as the logistic function of a multiple of log(b's distance / a's), which
    does not depend on the distances' scale. Adam minimizes the cross-entropy of the given shares in the logarithm of
    the weights, pulled back to where they started. Every fifth group is not learned from: the step that is best for
    those is the one that counts.

    Args:
        start: weights to start from, (C,), at least 0; those at 0 start just above.
        distances: as from `channel_distances`.
        shares: of people who chose ``a``, (N,).
        groups: for each choice what must not be split between learning and checking: its original, say.
        pull: weight of the mean squared distance from the start.

    Raises:
        ValueError: if there are fewer than five groups.
    """
    names = sorted(set(groups))
    if len(names) < 5:
        raise ValueError(f"fitting needs five or more originals, got {len(names)}")
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
