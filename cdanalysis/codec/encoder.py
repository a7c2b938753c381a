"""Photographs to integer latents, the same integers whatever the machine's way of adding floats.

The backbone's sums are exact (`fixed`). The other analysis networks are ordinary floating point, so a value that comes
to lie just beside a rounding tie could fall either way with another number of threads. The encoder knows how far
single precision is off (it measures that once, on drawn pictures), and looks at every value that lies nearer to a tie
again in double precision, whose error is 10^9 times smaller (`second_look`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..memory import release
from ..structures.latents import QUALITY_LEVELS
from .double import in_double
from .entropy.models import Quantized
from .fixed import fixed
from .gains import quality_plane
from .integer.exact import full_precision
from .rounding import Doubt, bands
from .second_look import SecondLook
from .tiles import HALO, SCALES, Place, covers, grid_of, layout, put, tiled, tiles, window

if TYPE_CHECKING:
    from .layered import LayeredCodec

FIRST_CORE = 32
"""Cells, each way, for which the backbone's first stages, whose sums are exact, are computed at once."""
SAFETY = (15.0, 5.0, 5.0)
"""A value of y (semantic, detail) or z is in doubt within this many times the largest error measured in its channel."""


class Analysis(nn.Module):
    """The analysis networks of a codec behind its backbone: what is computed in floating point before rounding."""

    def __init__(self, codec: LayeredCodec):
        super().__init__()
        self.semantic, self.detail, self.hyper = codec.semantic.g_a, codec.detail.g_a, codec.detail.h_a

    def forward(self, features: list[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """y of both layers, before their gains, from the backbone's features and the photographs."""
        return self.semantic(features), self.detail(x)


class AnalyzedImages(NamedTuple):
    """Photographs after analysis: y of both layers, in single precision before their gains, and where to look again."""

    semantic: Tensor
    detail: Tensor | None
    looked: SecondLook


class Integers(NamedTuple):
    """Both layers after rounding, and the hyper-latent, int32; the last two are None where there is no detail."""

    semantic: Quantized
    detail: Quantized | None
    hyper: Tensor | None


class Encoder:
    """Photographs to integer latents.

    Args:
        codec: whose networks to use, as they are now.
    """

    def __init__(self, codec: LayeredCodec):
        self.codec, self.single = codec, Analysis(codec)
        self.double = in_double(self.single)
        images = _laid_out(drawn_images().to(codec.scale_tables.device))
        self.backbone = fixed(codec.backbone, lambda network: network(images)).to(memory_format=torch.channels_last)
        self.bounds = [safety * error for safety, error in zip(SAFETY, self._errors(), strict=True)]

    @torch.inference_mode()
    def features(self, x: Tensor) -> list[Tensor]:
        """The backbone's features of photographs x (N, 3, H, W), the same floats on every machine."""
        with full_precision():
            return self.backbone.rest(tiled(self.backbone.first, x, 1, FIRST_CORE, 4))

    @torch.inference_mode()
    def _errors(self) -> list[Tensor]:
        """Largest error of single precision in each channel (1, C, 1, 1) of both layers' y and of z."""
        x = drawn_images().to(self.codec.scale_tables.device)
        features = self.features(x)
        with full_precision():
            single = [y.double() for y in self.single(features, _laid_out(x))]
            double = list(self.double([f.double().contiguous() for f in features], x.double().contiguous()))
            best = self.codec.detail.gain(quality_plane(QUALITY_LEVELS, double[1]))
            single.append(self.single.hyper((best * double[1]).float()).double())
            double.append(self.double.hyper(best * double[1]))
        return [(s - d).abs().amax((0, 2, 3), keepdim=True) for s, d in zip(single, double, strict=True)]

    def analyze(self, x: Tensor, layers: int) -> AnalyzedImages:
        """What photographs x (N, 3, H, W) are, before any quality is chosen. Never in less than single precision."""
        single = self.single
        with full_precision():
            features = self._all_features(x)
            semantic = tiled(single.semantic, features, single.semantic.receptive_radius)
            detail = tiled(single.detail, x, single.detail.receptive_radius) if layers == 2 else None
        return AnalyzedImages(semantic, detail, SecondLook(self.double, features, x))

    def _all_features(self, x: Tensor) -> list[Tensor]:
        """The backbone's features of photographs of any size, each cell's as its tile sees them."""
        grid = grid_of(x.shape[-2], x.shape[-1])
        levels: list[Tensor] = []
        for tile in tiles(grid, HALO):
            seen = self.features(window(x, tile.seen))
            if covers(tile, grid):
                return seen
            levels = levels or [_for_all(level, tile.seen, grid) for level in seen]
            for level, part, scale in zip(levels, seen, SCALES, strict=True):
                put(level, tile.core, part, tile.inner, scale)
            del seen, part
            release()
        return levels

    def quantize(self, y: AnalyzedImages, levels: tuple[int, int | Tensor]) -> Integers:
        """What a quality of each layer makes of analyzed photographs; the second level may be (N, 1, h, w)."""
        with full_precision():
            return self._quantize(y, levels)

    def _quantize(self, y: AnalyzedImages, levels: tuple[int, int | Tensor]) -> Integers:
        codec, looked = self.codec, y.looked
        double = torch.zeros((), dtype=torch.float64, device=looked.x.device)
        gain = codec.semantic.gain(quality_plane(levels[0], double))
        doubt = Doubt(self.bounds[0] * gain, lambda places: looked.semantic(places) * _at(gain, y.semantic, places))
        semantic = codec.semantic.quantize(y.semantic, gain, levels[0], doubt)
        if y.detail is None:
            return Integers(semantic, None, None)
        more = codec.detail.gain(quality_plane(levels[1], double))
        z = self.single.hyper(_scaled(y.detail, more)).double()
        hyper = codec.detail.prior.quantize(z, Doubt(self.bounds[2], lambda places: looked.hyper(places, more)))
        base = codec.detail.exact_base(hyper, semantic.values, levels)
        doubt = Doubt(self.bounds[1] * more, lambda places: looked.detail(places) * _at(more, y.detail, places))
        return Integers(semantic, codec.detail.context.quantize(y.detail, more, base, doubt), hyper)


def _at(gain: Tensor, like: Tensor, places: Tensor) -> Tensor:
    """A gain, broadcastable to ``like``, at places (k, 4) of it."""
    return gain.expand_as(like)[tuple(places.T)]


def _scaled(y: Tensor, gain: Tensor) -> Tensor:
    """y times a gain in double precision, in single again; the former is never there as a whole."""
    scaled, gain = torch.empty_like(y), gain.expand_as(y)
    for band in bands(y.shape):
        scaled[:, :, band] = y[:, :, band] * gain[:, :, band]
    return scaled


def drawn_images(side: int = 128) -> Tensor:
    """Pictures (N, 3, side, side) that excite every frequency: fields of color of four sizes, and zone plates."""
    random = torch.Generator().manual_seed(0)
    fields = [torch.rand(1, 3, n, n, generator=random) for n in (2, 8, 32, side)]
    axis = torch.arange(side) ** 2 * (math.pi / (2 * side))  # from no frequency to the highest there is
    radius = axis[:, None] + axis
    phases = torch.arange(4).reshape(4, 1, 1, 1) * math.pi / 2
    plates = (0.5 + 0.5 * torch.cos(radius + phases)).expand(4, 3, side, side)
    return torch.cat([F.interpolate(field, size=side) for field in fields] + [plates])


def _for_all(part: Tensor, seen: Place, grid: tuple[int, int]) -> Tensor:
    """Room for a whole photograph's features, of which a tile's are a part."""
    size = (part.shape[d - 2] * grid[d] // (seen[d].stop - seen[d].start) for d in (0, 1))
    return torch.empty((*part.shape[:2], *size), dtype=part.dtype, device=part.device, memory_format=layout(part))


def _laid_out(x: Tensor) -> Tensor:
    """As single precision is fastest on the CPU."""
    return x.contiguous(memory_format=torch.channels_last)
