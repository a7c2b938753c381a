"""Photographs to integer latents, the same integers whatever the machine's way of adding floats.

The backbone's sums are exact (`fixed`). The other analysis networks are ordinary floating point, so a value that comes
to lie just beside a rounding tie could fall either way with another number of threads. The encoder knows how far
single precision is off (it measures that once, on drawn pictures), and looks at every value that lies nearer to a tie
again in double precision, whose error is 10^9 times smaller: the detail layer's in a window around it, the others in
the whole photograph, or tile of a large one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..latents import QUALITY_LEVELS
from .double import in_double
from .entropy import Doubt
from .fixed import fixed
from .semantic import quality_plane
from .tiles import Tile, grid_of, tiled, tiles, window

if TYPE_CHECKING:
    from .layered import LayeredCodec

SAFETY = (15.0, 5.0, 5.0)
"""A value of y (semantic, detail) or z is in doubt within this many times the largest error measured in its channel."""
HALO = 16
"""Cells around a tile that the backbone sees. It reaches farther, but hardly sees what lies there."""
WINDOWS = 32
"""So many windows of a photograph are looked at again at once."""


class Analysis(nn.Module):
    """The analysis networks of a codec behind its backbone: what is computed in floating point before rounding."""

    def __init__(self, codec: LayeredCodec):
        super().__init__()
        self.semantic, self.detail, self.hyper = codec.semantic.g_a, codec.detail.g_a, codec.detail.h_a

    def forward(self, features: list[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """y of both layers, before their gains, from the backbone's features and the photographs."""
        return self.semantic(features), self.detail(x)


class Analysed(NamedTuple):
    """Photographs after analysis: y of both layers, in single precision before their gains, and where to look again."""

    semantic: Tensor
    detail: Tensor | None
    looked: SecondLook


class Encoder:
    """Photographs to integer latents.

    Args:
        codec: whose networks to use, as they are now.
    """

    def __init__(self, codec: LayeredCodec):
        self.codec, self.single = codec, Analysis(codec)
        self.double = in_double(self.single)
        pictures = _laid_out(drawn_pictures().to(codec.scale_tables.device))
        self.backbone = fixed(codec.backbone, lambda network: network(pictures)).to(memory_format=torch.channels_last)
        self.bounds = [safety * error for safety, error in zip(SAFETY, self._errors(), strict=True)]

    @torch.inference_mode()
    def features(self, x: Tensor) -> list[Tensor]:
        """The backbone's features of photographs x (N, 3, H, W), the same floats on every machine."""
        with full_precision():
            return self.backbone(_laid_out(x))

    @torch.inference_mode()
    def _errors(self) -> list[Tensor]:
        """Largest error of single precision in each channel (1, C, 1, 1) of both layers' y and of z."""
        x = drawn_pictures().to(self.codec.scale_tables.device)
        features = self.features(x)
        with full_precision():
            single = [y.double() for y in self.single(features, _laid_out(x))]
            double = list(self.double([_in_double(f) for f in features], _in_double(x)))
            best = self.codec.detail.gain(quality_plane(QUALITY_LEVELS, double[1]))
            single.append(self.single.hyper((best * double[1]).float()).double())
            double.append(self.double.hyper(best * double[1]))
        return [(s - d).abs().amax((0, 2, 3), keepdim=True) for s, d in zip(single, double, strict=True)]

    def analyse(self, x: Tensor, layers: int) -> Analysed:
        """What photographs x (N, 3, H, W) are, before any quality is chosen. Never in less than single precision."""
        single = self.single
        with full_precision():
            semantic = tiled(lambda part: single.semantic(self.features(part)), x, HALO)
            detail = tiled(single.detail, x, single.detail.reach) if layers == 2 else None
        return Analysed(semantic, detail, SecondLook(self.double, self.features, x))

    def quantize(self, y: Analysed, levels: tuple[int, int | Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(semantic, detail, hyper), int32, at quality levels (the second may be (N, 1, h, w))."""
        with full_precision():
            return self._quantize(y, levels)

    def _quantize(self, y: Analysed, levels: tuple[int, int | Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        codec, looked = self.codec, y.looked
        double = torch.zeros((), dtype=torch.float64, device=looked.x.device)
        gain = codec.semantic.gain(quality_plane(levels[0], double))
        doubt = Doubt(self.bounds[0] * gain, lambda mask: looked.semantic(mask) * gain)
        semantic = codec.semantic.quantize(y.semantic * gain, levels[0], doubt)
        if y.detail is None:
            return semantic, None, None
        more = codec.detail.gain(quality_plane(levels[1], double))
        z = self.single.hyper((y.detail * more).to(looked.x.dtype)).double()
        z_bound = self.bounds[2].expand_as(z)
        hyper = codec.detail.prior.quantize(z, Doubt(z_bound, lambda mask: looked.hyper(mask, more)))
        base = codec.detail.exact_base(hyper, semantic, levels)
        doubt = Doubt(self.bounds[1] * more, lambda mask: looked.detail(mask) * more)
        return semantic, codec.detail.context.quantize(y.detail * more, base, doubt), hyper


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Single precision is single precision in here, whatever autocast or a lower precision of products says outside."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            torch.backends.cudnn.flags(allow_tf32=False, enabled=torch.backends.cudnn.enabled),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def drawn_pictures(side: int = 128) -> Tensor:
    """Pictures (N, 3, side, side) that excite every frequency: fields of colour of four sizes, and zone plates."""
    random = torch.Generator().manual_seed(0)
    fields = [torch.rand(1, 3, n, n, generator=random) for n in (2, 8, 32, side)]
    axis = torch.arange(side) ** 2 * (math.pi / (2 * side))  # from no frequency to the highest there is
    radius = axis[:, None] + axis
    phases = torch.arange(4).reshape(4, 1, 1, 1) * math.pi / 2
    plates = (0.5 + 0.5 * torch.cos(radius + phases)).expand(4, 3, side, side)
    return torch.cat([F.interpolate(field, size=side) for field in fields] + [plates])


class SecondLook:
    """Values of photographs x (N, 3, H, W) in double precision, computed where they are asked for.

    Args:
        networks: in double precision.
        features: photographs to the backbone's features.
        x: photographs.
    """

    def __init__(self, networks: Analysis, features: Callable[[Tensor], list[Tensor]], x: Tensor):
        self.networks, self.features = networks, features
        self.x, self.grid = x, grid_of(x.shape[-2], x.shape[-1])
        self.whole: dict[tuple[str, int], Tensor] = {}
        self.known: dict[tuple[int, int], Tensor] = {}

    def semantic(self, mask: Tensor) -> Tensor:
        """y of the semantic layer, right in the tiles in which ``mask`` (N, C, h, w) says anything."""
        y = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        for n in _photographs(mask):
            for number, tile in enumerate(tiles(self.grid, HALO)):
                if mask[n][:, tile.core[0], tile.core[1]].any():
                    y[n][:, tile.core[0], tile.core[1]] = self._semantic_tile(n, number, tile)
        return y

    def _semantic_tile(self, n: int, number: int, tile: Tile) -> Tensor:
        if (n, number) not in self.known:
            features = self.features(window(self.x[n : n + 1], tile.seen))
            seen = self.networks.semantic([_in_double(f) for f in features])[0]
            self.known[n, number] = seen[:, tile.inner[0], tile.inner[1]].clone()
        return self.known[n, number]

    def _whole_detail(self, n: int) -> Tensor:
        if ("detail", n) not in self.whole:
            detail = self.networks.detail
            look = lambda part: detail(_in_double(part))  # noqa: E731
            self.whole["detail", n] = tiled(look, self.x[n : n + 1], detail.reach)[0]
        return self.whole["detail", n]

    def hyper(self, mask: Tensor, gain: Tensor) -> Tensor:
        """z, right in the photographs in which ``mask`` (N, C'', h'', w'') says anything."""
        z = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        for n in _photographs(mask):
            z[n] = self.networks.hyper(self._whole_detail(n)[None] * gain.expand(len(z), -1, -1, -1)[n])[0]
        return z

    def detail(self, mask: Tensor) -> Tensor:
        """y of the detail layer, right in the cells in which ``mask`` (N, C', h, w) says anything."""
        y = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        height, width = mask.shape[-2:]
        side = 2 * self.networks.detail.reach + 1
        for n in _photographs(mask):
            cells = mask[n].any(0).nonzero().tolist()
            cheap = len(cells) * side**2 < height * width and side <= min(height, width)
            if ("detail", n) in self.whole or not cheap:
                y[n] = self._whole_detail(n)
            else:
                self._windows(y, n, cells, side)
        return y

    def _windows(self, y: Tensor, n: int, cells: list[list[int]], side: int) -> None:
        """Write cells of y[n] from windows of ``side`` cells, which hold all that those cells depend on."""
        height, width = y.shape[-2:]
        for first in range(0, len(cells), WINDOWS):
            some = cells[first : first + WINDOWS]
            corners = [
                (min(max(i - side // 2, 0), height - side), min(max(j - side // 2, 0), width - side)) for i, j in some
            ]
            parts = torch.cat([window(self.x[n : n + 1], (slice(a, a + side), slice(b, b + side))) for a, b in corners])
            for (i, j), (a, b), seen in zip(some, corners, self.networks.detail(_in_double(parts)), strict=True):
                y[n, :, i, j] = seen[:, i - a, j - b]


def _laid_out(x: Tensor) -> Tensor:
    """As single precision is fastest on the CPU."""
    return x.contiguous(memory_format=torch.channels_last)


def _in_double(x: Tensor) -> Tensor:
    """As channels_last, double precision is ten times slower."""
    return x.double().contiguous()


def _photographs(mask: Tensor) -> list[int]:
    """Numbers of the photographs in which a mask says anything."""
    return mask.flatten(1).any(1).nonzero().flatten().tolist()
