"""What all observers share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Observer(nn.Module):
    """A frozen observer of reconstructions: differentiable in them, and never moved itself.

    Calling it with photographs and their reconstructions, both (N, 3, H, W) in [0, 1] on the observer's device, and
    optionally a weight (N, 1, h, w) for every place, at least 0 and somewhere above, gives the distortion (N,): 0 where
    both are the same, and growing with what this observer minds. A weight is scaled to the observer's own
    grid; only its proportions count.
    """

    def freeze(self) -> None:
        """Let no parameter move, and no batch statistic: an observer stays in evaluation mode."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Observer:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        raise NotImplementedError


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over places, channels alike, of values (N, C, h, w), each place counting by a weight (N, 1, h', w'): (N,).

    Raises:
        ValueError: if a photograph's weight is zero everywhere, or somewhere negative.
    """
    values = values.mean(1, keepdim=True)
    if weight is None:
        return values.mean((1, 2, 3))
    if bool((weight < 0).any()) or not bool((weight.flatten(1).amax(1) > 0).all()):
        raise ValueError("a weight must be at least 0 everywhere, and above it somewhere")
    weight = F.interpolate(weight.to(values), size=values.shape[-2:], mode="area")
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1e-12)
