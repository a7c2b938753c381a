"""Values too near a rounding tie, computed again in double precision: in windows, or all of them if that is cheaper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .detail import HYPER_REDUCTION
from .tiles import HALO, Place, grid_of, tiled, tiles, window

if TYPE_CHECKING:
    from .encoder import Analysis

WINDOWS = 32
"""So many windows of a photograph are looked at at once."""

Cell = tuple[int, int]


class Reach(NamedTuple):
    """What an output cell depends on, each way.

    Attributes:
        ratio: input cells for an output cell.
        margin: input cells beside its own that it depends on.
        align: windows begin at multiples of so many input cells, where the network's strides do.
    """

    ratio: int
    margin: int
    align: int

    def window(self, cell: Cell, grid: Cell) -> Place:
        """Input cells, of a grid of so many, that hold all that an output cell depends on."""
        rows, columns = (self._span(i, length) for i, length in zip(cell, grid, strict=True))
        return rows, columns

    def _span(self, i: int, length: int) -> slice:
        first, last = self.ratio * i - self.margin, self.ratio * (i + 1) + self.margin
        return slice(max(0, first // self.align * self.align), min(length, -(-last // self.align) * self.align))

    def cheap(self, cells: list[Cell], grid: Cell) -> bool:
        """Whether windows are less work than the whole grid."""
        side = self.ratio + 2 * self.margin
        return len(cells) * side**2 < grid[0] * grid[1]


class SecondLook:
    """Values of photographs x (N, 3, H, W) in double precision, computed where they are asked for.

    Args:
        networks: in double precision.
        features: the backbone's, exact, of each tile of the photographs.
        x: photographs.
    """

    def __init__(self, networks: Analysis, features: list[list[Tensor]], x: Tensor):
        self.networks, self.features, self.x = networks, features, x
        self.grid = grid_of(x.shape[-2], x.shape[-1])
        self.of_semantic = Reach(1, networks.semantic.reach, 2)
        self.of_detail = Reach(1, networks.detail.reach, 1)
        self.of_hyper = Reach(HYPER_REDUCTION, networks.hyper.reach + networks.detail.reach, HYPER_REDUCTION)
        self.whole: dict[tuple[str, int, int], Tensor] = {}

    def semantic(self, mask: Tensor) -> Tensor:
        """y of the semantic layer, right where ``mask`` (N, C, h, w) says anything."""
        y = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        for n in _photographs(mask):
            for number, tile in enumerate(tiles(self.grid, HALO)):
                asked = _cells(mask[n][:, tile.core[0], tile.core[1]])
                if asked:
                    inner = (tile.inner[0].start, tile.inner[1].start)
                    self._semantic_tile(y[n][:, tile.core[0], tile.core[1]], n, number, asked, inner)
        return y

    def _semantic_tile(self, y: Tensor, n: int, number: int, asked: list[Cell], inner: Cell) -> None:
        """Write cells of a tile's core, y; the tile sees ``inner`` rows and columns more before it."""
        features, network = self.features[number], self.networks.semantic
        grid = (features[1].shape[-2], features[1].shape[-1])
        key = ("semantic", n, number)
        if key not in self.whole and self.of_semantic.cheap(asked, grid):
            seen = [(i + inner[0], j + inner[1]) for i, j in asked]
            look = lambda places: network(_crops(features, n, places))  # noqa: E731
            for (i, j), value in _in_windows(seen, self.of_semantic, grid, look):
                y[:, i - inner[0], j - inner[1]] = value
            return
        if key not in self.whole:
            self.whole[key] = network([_in_double(f[n : n + 1]) for f in features])[0]
        y.copy_(self.whole[key][:, inner[0] :, inner[1] :][:, : y.shape[1], : y.shape[2]])

    def detail(self, mask: Tensor) -> Tensor:
        """y of the detail layer, right in the cells in which ``mask`` (N, C', h, w) says anything."""
        y = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        for n in _photographs(mask):
            asked = _cells(mask[n])
            if ("detail", n, 0) in self.whole or not self.of_detail.cheap(asked, self.grid):
                y[n] = self._whole_detail(n)
                continue
            for (i, j), value in _in_windows(asked, self.of_detail, self.grid, lambda at, n=n: self._details(n, at)):
                y[n, :, i, j] = value
        return y

    def hyper(self, mask: Tensor, gain: Tensor) -> Tensor:
        """z, right in the cells in which ``mask`` (N, C'', h'', w'') says anything, of y times a gain.

        Args:
            gain: broadcastable to y (N, C', h, w).
        """
        z = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        network, gain = self.networks.hyper, gain.expand(len(z), -1, *self.grid)
        for n in _photographs(mask):
            asked = _cells(mask[n])
            if ("detail", n, 0) in self.whole or not self.of_hyper.cheap(asked, self.grid):
                z[n] = network(self._whole_detail(n)[None] * gain[n])[0]
                continue
            look = lambda at, n=n: network(  # noqa: E731
                self._details(n, at) * torch.stack([gain[n][:, rows, columns] for rows, columns in at])
            )
            for (i, j), value in _in_windows(asked, self.of_hyper, self.grid, look):
                z[n, :, i, j] = value
        return z

    def _details(self, n: int, places: list[Place]) -> Tensor:
        """y of the detail layer in places of one shape, as if there were nothing beyond them."""
        return self.networks.detail(_in_double(torch.cat([window(self.x[n : n + 1], place) for place in places])))

    def _whole_detail(self, n: int) -> Tensor:
        key = ("detail", n, 0)
        if key not in self.whole:
            detail = self.networks.detail
            self.whole[key] = tiled(lambda part: detail(_in_double(part)), self.x[n : n + 1], detail.reach)[0]
        return self.whole[key]


Look = Callable[[list[Place]], Tensor]
"""Places of one shape to what a network makes of each."""


def _in_windows(cells: list[Cell], reach: Reach, grid: Cell, look: Look) -> Iterator[tuple[Cell, Tensor]]:
    """Each cell with its values (C,), from windows that end where the photograph does."""
    groups = defaultdict(list)
    for cell in cells:
        rows, columns = place = reach.window(cell, grid)
        groups[rows.stop - rows.start, columns.stop - columns.start].append((cell, place))
    for group in groups.values():
        for first in range(0, len(group), WINDOWS):
            some = group[first : first + WINDOWS]
            for ((i, j), (rows, columns)), part in zip(some, look([place for _, place in some]), strict=True):
                yield (i, j), part[:, i - rows.start // reach.ratio, j - columns.start // reach.ratio]


def _crops(features: list[Tensor], n: int, places: list[Place]) -> list[Tensor]:
    """Places of one photograph's features at strides 8, 16 and 32."""
    levels = []
    for level, cells in zip(features, (0.5, 1, 2), strict=True):  # cells of the grid for one of this level's
        spans = [tuple(slice(int(s.start / cells), int(s.stop / cells)) for s in place) for place in places]
        levels.append(_in_double(torch.stack([level[n][:, rows, columns] for rows, columns in spans])))
    return levels


def _in_double(x: Tensor) -> Tensor:
    """As channels_last, double precision is ten times slower."""
    return x.double().contiguous()


def _photographs(mask: Tensor) -> list[int]:
    """Numbers of the photographs in which a mask says anything."""
    return mask.flatten(1).any(1).nonzero().flatten().tolist()


def _cells(mask: Tensor) -> list[Cell]:
    """Where a mask (C, h, w) says anything."""
    return [(i, j) for i, j in mask.any(0).nonzero().tolist()]
