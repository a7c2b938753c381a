"""Entropy models: what a symbol is expected to be, and so what it costs.

Both models have two faces. In training they are ordinary differentiable functions; in coding they
give integers (a table for each symbol, an offset in sixteenths of a step) by exact arithmetic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..latents import STEPS
from . import tables
from .exact import ACTIVATION_BITS, LIMIT, ExactConv2d
from .rounding import Doubt, bands, near_ties, settled

UNIT = 2**ACTIVATION_BITS
"""One step, in the integers of the exact networks."""
CHUNK = 64
"""Channels that are gathered at a time."""
CELLS = tuple(itertools.product(range(2), range(2)))
"""Rows and columns of the 2x2 lattice over which passes take turns."""


def round_ste(x: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return x + (x.round() - x).detach()


def gaussian_bits(residual: Tensor, log_scale: Tensor) -> Tensor:
    """Bits of a quantised residual under a zero-mean Gaussian integrated over one step."""
    magnitude, inverse = residual.abs(), torch.exp(-log_scale)
    # In the logarithm, so that a residual far out in the tail still has a gradient.
    upper = torch.special.log_ndtr((0.5 - magnitude) * inverse)
    lower = torch.special.log_ndtr((-0.5 - magnitude) * inverse)
    return -(upper + torch.log(-torch.expm1((lower - upper).clamp_max(-1e-6)))) / math.log(2)


class FactorizedPrior(nn.Module):
    """An independent distribution for each channel: a mixture of three logistics."""

    REACH = 63

    def __init__(self, channels: int, components: int = 3):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(channels, components))
        self.means = nn.Parameter(torch.linspace(-1, 1, components).repeat(channels, 1))
        self.log_scales = nn.Parameter(torch.zeros(channels, components))
        self.register_buffer("table", torch.ones(channels, 2 * self.REACH + 1, dtype=torch.int32))

    def bits(self, z: Tensor) -> Tensor:
        """Bits of z (N, C, h, w), each an integer or an integer plus uniform noise."""
        x = z[..., None]
        means, inverse = self.means[:, None, None], torch.exp(-self.log_scales)[:, None, None]
        upper = torch.sigmoid((x + 0.5 - means) * inverse)
        lower = torch.sigmoid((x - 0.5 - means) * inverse)
        weights = self.logits.softmax(-1)[:, None, None]
        return -torch.log2(((upper - lower) * weights).sum(-1).clamp_min(1e-9))

    @torch.no_grad()
    def freeze_tables(self) -> None:
        weights, scales = self.logits.softmax(-1), self.log_scales.exp()
        table = tables.logistic_mixture_tables(weights.cpu(), self.means.cpu(), scales.cpu(), self.REACH)
        self.table.copy_(table)

    def quantize(self, z: Tensor, doubt: Doubt | None = None) -> Tensor:
        """Whole steps, int32, of z (N, C, h, w) in double precision."""
        rounded = z.round().to(torch.int32)
        if doubt is not None:
            everywhere = torch.ones((), dtype=torch.bool, device=z.device)
            places, symbols = settled([near_ties(z, torch.zeros_like(z), everywhere, doubt.bound, 0)], doubt)
            rounded[tuple(places.T)] = symbols.to(torch.int32)
        return rounded.clamp(-self.REACH, self.REACH)


class Parameters(NamedTuple):
    """Exact parameters of one pass: offsets in sixteenths (int32), and a table for each symbol (int16)."""

    offset: Tensor
    scale_index: Tensor


class Pass(NamedTuple):
    """What codes one pass: symbols (N, n) and the index of the table of each, int16."""

    symbols: Tensor
    tables: Tensor


class Quantized(NamedTuple):
    """Values (N, C, h, w) int32, in sixteenths of a step, and the passes that code them."""

    values: Tensor
    passes: list[Pass]


class ContextModel(nn.Module):
    """Gaussian model of a layer, coded in a few passes; each pass sees all earlier ones.

    The channels are cut into as many groups as there are passes, and the groups take turns over
    the cells of a 2x2 lattice (4 passes) or a checkerboard (2 passes), so that every pass covers
    the whole picture. After Li, Li, Lu: "Neural video compression with diverse contexts" (CVPR
    2023); no raster scan. Conditions come as ``base`` (N, B, h, w); the networks see latents
    divided by ``scale``, so that large ones stay within their range.
    """

    def __init__(self, channels: int, base: int, hidden: int, passes: int, scale: int = 1):
        super().__init__()
        if passes not in (2, 4) or channels % passes:
            raise ValueError(f"channels ({channels}) must divide into passes ({passes}), which must be 2 or 4")
        self.channels, self.passes, self.scale = channels, passes, scale
        self.contexts = nn.ModuleList(ExactConv2d(channels, hidden, 3) for _ in range(passes - 1))
        self.mixes = nn.ModuleList(ExactConv2d(base + (hidden if p else 0), hidden) for p in range(passes))
        self.heads = nn.ModuleList(ExactConv2d(hidden, 2 * channels, relu=False) for _ in range(passes))
        for head in self.heads:
            nn.init.zeros_(head.bias)
            with torch.no_grad():  # start at a scale of one step
                head.bias[channels:] = -math.log(tables.SMALLEST_SCALE)

    def masks(self, height: int, width: int, device: torch.device | None = None) -> Tensor:
        """(passes, C, h, w) bool: which symbols each pass codes; together they code each once."""
        rows = torch.arange(height, device=device)[:, None]
        columns = torch.arange(width, device=device)[None, :]
        cell = (rows + columns) % 2 if self.passes == 2 else 2 * (rows % 2) + (rows + columns) % 2
        number = torch.arange(self.passes, device=device)
        groups = (cell + number[:, None, None]) % self.passes == number[:, None, None, None]  # (passes, groups, h, w)
        return groups.repeat_interleave(self.channels // self.passes, 1)

    def forward(self, y: Tensor, base: Tensor, noisy: bool = True) -> tuple[Tensor, Tensor]:
        """(y_hat, bits), both (N, C, h, w), differentiable.

        y_hat is rounded around the predicted mean with a straight-through gradient; bits are those
        of y with uniform noise (``noisy``, as in training) or of y_hat itself.
        """
        masks = self.masks(*y.shape[-2:], device=y.device)
        y_hat, means, log_scales = torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y)
        for p, mask in enumerate(masks):
            hidden = base if p == 0 else torch.cat([base, self.contexts[p - 1](y_hat / self.scale)], 1)
            mean, log_scale = self.heads[p](self.mixes[p](hidden)).chunk(2, 1)
            y_hat = torch.where(mask, round_ste(y - mean) + mean, y_hat)
            means, log_scales = torch.where(mask, mean, means), torch.where(mask, log_scale, log_scales)
        residual = y - means
        sample = residual + torch.rand_like(y) - 0.5 if noisy else round_ste(residual)
        bits = gaussian_bits(sample, self._log_scale(log_scales))
        # No symbol costs more: its table leaves every one a weight. Training wants the tail's gradient all the same.
        return y_hat, bits if noisy else bits.clamp_max(tables.PRECISION)

    @staticmethod
    def _log_scale(raw: Tensor) -> Tensor:
        top = (tables.SCALES - 1) * tables.LOG_SCALE_STEP
        return raw.clamp(0.0, top) + math.log(tables.SMALLEST_SCALE)

    def parameters_of_pass(self, p: int, values: Tensor, base: Tensor) -> Parameters:
        """Exact parameters, where the pass codes symbols, from earlier ones (sixteenths) and ``base`` (integers)."""
        offset = torch.zeros(values.shape, dtype=torch.int32, device=values.device)
        index = torch.zeros(values.shape, dtype=torch.int16, device=values.device)
        for band in bands(values.shape):
            offset[:, :, band], index[:, :, band] = self._parameters_of_band(p, values, base, band)
        return Parameters(offset, index)

    def _parameters_of_band(self, p: int, values: Tensor, base: Tensor, band: slice) -> Parameters:
        """`parameters_of_pass` in some rows; reads what earlier passes coded there and in a row more on both sides."""
        shape = values[:, :, band].shape
        offset = torch.zeros(shape, dtype=torch.int32, device=values.device)
        index = torch.zeros(shape, dtype=torch.int16, device=values.device)
        known = self._with_border(values, band)
        for cell in CELLS:
            group = self._group(p, cell)
            part = self._exact_parameters(p, cell, known, base[:, :, band])
            for tensor, found in zip((offset, index), part, strict=True):
                place = tensor[:, group, cell[0] :: 2, cell[1] :: 2]
                place.copy_(found.reshape(-1, len(place), *place.shape[-2:]).transpose(0, 1))
        return Parameters(offset, index)

    def _group(self, p: int, cell: tuple[int, int]) -> slice:
        """The channels that a pass codes in a cell of the 2x2 lattice: see `masks`."""
        row, column = cell
        turn = (row + column) % 2 if self.passes == 2 else 2 * row + (row + column) % 2
        group, size = (p - turn) % self.passes, self.channels // self.passes
        return slice(group * size, (group + 1) * size)

    def _with_border(self, values: Tensor, band: slice) -> Tensor:
        """A band of values as integer activations, float64, with a cell more on every side, nothing beyond the edge."""
        top, bottom = max(0, band.start - 1), min(values.shape[2], band.stop + 1)
        seen = (values[:, :, top:bottom].double() * (UNIT // STEPS // self.scale)).clamp_(-LIMIT, LIMIT)
        return F.pad(seen, (1, 1, top - band.start + 1, band.stop + 1 - bottom))

    def _exact_parameters(self, p: int, cell: tuple[int, int], known: Tensor, base: Tensor) -> Parameters:
        """Parameters (channels of the group, N * cells) of a pass in one cell of the lattice.

        Only what is coded is computed, from what is known by then: a quarter of the outputs, and half of the inputs.
        """
        hidden = base[..., cell[0] :: 2, cell[1] :: 2].transpose(0, 1).flatten(1)
        if p:
            context = self.contexts[p - 1].exact_part(*self._neighbours(p, cell, known))
            hidden = torch.cat([hidden, context])
        group = torch.arange(self.channels, device=base.device)[self._group(p, cell)]
        wanted = torch.cat([group, self.channels + group])
        mean, raw = self.heads[p].exact_part(self.mixes[p].exact_part(hidden), outputs=wanted).chunk(2)
        offset = torch.floor((mean + UNIT // (2 * STEPS)) / (UNIT // STEPS))
        # index = round(raw / (UNIT * LOG_SCALE_STEP)), the quotient as the fixed-point ratio below
        index = torch.floor((raw * _INDEX_RATIO + 2**19) / 2**20).clamp(0, tables.SCALES - 1)
        return Parameters(offset, index)

    def _neighbours(self, p: int, cell: tuple[int, int], known: Tensor) -> tuple[Tensor, Tensor]:
        """What a lattice's cells see of earlier passes around them, (inputs, N * cells), and which inputs that is."""
        height, width = known.shape[2] - 2, known.shape[3] - 2
        numbers = torch.arange(9 * self.channels, device=known.device).reshape(self.channels, 3, 3)
        seen, inputs = [], []
        for i, j in itertools.product(range(3), range(3)):
            there = (cell[0] + i - 1) % 2, (cell[1] + j - 1) % 2
            around = known[:, :, cell[0] + i : height + i : 2, cell[1] + j : width + j : 2].transpose(0, 1)
            for earlier in range(p):
                group = self._group(earlier, there)
                seen.append(around[group])
                inputs.append(numbers[group, i, j])
        return torch.cat(seen).flatten(1), torch.cat(inputs)

    def quantize(self, y: Tensor, gain: Tensor, base: Tensor, doubt: Doubt | None = None) -> Quantized:
        """Quantise y (N, C, h, w) times a gain, broadcastable to it, in double precision, pass by pass.

        Works on bands of rows, so that little beside the result is ever held.
        """
        values, passes = torch.zeros(y.shape, dtype=torch.int32, device=y.device), []
        for p, mask in enumerate(self.masks(*y.shape[-2:], device=y.device)):
            passes.append(self._quantize_pass(p, mask, values, (y, gain), base, doubt))
        return Quantized(values, passes)

    def _quantize_pass(
        self, p: int, mask: Tensor, values: Tensor, scaled: tuple[Tensor, Tensor], base: Tensor, doubt: Doubt | None
    ) -> Pass:
        """Write what a pass codes into ``values``, which no other place of the same pass depends on."""
        y, gain = scaled[0], scaled[1].expand_as(scaled[0])
        symbols, tables_of = (torch.zeros(y.shape, dtype=torch.int16, device=y.device) for _ in range(2))
        near = []
        for band in bands(y.shape):
            offset, tables_of[:, :, band] = self._parameters_of_band(p, values, base, band)
            steps, coded = offset / STEPS, mask[:, band]
            residual = y[:, :, band].double() * gain[:, :, band] - steps.double()
            rounded = residual.round().clamp_(-tables.REACH, tables.REACH)
            if doubt is not None:
                near.append(near_ties(residual, steps, coded, doubt.bound.expand_as(y)[:, :, band], band.start))
            symbols[:, :, band] = rounded
            found = rounded.to(torch.int32) * STEPS + offset
            values[:, :, band] = torch.where(coded, found, values[:, :, band])
        if doubt is not None:
            places, known = settled(near, doubt)
            at, known = tuple(places.T), known.clamp(-tables.REACH, tables.REACH)
            values[at] += STEPS * (known - symbols[at]).to(torch.int32)
            symbols[at] = known
        return Pass(_coded(symbols, mask), _coded(tables_of, mask))

    def read(self, size: tuple[int, int], base: Tensor, pop: Pop) -> Tensor:
        """Decode values (N, C, h, w) int32 on a grid of ``size``; ``pop`` reads a pass's symbols from the streams."""
        values = torch.zeros((len(base), self.channels, *size), dtype=torch.int32, device=base.device)
        for p, mask in enumerate(self.masks(*size, device=base.device)):
            offset, index = self.parameters_of_pass(p, values, base)
            symbols, start = pop(_coded(index, mask)), 0
            for group in _chunks(self.channels):  # places as numbers take eight times the memory of the values
                coded = mask[group].flatten().nonzero()[:, 0]
                found = symbols[:, start : start + len(coded)] * STEPS
                found += offset[:, group].flatten(1).index_select(1, coded)
                values[:, group].flatten(1).index_copy_(1, coded, found)
                start += len(coded)
        return values


def _coded(values: Tensor, mask: Tensor) -> Tensor:
    """Values (N, C, h, w) where a mask (C, h, w) says: (N, n)."""
    parts = []
    for group in _chunks(len(mask)):
        coded = mask[group].flatten().nonzero()[:, 0]
        parts.append(values[:, group].flatten(1).index_select(1, coded))
    return torch.cat(parts, 1)


def _chunks(channels: int) -> Iterator[slice]:
    return (slice(first, first + CHUNK) for first in range(0, channels, CHUNK))


Pop = Callable[[Tensor], Tensor]
"""Table indices (N, n) to the symbols (N, n) int32 that N streams hold next."""

_INDEX_RATIO = 40534
"""2**20 / (UNIT * tables.LOG_SCALE_STEP), rounded: part of the format, hence a literal."""
