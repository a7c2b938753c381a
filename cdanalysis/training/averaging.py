"""An exponential moving average of weights: nearly the gain of a low learning rate, at any time of training.

Polyak, Juditsky, "Acceleration of stochastic approximation by averaging" (1992); decay that grows with the steps made,
so that the first ones do not linger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The moving average of some parameters.

    Args:
        parameters: what is averaged, in an order that stays.
        decay: share of the average that a step keeps, in [0, 1), once many steps are made.

    Attributes:
        weights: the average, a tensor for each parameter.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"average must lie in [0, 1), got {decay}")
        self.parameters, self.decay = list(parameters), decay
        self.weights = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters as they are after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.weights, [p.detach() for p in self.parameters], 1 - decay)

    def load(self, weights: Sequence[Tensor]) -> None:
        """Go on from an average that was saved."""
        for mine, saved in zip(self.weights, weights, strict=True):
            mine.copy_(saved)

    @torch.no_grad()
    def copy_to_weights(self) -> None:
        """Make the parameters what their average is."""
        for parameter, mean in zip(self.parameters, self.weights, strict=True):
            parameter.copy_(mean)

    @contextmanager
    def as_weights(self) -> Iterator[None]:
        """Within, the parameters are what their average is."""
        kept = [p.detach().clone() for p in self.parameters]
        self.copy_to_weights()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, kept, strict=True):
                    parameter.copy_(value)
