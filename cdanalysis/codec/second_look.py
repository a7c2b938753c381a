"""Values too near a rounding tie, computed again in double precision: in windows, or all of them if that is cheaper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .detail import HYPER_REDUCTION
from .tiles import Place, grid_of, seen_by, tiled, window

if TYPE_CHECKING:
    from .encoder import Analysis

WINDOWS = 8
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
        features: the backbone's, exact, at strides 8, 16 and 32.
        x: photographs.
    """

    def __init__(self, networks: Analysis, features: list[Tensor], x: Tensor):
        self.networks, self.features, self.x = networks, features, x
        self.grid = grid_of(x.shape[-2], x.shape[-1])
        self.of_semantic = Reach(1, networks.semantic.receptive_radius, 2)
        self.of_detail = Reach(1, networks.detail.receptive_radius, 1)
        self.of_hyper = Reach(
            HYPER_REDUCTION, networks.hyper.receptive_radius + networks.detail.receptive_radius, HYPER_REDUCTION
        )
        self.whole: dict[tuple[str, int], Tensor] = {}

    def semantic(self, places: Tensor) -> Tensor:
        """y of the semantic layer at places (k, 4): photograph, channel, row and column."""
        return self._found(places, "semantic", self.of_semantic, self._semantics)

    def detail(self, places: Tensor) -> Tensor:
        """y of the detail layer at places (k, 4)."""
        return self._found(places, "detail", self.of_detail, self._details)

    def _found(self, places: Tensor, layer: str, reach: Reach, look: Callable[[int, list[Place]], Tensor]) -> Tensor:
        found = _Found(places)
        for n, cells in found.cells.items():
            if (layer, n) in self.whole or not reach.cheap(cells, self.grid):
                known = _picked(self._whole(layer, n), cells)
            else:
                known = _in_windows(cells, reach, self.grid, lambda at, n=n: look(n, at))
            for cell, value in known:
                found.set(n, cell, value)
        return found.values

    def hyper(self, places: Tensor, gain: Tensor) -> Tensor:
        """z at places (k, 4), of y times a gain.

        Args:
            gain: broadcastable to y (N, C', h, w).
        """
        found, network = _Found(places), self.networks.hyper
        gain = gain.expand(len(self.x), -1, *self.grid)
        for n, cells in found.cells.items():
            if ("detail", n) in self.whole or not self.of_hyper.cheap(cells, self.grid):
                known = _picked(network(self._whole("detail", n)[None] * gain[n])[0], cells)
            else:
                look = lambda at, n=n: network(  # noqa: E731
                    self._details(n, at) * torch.stack([gain[n][:, rows, columns] for rows, columns in at])
                )
                known = _in_windows(cells, self.of_hyper, self.grid, look)
            for cell, value in known:
                found.set(n, cell, value)
        return found.values

    def _details(self, n: int, places: list[Place]) -> Tensor:
        """y of the detail layer in places of one shape, as if there were nothing beyond them."""
        return self.networks.detail(_in_double(torch.cat([window(self.x[n : n + 1], place) for place in places])))

    def _semantics(self, n: int, places: list[Place]) -> Tensor:
        """y of the semantic layer in places of one shape, as if there were nothing beyond them."""
        seen = (seen_by([level[n : n + 1] for level in self.features], place) for place in places)
        return self.networks.semantic([_in_double(torch.cat(level)) for level in zip(*seen, strict=True)])

    def _whole(self, layer: str, n: int) -> Tensor:
        """All of a photograph's y (C, h, w)."""
        if (layer, n) not in self.whole:
            if layer == "detail":
                look, x = (lambda part: self.networks.detail(_in_double(part))), self.x[n : n + 1]
            else:
                look = lambda part: self.networks.semantic([_in_double(level) for level in part])  # noqa: E731
                x = [level[n : n + 1] for level in self.features]
            self.whole[layer, n] = tiled(look, x, getattr(self.networks, layer).receptive_radius)[0]
        return self.whole[layer, n]


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


def _in_double(x: Tensor) -> Tensor:
    """As channels_last, double precision is ten times slower."""
    return x.double().contiguous()


def _picked(values: Tensor, cells: list[Cell]) -> Iterator[tuple[Cell, Tensor]]:
    """Cells of values (C, h, w)."""
    return ((cell, values[:, cell[0], cell[1]]) for cell in cells)


class _Found:
    """Values at places (k, 4), as they are found cell by cell.

    Attributes:
        cells: of each photograph.
        values: (k,).
    """

    def __init__(self, places: Tensor):
        self.values = torch.zeros(len(places), dtype=torch.float64, device=places.device)
        self.asked: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
        for number, (n, c, i, j) in enumerate(places.tolist()):
            self.asked[n, i, j].append((number, c))
        self.cells: dict[int, list[Cell]] = defaultdict(list)
        for n, i, j in self.asked:
            self.cells[n].append((i, j))

    def set(self, n: int, cell: Cell, value: Tensor) -> None:
        """All that was asked for in a cell, of its values (C,)."""
        numbers, channels = zip(*self.asked[(n, *cell)], strict=True)
        self.values[list(numbers)] = value[list(channels)]
