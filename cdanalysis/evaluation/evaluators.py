"""Evaluators of files: pixels, perception, networks that know nothing of compression, and heads that read streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ..codecs.base import Codec
from ..codecs.ours import ModelCodec
from ..data.labeled import LabeledSet
from ..heads.base import Head, layers_of
from ..metrics import image as metrics
from ..metrics.tasks import Scorer
from ..model import Model
from ..observers import LPIPS, UnitFeatureDistance
from ..observers.base import weighted_mean
from ..observers.perceptual import squeezenet
from ..photographs.read import to_tensor
from ..registry import EVALUATORS, METRICS
from ..roi.saliency import Saliency, SpectralResidual
from ..stream.container import strip
from ..structures.latents import LAYERS
from ..teachers.base import Frozen
from ..teachers.deeplab import DeepLab
from ..teachers.imagenet import imagenet_classes, imagenet_classifier
from ..teachers.nanodet import NanoDetPlus

Figures = dict[str, float | None]


class Evaluator(Protocol):
    """Sees photographs, their reconstructions, both uint8 (H, W, 3), and the files between; then gives its figures.

    One that has ``restore(index, row)`` too, which takes back what ``update`` gave, lets a run that was stopped go on;
    one whose ``decodes`` is False looks at no reconstruction, which then may be None. One of one's own is registered in
    `cdanalysis.registry.EVALUATORS`, as a function of a `Context`.
    """

    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, Any]:
        """See a photograph.

        Args:
            index: of the photograph in its set.
            original: uint8 (H, W, 3).
            decoded: uint8 (H, W, 3), what the file decodes to.
            data: the file; empty for photographs as they are.

        Returns:
            the photograph's own figures, and under names that begin with "_" other plain data to keep.
        """
        ...

    def compute(self) -> Figures:
        """Figures of all photographs that were seen, by name; None where there is none."""
        ...


@dataclass(frozen=True)
class Context:
    """What evaluators are made for.

    Attributes:
        labeled: the data set that files are made of.
        rgb: has the RGB detector.
        weights: SqueezeNet's, for the perceptual ones.
        codec: whose files are evaluated, None for photographs themselves; a head reads none but its own model's.
        saliency: says what is salient; by default, spectral residuals.
    """

    labeled: LabeledSet | None = None
    rgb: Model | None = None
    weights: str = ""
    codec: Codec | None = None
    saliency: Saliency | None = None


class MeanEvaluator:
    """Means of measures over the photographs that have them: equal pictures have no PSNR, small ones no MS-SSIM;
    ``NAME_left_out`` counts those.

    Args:
        measure: (index, original, decoded, file) to numbers by name, None where there is none.
        names: which these may be.
        decodes: whether it looks at reconstructions.
    """

    def __init__(
        self, measure: Callable[[int, np.ndarray, np.ndarray, bytes], Figures], *names: str, decodes: bool = True
    ):
        self.measure, self.names, self.decodes = measure, names, decodes
        self.rows: dict[int, Figures] = {}

    @torch.inference_mode()
    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> Figures:
        """As `Evaluator.update`; figures that are not finite are None."""
        found = self.measure(index, original, decoded, data)
        return self.restore(index, {name: metrics.defined(value) for name, value in found.items()})

    def restore(self, index: int, row: dict[str, Any]) -> Figures:
        """Take back what ``update`` gave.

        Args:
            index: of the photograph in its set.
            row: with these figures, and any others.

        Returns:
            the figures.
        """
        self.rows[index] = {name: row[name] for name in self.names if name in row}
        return self.rows[index]

    def compute(self) -> Figures:
        """As `Evaluator.compute`."""
        found: Figures = {}
        for name in self.names:
            values = [row[name] for row in self.rows.values() if name in row]
            found |= metrics.mean_of(name, values) if values else {}
        return found


class TaskEvaluator:
    """Scores of a model's head on the layers of files that it reads, or of its counterpart on what files decode to.

    What files decode to may be smaller than the photograph; predictions are in pixels of the photograph all the same.

    Args:
        model: whose head it is; where files are read, these are its streams.
        task: of the head.
        labeled: the photographs, with their labels.
        latents: whether files are read, and not photographs.
        prefix: of its figures' names.

    Raises:
        ValueError: if the model has no head, or no counterpart, of that task, or it does not know the data's classes.
    """

    def __init__(self, model: Model, task: str, labeled: LabeledSet, latents: bool, prefix: str = ""):
        self.model, self.task, self.prefix, self.decodes = model, task, prefix, not latents
        self.head = head_of(model, task, counterpart=not latents)
        self.layers = layers_of([self.head])
        self.scorer: Scorer = METRICS[task](labeled, self.head.classes)

    @torch.inference_mode()
    def _predicted(self, size: tuple[int, int], decoded: np.ndarray, data: bytes) -> Any:
        model, task = self.model, self.task
        if self.decodes:
            features = replace(model.reference.features([decoded], self.layers), sizes=[size])
            return self._scored(self.head(features)) if task == "classification" else self.head.predict(features)[0]
        own = strip(data, LAYERS[: self.layers])
        return (
            self._scored(model.class_logits([own])) if task == "classification" else model.analyze(own, (task,))[task]
        )

    def _scored(self, logits: Tensor) -> Tensor:
        return (logits[0] / cast(Tensor, self.head.temperature)).cpu()

    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, Any]:
        """As `Evaluator.update`: the seconds that it took, and what the scorer keeps."""
        started = time.perf_counter()
        prediction = self._predicted(original.shape[:2], decoded, data)
        seconds = round(time.perf_counter() - started, 6)
        self.scorer.update(index, prediction)
        return {"read_s": seconds, f"_{self.prefix}part": self.scorer.parts[index]}

    def restore(self, index: int, row: dict[str, Any]) -> None:
        """Take back what ``update`` gave.

        Args:
            index: of the photograph in its set.
            row: as ``update`` gave it, and any others.

        Raises:
            KeyError: if the row was written for other evaluators.
        """
        self.scorer.parts[index] = row[f"_{self.prefix}part"]

    def compute(self) -> Figures:
        """As `Evaluator.compute`: the scores of the task's metric."""
        return {f"{self.prefix}{name}": value for name, value in self.scorer.compute().items()}


def head_of(model: Model, task: str, counterpart: bool = False) -> Head:
    """A model's head, or its counterpart.

    Args:
        model: whose head it is.
        task: of the head.
        counterpart: whether to give the head that reads what teachers see in photographs.

    Raises:
        ValueError: if it has none of that task.
    """
    if task not in model.heads:
        raise ValueError(f"model {model.name!r} has no {task} head; it has: {', '.join(model.heads)}")
    return model.counterpart(task) if counterpart else model.heads[task]


def _batches(*arrays: np.ndarray) -> tuple[Tensor, ...]:
    return tuple(to_tensor(array)[None] for array in arrays)


def _of_pixels(name: str, distance: Callable[[np.ndarray, np.ndarray], float | None]) -> MeanEvaluator:
    return MeanEvaluator(lambda index, original, decoded, data: {name: distance(original, decoded)}, name)


class SalientEvaluator(MeanEvaluator):
    """Mean LPIPS and PSNR on what is salient, and on the rest.

    Args:
        weights: as for `LPIPS`.
        saliency: maps a photograph to numbers in [0, 1]; what it gives 0.5 or more is salient. A photograph without
            such a place, or without any other, does not count.
    """

    def __init__(self, weights: str, saliency: Saliency):
        super().__init__(self._parts, "lpips_salient", "psnr_salient", "lpips_rest", "psnr_rest")
        self.observer, self.saliency = LPIPS(weights), saliency

    def _parts(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> Figures:
        marked = np.asarray(self.saliency(original)) >= 0.5
        if marked.all() or not marked.any():
            return {}
        distance = self.observer.map(*_batches(original, decoded))
        own: Figures = {}
        for part, place in (("salient", marked), ("rest", ~marked)):
            weight = torch.from_numpy(place.astype(np.float32))[None, None]
            own[f"lpips_{part}"] = float(weighted_mean(distance, weight))
            own[f"psnr_{part}"] = metrics.psnr(original[place], decoded[place])
        return own

    def compute(self) -> Figures:
        """As `Evaluator.compute`; ``with_salient_places`` counts the photographs that count."""
        found = super().compute()
        return found | {"with_salient_places": sum(map(bool, self.rows.values()))} if found else {}


class FrechetEvaluator:
    """Frechet distance (Heusel and others, NeurIPS 2017) between photographs and reconstructions.

    The features are not Inception's, so figures compare with each other and with no paper's. Photographs are seen as
    patches of 64x64 pixels, because a few dozen whole ones would not fill the features' space; what is left at the
    right and at the bottom is not used.

    Args:
        features: uint8 patches (N, 3, H, W) to (N, ``num_features``).
        name: of the network, which the figure is named after.
    """

    SIDE, decodes = 64, True

    def __init__(self, features: nn.Module, name: str):
        self.distance, self.name, self.patches = FrechetInceptionDistance(features), f"fid_{name}", 0

    @torch.inference_mode()
    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> Figures:
        """As `Evaluator.update`; a photograph smaller than a patch does not count, and none has a figure of its own."""
        if min(original.shape[:2]) < self.SIDE:
            return {}
        for array, real in ((original, True), (decoded, False)):
            tiles = torch.from_numpy(array.copy()).unfold(0, self.SIDE, self.SIDE).unfold(1, self.SIDE, self.SIDE)
            patches = tiles.reshape(-1, 3, self.SIDE, self.SIDE)  # of (rows, columns, 3, side, side)
            self.distance.update(patches, real=real)
        self.patches += len(patches)
        return {}

    def compute(self) -> Figures:
        """As `Evaluator.compute`: the distance, None of fewer than two patches, and the number of patches."""
        distance = float(self.distance.compute()) if self.patches > 1 else None  # one patch has no covariance
        return {self.name: metrics.defined(distance), "fid_patches": self.patches}


class _SqueezeFeatures(nn.Module):
    """Pooled features (N, 512) of SqueezeNet 1.1, for uint8 patches (N, 3, H, W)."""

    num_features = 512

    def __init__(self, observer: LPIPS):
        super().__init__()
        self.observer = observer

    def forward(self, x: Tensor) -> Tensor:
        net = self.observer.net
        return net.net(net.scaling_layer(x.float() / 127.5 - 1))[-1].mean((2, 3))


class _PooledFeatures(nn.Module):
    """Pooled features (N, C) of a teacher's trunk, for uint8 patches (N, 3, H, W)."""

    def __init__(self, teacher: Frozen, trunk: nn.Sequential, channels: int):
        super().__init__()
        self.teacher, self.trunk, self.num_features = teacher, trunk, channels

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(self.teacher.normalized(x)).mean((2, 3))


def _judge(name: str, teacher: Frozen, trunk: nn.Sequential, layers: Sequence[str], channels: int) -> list[Evaluator]:
    """How far reconstructions are from photographs in a trunk's features, and their Frechet distance."""
    mean, deviation = ((value.flatten() / 255).tolist() for value in (teacher.mean, teacher.deviation))
    observer = UnitFeatureDistance(trunk, layers, mean, deviation)
    distance = lambda original, decoded: float(observer(*_batches(original, decoded)))  # noqa: E731
    return [
        _of_pixels(f"distance_{name}", distance),
        FrechetEvaluator(_PooledFeatures(teacher, trunk, channels), name),
    ]


def judges(context: Context) -> list[Evaluator]:
    """Distances in two networks that no decoder was tuned on: NanoDet's ShuffleNetV2 and DeepLabv3's MobileNetV2.

    Args:
        context: does not count.

    Returns:
        four evaluators: for each network the mean distance in its features, and the Frechet distance.

    Raises:
        FileNotFoundError: if the networks' weights are not there.
        ValueError: if they are another network's.
    """
    nanodet, deeplab = NanoDetPlus().load(), DeepLab().load()
    shuffle, channels = nanodet.backbone, deeplab.aspp.in_channels
    detector = nn.Sequential(shuffle.stem, shuffle.pool, *shuffle.stages)
    segmenter = nn.Sequential(deeplab.stem, nn.ReLU6(), *deeplab.blocks)
    return [
        *_judge("shufflenetv2", nanodet, detector, ("0", "2", "3"), nanodet.BACKBONE[-1]),
        *_judge("mobilenetv2", deeplab, segmenter, ("1", "4", "7", "14"), channels),
    ]


RECOGNIZERS = ("accuracy", "accuracy_squeezenet", "detection")
"""Those that need no original to compare with."""


def psnr(context: Context) -> Evaluator:
    """PSNR in dB.

    Args:
        context: does not count.
    """
    return _of_pixels("psnr", metrics.psnr)


def ms_ssim(context: Context) -> Evaluator:
    """MS-SSIM, in [0, 1].

    Args:
        context: does not count.
    """
    return _of_pixels("ms_ssim", metrics.ms_ssim)


def weave(context: Context) -> Evaluator:
    """How much of decoded pictures repeats itself with a grid of 16 pixels: about 1 for photographs.

    Args:
        context: does not count.
    """
    return _of_pixels("weave", lambda original, decoded: metrics.weave(decoded))


def lpips(context: Context) -> Evaluator:
    """LPIPS, at least 0, lower is better.

    Args:
        context: ``weights`` count.

    Raises:
        FileNotFoundError: as `LPIPS`.
        ValueError: as `LPIPS`.
        ImportError: as `LPIPS`.
    """
    observer = LPIPS(context.weights)
    return _of_pixels("lpips", lambda original, decoded: float(observer(*_batches(original, decoded))))


def fid(context: Context) -> Evaluator:
    """Frechet distance in SqueezeNet, at least 0, lower is better.

    Args:
        context: ``weights`` count.

    Raises:
        FileNotFoundError: as `LPIPS`.
        ValueError: as `LPIPS`.
        ImportError: as `LPIPS`.
    """
    return FrechetEvaluator(_SqueezeFeatures(LPIPS(context.weights)), "squeezenet")


def salient(context: Context) -> Evaluator:
    """LPIPS and PSNR of salient places, and of the rest.

    Args:
        context: ``weights`` and ``saliency`` count.

    Raises:
        FileNotFoundError: as `LPIPS`.
        ValueError: as `LPIPS`.
        ImportError: as `LPIPS`; also if spectral residuals are not installed (the extra ``saliency``).
    """
    return SalientEvaluator(context.weights, context.saliency or SpectralResidual())


def accuracy(context: Context) -> Evaluator:
    """Top-1 accuracy, among the data's classes, of an ImageNet classifier that was trained on photographs alone.

    Args:
        context: ``labeled`` counts: photographs in class folders.

    Raises:
        FileNotFoundError: if the classifier's weights cannot be had.
        ValueError: if a folder is not named after a class of ImageNet.
    """
    net = imagenet_classifier("tf_efficientnet_lite0")
    return _accuracy("accuracy", net, net.pretrained_cfg["mean"], net.pretrained_cfg["std"], context)


def accuracy_squeezenet(context: Context) -> Evaluator:
    """The same of SqueezeNet 1.1: of no decoder's observers, where these are EfficientNet-Lite0.

    Args:
        context: ``labeled`` and ``weights`` count.

    Raises:
        FileNotFoundError: if there is no file of these weights.
        ValueError: as `accuracy`, and if the file does not hold SqueezeNet 1.1.
    """
    net = squeezenet(context.weights).eval()
    return _accuracy("accuracy_squeezenet", net, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), context)


def _accuracy(
    name: str, net: nn.Module, mean: Sequence[float], deviation: Sequence[float], context: Context
) -> Evaluator:
    scorer = METRICS["classification"](context.labeled, imagenet_classes())
    shift, scale = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, deviation))

    @torch.inference_mode()
    def measure(index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> Figures:
        scorer.update(index, net(((to_tensor(decoded) - shift) / scale)[None])[0])
        return {name: scorer.compute([index])["top1"]}

    return MeanEvaluator(measure, name)


def detection(context: Context) -> Evaluator:
    """Average precision of a model's RGB detector (its counterpart), which reads decoded photographs.

    Args:
        context: ``rgb`` and ``labeled`` count.

    Raises:
        ValueError: if there is no model, or it has no such counterpart, or the data has other classes.
    """
    if context.rgb is None:
        raise ValueError("an RGB detector is asked for, and there is no model to take it from")
    return TaskEvaluator(context.rgb, "detection", context.labeled, latents=False)


def head(context: Context) -> list[Evaluator]:
    """The scores of a model's own head on its own streams, and what the layers that it reads take in bits a pixel.

    Args:
        context: ``labeled`` and ``codec`` count.

    Returns:
        two evaluators; none where there are no labels, or the codec is none of this library's.

    Raises:
        ValueError: as `TaskEvaluator`.
    """
    labeled, codec = context.labeled, context.codec
    if labeled is None or not isinstance(codec, ModelCodec):
        return []
    scores = TaskEvaluator(codec.model, labeled.task, labeled, latents=True, prefix="head_")
    read = LAYERS[: scores.layers]
    rate = lambda index, image, _, data: {"head_bpp": metrics.bpp(len(strip(data, read)), *image.shape[1::-1])}  # noqa: E731
    return [MeanEvaluator(rate, "head_bpp", decodes=False), scores]


def new_evaluators(names: Sequence[str], context: Context) -> list[Evaluator]:
    """The registered evaluators of some names; of a name there are several, or none where it has no say.

    Args:
        names: in `cdanalysis.registry.EVALUATORS`.
        context: what they are made for.

    Raises:
        ValueError: if there is none of a name; also what a registered evaluator raises.
    """
    found: list[Evaluator] = []
    for name in names:
        made = EVALUATORS[name](context)
        found += made if isinstance(made, list) else [] if made is None else [made]
    return found
