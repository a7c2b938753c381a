"""The base class of observers, and their spatial weighting."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Observer(nn.Module):
    """The base class of observers: a frozen, differentiable distortion with gradients for the reconstructions.

    An observer is called with images and their reconstructions, both (N, 3, H, W) in [0, 1] on the observer's device,
    and optionally with spatial weights (N, 1, h, w), at least 0 everywhere and above 0 somewhere. It returns the
    distortion (N,), which is 0 for equal images. The weights are resampled to the observer's own grid and normalized.
    Subclasses implement `forward`, and call `freeze` at the end of ``__init__``.
    """

    def freeze(self) -> None:
        """Freeze parameters and batch statistics; call it at the end of ``__init__``."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Observer:
        """As ``nn.Module.train``, but does nothing: an observer stays in evaluation mode.

        Args:
            mode: does not count.

        Returns:
            the observer itself.
        """
        return super().train(False)

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        """The distortion.

        Args:
            original: (N, 3, H, W) in [0, 1].
            reconstruction: (N, 3, H, W).
            weight: spatial weights (N, 1, h, w); None for equal weights.

        Returns:
            (N,), at least 0.

        Raises:
            ValueError: for a weight that is negative somewhere, or zero everywhere.
        """
        raise NotImplementedError


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean over channels, and weighted mean over pixels or cells.

    Args:
        values: (N, C, h, w).
        weight: (N, 1, h', w'), resampled to (h, w) by area; None for a plain mean.

    Returns:
        (N,).

    Raises:
        ValueError: if an image's weight is zero everywhere, or negative somewhere.

    >>> import torch
    >>> values = torch.tensor([[[[1.0, 3.0]]]])
    >>> weighted_mean(values, None), weighted_mean(values, torch.tensor([[[[3.0, 1.0]]]]))
    (tensor([2.]), tensor([1.5000]))
    """
    values = values.mean(1, keepdim=True)
    if weight is None:
        return values.mean((1, 2, 3))
    if bool((weight < 0).any()) or not bool((weight.flatten(1).amax(1) > 0).all()):
        raise ValueError("spatial weights must be at least 0, and above 0 somewhere in each image")
    weight = F.interpolate(weight.to(values), size=values.shape[-2:], mode="area")
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1e-12)
