"""Integer arithmetic that the parsing of symbols rests on.

A stream can be parsed only with the very probabilities it was written with. Floating-point
convolutions do not give the same number on every machine, so the networks that choose
probabilities are evaluated on integers: fixed-point weights and activations, whose sums stay below
2**53 and are therefore exact in float64 in whatever order they are added
(Balle, Johnston, Minnen: "Integer networks for data compression with latent-variable models",
ICLR 2019). Where the numbers turn out to be small, sums stay below 2**24, and single precision is
as exact and twice as fast. Training uses the same weights in ordinary floating point.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..derived import Derived

ACTIVATION_BITS = 8
"""Activations count 1/256."""
WEIGHT_BITS = 12
"""Weights count 1/4096."""
LIMIT = 2**15 - 1
"""Largest magnitude of an integer activation or weight."""
SINGLE = 2**24
"""Integers up to here are floats of single precision."""
WHOLE = 2**31
"""Integers below are whole numbers of 32 bits."""
PARTS = (2, 4, 8)
"""Into so many parts sums may be cut that are too long for single precision."""
APART = hasattr(torch.backends, "fp32_precision")
"""Whether every backend has a precision of its own (torch 2.9); then the one for all must not be asked."""
STRIP = 2**22
"""About as many numbers are laid out at a time for a matrix product."""

Some = tuple[int, ...] | None
"""Numbers of some inputs or outputs; None for all."""


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Single precision is single precision in here, whatever autocast or a lower precision of products says outside."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), _products:
        yield


class _Products(contextlib.AbstractContextManager):
    """Products of single precision in single precision, while any thread is in here: torch's switches are everybody's.

    The first in turns them, the last out turns them back.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before.enter_context(_ieee_products())
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.close()


@contextlib.contextmanager
def _ieee_products() -> Iterator[None]:
    if not APART:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.backends.cudnn.flags(allow_tf32=False, enabled=torch.backends.cudnn.enabled):
                yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    switches = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv)
    found = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, precision in zip(switches, found, strict=True):
            switch.fp32_precision = precision


_products = _Products()


def magnitudes(x: Tensor) -> Tensor:
    """The largest magnitude in each row of a matrix.

    Args:
        x: (rows, columns), at least one column.

    Returns:
        (rows,) float64.
    """
    return torch.maximum(x.amax(1), -x.amin(1)).double()  # aminmax is ten times slower


class _Integers(NamedTuple):
    """Parameters as integers.

    Attributes:
        weight: (out, inputs), float64.
        size: their magnitudes.
        single: the same weights in float32.
        bias: (out, 1), float64, with half of what is rounded away.
        shifts: by unit, see `shift`; cached.
    """

    weight: Tensor
    size: Tensor
    single: Tensor
    bias: Tensor
    shifts: dict[int, tuple[Tensor, float]]

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor) -> _Integers:
        return cls(weight, weight.abs(), weight.float(), bias, {})

    def biased(self, besides: Tensor) -> _Integers:
        return self._replace(bias=self.bias + besides, shifts={})

    def shift(self, unit: int) -> tuple[Tensor, float]:
        """Whole units of the bias, (out, 1) float64, and the largest magnitude."""
        if unit not in self.shifts:
            whole = (self.bias / unit).floor_()
            self.shifts[unit] = whole, float(whole.abs().max())
        return self.shifts[unit]

    def some(self, inputs: Some, outputs: Some) -> _Integers:
        weight, bias = self.weight, self.bias
        if outputs is not None:
            weight, bias = weight[list(outputs)], bias[list(outputs)]
        return _Integers.of(weight if inputs is None else weight[:, list(inputs)], bias)

    def times(self, columns: Tensor, largest: Tensor) -> tuple[Tensor, float]:
        """Sums of products with integers (..., inputs, cells) in float32, of magnitudes up to ``largest`` (inputs,).

        Returns:
            the sums, exact, in float32, int32 or float64, and what no magnitude of them exceeds.
        """
        if columns.shape[-1] == 1:  # then bounds would take as long as the sums
            return self.weight @ columns.double(), math.inf
        if (bound := float((self.size @ largest).max())) < SINGLE:
            return self.single @ columns, bound
        for parts in (parts for parts in PARTS if bound < parts * SINGLE):
            pairs = zip(self.size.chunk(parts, 1), largest.chunk(parts), strict=True)
            bounds = [float((size @ part).max()) for size, part in pairs]
            if max(bounds) < SINGLE:
                pairs = zip(self.single.chunk(parts, 1), columns.chunk(parts, -2), strict=True)
                total, *others = ((weight @ seen).int() for weight, seen in pairs)
                for other in others:
                    total.add_(other)
                return total, bound
        return self.weight @ columns.double(), bound

    def activations(self, columns: Tensor, largest: Tensor, unit: int = 1) -> Tensor:
        """Sums of products in units, and bias, rounded to activations: (..., out, cells) float32, not yet limited."""
        total, bound = self.times(columns, largest)
        if total.dtype != torch.float64 and 2**WEIGHT_BITS % unit == 0:
            # Sums are whole: floor((bias / unit + sum) / (2**WEIGHT_BITS / unit)) needs only floor(bias / unit).
            (shift, most), single = self.shift(unit), total.dtype == torch.float32
            if bound + most < (SINGLE if single else WHOLE):
                total.add_(shift.to(total.dtype))
                if single:
                    return total.mul_(unit * 2.0**-WEIGHT_BITS).floor_()
                return total.bitwise_right_shift_(WEIGHT_BITS + 1 - unit.bit_length()).float()
        total = torch.add(self.bias, total, alpha=unit)
        return total.mul_(2.0**-WEIGHT_BITS).floor_().clamp_(-LIMIT, LIMIT).float()


class ExactConv2d(nn.Conv2d):
    """A 1x1 or 3x3 convolution, optionally with ReLU, that can be evaluated exactly.

    ``forward`` takes and gives ordinary floats (for training); ``exact`` takes and gives tensors
    that hold integers (activations times 256).

    Args:
        channels: of the input.
        out_channels: of the output.
        kernel_size: side of the kernel, 1 or 3.
        relu: whether outputs below 0 become 0.

    Raises:
        ValueError: for another kernel size, or more inputs than sums can be exact of.
    """

    def __init__(self, channels: int, out_channels: int, kernel_size: int = 1, relu: bool = True):
        if kernel_size not in (1, 3):
            raise ValueError(f"kernel_size must be 1 or 3, got {kernel_size}")
        super().__init__(channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.relu = relu
        # |activation| <= 2**15 and |weight| <= 2**15: fan_in * 2**30 must stay below 2**53.
        if channels * kernel_size**2 > 2**20:
            raise ValueError("too many inputs for exact sums")
        self._integers: Derived[dict[tuple[Some, Some], _Integers]] = Derived()

    def forward(self, x: Tensor) -> Tensor:
        """Evaluation in floating point.

        Args:
            x: (N, C, h, w).

        Returns:
            (N, out, h, w).
        """
        y = super().forward(x)
        return F.relu(y) if self.relu else y

    def _integer_parameters(self, inputs: Some = None, outputs: Some = None) -> _Integers:
        """All weights, (out, in * k * k), and biases, or some; cached until they change."""
        parts = self._integers.get((self.weight, self.bias), self._all_integers)
        if (inputs, outputs) not in parts:
            parts[inputs, outputs] = parts[None, None].some(inputs, outputs)
        return parts[inputs, outputs]

    def _all_integers(self) -> dict[tuple[Some, Some], _Integers]:
        weight = torch.round(self.weight.detach().double() * 2**WEIGHT_BITS).clamp(-LIMIT, LIMIT)
        bias = torch.round(self.bias.detach().double() * 2 ** (WEIGHT_BITS + ACTIVATION_BITS))
        bias = bias.clamp(-(2.0**40), 2.0**40) + 2 ** (WEIGHT_BITS - 1)  # half a unit, to round by flooring
        return {(None, None): _Integers.of(weight.flatten(1), bias[:, None])}

    @full_precision()
    def exact(self, x: Tensor) -> Tensor:
        """Integer evaluation.

        Written as matrix products, because a convolution routine may choose an algorithm
        (Winograd, FFT) whose intermediate values are not integers.

        Args:
            x: (N, C, h, w) integers of 1/256, of magnitudes up to ``LIMIT``.

        Returns:
            (N, out, h, w) likewise, float32.
        """
        integers, x = self._integer_parameters(), x.float()
        n, _, h, w = x.shape
        largest = magnitudes(x.transpose(0, 1).flatten(1)).repeat_interleave(self.kernel_size[0] ** 2)
        strips = [integers.activations(columns, largest) for columns in self._columns(x)]
        return self._limited(torch.cat(strips, 2)).reshape(n, -1, h, w)

    def exact_part(
        self,
        columns: Tensor,
        inputs: Some = None,
        outputs: Some = None,
        besides: Tensor | None = None,
        unit: int = 1,
        largest: Tensor | None = None,
    ) -> Tensor:
        """`exact` of some cells, where all but some inputs are nothing. To be called in `full_precision`.

        Args:
            columns: what each cell reads: (inputs, cells) integers in float32.
            inputs: which of the C * k * k inputs those are, in the order of the weights; None for all.
            outputs: which outputs are wanted; None for all.
            besides: what other inputs add, (outputs, 1): see `exact_sums`.
            unit: what a one in the columns stands for.
            largest: (inputs,) which no magnitude of an input exceeds, float64; None to have them looked at.

        Returns:
            (outputs, cells), float32.
        """
        integers = self._integer_parameters(inputs, outputs)
        if besides is not None:
            integers = integers.biased(besides)
        largest = magnitudes(columns) if largest is None else largest
        return self._limited(integers.activations(columns, largest, unit))

    def exact_sums(self, columns: Tensor, inputs: Some = None) -> Tensor:
        """What some inputs add to every output before it is rounded.

        Args:
            columns: (inputs, cells) integers, as of `exact_part`.
            inputs: as of `exact_part`.

        Returns:
            (outputs, cells), float64.
        """
        return self._integer_parameters(inputs).weight @ columns.double()

    def _limited(self, x: Tensor) -> Tensor:
        return x.clamp_(0 if self.relu else -LIMIT, LIMIT)

    def _columns(self, x: Tensor) -> Iterator[Tensor]:
        """What each output cell reads, a strip of rows at a time: (N, C * k * k, cells of the strip)."""
        n, c, h, w = x.shape
        side = self.kernel_size[0]
        if side == 1:
            yield x.reshape(n, c, h * w)
            return
        padded = F.pad(x, (side // 2,) * 4)
        rows = max(1, STRIP // (n * c * side**2 * w))
        for top in range(0, h, rows):
            yield F.unfold(padded[:, :, top : top + rows + side - 1], side)


class ExactUpsample(ExactConv2d):
    """A pointwise exact convolution with ReLU, then a pixel shuffle to twice the rows and columns.

    Args:
        channels: of the input.
        out_channels: of the output.
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, 4 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluation in floating point.

        Args:
            x: (N, C, h, w).

        Returns:
            (N, out, 2 h, 2 w).
        """
        return F.pixel_shuffle(super().forward(x), 2)

    def exact(self, x: Tensor) -> Tensor:
        """Integer evaluation, see `ExactConv2d.exact`.

        Args:
            x: (N, C, h, w) integers of 1/256, of magnitudes up to ``LIMIT``.

        Returns:
            (N, out, 2 h, 2 w) likewise, float32.
        """
        return F.pixel_shuffle(super().exact(x), 2)
