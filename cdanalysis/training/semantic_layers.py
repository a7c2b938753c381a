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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec.cosine import silence
from ..codec.gains import log_interpolate
from ..codec.global_layer import GlobalLayer
from ..codec.spatial_layer import SpatialLayer, analysis_inputs
from ..heads.classification import divergence
from ..heads.nanodet import NanoDet
from .objective import raised
from .teacher_features import MAPS, SEGMENTATION, FeatureBatch, GlobalWeights, SpatialWeights

PYRAMID = MAPS[:4]
RELATIVE_STEP = 0.35
"""The global layer's step at quality gain 1, in deviations of its first components."""


def check_room(layer: GlobalLayer | SpatialLayer) -> None:
    """Refuse a layer that has no room to start as principal components.

    Args:
        layer: that is to start so.

    Raises:
        ValueError: if it has too many channels for them (the global layer), or is too narrow (the spatial one).
    """
    if isinstance(layer, GlobalLayer):
        most = layer.g_a[0].in_features
        if layer.channels > most:
            raise ValueError(
                f"to start as principal components global_groups must add up to at most {most}, got {layer.channels}"
            )
        return
    width, least = layer.g_a.keep.out_channels, max(layer.spec.channels, 2 * layer.outputs[0])
    if width < least:
        raise ValueError(f"to start as principal components spatial_hidden must be at least {least}, got {width}")


@torch.no_grad()
def start_global_layer(layer: GlobalLayer, embeddings: Tensor, weight: Tensor) -> None:
    """Start as principal components in the metric of the classifier's weights, and their inverse.

    Args:
        layer: its weights are replaced.
        embeddings: (n, E), of images seen whole.
        weight: (classes, E), of the classifier.

    Raises:
        ValueError: if the layer has more channels than there are components.
    """
    check_room(layer)
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
    """Mean and deviation of each map; the deviation of a channel that hardly varies is raised.

    Attributes:
        mean: (C,) by the map's name.
        deviation: (C,) by the map's name, above 0.
    """

    mean: dict[str, Tensor]
    deviation: dict[str, Tensor]

    @classmethod
    def of(cls, batches: Iterable[FeatureBatch]) -> Statistics:
        """The statistics of some batches together.

        Args:
            batches: at least one; their maps are held in memory at once.
        """
        seen: dict[str, list[Tensor]] = {}
        for batch in batches:
            for name, value in batch.maps.items():
                seen.setdefault(name, []).append(value.movedim(1, 0).flatten(1))
        whole = {name: torch.cat(values, 1) for name, values in seen.items()}
        deviations = {name: raised(values.var(1)).sqrt() for name, values in whole.items()}
        return cls({name: values.mean(1) for name, values in whole.items()}, deviations)

    def to(self, device: torch.device) -> Statistics:
        """The same on a device.

        Args:
            device: torch device.
        """
        return Statistics(*({n: t.to(device) for n, t in each.items()} for each in (self.mean, self.deviation)))


@torch.no_grad()
def start_spatial_layer(layer: SpatialLayer, batches: Iterable[FeatureBatch], known: Statistics) -> None:
    """Start as principal components of the pyramid at stride 16 (p3 unshuffled, p5 spread), and their inverse.

    Args:
        layer: its weights are replaced.
        batches: at least one; what their maps show is what varies.
        known: statistics of the maps.

    Raises:
        ValueError: if the layer is too narrow for that.
    """
    check_room(layer)
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
    """The loss of the global layer, see the module.

    Args:
        layer: what learns.
        weight, bias: of the classifier, (classes, E) and (classes,).
        embeddings: (n, E), whose spread is the unit of distances.
        weights: of the loss's terms.
    """

    def __init__(
        self,
        layer: GlobalLayer,
        weight: Tensor,
        bias: Tensor,
        embeddings: Tensor,
        weights: GlobalWeights | None = None,
    ):
        super().__init__()
        self.layer, self.weights = layer, weights or GlobalWeights()
        for name, tensor in (("weight", weight), ("bias", bias), ("centered", weight - weight.mean(0))):
            self.register_buffer(name, tensor.detach(), persistent=False)
        apart = embeddings - embeddings.mean(0)
        self.spread = float(apart.square().mean()), float((apart @ self.centered.T).square().mean())

    def forward(self, batch: FeatureBatch, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch's embeddings at drawn qualities.

        Args:
            batch: its maps do not count.
            step: does not count: every step is like the others.

        Returns:
            a scalar, and its terms by name, detached.
        """
        with torch.autocast(batch.embeddings.device.type, enabled=False):  # small differences of large logits
            return self._loss(batch.embeddings)

    def _loss(self, embeddings: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        weights = self.weights
        quality = torch.rand(len(embeddings), 1, 1, 1, device=embeddings.device)
        y_hat, bits = self.layer(embeddings, quality)
        found = self.layer.embedding(self.layer.dequantize(y_hat, quality))
        apart_in_classes = divergence(*(F.linear(e, self.weight, self.bias) for e in (found, embeddings)))
        apart = found - embeddings
        distance = weights.squares * apart.square().mean(1) / self.spread[0]
        distance = distance + weights.logits * (apart @ self.centered.T).square().mean(1) / self.spread[1]
        weight = log_interpolate(weights.distortions, quality.flatten())
        balance = (weight / math.sqrt(weights.distortions[0] * weights.distortions[1])).sqrt()
        bits = bits.flatten(1).sum(1)
        loss = ((bits / 1000 + weight * (apart_in_classes + distance)) / balance).mean()
        terms = {"bytes": bits.mean() / 8, "divergence": apart_in_classes.mean(), "loss": loss}
        return loss, {name: term.detach() for name, term in terms.items()}


class SegmentationProbe(nn.Module):
    """A small head by which the spatial layer is told what a segmenter sees: pyramid and embedding to logits.

    Args:
        channels: of the pyramid's levels at strides 8, 16 and 32.
        embedding: numbers in it.
        classes: of the segmenter.
        width: channels of the probe.
    """

    def __init__(self, channels: Sequence[int], embedding: int, classes: int, width: int = 96):
        super().__init__()
        self.read = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.embedding = nn.Linear(embedding, width)
        nn.init.zeros_(self.embedding.weight)
        steps: list[nn.Module] = []
        for _ in range(2):
            steps += [nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1), nn.GELU()]
        self.body, self.out = nn.Sequential(*steps), nn.Conv2d(width, classes, 1)

    def forward(self, pyramid: list[Tensor], embedding: Tensor) -> Tensor:
        """Class logits, cell by cell.

        Args:
            pyramid: (N, C, h, w) at strides 8, 16 and 32; what follows is not read.
            embedding: (N, E).

        Returns:
            (N, classes, h / 16, w / 16) for a working size of h x w.
        """
        fine, middle, coarse = (read(level) for read, level in zip(self.read, pyramid, strict=False))
        x = F.avg_pool2d(fine, 2) + middle + F.interpolate(coarse, size=middle.shape[-2:], mode="bilinear")
        x = F.gelu(x + self.embedding(embedding)[..., None, None])
        return self.out(x + self.body(x))


class SpatialLoss(nn.Module):
    """The loss of the spatial layer, see the module.

    Args:
        layer: what learns.
        probe: learns too, where maps hold what a segmenter sees.
        conditions: the trained global layer, which stands still.
        head: the teacher's, which stands still; None where it has none: its features alone then count.
        known: statistics of the maps.
        weights: of the loss's terms.
        warmup: steps over which the rate's weight grows.
    """

    def __init__(
        self,
        layer: SpatialLayer,
        probe: SegmentationProbe | None,
        conditions: GlobalLayer,
        head: NanoDet | None,
        known: Statistics,
        weights: SpatialWeights | None = None,
        warmup: int = 0,
    ):
        super().__init__()
        self.layer, self.probe, self.known, self.weights = layer, probe, known, weights or SpatialWeights()
        self.warmup = max(1, warmup)
        self.conditions = conditions.eval().requires_grad_(False)
        self.head = None if head is None else head.eval().requires_grad_(False)

    def forward(self, batch: FeatureBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch at drawn qualities.

        Args:
            batch: of views with one grid.
            step: of the stage, from 0; what bits count grows over the first ``warmup`` steps.

        Returns:
            a scalar, and its terms by name, detached.
        """
        weights, maps = self.weights, batch.maps
        quality = torch.rand(len(batch.embeddings), 1, 1, 1, device=batch.embeddings.device)
        with torch.no_grad():  # of the global layer, qualities near that of the spatial one
            near = (quality + 0.25 * torch.randn_like(quality)).clamp(0, 1)
            side, _ = self.conditions(batch.embeddings, near, noisy=False)
            latents = self.conditions.dequantize(side, near)
            embedding = self.conditions.embedding(latents)
        y_hat, bits = self.layer(analysis_inputs(batch.detected()), side, quality)
        pyramid = [f.float() for f in self.layer.g_s(self.layer.dequantize(y_hat, quality), quality, latents)]
        bits = bits.flatten(1).sum(1)
        terms = {"bytes": bits / 8, "features": self._features(pyramid, maps)}
        total = terms["features"]
        if self.head is not None:
            terms["head"] = self.head.distance(pyramid, [maps[name] for name in PYRAMID])
            total = total + weights.head * terms["head"]
        if self.probe is not None:
            terms[SEGMENTATION] = divergence(self.probe(pyramid, embedding), maps[SEGMENTATION]).mean((1, 2))
            total = total + weights.segmentation * terms[SEGMENTATION]
        rate = log_interpolate(weights.rate, quality.flatten()) * min(1.0, (step + 1) / self.warmup)
        balance = (rate / math.sqrt(weights.rate[0] * weights.rate[1])).clamp_min(0.2).sqrt()
        terms["loss"] = (total + rate * bits / y_hat[0, 0].numel()) / balance
        return terms["loss"].mean(), {name: term.mean().detach() for name, term in terms.items()}

    def _features(self, pyramid: list[Tensor], maps: dict[str, Tensor]) -> Tensor:
        total = pyramid[0].new_zeros(len(pyramid[0]))
        for name, found, weight in zip(PYRAMID, pyramid, self.weights.features, strict=True):
            apart = (found - maps[name]) / self.known.deviation[name].to(found.device)[:, None, None]
            total = total + weight * apart.square().mean((1, 2, 3))
        return total
