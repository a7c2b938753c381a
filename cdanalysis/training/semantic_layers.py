"""Global and spatial layer learn to carry what their teachers see: where they start, and what they are told.

    L_global  = R / 1000 + w(q) (KL(teacher's classes || ours) + a |e - e'|^2 + b |W (e - e')|^2)
    L_spatial = w(q) R / cells + D_features + c D_head + d D_segmentation

R are bits. Both losses are divided by the square root of what their w(q) is to its middle, so that the gradients of
all qualities are alike. W are the classifier's weights: differences of logits count for every class, also for those
that the images hardly show, which keeps the layer from forgetting them. D_head compares what the teacher's own,
frozen head says of decoded and of true features, place by place (distillation: Hinton, Vinyals, Dean, 2015), and
counts the places where either of the two sees an object.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec.cosine import silence
from ..codec.global_layer import GlobalLayer
from ..codec.spatial_layer import SpatialLayer
from ..teachers.nanodet import BINS
from .averaging import WeightAverage
from .objective import log_interpolate
from .teacher_features import FeatureBatch

PYRAMID = ("p3", "p4", "p5", "p6")
RELATIVE_STEP = 0.35
"""The global layer's step at quality gain 1, in deviations of its first components."""
FLOOR = 0.3
"""Features that hardly vary count by this share of the median deviation."""


def analysis_inputs(maps: dict[str, Tensor]) -> list[Tensor]:
    """What the spatial layer's analysis sees at strides 8, 16 and 32: the pyramid, and the backbone behind it."""
    return [maps["p3"], torch.cat([maps["p4"], maps["c4"]], 1), torch.cat([maps["p5"], maps["c5"]], 1)]


@torch.no_grad()
def start_global_layer(layer: GlobalLayer, embeddings: Tensor, weight: Tensor) -> None:
    """Start as principal components in the metric of the classifier's weights (classes, E), and their inverse.

    Args:
        embeddings: (n, E), of images seen whole.
    """
    centered = weight - weight.mean(0)
    gram = centered.T @ centered
    gram += 1e-3 * gram.diagonal().mean() * torch.eye(len(gram))
    values, vectors = torch.linalg.eigh(gram)
    metric, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    mean = embeddings.mean(0)
    spread = (embeddings - mean) @ metric
    energy, axes = torch.linalg.eigh(spread.T @ spread / len(spread))
    energy, axes = energy.flip(0), axes.flip(1)[:, : layer.channels]
    step = float(energy[:8].mean().sqrt()) * RELATIVE_STEP
    forward, back = layer.g_a[0], layer.g_s[1]
    forward.weight.copy_((metric @ axes / step).T)
    forward.bias.copy_(-forward.weight @ mean)
    back.weight.copy_((step * axes.T @ inverse).T)
    back.bias.copy_(mean)
    _ramp(layer, -1.6, 0.6)


def _ramp(layer: GlobalLayer | SpatialLayer, low: float, high: float) -> None:
    """Logarithms of gains from ``low`` at quality 0 to ``high`` at quality 1; of their inverses the other way."""
    for gains, sign in ((layer.gain, 1), (layer.inverse_gain, -1)):
        ramp = torch.linspace(low, high, len(gains.log_gain))
        gains.log_gain.copy_(sign * ramp[:, None].expand_as(gains.log_gain))


@dataclass
class Statistics:
    """Mean and deviation (C,) of each map; the deviation of a channel that hardly varies is raised."""

    mean: dict[str, Tensor]
    deviation: dict[str, Tensor]

    @classmethod
    def of(cls, batches: Iterable[FeatureBatch]) -> Statistics:
        """Those of some batches."""
        seen: dict[str, list[Tensor]] = {}
        for batch in batches:
            for name, value in batch.maps.items():
                seen.setdefault(name, []).append(value.movedim(1, 0).flatten(1))
        whole = {name: torch.cat(values, 1) for name, values in seen.items()}
        deviations = {name: values.std(1) for name, values in whole.items()}
        raised = {n: (d.square() + (FLOOR * d.median()) ** 2).sqrt() for n, d in deviations.items()}
        return cls({name: values.mean(1) for name, values in whole.items()}, raised)


@torch.no_grad()
def start_spatial_layer(layer: SpatialLayer, batches: Iterable[FeatureBatch], known: Statistics) -> None:
    """Start as principal components of the pyramid at stride 16 (p3 unshuffled, p5 spread), and their inverse."""
    rows = [_at_stride_16(batch, known).movedim(1, -1).flatten(0, -2)[::7] for batch in batches]
    whole = torch.cat(rows)
    energy, axes = torch.linalg.eigh(whole.T @ whole / len(whole))
    axes, unit = axes.flip(1).T[: layer.spec.channels], 8.0 / float(energy[-1]) ** 0.5
    _start_spatial_analysis(layer, axes * unit, known)
    _start_spatial_synthesis(layer, axes.T / unit, known)
    _ramp(layer, -3.0, -1.2)
    silence(layer)


def _at_stride_16(batch: FeatureBatch, known: Statistics) -> Tensor:
    def normal(name: str) -> Tensor:
        return (batch.maps[name] - known.mean[name][:, None, None]) / known.deviation[name][:, None, None]

    fine, coarse = F.pixel_unshuffle(normal("p3"), 2) / 2, F.interpolate(normal("p5"), scale_factor=2)
    return torch.cat([fine, normal("p4"), coarse], 1)


def _start_spatial_analysis(layer: SpatialLayer, axes: Tensor, known: Statistics) -> None:
    g_a, (count, _) = layer.g_a, axes.shape
    c8, c16, c32 = (len(known.mean[name]) for name in ("p3", "p4", "p5"))
    up = g_a.up[0]
    for conv in (g_a.down, g_a.keep):
        conv.weight[:count] = 0
        conv.bias.zero_()
    up.weight.mul_(0.3)
    up.weight[: 4 * count] = 0
    up.bias.zero_()
    fine = axes[:, : 4 * c8] / 2 / known.deviation["p3"].repeat_interleave(4)
    middle, coarse = axes[:, 4 * c8 : 4 * c8 + c16] / known.deviation["p4"], axes[:, -c32:] / known.deviation["p5"]
    g_a.down.weight[:count] = fine.reshape(count, c8, 2, 2)
    g_a.keep.weight[:count, :c16, 0, 0] = middle
    for place in range(4):
        up.weight[place : 4 * count : 4, :c32, 0, 0] = coarse
    mean = known.mean
    g_a.keep.bias[:count] = -(fine @ mean["p3"].repeat_interleave(4) + middle @ mean["p4"] + coarse @ mean["p5"])
    g_a.out.weight.zero_()
    g_a.out.bias.zero_()
    g_a.out.weight[range(count), range(count)] = 1


def _start_spatial_synthesis(layer: SpatialLayer, back: Tensor, known: Statistics) -> None:
    g_s, count = layer.g_s, back.shape[1]
    c8, c16, c32 = (len(known.mean[name]) for name in ("p3", "p4", "p5"))
    deviation, mean = known.deviation, known.mean
    g_s.stem.weight[:count] = 0
    g_s.stem.bias[:count] = 0
    g_s.stem.weight[range(count), range(count), 1, 1] = 1
    g_s.to16.weight.zero_()
    g_s.to16.weight[:, :count, 0, 0] = back[4 * c8 : 4 * c8 + c16] * deviation["p4"][:, None]
    g_s.to16.bias.copy_(mean["p4"])
    up, out = g_s.to8[0][0], g_s.to8[2]
    up.weight.zero_()
    up.bias.zero_()
    up.weight[: 4 * c8, :count, 0, 0] = back[: 4 * c8] * 2 * deviation["p3"].repeat_interleave(4)[:, None]
    up.bias[: 4 * c8] = mean["p3"].repeat_interleave(4)
    out.weight.zero_()
    out.bias.zero_()
    out.weight[range(c8), range(c8)] = 1
    down = g_s.down[0]
    down.weight[:count] = 0
    down.bias[:count] = 0
    down.weight[range(count), range(count)] = 0.25
    g_s.to32.weight.zero_()
    g_s.to32.weight[:, :count, 0, 0] = back[-c32:] * deviation["p5"][:, None]
    g_s.to32.bias.copy_(mean["p5"])
    g_s.to64[2].weight.zero_()
    g_s.to64[2].bias.copy_(mean["p6"])


class GlobalLoss(nn.Module):
    """See the module.

    Args:
        layer: what learns.
        weight, bias: of the classifier, (classes, E) and (classes,).
        embeddings: (n, E), whose spread is the unit of distances.
        distortions: w at quality 0 and at quality 1.
        squares, logits: the weights a and b.
    """

    def __init__(
        self,
        layer: GlobalLayer,
        weight: Tensor,
        bias: Tensor,
        embeddings: Tensor,
        distortions: tuple[float, float] = (0.5, 100.0),
        squares: float = 0.2,
        logits: float = 1.0,
    ):
        super().__init__()
        self.layer, self.distortions, self.squares, self.logits = layer, distortions, squares, logits
        self.weight, self.bias, self.centered = weight, bias, weight - weight.mean(0)
        apart = embeddings - embeddings.mean(0)
        self.spread = float(apart.square().mean()), float((apart @ self.centered.T).square().mean())

    def forward(self, embeddings: Tensor, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of embeddings (N, E) at drawn qualities, and its terms by name; every step is like the others."""
        quality = torch.rand(len(embeddings), 1, 1, 1, device=embeddings.device)
        y_hat, bits = self.layer(embeddings, quality)
        found = self.layer.embedding(self.layer.dequantize(y_hat, quality))
        ours, theirs = (F.linear(e, self.weight, self.bias).log_softmax(1) for e in (found, embeddings))
        divergence = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(1)
        apart = found - embeddings
        distance = self.squares * apart.square().mean(1) / self.spread[0]
        distance = distance + self.logits * (apart @ self.centered.T).square().mean(1) / self.spread[1]
        weight = log_interpolate(list(self.distortions), quality.flatten())
        balance = (weight / math.sqrt(self.distortions[0] * self.distortions[1])).sqrt()
        bits = bits.flatten(1).sum(1)
        loss = ((bits / 1000 + weight * (divergence + distance)) / balance).mean()
        return loss, {"bytes": bits.mean().detach() / 8, "divergence": divergence.mean().detach()}


class SegmentationProbe(nn.Module):
    """A small head by which the spatial layer is told what a segmenter sees: pyramid and embedding to logits."""

    def __init__(self, channels: int, embedding: int, classes: int, width: int = 96):
        super().__init__()
        self.read = nn.ModuleList(nn.Conv2d(channels, width, 1) for _ in range(3))
        self.embedding = nn.Linear(embedding, width)
        nn.init.zeros_(self.embedding.weight)
        steps: list[nn.Module] = []
        for _ in range(2):
            steps += [nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1), nn.GELU()]
        self.body, self.out = nn.Sequential(*steps), nn.Conv2d(width, classes, 1)

    def forward(self, pyramid: list[Tensor], embedding: Tensor) -> Tensor:
        """Logits (N, classes, h / 16, w / 16)."""
        fine, middle, coarse = (read(level) for read, level in zip(self.read, pyramid, strict=False))
        x = F.avg_pool2d(fine, 2) + middle + F.interpolate(coarse, size=middle.shape[-2:], mode="bilinear")
        x = F.gelu(x + self.embedding(embedding)[..., None, None])
        return self.out(x + self.body(x))


@dataclass
class SpatialWeights:
    """What the terms of the spatial layer's loss count.

    Attributes:
        rate: w at quality 0 and at quality 1, of bits a cell.
        features: of the pyramid's levels.
        head, boxes: c, and what distributions of boxes count in it.
        segmentation: d.
        warmup: steps over which the rate's weight grows.
    """

    rate: tuple[float, float] = (0.06, 0.004)
    features: tuple[float, ...] = (0.3, 0.6, 1.0, 0.3)
    head: float = 2.0
    boxes: float = 0.7
    segmentation: float = 1.0
    warmup: int = 300


class SpatialLoss(nn.Module):
    """See the module.

    Args:
        layer, probe: what learns.
        conditions: the trained global layer, which stands still.
        heads: the teacher's, one for each level of the pyramid; they stand still.
        known: statistics of the maps.
    """

    def __init__(
        self,
        layer: SpatialLayer,
        probe: SegmentationProbe,
        conditions: GlobalLayer,
        heads: nn.ModuleList,
        known: Statistics,
        weights: SpatialWeights | None = None,
    ):
        super().__init__()
        self.layer, self.probe, self.known, self.weights = layer, probe, known, weights or SpatialWeights()
        self.conditions = conditions.eval().requires_grad_(False)
        self.heads = heads.eval().requires_grad_(False)

    def forward(self, batch: FeatureBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch at drawn qualities, and its terms by name; what bits count grows over the first steps."""
        count, weights = len(batch.embeddings), self.weights
        quality = torch.rand(count, 1, 1, 1)
        with torch.no_grad():  # of the global layer, qualities near that of the spatial one
            near = (quality + 0.25 * torch.randn_like(quality)).clamp(0, 1)
            side, _ = self.conditions(batch.embeddings, near, noisy=False)
            latents = self.conditions.dequantize(side, near)
            embedding = self.conditions.embedding(latents)
        y_hat, bits = self.layer(analysis_inputs(batch.maps), side, quality)
        pyramid = [f.float() for f in self.layer.g_s(self.layer.dequantize(y_hat, quality), quality, latents)]
        features, head = self._features(pyramid, batch.maps), self._head(pyramid, batch.maps)
        said = self.probe(pyramid, embedding).float().log_softmax(1)
        wanted = batch.maps["segmentation"].log_softmax(1)
        segments = F.kl_div(said, wanted, log_target=True, reduction="none").sum(1).mean((1, 2))
        bits = bits.flatten(1).sum(1)
        rate = log_interpolate(list(weights.rate), quality.flatten()) * min(1.0, (step + 1) / weights.warmup)
        total = rate * bits / y_hat[0, 0].numel() + features + weights.head * head + weights.segmentation * segments
        balance = (rate / math.sqrt(weights.rate[0] * weights.rate[1])).clamp_min(0.2).sqrt()
        terms = {"bytes": bits / 8, "features": features, "head": head, "segmentation": segments}
        return (total / balance).mean(), {name: term.mean().detach() for name, term in terms.items()}

    def _features(self, pyramid: list[Tensor], maps: dict[str, Tensor]) -> Tensor:
        total = torch.zeros(len(pyramid[0]))
        for name, found, weight in zip(PYRAMID, pyramid, self.weights.features, strict=True):
            apart = (found - maps[name]) / self.known.deviation[name][:, None, None]
            total = total + weight * apart.square().mean((1, 2, 3))
        return total

    def _head(self, pyramid: list[Tensor], maps: dict[str, Tensor]) -> Tensor:
        total, places = torch.zeros(len(pyramid[0])), torch.zeros(len(pyramid[0]))
        for name, found, head in zip(PYRAMID, pyramid, self.heads, strict=True):
            with torch.no_grad():
                theirs = head(maps[name]).float()
            ours = head(found).float()
            (logits, sides), (wanted, right) = (
                said.split([said.shape[1] - 4 * BINS, 4 * BINS], 1) for said in (ours, theirs)
            )
            sure = wanted.sigmoid().amax(1)
            seen = torch.maximum(sure, logits.detach().sigmoid().amax(1))
            chances, apart = (s.unflatten(1, (4, BINS)).log_softmax(2) for s in (right, sides))
            boxes = F.kl_div(apart, chances, log_target=True, reduction="none").sum(2).mean(1)
            classes = _binary_divergence(logits, wanted).sum(1)
            total = total + ((seen + 0.02) * classes + self.weights.boxes * sure * boxes).flatten(1).sum(1)
            places = places + seen.flatten(1).sum(1)
        return total / (places + 2)


def _binary_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence, in nats, of chances of two outcomes, element by element."""
    chances = targets.sigmoid()
    cost, least = (F.binary_cross_entropy_with_logits(x, chances, reduction="none") for x in (logits, targets))
    return cost - least


@dataclass
class Fit:
    """How long and how fast something learns: AdamW, a warm-up, a cosine down to a fiftieth, averaged weights."""

    steps: int
    lr: float
    warmup: int = 200
    average: float = 0.999
    clip: float = 2.0
    frozen: list[nn.Module] = field(default_factory=list)


def fit(
    loss: Callable[..., tuple[Tensor, dict[str, Tensor]]], module: nn.Module, batches: Iterator, how: Fit
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train a module by a loss of batches; in the end it holds the average of its weights.

    Yields:
        steps done, and the terms of the loss, after every step.
    """
    still = {id(parameter) for part in how.frozen for parameter in part.parameters()}
    moving = [p for p in module.parameters() if p.requires_grad and id(p) not in still]
    optimizer = torch.optim.AdamW(moving, lr=how.lr, weight_decay=0.0, betas=(0.9, 0.98))
    average = WeightAverage(moving, how.average)
    for step in range(how.steps):
        falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / how.steps))
        for group in optimizer.param_groups:
            group["lr"] = how.lr * falling * min(1.0, (step + 1) / how.warmup)
        value, terms = loss(next(batches), step)
        optimizer.zero_grad()
        value.backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(moving, how.clip)):
            optimizer.step()
        average.update(step + 1)
        yield step + 1, {name: float(term) for name, term in terms.items()}
    average.copy_to_weights()
