"""An exponential moving average of weights: most of the gain of a low learning rate, at any time of training.

Polyak, Juditsky, "Acceleration of stochastic approximation by averaging" (1992). The decay grows with the number of
steps, so that the initial weights are soon forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The moving average of some parameters.

    Args:
        parameters: to average; their order must not change.
        decay: fraction of the average that a step keeps, in [0, 1), after many steps.

    Attributes:
        weights: the average, a tensor for each parameter.

    Raises:
        ValueError: if ``decay`` is out of range.

    >>> parameter = nn.Parameter(torch.zeros(1))
    >>> average = WeightAverage([parameter], 0.5)
    >>> _ = parameter.data.fill_(1.0)
    >>> average.update(100)
    >>> average.weights
    [tensor([0.5000])]
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"average, the decay of the weight average, must be in [0, 1), got {decay}")
        self.parameters, self.decay = list(parameters), decay
        self.weights = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the current parameters.

        Args:
            step: number of steps made.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.weights, [p.detach() for p in self.parameters], 1 - decay)

    def load(self, weights: Sequence[Tensor]) -> None:
        """Restore a saved average.

        Args:
            weights: a tensor for each parameter.
        """
        for mine, saved in zip(self.weights, weights, strict=True):
            mine.copy_(saved)

    @torch.no_grad()
    def copy_to_weights(self) -> None:
        """Set the parameters to their average."""
        for parameter, mean in zip(self.parameters, self.weights, strict=True):
            parameter.copy_(mean)

    @contextmanager
    def as_weights(self) -> Iterator[None]:
        """Within the block, the parameters have the values of their average."""
        kept = [p.detach().clone() for p in self.parameters]
        self.copy_to_weights()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, kept, strict=True):
                    parameter.copy_(value)
