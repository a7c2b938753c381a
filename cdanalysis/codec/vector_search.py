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
    """A classifier's last layer, and what the layer's decoder does to its logits.

    Embeddings that are decoded lie in a space of few dimensions, in which distances and logits are computed: the
    decoder's last layer is a rotation times a small matrix.

    Attributes:
        weight, bias: (classes, E) and (classes,).
        steps: what a unit of each of the last layer's inputs adds to each logit, (classes, C).
        squares: of these.
        origin: logits where these inputs are 0, (classes,).
        rotation: of embeddings into that space, (E, K).
        small: the inputs in that space, (K, C).
        spread: mean squares of what a unit adds to the embedding, (C,), and to centered logits.
    """

    weight: Tensor
    bias: Tensor
    steps: Tensor
    squares: Tensor
    origin: Tensor
    rotation: Tensor
    small: Tensor
    spread: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, layer: GlobalLayer, weight: Tensor, bias: Tensor) -> Classes:
        """What the search knows of a classifier's last layer and a global layer.

        Args:
            layer: whose decoder makes embeddings.
            weight: of the classifier's last layer, (classes, E).
            bias: of the same, (classes,).
        """
        decoder, shift = layer.decoder
        steps, (rotation, small) = weight @ decoder, torch.linalg.qr(decoder)
        spread = decoder.square().mean(0), _centered(steps, 0).square().mean(0)
        return cls(weight, bias, steps, steps.square(), F.linear(shift, weight, bias), rotation, small, spread)


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
        self.embeddings, self.length = embeddings, embeddings.shape[1]
        self.plane = quality_plane(level, embeddings)
        self.gain = layer.gain(self.plane).flatten()
        self.inverse_gain = layer.inverse_gain(self.plane).flatten()
        self.weight = log_interpolate(DISTORTIONS, level / QUALITY_LEVELS)
        mean = layer.embedding(embeddings.new_zeros(1, layer.channels, 1, 1))
        self.wanted = _Wanted.of(embeddings, mean, layer.decoder[1], classes)

    def best(self) -> Quantized:
        """The embeddings' symbols, as good as moves of single steps make them.

        The search goes by the entropy model in floating point; what it found is then quantized exactly.

        Returns:
            values (N, C, 1, 1), and the passes that code them.
        """
        y = self.layer.g_a(self.embeddings) * self.gain
        found = self._tried(y, self.wanted)
        active = torch.arange(len(y), device=y.device)
        for _ in range(self.rounds):
            now, wanted = found.take(active), self.wanted.take(active)
            tried = self._tried(self._moved(now, wanted).flatten(0, 1), wanted.repeated(len(MOVES)))
            least, choice = tried.cost.unflatten(0, (len(active), len(MOVES))).min(1)
            better = least < now.cost - LEAST_GAIN
            rows = (torch.arange(len(active), device=y.device) * len(MOVES) + choice)[better]
            active = active[better]
            if not len(active):
                break
            for part, new in zip(found, tried.take(rows), strict=True):
                part[active] = new
        return self.layer.context.quantize(found.values[..., None, None], self.level)

    def _tried(self, y: Tensor, wanted: _Wanted) -> _Tried:
        """What quantization makes of vectors (N, C), in steps, and how good that is."""
        values, symbols, log_scales = self.layer.context.estimate(y, self.plane.reshape(1, 1).expand(len(y), 1))
        inputs = self.layer.decoder_inputs(values * self.inverse_gain)
        logits = F.linear(inputs, self.classes.steps, self.classes.origin)
        chances = logits.log_softmax(1)
        apart, logits_apart = F.linear(inputs, self.classes.small) - wanted.seen, _centered(logits - wanted.logits)
        distortion = F.kl_div(chances, wanted.chances, log_target=True, reduction="none").sum(1)
        distortion += SQUARES * (apart.square().sum(1) + wanted.unseen[:, 0]) / self.length / wanted.unit[:, 0]
        distortion += LOGITS * logits_apart.square().mean(1) / wanted.logit_unit[:, 0]
        bits = _bits(symbols, log_scales)
        cost = bits.sum(1) / 1000 + self.weight * distortion
        return _Tried(values, symbols, log_scales, bits, chances, apart, logits_apart, cost)

    def _moved(self, now: _Tried, wanted: _Wanted) -> Tensor:
        """Targets (N, len(MOVES), C) of the layer's quantization, in steps, by a model of second order.

        It takes the decoder for linear, which is near enough to say what is worth a try.
        """
        classes, said = self.classes, now.chances.exp()
        squares, logits = 2 * SQUARES / wanted.unit, 2 * LOGITS / wanted.logit_unit
        slope = (said - wanted.chances.exp() + logits / said.shape[1] * now.logits_apart) @ classes.steps
        slope += squares / self.length * (now.apart @ classes.small)
        curvature = said @ classes.squares - (said @ classes.steps).square()
        curvature += squares * classes.spread[0] + logits * classes.spread[1]
        slope, curvature = slope * self.inverse_gain, curvature * self.inverse_gain**2 / 2
        either = _bits(torch.stack([now.symbols + 1, now.symbols - 1]), now.log_scales)
        up, down = self.weight * torch.stack([curvature + slope, curvature - slope]) + (either - now.bits) / 1000
        one = up.new_ones(())
        promise, order = torch.minimum(up, down).topk(min(MOVES[-1], up.shape[1]), largest=False)
        step = torch.where(up < down, one, -one).gather(1, order) * (promise < 0)
        moves = [(order[:, :count], step[:, :count]) for count in MOVES]
        return torch.stack([now.values.scatter_add(1, *move) for move in moves], 1)


class _Tried(NamedTuple):
    """Vectors that were tried: their `Estimate`, and what classes and costs follow of it.

    Attributes:
        values, symbols, log_scales, bits: (N, C), the last of each symbol.
        chances: logarithms of classes' chances, (N, classes).
        apart: how far embeddings are from those wanted, in the space of those that are decoded, (N, K).
        logits_apart: how far logits are from those wanted, centered, (N, classes).
        cost: in thousands of bits, (N,).
    """

    values: Tensor
    symbols: Tensor
    log_scales: Tensor
    bits: Tensor
    chances: Tensor
    apart: Tensor
    logits_apart: Tensor
    cost: Tensor

    def take(self, rows: Tensor) -> _Tried:
        return _Tried(*(part[rows] for part in self))


class _Wanted(NamedTuple):
    """What decoded vectors should be.

    Attributes:
        seen: embeddings in the space of those that are decoded, (N, K).
        unseen: their squared distance from it, (N, 1).
        logits: (N, classes).
        chances: logarithms of classes' chances, (N, classes).
        unit, logit_unit: of mean squared distances, (N, 1).
    """

    seen: Tensor
    unseen: Tensor
    logits: Tensor
    chances: Tensor
    unit: Tensor
    logit_unit: Tensor

    @classmethod
    def of(cls, embeddings: Tensor, mean: Tensor, shift: Tensor, classes: Classes) -> _Wanted:
        """Of embeddings.

        Args:
            embeddings: (N, E).
            mean: that of all photographs, (1, E), from which distances are measured.
            shift: the bias of the decoder's last layer, (E,).
        """
        both = F.linear(torch.cat([embeddings, mean]), classes.weight, classes.bias)
        logits, mean_logits = both[:-1], both[-1:]
        apart = embeddings - mean, _centered(logits - mean_logits)
        units = (each.square().mean(1, keepdim=True).clamp_min(1e-6) for each in apart)
        seen = (embeddings - shift) @ classes.rotation
        unseen = (embeddings - shift - seen @ classes.rotation.T).square().sum(1, keepdim=True)
        return cls(seen, unseen, logits, logits.log_softmax(1), *units)

    def take(self, rows: Tensor) -> _Wanted:
        return _Wanted(*(part[rows] for part in self))

    def repeated(self, count: int) -> _Wanted:
        return _Wanted(*(part.repeat_interleave(count, 0) for part in self))


def _bits(symbols: Tensor, log_scales: Tensor) -> Tensor:
    """Of each symbol, (N, C)."""
    return gaussian_bits(symbols, log_scales).clamp_max(tables.PRECISION)


def _centered(logits: Tensor, axis: int = 1) -> Tensor:
    """Less their mean over classes, which changes no class."""
    return logits - logits.mean(axis, keepdim=True)
