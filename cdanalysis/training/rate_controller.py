"""A controller that holds a target rate, from which adversarial and perceptual training tends to drift."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MEMORY = 0.9
"""Decay per step of the running mean of the logarithmic error."""


class RateController(nn.Module):
    """Proportional-integral control, in the logarithm, of a factor on the weight of the rate.

    Args:
        target: rate in bits per pixel, above 0.
        speed: fraction of the logarithmic error that each step adds to the integral term, above 0.
        max_factor: the factor is clamped to [1 / ``max_factor``, ``max_factor``].

    Raises:
        ValueError: if ``target`` or ``speed`` is not above 0.

    >>> controller = RateController(target=0.5)
    >>> controller.observe(torch.tensor(1.0))
    >>> controller.factor > 1
    True
    """

    error: Tensor
    integral: Tensor

    def __init__(self, target: float, speed: float = 0.02, max_factor: float = 50.0):
        super().__init__()
        if target <= 0 or speed <= 0:
            raise ValueError(f"target_bpp and control_speed must be above 0, got {target} and {speed}")
        self.target, self.speed, self.max_factor = target, speed, math.log(max_factor)
        self.register_buffer("error", torch.zeros((), dtype=torch.float64))
        self.register_buffer("integral", torch.zeros((), dtype=torch.float64))

    @property
    def factor(self) -> float:
        """The factor on the weight of the rate."""
        return math.exp(min(self.max_factor, max(-self.max_factor, float(self.error + self.integral))))

    @torch.no_grad()
    def observe(self, bpp: Tensor) -> None:
        """Update the controller with the rate of a step; averages over processes.

        Args:
            bpp: mean rate of the batch in bits per pixel, a scalar; ignored if it is not finite.
        """
        bpp = bpp.detach().double().clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(bpp)
            bpp /= torch.distributed.get_world_size()
        if torch.isfinite(bpp) and bpp > 0:
            error = torch.log(bpp / self.target).to(self.error)
            self.error.mul_(MEMORY).add_(error, alpha=1 - MEMORY)
            self.integral.add_(self.error, alpha=self.speed).clamp_(-self.max_factor, self.max_factor)
