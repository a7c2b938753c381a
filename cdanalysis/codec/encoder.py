"""Photographs to integer latents, the same integers whatever the machine's way of adding floats.

The analysis networks are floating point, so a value that comes to lie just beside a rounding tie could
fall either way with another number of threads. The encoder knows how far single precision is off
(it measures that once, on drawn pictures), and looks at every value that lies nearer to a tie again in
double precision, whose error is 10^9 times smaller: the detail layer's in a window around it, the
others in the whole photograph.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..latents import QUALITY_LEVELS
from .entropy import Doubt
from .semantic import STRIDE, quality_plane

if TYPE_CHECKING:
    from .layered import LayeredCodec

SAFETY = 5.0
"""A value is in doubt within this many times the largest error measured in its channel."""


class Analysis(nn.Module):
    """The analysis networks of a codec: what is computed in floating point before rounding."""

    def __init__(self, codec: LayeredCodec):
        super().__init__()
        self.backbone, self.semantic = codec.backbone, codec.semantic.g_a
        self.detail, self.hyper = codec.detail.g_a, codec.detail.h_a

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y of both layers, before their gains."""
        return self.semantic(self.backbone(x)), self.detail(x)


class Analysed(NamedTuple):
    """Photographs after analysis: y of both layers, before their gains, and where to look again."""

    semantic: Tensor
    detail: Tensor | None
    looked: SecondLook


class Encoder:
    """Padded photographs to integer latents.

    Args:
        codec: whose networks to use, as they are now.
    """

    def __init__(self, codec: LayeredCodec):
        self.codec, self.single = codec, Analysis(codec)
        with torch.inference_mode(False):  # its weights must be ordinary tensors
            self.double = copy.deepcopy(self.single).double().to(memory_format=torch.contiguous_format)
        self.bounds = [SAFETY * error for error in self._errors()]

    @torch.inference_mode()
    def _errors(self) -> list[Tensor]:
        """Largest error of single precision in each channel (1, C, 1, 1) of both layers' y and of z."""
        x = drawn_pictures().to(self.codec.scale_tables.device)
        single = [y.double() for y in self.single(x.contiguous(memory_format=torch.channels_last))]
        double = list(self.double(x.double()))
        best = self.codec.detail.gain(quality_plane(QUALITY_LEVELS, double[1]))
        single.append(self.single.hyper((best * double[1]).float()).double())
        double.append(self.double.hyper(best * double[1]))
        return [(s - d).abs().amax((0, 2, 3), keepdim=True) for s, d in zip(single, double, strict=True)]

    def analyse(self, x: Tensor, layers: int) -> Analysed:
        """What padded photographs x (N, 3, H, W) are, before any quality is chosen."""
        semantic = self.single.semantic(self.single.backbone(x)).double()
        detail = self.single.detail(x).double() if layers == 2 else None
        return Analysed(semantic, detail, SecondLook(self.double, x))

    def quantize(self, y: Analysed, levels: tuple[int, int | Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(semantic, detail, hyper), float64 integers, at quality levels (the second may be (N, 1, h, w))."""
        codec, looked = self.codec, y.looked
        gain = codec.semantic.gain(quality_plane(levels[0], y.semantic))
        doubt = Doubt(self.bounds[0] * gain, lambda mask: looked.semantic(mask) * gain)
        semantic = codec.semantic.quantize(y.semantic * gain, levels[0], doubt)
        if y.detail is None:
            return semantic, None, None
        more = codec.detail.gain(quality_plane(levels[1], y.detail))
        z = self.single.hyper((y.detail * more).to(looked.x.dtype)).double()
        z_bound = self.bounds[2].expand_as(z)
        hyper = codec.detail.prior.quantize(z, Doubt(z_bound, lambda mask: looked.hyper(mask, more)))
        base = codec.detail.exact_base(hyper, semantic, levels)
        doubt = Doubt(self.bounds[1] * more, lambda mask: looked.detail(mask) * more)
        return semantic, codec.detail.context.quantize(y.detail * more, base, doubt), hyper


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
    """Values of photographs in double precision, computed where they are asked for."""

    def __init__(self, networks: Analysis, x: Tensor):
        self.networks, self.x = networks, x
        self.whole: dict[tuple[str, int], Tensor] = {}

    def _photograph(self, n: int) -> Tensor:
        return self.x[n : n + 1].double().contiguous()  # as channels_last, double precision is ten times slower

    def semantic(self, mask: Tensor) -> Tensor:
        """y of the semantic layer, right in the photographs in which ``mask`` (N, C, h, w) says anything."""
        y = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        for n in _photographs(mask):
            if ("semantic", n) not in self.whole:
                x = self._photograph(n)
                self.whole["semantic", n] = self.networks.semantic(self.networks.backbone(x))[0]
            y[n] = self.whole["semantic", n]
        return y

    def _whole_detail(self, n: int) -> Tensor:
        if ("detail", n) not in self.whole:
            self.whole["detail", n] = self.networks.detail(self._photograph(n))[0]
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
        corners = [
            (min(max(i - side // 2, 0), height - side), min(max(j - side // 2, 0), width - side)) for i, j in cells
        ]
        x, pixels = self._photograph(n)[0], side * STRIDE
        windows = [x[:, STRIDE * a : STRIDE * a + pixels, STRIDE * b : STRIDE * b + pixels] for a, b in corners]
        for (i, j), (a, b), window in zip(cells, corners, self.networks.detail(torch.stack(windows)), strict=True):
            y[n, :, i, j] = window[:, i - a, j - b]


def _photographs(mask: Tensor) -> list[int]:
    """Numbers of the photographs in which a mask says anything."""
    return mask.flatten(1).any(1).nonzero().flatten().tolist()
