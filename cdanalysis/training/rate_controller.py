"""A controller that holds a rate: adversarial and perceptual stages are known to drift off theirs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MEMORY = 0.9
"""How much of the running mean of the rate's logarithm is kept from step to step."""


class RateController(nn.Module):
    """Scales the weight of the rate until the rate is the one wanted: proportional-integral control in the logarithm.

    Args:
        target: bits per pixel.
        speed: how much of the logarithmic error is added, a step, to the integral part.
        max_factor: the factor stays between 1 / ``max_factor`` and ``max_factor``.

    Raises:
        ValueError: if target or speed is not positive.
    """

    error: Tensor
    integral: Tensor

    def __init__(self, target: float, speed: float = 0.02, max_factor: float = 50.0):
        super().__init__()
        if target <= 0 or speed <= 0:
            raise ValueError(f"a rate is held at a target above 0 and with a speed above 0, got {target} and {speed}")
        self.target, self.speed, self.max_factor = target, speed, math.log(max_factor)
        self.register_buffer("error", torch.zeros((), dtype=torch.float64))
        self.register_buffer("integral", torch.zeros((), dtype=torch.float64))

    @property
    def factor(self) -> float:
        """What the weight of the rate is to be multiplied by."""
        return math.exp(min(self.max_factor, max(-self.max_factor, float(self.error + self.integral))))

    @torch.no_grad()
    def observe(self, bpp: Tensor) -> None:
        """Take note of a step's mean rate (a scalar); over all processes, where there are several."""
        bpp = bpp.detach().double().clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(bpp)
            bpp /= torch.distributed.get_world_size()
        if torch.isfinite(bpp) and bpp > 0:
            error = torch.log(bpp / self.target).to(self.error)
            self.error.mul_(MEMORY).add_(error, alpha=1 - MEMORY)
            self.integral.add_(self.error, alpha=self.speed).clamp_(-self.max_factor, self.max_factor)
