"""Entropy models: what a symbol is expected to be, and so what it costs.

Both models have two faces. In training they are ordinary differentiable functions; in coding they
give integers (a table for each symbol, an offset in sixteenths of a step) by exact arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...structures.latents import STEPS
from ..integer.exact import ACTIVATION_BITS, LIMIT, ExactConv2d, full_precision, magnitudes
from ..tiles import bands
from . import tables
from .partition import CELLS, Cell, CheckerboardPartition, Known, at, joined, known

UNIT = 2**ACTIVATION_BITS
"""One step, in the integers of the exact networks."""


def round_ste(x: Tensor) -> Tensor:
    """Round, with the gradient of the identity.

    Args:
        x: of any shape.
    """
    return x + (x.round() - x).detach()


def gaussian_bits(residual: Tensor, log_scale: Tensor) -> Tensor:
    """Bits of a quantized residual under a zero-mean Gaussian integrated over one step.

    Args:
        residual: in steps, of any shape.
        log_scale: natural logarithm of the standard deviation in steps, broadcastable to it.

    Returns:
        bits of each, differentiable.
    """
    magnitude, inverse = residual.abs(), torch.exp(-log_scale)
    # In the logarithm, so that a residual far out in the tail still has a gradient.
    upper = torch.special.log_ndtr((0.5 - magnitude) * inverse)
    lower = torch.special.log_ndtr((-0.5 - magnitude) * inverse)
    return -(upper + torch.log(-torch.expm1((lower - upper).clamp_max(-1e-6)))) / math.log(2)


class FactorizedPrior(nn.Module):
    """An independent distribution for each channel: a mixture of logistics.

    Args:
        channels: how many distributions.
        components: logistics in each mixture.

    Attributes:
        SYMBOL_BOUND: symbols lie in -63..63.
        table: (channels, 127) int32, as `freeze_tables` made it; ones before.
    """

    SYMBOL_BOUND = 63

    def __init__(self, channels: int, components: int = 3):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(channels, components))
        self.means = nn.Parameter(torch.linspace(-1, 1, components).repeat(channels, 1))
        self.log_scales = nn.Parameter(torch.zeros(channels, components))
        self.register_buffer("table", torch.ones(channels, 2 * self.SYMBOL_BOUND + 1, dtype=torch.int32))

    def bits(self, z: Tensor) -> Tensor:
        """Bits of hyper-latents.

        Args:
            z: (N, C, h, w), integers or integers plus uniform noise.

        Returns:
            (N, C, h, w), differentiable.
        """
        x = z[..., None]
        means, inverse = self.means[:, None, None], torch.exp(-self.log_scales)[:, None, None]
        upper = torch.sigmoid((x + 0.5 - means) * inverse)
        lower = torch.sigmoid((x - 0.5 - means) * inverse)
        weights = self.logits.softmax(-1)[:, None, None]
        return -torch.log2(((upper - lower) * weights).sum(-1).clamp_min(1e-9))

    @torch.no_grad()
    def freeze_tables(self) -> None:
        """Compute the integer tables, which coding uses, from the distributions as they are."""
        weights, scales = self.logits.softmax(-1), self.log_scales.exp()
        table = tables.logistic_mixture_cdf_tables(weights.cpu(), self.means.cpu(), scales.cpu(), self.SYMBOL_BOUND)
        self.table.copy_(table)

    def quantize(self, z: Tensor) -> Tensor:
        """Round hyper-latents to symbols.

        Args:
            z: (N, C, h, w).

        Returns:
            whole steps, int32 (N, C, h, w), within ``SYMBOL_BOUND``.
        """
        return z.round().clamp(-self.SYMBOL_BOUND, self.SYMBOL_BOUND).to(torch.int32)


class Parameters(NamedTuple):
    """Exact parameters of symbols: offsets in sixteenths (float32), and the number of each one's table (int32)."""

    offset: Tensor
    scale_index: Tensor


def log_scale_of(raw: Tensor) -> Tensor:
    """The scale of a Gaussian, from what a network says of it.

    Args:
        raw: the logarithm beyond that of the smallest scale, of any shape; limited to the range of the tables.

    Returns:
        natural logarithm of the standard deviation in steps, of the same shape.
    """
    top = (tables.SCALES - 1) * tables.LOG_SCALE_STEP
    return raw.clamp(0.0, top) + math.log(tables.SMALLEST_SCALE)


def exact_parameters(mean: Tensor, raw: Tensor) -> Parameters:
    """What networks say of means and scales, as parameters.

    Args:
        mean: in integers of 1/256 step, float32.
        raw: as `log_scale_of` takes it, in integers of 1/256, float32.

    Returns:
        offsets and numbers of tables, of the same shape.
    """
    offset = torch.floor((mean + UNIT // (2 * STEPS)) / (UNIT // STEPS))
    # index = round(raw / (UNIT * LOG_SCALE_STEP)), the quotient as the fixed-point ratio below; 31 bits are enough
    index = (raw.int().mul_(_INDEX_RATIO).add_(2**19) >> 20).clamp_(0, tables.SCALES - 1)
    return Parameters(offset, index)


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
    the cells of a 2x2 checkerboard (4 passes) or its two colors (2 passes), so that every pass covers
    the whole image. After Li, Li, Lu: "Neural video compression with diverse contexts" (CVPR
    2023); no raster scan. Conditions come as ``base`` (N, B, h, w); the networks see latents
    divided by ``scale``, so that large ones stay within their range.

    Args:
        channels: of the latents, a multiple of the passes.
        base: channels of the base.
        hidden: width of the networks.
        passes: 2 or 4.
        scale: latents are divided by this.

    Raises:
        ValueError: for another number of passes, or channels that do not divide into them.
    """

    def __init__(self, channels: int, base: int, hidden: int, passes: int, scale: int = 1):
        super().__init__()
        if passes not in (2, 4) or channels % passes:
            raise ValueError(f"channels ({channels}) must divide into passes ({passes}), which must be 2 or 4")
        self.channels, self.passes, self.scale = channels, passes, scale
        self.partition = CheckerboardPartition(channels, passes)
        self.contexts = nn.ModuleList(ExactConv2d(channels, hidden, 3) for _ in range(passes - 1))
        self.mixes = nn.ModuleList(ExactConv2d(base + (hidden if p else 0), hidden) for p in range(passes))
        self.heads = nn.ModuleList(ExactConv2d(hidden, 2 * channels, relu=False) for _ in range(passes))
        for head in self.heads:
            nn.init.zeros_(head.bias)
            with torch.no_grad():  # start at a scale of one step
                head.bias[channels:] = -math.log(tables.SMALLEST_SCALE)

    def forward(self, y: Tensor, base: Tensor, noisy: bool = True) -> tuple[Tensor, Tensor]:
        """What decoders get, and what it costs.

        Args:
            y: latents in steps, (N, C, h, w).
            base: what is known of them, (N, B, h, w).
            noisy: whether bits are those of y with uniform noise, as in training, or of y_hat itself.

        Returns:
            y_hat, rounded around the predicted mean with a straight-through gradient, and bits, both (N, C, h, w).
        """
        y_hat, means, log_scales = self._distributions(y, base)
        residual = y - means
        sample = residual + torch.rand_like(y) - 0.5 if noisy else round_ste(residual)
        bits = gaussian_bits(sample, log_scales)
        # No symbol costs more: its table leaves every one a weight. Training wants the tail's gradient all the same.
        return y_hat, bits if noisy else bits.clamp_max(tables.PRECISION)

    def expected(self, y: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What y is expected to be, and to cost, where latents are rounded at random, to nearer symbols more likely.

        Contexts see what is rounded to the nearer one, as decoders do.

        Args:
            y: as of `forward`.
            base: as of `forward`.

        Returns:
            y_hat and bits as they are expected, and the variance in squared steps; each (N, C, h, w), differentiable.
        """
        _, means, log_scales = self._distributions(y, base)
        residual = y - means
        lower = residual.detach().floor()
        above = residual - lower
        above = above.square() * (3 - 2 * above)  # nearly always the nearer one, as in the end
        bits = (1 - above) * gaussian_bits(lower, log_scales) + above * gaussian_bits(lower + 1, log_scales)
        return means + lower + above, bits, above * (1 - above)

    def _distributions(self, y: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What decoders know of y, and the means and log scales of all of it, given what earlier passes coded."""
        y_hat, means, log_scales = torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y)
        for p, mask in enumerate(self.partition.masks(*y.shape[-2:], device=y.device)):
            hidden = base if p == 0 else torch.cat([base, self.contexts[p - 1](y_hat / self.scale)], 1)
            mean, log_scale = self.heads[p](self.mixes[p](hidden)).chunk(2, 1)
            y_hat = torch.where(mask, round_ste(y - mean) + mean, y_hat)
            means, log_scales = torch.where(mask, mean, means), torch.where(mask, log_scale, log_scales)
        return y_hat, means, log_scale_of(log_scales)

    @full_precision()
    def quantize(self, y: Tensor, gain: Tensor, base: Tensor) -> Quantized:
        """Quantize latents, pass by pass.

        Works on bands of rows, so that little beside the result is ever held.

        Args:
            y: (N, C, h, w).
            gain: y times this is in steps; broadcastable to y.
            base: (N, B, h, w) integers of 1/256.

        Returns:
            values, and the passes that code them.

        Raises:
            ValueError: if h or w is odd.
        """
        values = self.partition.empty(y, self.channels)
        passes = [self._quantize_pass(p, values, (y, gain.expand_as(y)), base) for p in range(self.passes)]
        return Quantized(joined(values), passes)

    def _quantize_pass(self, p: int, values: Tensor, scaled: tuple[Tensor, Tensor], base: Tensor) -> Pass:
        """Write what a pass codes into laid-out values, which no other place of the same pass depends on."""
        symbols, tables_of = (self.partition.empty(base, self.partition.size) for _ in range(2))
        for rows, cell, group, found in self._exact_parameters(p, values, base):
            tables_of[cell][:, :, rows] = found.scale_index
            y, gain = (at(x[:, group], cell, rows) for x in scaled)
            rounded = (y * gain - found.offset / STEPS).round().clamp_(-tables.SYMBOL_BOUND, tables.SYMBOL_BOUND)
            symbols[cell][:, :, rows] = rounded
            values[cell][group, :, rows] = rounded.mul_(STEPS).add_(found.offset)
        return Pass(self.partition.coded(p, symbols), self.partition.coded(p, tables_of))

    @full_precision()
    def read(self, base: Tensor, pop: Pop) -> Tensor:
        """Decode values.

        Args:
            base: as of `quantize`.
            pop: reads a pass's symbols from the streams.

        Returns:
            values (N, C, h, w) int32, in sixteenths of a step.

        Raises:
            ValueError: if h or w is odd.
        """
        partition = self.partition
        values = partition.empty(base, self.channels)
        for p in range(self.passes):
            offsets, tables_of = (partition.empty(base, partition.size) for _ in range(2))
            for rows, cell, _, found in self._exact_parameters(p, values, base):
                offsets[cell][:, :, rows], tables_of[cell][:, :, rows] = found
            symbols = partition.placed(p, pop(partition.coded(p, tables_of)), offsets)
            for cell in CELLS:
                values[cell][partition.group(p, cell)] = STEPS * symbols[cell] + offsets[cell]
        return joined(values)

    def _exact_parameters(
        self, p: int, values: Tensor, base: Tensor
    ) -> Iterator[tuple[slice, Cell, slice, Parameters]]:
        """Exact parameters of a pass, from what earlier passes coded (laid out) and ``base`` (N, B, h, w; integers).

        Yields:
            rows of the checkerboard, a cell, the channels that the pass codes there, and the parameters of those.
        """
        even = _even(base)
        for band in bands(base.shape):
            rows = slice(band.start // 2, band.stop // 2)
            before = known(values, rows, UNIT // STEPS // self.scale, LIMIT, self.passes) if p else None
            # Of a base that is the same everywhere one column is enough.
            around = base[:1, :, :2, :2] if even else base[:, :, band]
            mixed = self._mixed(p, around, before).unflatten(1, (len(CELLS), -1))
            largest = magnitudes(mixed.flatten(1))
            places = at(base, CELLS[0], rows).shape[1:]
            there = (1, 1, 1) if even and before is None else places
            for number, cell in enumerate(CELLS):
                found = self._coded_with(p, cell, mixed[:, number], largest)
                found = (x.reshape(-1, *there).expand(-1, *places) for x in found)
                yield rows, cell, self.partition.group(p, cell), Parameters(*found)

    def _mixed(self, p: int, base: Tensor, before: Known | None) -> Tensor:
        """What a pass makes of the base (N, B, h, w) and of what is known: (hidden, places), cell after cell.

        Where what is known has more places than the base, the base is the same for all of them.
        """
        mix, told, own = self.mixes[p], base.shape[1], [at(base, cell) for cell in CELLS]
        if before is None:
            return mix.exact_part(torch.stack(own, 1).flatten(1).float())
        contexts = [self._context(p, cell, before) for cell in CELLS]
        if own[0].shape[1:] != contexts[0].shape[1:]:
            first, rest = tuple(range(told)), tuple(range(told, mix.in_channels))
            besides = mix.exact_sums(own[0].flatten(1)[:, :1], inputs=first)
            return mix.exact_part(torch.stack(contexts, 1).flatten(1), inputs=rest, besides=besides)
        seen = contexts[0].new_empty((mix.in_channels, len(CELLS), *contexts[0].shape[1:]))
        for number, parts in enumerate(zip(own, contexts, strict=True)):
            seen[:told, number], seen[told:, number] = parts
        return mix.exact_part(seen.flatten(1))

    def _context(self, p: int, cell: Cell, before: Known) -> Tensor:
        """What a pass makes of what is known around the places of a cell, (hidden, N, rows, w/2).

        Only from what is known by then: half of the inputs, over all passes.
        """
        seen, inputs = self.partition.inputs(p, cell)
        windows, largest = before.around(cell, seen)
        hidden = self.contexts[p - 1].exact_part(windows, inputs=inputs, unit=before.unit, largest=largest)
        return before.without_border(hidden)

    def _coded_with(self, p: int, cell: Cell, mixed: Tensor, largest: Tensor) -> Parameters:
        """Parameters (channels of the group, places) of what a pass codes in a cell; no others are computed."""
        group = self.partition.group(p, cell)
        wanted = (*range(group.start, group.stop), *range(self.channels + group.start, self.channels + group.stop))
        mean, raw = self.heads[p].exact_part(mixed, outputs=wanted, largest=largest).chunk(2)
        return exact_parameters(mean, raw)


def _even(x: Tensor) -> bool:
    """Whether a tensor (N, C, h, w) is one column that was expanded, the same numbers everywhere."""
    return all(x.stride(d) == 0 or x.shape[d] == 1 for d in (0, 2, 3))


Pop = Callable[[Tensor], Tensor]
"""Table indices (N, n) to the symbols (N, n) int32 that N streams hold next."""

_INDEX_RATIO = 40534
"""2**20 / (UNIT * tables.LOG_SCALE_STEP), rounded: part of the format, hence a literal."""
