"""Rounding, the same whatever the error of what is rounded: values near a tie are settled by whoever knows better."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..memory import release

BAND = 2**13
"""Cells that are worked on at a time; a photograph of two megapixels has as many."""
MANY = 4
"""Bands after which it is worth the time to give memory back."""


class Doubt(NamedTuple):
    """What an encoder knows of the error of the values that it rounds.

    Attributes:
        bound: largest error of a value, broadcastable to the values (N, C, h, w).
        settle: places (k, 4) among those values to the values there, (k,), free of error.
    """

    bound: Tensor
    settle: Callable[[Tensor], Tensor]


def bands(shape: torch.Size) -> Iterator[slice]:
    """Rows of a tensor (N, C, h, w), an even number at a time, so many that what is made of them stays small.

    Where there are many, what was freed meanwhile goes back to the system in the end.
    """
    rows = max(2, BAND // (shape[0] * shape[3]) // 2 * 2)
    yield from (slice(top, min(shape[2], top + rows)) for top in range(0, shape[2], rows))
    if shape[0] * shape[2] * shape[3] > MANY * BAND:
        release()


class Near(NamedTuple):
    """Values near a rounding tie: their places (k, 4), and what is subtracted before they are rounded, (k,) steps."""

    places: Tensor
    offsets: Tensor


def near_ties(residual: Tensor, offset: Tensor, bound: Tensor) -> Near:
    """Of values in four dimensions, less their offset, those whose error could tip their rounding."""
    near = 0.5 - (residual - residual.round()).abs() < bound
    return Near(near.nonzero(), offset[near])


def settled(near: list[Near], doubt: Doubt) -> tuple[Tensor, Tensor]:
    """Places (k, 4), and the symbols (k,), int16, that values there have in truth."""
    places, offsets = (torch.cat(parts) for parts in zip(*near, strict=True))
    if not len(places):
        return places, offsets.to(torch.int16)
    return places, (doubt.settle(places) - offsets).round().to(torch.int16)
