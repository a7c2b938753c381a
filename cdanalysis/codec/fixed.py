"""A convolutional network whose sums are exact in single precision, and so the same on every machine.

Before each convolution activations are rounded to a grid, and weights lie on grids of their own, so coarse that no sum
of products takes more than the 24 bits that a float holds: then it does not matter in which order, or by which routine,
they are added. What is done element by element in between is rounded as IEEE 754 says, everywhere alike. A network with
bounded activations (EfficientNet-Lite's ReLU6) keeps about eight bits of each this way.

The idea is that of integer networks (Balle, Johnston, Minnen, ICLR 2019), without integer arithmetic.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

EXACT = 2**24
"""Integers up to here are floats."""
WEIGHT_BITS = range(5, 15)
MOST_NOISE = 0.01
"""Of weights and activations together, as a share of their energy, that a convolution may lose."""
PART = 64
"""Inputs of a pointwise convolution that are summed at a time."""
ROOM = 1.25
"""Activations without bound may be so many times larger than the largest seen."""


class Range(NamedTuple):
    """Where activations lie.

    Attributes:
        top: largest magnitude.
        signed: whether they can be negative.
        rms: root mean square.
        certain: whether they cannot lie anywhere else; otherwise what does is cut off.
    """

    top: float
    signed: bool
    rms: float
    certain: bool = False


class _Grid(NamedTuple):
    """What a convolution becomes: whole weights and biases, and the powers of two that made them whole."""

    noise: float
    weight: Tensor
    offset: Tensor
    scales: Tensor
    scale: float
    most: int


class _Fixed(nn.Module):
    """A convolution of activations that are rounded to a grid.

    Attributes:
        scale: a power of two that makes activations of the grid whole; None if whole ones come in units already, in
            memory that nobody else needs.
        ends: what they are cut to; None for bounded activations.
    """

    scale: float | None

    def __init__(self, grid: _Grid, seen: Range):
        super().__init__()
        self.scale = grid.scale
        self.ends = None if seen.certain else (-grid.most if seen.signed else 0, grid.most)

    def rounded(self, x: Tensor) -> Tensor:
        whole = x.round_() if self.scale is None else (x * self.scale).round_()
        return whole if self.ends is None else whole.clamp_(*self.ends)

    @torch.no_grad()
    def multiply(self, factor: float) -> None:
        """Let outputs be a power of two times what they were, to the last bit."""
        for tensor in self.state_dict().values():
            tensor.mul_(factor)


class FixedConv2d(_Fixed):
    """A convolution with bias of rounded activations by rounded weights, exact in single precision.

    Args:
        conv: what it comes near to.
        seen: the range of its input.

    Raises:
        ValueError: if the sums are too long to be exact even with the coarsest grids.
    """

    def __init__(self, conv: nn.Conv2d, seen: Range):
        grid = _best_grid(conv.weight.detach().double(), conv.bias.detach().double(), seen)
        super().__init__(grid, seen)
        conv = copy.deepcopy(conv)
        # Powers of two change nothing but the exponent: real weights spare the outputs a multiplication.
        whole = grid.scales * grid.scale
        conv.weight.data = (grid.weight / whole[:, None, None, None]).to(conv.weight)
        conv.bias.data = (grid.offset / whole).to(conv.bias)
        self.conv = _evenly_padded(conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.rounded(x))


class FixedPointwise(_Fixed):
    """A pointwise convolution like `FixedConv2d`, of many inputs: each sum over ``PART`` of them is exact.

    The sums are added element by element, in one order, so that this too is the same everywhere. Grids can be finer.
    """

    def __init__(self, conv: nn.Conv2d, seen: Range):
        weight = conv.weight.detach().double()
        grid = _best_grid(weight, torch.zeros(len(weight), dtype=torch.float64), seen, PART)
        super().__init__(grid, seen)
        matrix = (grid.weight / (grid.scales * grid.scale)[:, None, None, None]).flatten(1).T.contiguous()
        self.register_buffer("weight", matrix.to(conv.weight))
        self.register_buffer("bias", conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rounded(x).permute(0, 2, 3, 1).flatten(0, 2)
        sums = None
        for seen, weight in zip(rows.split(PART, 1), self.weight.split(PART), strict=True):
            products = seen @ weight
            sums = products if sums is None else sums.add_(products)
        return sums.add_(self.bias).unflatten(0, (x.shape[0], *x.shape[2:])).permute(0, 3, 1, 2)


def _evenly_padded(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution that pads as much on every side, for inputs of even sides.

    TensorFlow's "same" convolutions of stride 2 want a row and a column more of zeros on the right and below, and so a
    copy of their input. With a row and a column of zeros in their kernel they want as many everywhere.
    """
    if not isinstance(conv, Conv2dSame) or conv.stride != (2, 2):
        return conv
    side = conv.kernel_size[0] + 1
    even = nn.Conv2d(conv.in_channels, conv.out_channels, side, 2, side // 2 - 1, groups=conv.groups)
    even.weight.data, even.bias.data = F.pad(conv.weight, (1, 0, 1, 0)), conv.bias.data
    return even.requires_grad_(False)


def _best_grid(weight: Tensor, bias: Tensor, seen: Range, part: int = 0) -> _Grid:
    """The grid that loses least; sums are over ``part`` inputs, or all.

    Raises:
        ValueError: if exact sums would lose too much.
    """
    best = min((_grid(weight, bias, seen, bits, part) for bits in WEIGHT_BITS), key=lambda grid: grid.noise)
    if best.noise > MOST_NOISE:
        raise ValueError("the sums of a convolution are too long to be exact in single precision")
    return best


def _grid(weight: Tensor, bias: Tensor, seen: Range, bits: int, part: int) -> _Grid:
    """Weights in so many bits, and activations in as many as sums then allow."""
    scales = _power((2**bits - 1) / weight.abs().amax((1, 2, 3)).clamp_min(1e-12))
    scale = float(_power(torch.tensor(0.96 * EXACT / (_longest(_whole(weight, scales), seen, part) * seen.top))))
    scales = torch.minimum(scales, _power(0.03 * EXACT / (bias.abs() * scale).clamp_min(1e-12)))
    whole, offset, most = _whole(weight, scales), (bias * scales * scale).round(), math.floor(seen.top * scale)
    assert most * _longest(whole, seen, part) + float(offset.abs().max()) < EXACT
    lost = (whole / scales[:, None, None, None] - weight).square().sum() / weight.square().sum()
    return _Grid(float(lost) + 1 / (12 * (scale * seen.rms) ** 2), whole, offset, scales, scale, most)


def _power(value: Tensor) -> Tensor:
    """The largest power of two within a value."""
    return torch.exp2(torch.floor(torch.log2(value.double())))


def _whole(weight: Tensor, scales: Tensor) -> Tensor:
    return (weight * scales[:, None, None, None]).round()


def _longest(whole: Tensor, seen: Range, part: int) -> float:
    """The largest partial sum, in whatever order, of weights over ``part`` inputs."""
    longest = 1.0
    for some in whole.split(part or whole.shape[1], 1):
        up, down = some.clamp_min(0).sum((1, 2, 3)), (-some).clamp_min(0).sum((1, 2, 3))
        longest = max(longest, float((up + down if seen.signed else torch.maximum(up, down)).max()))
    return longest


class _Chain(NamedTuple):
    """A convolution, and the only other one that reads what a ReLU6 makes of its output."""

    first: nn.Conv2d
    relu6: nn.ReLU6
    second: nn.Conv2d


def fixed(network: nn.Module, run: Callable[[nn.Module], object]) -> nn.Module:
    """A copy of a network with batch norms folded, all of whose convolutions are exact.

    Args:
        run: shows a network what it is likely to see, so that the ranges of its activations are known. Nothing but
            convolutions may read what a ReLU6 gives.
    """
    with torch.inference_mode(False):  # its weights must be ordinary tensors
        copied = copy.deepcopy(network).requires_grad_(False)
        ranges, chains = _looked_at(copied, run)
        exact = _swap(copied, ranges)
        for chain in chains:
            _count_in_units(exact[chain.first], chain.relu6, exact[chain.second])
    return copied


def _count_in_units(first: _Fixed, relu6: nn.ReLU6, second: _Fixed) -> None:
    """Activations between two convolutions come in the units of the second's grid: no pass over them to scale them."""
    first.multiply(second.scale)
    relu6.max_val *= second.scale
    relu6.inplace, second.scale = True, None


def _looked_at(network: nn.Module, run: Callable[[nn.Module], object]) -> tuple[dict[nn.Conv2d, Range], set[_Chain]]:
    """The range of every convolution's input, and which convolutions follow one another with a ReLU6 between."""
    ranges: dict[nn.Conv2d, Range] = {}
    chains: set[_Chain] = set()
    made: dict[int, tuple[nn.Module, nn.Module | None]] = {}  # who made a tensor, and who made what that was made of
    kept: list[Tensor] = []  # so that their numbers are not given to others

    def after(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        made[id(output)] = module, made.get(id(inputs[0]), (None, None))[0]
        kept.append(output)

    def before_conv(module: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        rms = _coarse(float(x.square().mean().sqrt()))
        relu6, first = made.get(id(x), (None, None))
        if isinstance(relu6, nn.ReLU6):
            ranges[module] = Range(6.0, False, rms, certain=True)
            chains.add(_Chain(first, relu6, module))
        else:
            ranges[module] = Range(_coarse(ROOM * float(x.abs().max())), bool(x.min() < 0), rms)

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.ReLU6 | nn.Conv2d):
            hooks.append(module.register_forward_hook(after))
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_pre_hook(before_conv))
    with torch.no_grad():
        run(network)
    for hook in hooks:
        hook.remove()
    shared = Counter(chain.relu6 for chain in chains)
    return ranges, {c for c in chains if isinstance(c.first, nn.Conv2d) and shared[c.relu6] == 1}


def _coarse(value: float) -> float:
    """The next power of the fourth root of two, so that a machine's last bits do not count."""
    return 2.0 ** (math.ceil(4 * math.log2(max(value, 1e-6))) / 4)


def _swap(network: nn.Module, ranges: dict[nn.Conv2d, Range]) -> dict[nn.Conv2d, _Fixed]:
    """Put exact convolutions in the places of those that were looked at."""
    exact: dict[nn.Conv2d, _Fixed] = {}
    for name, child in network.named_children():
        if not isinstance(child, nn.Conv2d):
            exact |= _swap(child, ranges)
        elif child in ranges:
            many = child.kernel_size == child.stride == (1, 1) and child.in_channels > PART
            kind = FixedPointwise if many and child.groups == 1 else FixedConv2d
            exact[child] = kind(child, ranges[child])
            setattr(network, name, exact[child])
    return exact
