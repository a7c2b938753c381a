"""Rate-distortion-optimized quantization of the global layer: the nearest integers are not the best ones.

A classifier's answer depends on few directions of its embedding, and rounding knows none of them. A symbol moves by a
step where that makes what the classifier says of the decoded vector better by more than the bits cost, in the terms of
the loss that the layer is trained by. The stream is an ordinary one; decoding does not change. Video encoders have done
so for long (Sullivan, Wiegand, "Rate-distortion optimization for video compression", 1998).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures.latents import QUALITY_LEVELS
from .entropy import tables
from .entropy.models import Quantized, gaussian_bits
from .entropy.vector import Estimate
from .gains import log_interpolate, quality_plane
from .global_layer import GlobalLayer

DISTORTIONS = 0.5, 100.0
"""What distortion counts at quality 0 and at quality 1, beside a thousandth of a bit, here and in training."""
SQUARES, LOGITS = 1.0, 1.0
"""What squared distances of embeddings and of logits count beside the divergence of classes, as shares of spreads."""
SEARCH_ROUNDS = 6
MOVES = 2, 8, 24
"""So many symbols at once are tried in each round, those first that promise most."""
LEAST_GAIN = 1e-5


class Classes(NamedTuple):
    """A classifier's last layer, and what steps of the layer's decoder do to its logits.

    Attributes:
        weight, bias: (classes, E) and (classes,).
        steps: what a unit of each latent adds to each logit, (classes, C).
        squares: of these.
        spread: mean squares of what a unit adds to the embedding, (C,), and to centered logits.
    """

    weight: Tensor
    bias: Tensor
    steps: Tensor
    squares: Tensor
    spread: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, layer: GlobalLayer, weight: Tensor, bias: Tensor) -> Classes:
        """Of a layer, whose decoder is taken to be linear: near enough to say what is worth a try."""
        steps = weight @ layer.decoder
        centered = (steps - steps.mean(0)).square().mean(0)
        return cls(weight, bias, steps, steps.square(), (layer.decoder.square().mean(0), centered))


class VectorSearch:
    """The search for embeddings at one quality level.

    Args:
        layer: what codes them.
        classes: what reads them.
        embeddings: (N, E).
        level: 0..120.
        rounds: how often symbols may move; at 0 they are the nearest.
    """

    def __init__(
        self, layer: GlobalLayer, classes: Classes, embeddings: Tensor, level: int, rounds: int = SEARCH_ROUNDS
    ):
        self.layer, self.classes, self.level, self.rounds = layer, classes, level, rounds
        self.plane = quality_plane(level, embeddings)
        self.gain = layer.gain(self.plane).flatten()
        self.inverse_gain = layer.inverse_gain(self.plane).flatten()
        self.weight = log_interpolate(DISTORTIONS, level / QUALITY_LEVELS)
        mean = layer.embedding(embeddings.new_zeros(1, layer.channels, 1, 1))
        apart = embeddings - mean
        logits = F.linear(embeddings, classes.weight, classes.bias)
        units = [each.square().mean(1, keepdim=True).clamp_min(1e-6) for each in (apart, _centered(apart, classes))]
        self.wanted = _Wanted(embeddings, logits.log_softmax(1), units[0], units[1])

    def best(self) -> Quantized:
        """The embeddings' symbols, as good as moves of single steps make them.

        The search goes by the entropy model in floating point; what it found is then quantized exactly.
        """
        y = self.layer.g_a(self.wanted.embeddings) * self.gain
        found = self._estimated(y)
        costs = self._cost(found, self.wanted)
        active = torch.arange(len(y), device=y.device)
        for _ in range(self.rounds):
            now, wanted = _rows(found, active), self.wanted.take(active)
            tried = self._estimated(self._moved(now, wanted).flatten(0, 1))
            each = self._cost(tried, wanted.repeated(len(MOVES))).unflatten(0, (len(active), len(MOVES)))
            least, choice = each.min(1)
            better = least < costs[active] - LEAST_GAIN
            rows = (torch.arange(len(active), device=y.device) * len(MOVES) + choice)[better]
            active = active[better]
            if not len(active):
                break
            costs[active] = least[better]
            for part, new in zip(found, _rows(tried, rows), strict=True):
                part[active] = new
        return self.layer.context.quantize(found.values[..., None, None], self.level)

    def _estimated(self, y: Tensor) -> Estimate:
        return self.layer.context.estimate(y, self.plane.reshape(1, 1).expand(len(y), 1))

    def _decoded(self, values: Tensor) -> Tensor:
        return self.layer.embedding(self.layer.dequantize(values[..., None, None], self.plane))

    def _cost(self, found: Estimate, wanted: _Wanted) -> Tensor:
        """What symbols cost (N,), in thousands of bits."""
        decoded = self._decoded(found.values)
        apart = decoded - wanted.embeddings
        said = F.linear(decoded, self.classes.weight, self.classes.bias).log_softmax(1)
        distortion = F.kl_div(said, wanted.chances, log_target=True, reduction="none").sum(1)
        distortion += SQUARES * apart.square().mean(1) / wanted.unit[:, 0]
        distortion += LOGITS * _centered(apart, self.classes).square().mean(1) / wanted.logit_unit[:, 0]
        return _bits(found).sum(1) / 1000 + self.weight * distortion

    def _moved(self, now: Estimate, wanted: _Wanted) -> Tensor:
        """Targets (N, len(MOVES), C) of the layer's quantization, in steps, by a model of second order."""
        classes, decoded = self.classes, self._decoded(now.values)
        said = F.linear(decoded, classes.weight, classes.bias).softmax(1)
        apart = decoded - wanted.embeddings
        squares, logits = SQUARES / wanted.unit, LOGITS / wanted.logit_unit
        slope = (said - wanted.chances.exp()) @ classes.steps
        slope += 2 * squares * (apart @ self.layer.decoder) / apart.shape[1]
        slope += 2 * logits * (_centered(apart, classes) @ classes.steps) / len(classes.steps)
        curvature = said @ classes.squares - (said @ classes.steps).square()
        curvature += 2 * (squares * classes.spread[0] + logits * classes.spread[1])
        slope, curvature = slope * self.inverse_gain, curvature * self.inverse_gain**2 / 2
        bits = _bits(now)
        up, down = (self.weight * (sign * slope + curvature) + (_bits(now, sign) - bits) / 1000 for sign in (1, -1))
        promise, order = torch.minimum(up, down).sort(1)
        one = up.new_ones(())
        step = torch.where(up < down, one, -one).gather(1, order) * (promise < 0)
        moves = [(order[:, :count], step[:, :count]) for count in MOVES]
        return torch.stack([now.values.scatter_add(1, *move) for move in moves], 1)


class _Wanted(NamedTuple):
    """What decoded vectors should be: embeddings, logarithms of classes' chances, and units (N, 1) of distances."""

    embeddings: Tensor
    chances: Tensor
    unit: Tensor
    logit_unit: Tensor

    def take(self, rows: Tensor) -> _Wanted:
        return _Wanted(*(part[rows] for part in self))

    def repeated(self, count: int) -> _Wanted:
        return _Wanted(*(part.repeat_interleave(count, 0) for part in self))


def _rows(found: Estimate, rows: Tensor) -> Estimate:
    return Estimate(*(part[rows] for part in found))


def _bits(found: Estimate, moved: int = 0) -> Tensor:
    """Of each symbol, or of the one so many steps away: (N, C)."""
    return gaussian_bits(found.symbols + moved, found.log_scales).clamp_max(tables.PRECISION)


def _centered(embeddings: Tensor, classes: Classes) -> Tensor:
    """Logits of embeddings' differences, less their mean, which changes no class."""
    logits = embeddings @ classes.weight.T
    return logits - logits.mean(1, keepdim=True)
