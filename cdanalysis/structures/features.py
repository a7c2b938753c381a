"""What heads read: features that were decoded from latents, or that teachers see in photographs themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

STRIDES = (8, 16, 32, 64)
"""Of a feature pyramid's levels, in pixels of the working size."""


@dataclass(frozen=True)
class FeatureSpec:
    """What a head must know of features before it sees any.

    Attributes:
        embedding: numbers in the global layer's embedding.
        pyramid: channels of the spatial layer's features at strides 8, 16, 32 and 64.
        detail: channels of the detail layer, at stride 16.
    """

    embedding: int
    pyramid: tuple[int, int, int, int]
    detail: int


@dataclass(frozen=True)
class Features:
    """Features of a batch of photographs whose working sizes are equal.

    Attributes:
        sizes: true (height, width) of each photograph in pixels.
        embedding: (N, E), from the global layer.
        pyramid: (N, C, h/s, w/s) for s in ``STRIDES``, from the spatial layer, where h x w is the working size: the
            whole photograph was resized to it. Empty where only the global layer was read.
        detail: (N, C', H/16, W/16), the dequantized detail layer of photographs padded to H x W; None where it was not
            read.
    """

    sizes: list[tuple[int, int]]
    embedding: Tensor
    pyramid: list[Tensor]
    detail: Tensor | None = None

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def working(self) -> tuple[int, int]:
        """Height and width of the working size that the pyramid belongs to."""
        rows, columns = self.pyramid[0].shape[-2:]
        return STRIDES[0] * rows, STRIDES[0] * columns

    def scales(self) -> list[tuple[float, float]]:
        """For each photograph the factors (across, down) from pixels of the working size to its own."""
        height, width = self.working
        return [(w / width, h / height) for h, w in self.sizes]

    def __getitem__(self, rows: slice) -> Features:
        """Features of some of the photographs."""
        detail = None if self.detail is None else self.detail[rows]
        return Features(self.sizes[rows], self.embedding[rows], [level[rows] for level in self.pyramid], detail)

    def to(self, *args: Any) -> Features:
        """As `torch.Tensor.to`, all tensors."""
        detail = None if self.detail is None else self.detail.to(*args)
        pyramid = [level.to(*args) for level in self.pyramid]
        return replace(self, embedding=self.embedding.to(*args), pyramid=pyramid, detail=detail)

    @staticmethod
    def joined(parts: list[Features]) -> Features:
        """Features of several batches of one working size as one batch."""
        import torch

        details = [part.detail for part in parts if part.detail is not None]
        return Features(
            [size for part in parts for size in part.sizes],
            torch.cat([part.embedding for part in parts]),
            [torch.cat(levels) for levels in zip(*(part.pyramid for part in parts), strict=True)],
            torch.cat(details) if details else None,
        )
