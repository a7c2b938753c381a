"""What heads read: features that were decoded from latents, or that teachers see in photographs themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .latents import as_slice

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
    """Features of a batch of photographs, and where their cells lie.

    *Coordinates* are continuous, x to the right and y down: pixel i covers [i, i + 1). The whole photograph, W pixels
    wide and H high, was resized to its working size, w x h, so that a point (x, y) of it is at (x w / W, y h / H) in
    pixels of the working size (`to_working`; `scales` leads back). Both sides are multiples of 32, so the two factors
    are nearly, and not exactly, equal.

    *Pyramid*: level k has the stride s = ``STRIDES[k]`` and ceil(h / s) rows and ceil(w / s) columns. The cell in row i
    and column j covers [s j, s (j + 1)) x [s i, s (i + 1)) in pixels of the working size; a box is at 1 / s of its
    coordinates there (``spatial_scale`` of RoI pooling). Where 64 does not divide a side, the last cells of the last
    level reach beyond it. A cell sees far beyond its own place; convolutions of stride 2 in the spatial layer's teacher
    are centered on a cell's upper left pixel, not on its middle, which layers that learn on it make up for.

    *Detail*: a cell of stride 16, in pixels of the photograph itself, which was padded on the right and at the bottom
    to multiples of 32; nothing is resized.

    *Embedding*: of the whole photograph; it has no place.

    The working sizes in a batch are equal, unless it was `padded`: then a photograph's cells begin in the upper left
    corner, those right of and below its own size are zeros, and ``workings`` and `valid` say which are its own.

    Attributes:
        sizes: true (height, width) of each photograph in pixels.
        embedding: (N, E), from the global layer.
        pyramid: (N, C, h/s, w/s), rounded up, for s in ``STRIDES``, from the spatial layer. Empty where only the global
            layer was read.
        detail: (N, C', H/16, W/16), the dequantized detail layer of photographs padded to H x W; None where it was not
            read.
        workings: each photograph's own working (height, width) in a padded batch; None where all are equal.
    """

    sizes: list[tuple[int, int]]
    embedding: Tensor
    pyramid: list[Tensor]
    detail: Tensor | None = None
    workings: list[tuple[int, int]] | None = None

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def working(self) -> tuple[int, int]:
        """Height and width of the working size that the pyramid belongs to.

        Raises:
            ValueError: if the photographs of a padded batch have different ones.
        """
        if self.workings is not None and set(self.workings) != {self.grid}:
            raise ValueError(
                "the working sizes of these photographs differ, and their features are padded: use those in workings, "
                "or make batches of one size each (StreamDataset.batches)"
            )
        return self.grid

    @property
    def own_workings(self) -> list[tuple[int, int]]:
        """For each photograph its working (height, width), in a padded batch too."""
        return self.workings or [self.working] * len(self)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width that the pyramid covers, in pixels of the working size, padding included."""
        rows, columns = self.pyramid[0].shape[-2:]
        return STRIDES[0] * rows, STRIDES[0] * columns

    def scales(self) -> list[tuple[float, float]]:
        """For each photograph the factors (across, down) from pixels of the working size to its own."""
        return [(w / width, h / height) for (h, w), (height, width) in zip(self.sizes, self.own_workings, strict=True)]

    def to_working(self, coordinates: Tensor, index: int = 0) -> Tensor:
        """Coordinates in pixels of a photograph as pixels of its working size.

        Args:
            coordinates: float (..., 2): x, y; or (..., 4): left, top, right, bottom.
            index: of the photograph in the batch.

        Returns:
            the same shape.
        """
        scale = coordinates.new_tensor(self.scales()[index])
        return coordinates / scale.repeat(coordinates.shape[-1] // 2)

    def valid(self, level: int) -> Tensor:
        """Which cells of a level of the pyramid, (N, rows, columns) bool, are the photographs' own, not padding.

        Args:
            level: 0 to 3, for strides 8 to 64.
        """
        import torch

        rows, columns = (torch.arange(n, device=self.embedding.device) for n in self.pyramid[level].shape[-2:])
        sizes = torch.tensor(self.own_workings, device=self.embedding.device)
        inside_rows = STRIDES[level] * rows < sizes[:, :1]
        inside_columns = STRIDES[level] * columns < sizes[:, 1:]
        return inside_rows[:, :, None] & inside_columns[:, None]

    def __getitem__(self, index: int | slice) -> Features:
        """Features of some of the photographs, or of one, still with a batch axis.

        Raises:
            IndexError: if there is none of that index.
        """
        rows = as_slice(index, len(self))
        workings = None if self.workings is None else self.workings[rows]
        return replace(self.map(lambda tensor: tensor[rows]), sizes=self.sizes[rows], workings=workings)

    def map(self, function: Callable[[Tensor], Tensor]) -> Features:
        """The features with a function applied to every tensor.

        Args:
            function: of a tensor; is called for the embedding, each level of the pyramid, and the detail layer where
                there is one.

        Returns:
            features of the same sizes.
        """
        detail = None if self.detail is None else function(self.detail)
        pyramid = [function(level) for level in self.pyramid]
        return replace(self, embedding=function(self.embedding), pyramid=pyramid, detail=detail)

    def to(self, *args: Any) -> Features:
        """As `torch.Tensor.to`, all tensors.

        Args:
            *args: those of `torch.Tensor.to`: a device, a type, or both.
        """
        return self.map(lambda tensor: tensor.to(*args))

    def pin_memory(self) -> Features:
        """As `torch.Tensor.pin_memory`, all tensors; a ``DataLoader`` calls it."""
        return self.map(lambda tensor: tensor.pin_memory())

    @staticmethod
    def joined(parts: Sequence[Features]) -> Features:
        """Features of several batches of one working size as one batch.

        Args:
            parts: at least one, none of them padded, all with the same layers.
        """
        import torch

        details = [part.detail for part in parts if part.detail is not None]
        return Features(
            [size for part in parts for size in part.sizes],
            torch.cat([part.embedding for part in parts]),
            [torch.cat(levels) for levels in zip(*(part.pyramid for part in parts), strict=True)],
            torch.cat(details) if details else None,
        )

    @staticmethod
    def padded(parts: Sequence[Features]) -> Features:
        """Features of several batches as one batch; where sizes differ, with zeros on the right and at the bottom.

        Args:
            parts: at least one; they may be padded themselves.

        Returns:
            the batch, with ``workings`` where working sizes differ.

        Raises:
            ValueError: if not all of them hold the same layers.
        """
        if len({(len(part.pyramid), part.detail is None) for part in parts}) > 1:
            raise ValueError("these features were read from different layers: they cannot be one batch")
        columns = [[part.pyramid[level] for part in parts] for level in range(len(parts[0].pyramid))]
        levels = [_same_size(maps) for maps in columns]
        details = _same_size([part.detail for part in parts if part.detail is not None])
        filled = [
            replace(part, pyramid=[level[i] for level in levels], detail=details[i] if details else None)
            for i, part in enumerate(parts)
        ]
        workings = [size for part in parts for size in part.own_workings] if levels else []
        different = len(set(workings)) > 1 or any(part.workings is not None for part in parts)
        return replace(Features.joined(filled), workings=workings if different else None)


def _same_size(maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps (N, C, h, w), padded with zeros to the largest of their heights and widths."""
    import torch.nn.functional as F

    rows, columns = (max((x.shape[axis] for x in maps), default=0) for axis in (-2, -1))
    return [
        x if x.shape[-2:] == (rows, columns) else F.pad(x, (0, columns - x.shape[-1], 0, rows - x.shape[-2]))
        for x in maps
    ]
