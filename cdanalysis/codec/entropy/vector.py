"""Entropy model of a vector: coded group by group, each given the groups before it.

Minnen, Singh, "Channel-wise autoregressive entropy models for learned image compression" (ICIP 2020): one cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...structures.latents import QUALITY_LEVELS, STEPS
from ..integer.exact import LIMIT, ExactConv2d, full_precision
from . import tables
from .models import UNIT, Parameters, Pass, Pop, Quantized, exact_parameters, gaussian_bits, log_scale_of, round_ste


class Estimate(NamedTuple):
    """Values in steps, the symbols that code them, and the logarithms of their scales in steps, each (N, C) float."""

    values: Tensor
    symbols: Tensor
    log_scales: Tensor


class VectorModel(nn.Module):
    """Gaussian model of the symbols of a vector.

    Args:
        groups: how many symbols each group has.
        hidden: width of each group's network.
        scale: symbols are divided by this where networks read them, so that large ones stay within their range.
    """

    def __init__(self, groups: Sequence[int], hidden: int, scale: int = 4):
        super().__init__()
        self.groups, self.scale = tuple(groups), scale
        before = [1 + sum(groups[:i]) for i in range(len(groups))]
        self.mixes = nn.ModuleList(ExactConv2d(count, hidden) for count in before)
        self.heads = nn.ModuleList(ExactConv2d(hidden, 2 * size, relu=False) for size in groups)
        for head, size in zip(self.heads, groups, strict=True):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
            with torch.no_grad():  # start at a scale of one step
                head.bias[size:] = -math.log(tables.SMALLEST_SCALE)

    def forward(self, y: Tensor, quality: Tensor, noisy: bool = True) -> tuple[Tensor, Tensor]:
        """What decoders get, and what it costs.

        Args:
            y: (N, C, 1, 1), in steps.
            quality: (N, 1, 1, 1) in [0, 1].
            noisy: whether bits are those of y with uniform noise, as in training, or of y_hat itself.

        Returns:
            y_hat in steps and its bits, both (N, C, 1, 1), differentiable.
        """
        known, decoded, bits = [quality], [], []
        for mix, head, part in zip(self.mixes, self.heads, y.split(self.groups, 1), strict=True):
            mean, raw = head(mix(torch.cat(known, 1))).chunk(2, 1)
            residual = part - mean
            y_hat = round_ste(residual) + mean
            sample = residual + torch.rand_like(part) - 0.5 if noisy else y_hat - mean
            cost = gaussian_bits(sample, log_scale_of(raw))
            bits.append(cost if noisy else cost.clamp_max(tables.PRECISION))
            decoded.append(y_hat)
            known.append(y_hat / self.scale)
        return torch.cat(decoded, 1), torch.cat(bits, 1)

    @full_precision()
    def quantize(self, y: Tensor, level: int) -> Quantized:
        """Quantize vectors, group by group.

        Args:
            y: (N, C, 1, 1), in steps.
            level: quality 0..120.

        Returns:
            values (N, C, 1, 1), and a pass for each group.
        """
        values: list[Tensor] = []
        passes: list[Pass] = []
        for p, part in enumerate(y.flatten(1).double().split(self.groups, 1)):
            found = self._parameters_of(p, values, level, y)
            symbols = (part - found.offset / STEPS).round().clamp(-tables.SYMBOL_BOUND, tables.SYMBOL_BOUND)
            values.append(STEPS * symbols + found.offset)
            passes.append(Pass(symbols.to(torch.int16), found.scale_index.to(torch.int16)))
        return Quantized(torch.cat(values, 1).to(torch.int32)[..., None, None], passes)

    def estimate(self, y: Tensor, quality: Tensor) -> Estimate:
        """`quantize` in ordinary floating point, in a fraction of the time: for searches among many y.

        Args:
            y: (N, C), in steps.
            quality: (N, 1) in [0, 1].

        Returns:
            values, symbols and log scales, each (N, C).
        """
        known, parts = [quality], []
        for mix, head, part in zip(self.mixes, self.heads, y.split(self.groups, 1), strict=True):
            hidden = F.relu(F.linear(torch.cat(known, 1), mix.weight.flatten(1), mix.bias))
            mean, raw = F.linear(hidden, head.weight.flatten(1), head.bias).chunk(2, 1)
            symbols = (part - mean).round().clamp(-tables.SYMBOL_BOUND, tables.SYMBOL_BOUND)
            parts.append((symbols + mean, symbols, log_scale_of(raw)))
            known.append(parts[-1][0] / self.scale)
        return Estimate(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))

    @full_precision()
    def read(self, count: int, level: int, like: Tensor, pop: Pop) -> Tensor:
        """Decode values.

        Args:
            count: of the vectors, N.
            level: quality 0..120.
            like: gives the device.
            pop: reads a group's symbols from the streams.

        Returns:
            values (N, C, 1, 1) int32, in sixteenths of a step.
        """
        values: list[Tensor] = []
        for p in range(len(self.groups)):
            found = self._parameters_of(p, values, level, like.new_empty(count, 1, 1, 1))
            symbols = pop(found.scale_index.to(torch.int16)).double()
            values.append(STEPS * symbols + found.offset)
        return torch.cat(values, 1).to(torch.int32)[..., None, None]

    def _parameters_of(self, p: int, values: list[Tensor], level: int, like: Tensor) -> Parameters:
        """Exact parameters (N, group) of a group's symbols, from the values (N, group) of those before it."""
        plane = like.new_full((len(like), 1), (2 * level * UNIT + QUALITY_LEVELS) // (2 * QUALITY_LEVELS))
        known = [(v * (UNIT // STEPS // self.scale)).clamp(-LIMIT, LIMIT) for v in values]
        x = torch.cat([plane.double(), *known], 1).T.float()  # vectors are cells: a single product
        mean, raw = self.heads[p].exact_part(self.mixes[p].exact_part(x)).T.chunk(2, 1)
        found = exact_parameters(mean, raw)
        return Parameters(found.offset.double(), found.scale_index)
