"""Evaluators of files: pixels, perception, networks that know nothing of compression, and heads that read streams."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ..codecs.base import Codec
from ..codecs.ours import ModelCodec
from ..data.images import data_path, to_tensor
from ..data.labeled import ClassFolders, LabeledSet
from ..metrics import image as metrics
from ..metrics.tasks import ClassificationScorer, DetectionScorer
from ..model import Model
from ..observers import LPIPS
from ..observers.base import weighted_mean
from ..registry import EVALUATORS, METRICS
from ..roi.saliency import Saliency, SpectralResidual
from ..stream.container import strip
from ..teachers.imagenet import imagenet_classes, imagenet_classifier

RECOGNIZERS = ("accuracy", "detection")
"""Those that need no original to compare with."""


class Evaluator(Protocol):
    """Sees files one by one, then gives its figures, as torchmetrics' metrics do.

    One of one's own is registered in `cdanalysis.registry.EVALUATORS`, as a function of a `Context`.
    """

    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float | None]:
        """Take note of a photograph, its reconstruction, both uint8 (H, W, 3), and the file between.

        Returns:
            figures of this photograph alone, by name; may be empty.
        """
        ...

    def compute(self) -> dict[str, float | None]:
        """Figures of all photographs, by name."""
        ...


class PixelEvaluator:
    """Mean PSNR in dB, or mean MS-SSIM, over the photographs that have it: equal pictures have no PSNR, small ones no
    MS-SSIM; ``NAME_left_out`` counts them."""

    def __init__(self, name: str):
        self.name = name
        self.values: list[float | None] = []
        self.measure = {"psnr": metrics.psnr, "ms_ssim": metrics.ms_ssim}[name]

    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float | None]:
        self.values.append(metrics.defined(self.measure(original, decoded)))
        return {self.name: self.values[-1]} if self.values[-1] is not None else {}

    def compute(self) -> dict[str, float | None]:
        return metrics.mean_of(self.name, self.values)


class LPIPSEvaluator:
    """Mean LPIPS on SqueezeNet.

    Args:
        weights: SqueezeNet's state dict; a path below ``CDANALYSIS_DATA`` or absolute; empty to download it.
    """

    def __init__(self, weights: str):
        self.observer = LPIPS(data_path(weights) if weights else None)
        self.values: list[float] = []

    @torch.inference_mode()
    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float | None]:
        a, b = (to_tensor(x)[None] for x in (original, decoded))
        self.values.append(float(self.observer(a, b)))
        return {"lpips": self.values[-1]}

    def compute(self) -> dict[str, float | None]:
        return metrics.mean_of("lpips", self.values)


class SalientEvaluator:
    """Mean LPIPS and PSNR on what is salient, and on the rest.

    Args:
        weights: as for `LPIPSEvaluator`.
        saliency: maps a photograph to numbers in [0, 1]; what it gives 0.5 or more is salient. A photograph without
            such a place, or without any other, does not count.
    """

    def __init__(self, weights: str, saliency: Saliency):
        self.observer, self.saliency = LPIPS(data_path(weights) if weights else None), saliency
        self.values: dict[str, list[float]] = defaultdict(list)

    @torch.inference_mode()
    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float | None]:
        marked = np.asarray(self.saliency(original)) >= 0.5
        if marked.all() or not marked.any():
            return {}
        distance = self.observer.map(*(to_tensor(x)[None] for x in (original, decoded)))
        own: dict[str, float | None] = {}
        for part, place in (("salient", marked), ("rest", ~marked)):
            weight = torch.from_numpy(place.astype(np.float32))[None, None]
            own[f"lpips_{part}"] = float(weighted_mean(distance, weight))
            own[f"psnr_{part}"] = metrics.defined(metrics.psnr(original[place], decoded[place]))
        for name, value in own.items():
            self.values[name].append(value)
        return own

    def compute(self) -> dict[str, float | None]:
        if not self.values:
            return {}
        means: dict[str, float | None] = {}
        for name, values in self.values.items():
            means |= metrics.mean_of(name, values)
        return {**means, "with_salient_places": len(self.values["lpips_salient"])}


class FrechetEvaluator:
    """Frechet distance (Heusel and others, NeurIPS 2017) between photographs and reconstructions.

    The features are SqueezeNet's, not Inception's, so figures compare with each other and with no paper's. Photographs
    are seen as patches of 64x64 pixels, because a few dozen whole ones would not fill the features' space.

    Args:
        weights: as for `LPIPSEvaluator`.
    """

    SIDE = 64

    def __init__(self, weights: str):
        self.distance = FrechetInceptionDistance(_SqueezeFeatures(LPIPS(data_path(weights) if weights else None)))
        self.patches = 0

    @torch.inference_mode()
    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float | None]:
        for array, real in ((original, True), (decoded, False)):
            patches = _patches(torch.from_numpy(array.copy()).permute(2, 0, 1), self.SIDE)
            if len(patches):
                self.distance.update(patches, real=real)
        self.patches += len(patches)
        return {}

    def compute(self) -> dict[str, float | None]:
        distance = float(self.distance.compute()) if self.patches > 1 else None  # one patch has no covariance
        return {"fid_squeezenet": metrics.defined(distance), "fid_patches": self.patches}


class _SqueezeFeatures(nn.Module):
    """Pooled features (N, 512) of SqueezeNet 1.1, for uint8 patches (N, 3, H, W)."""

    num_features = 512

    def __init__(self, observer: LPIPS):
        super().__init__()
        self.observer = observer

    def forward(self, x: Tensor) -> Tensor:
        net = self.observer.net
        return net.net(net.scaling_layer(x.float() / 127.5 - 1))[-1].mean((2, 3))


def _patches(x: Tensor, side: int) -> Tensor:
    """(3, H, W) cut into (N, 3, side, side) without overlap; what is left at the right and bottom is not used."""
    rows, columns = x.shape[1] // side, x.shape[2] // side
    x = x[:, : rows * side, : columns * side].reshape(3, rows, side, columns, side)
    return x.permute(1, 3, 0, 2, 4).reshape(-1, 3, side, side)


class ClassifierEvaluator:
    """Top-1 accuracy, among the data's classes, of an ImageNet classifier that was trained on photographs alone.

    Args:
        labeled: the photographs, in folders named by class.
        network: timm's name of the classifier.
    """

    def __init__(self, labeled: ClassFolders, network: str = "tf_efficientnet_lite0"):
        self.net, self.scorer = imagenet_classifier(network), ClassificationScorer(labeled, imagenet_classes())
        config = getattr(self.net, "pretrained_cfg", {})
        self.mean, self.deviation = (torch.tensor(config[k]).reshape(3, 1, 1) for k in ("mean", "std"))

    @torch.inference_mode()
    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float | None]:
        self.scorer.update(index, self.net(((to_tensor(decoded) - self.mean) / self.deviation)[None])[0])
        return {"accuracy": self.scorer.compute([index])["top1"]}

    def compute(self) -> dict[str, float | None]:
        return {"accuracy": self.scorer.compute()["top1"]}


class DetectorEvaluator:
    """Average precision of a model's RGB detector (its counterpart), which never saw a compressed photograph.

    Args:
        labeled: the photographs, with their annotations.
        model: whose backbone and counterpart detect.
    """

    def __init__(self, labeled: LabeledSet, model: Model):
        if "detection" not in model.counterparts:
            raise ValueError(f"model {model.name!r} has no RGB detector: load it with its counterparts")
        self.model, self.scorer = model, DetectionScorer(labeled, model.counterpart("detection").classes)

    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float | None]:
        self.scorer.update(index, self.model.reference.analyze([decoded], ("detection",))[0].detection)
        return {}

    def compute(self) -> dict[str, float | None]:
        return self.scorer.compute()


class HeadEvaluator:
    """The scores of a model's own head on its own streams' semantic layers, and what these take in bits a pixel.

    Args:
        labeled: the photographs, with their targets.
        model: which wrote the streams.
    """

    def __init__(self, labeled: LabeledSet, model: Model):
        self.model, self.task = model, labeled.task
        if self.task not in model.heads:
            raise ValueError(f"model {model.name!r} has no {self.task} head")
        self.scorer = METRICS[self.task](labeled, model.heads[self.task].classes)
        self.rates: list[float] = []

    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float | None]:
        base, (height, width) = strip(data), original.shape[:2]
        self.rates.append(metrics.bpp(len(base), width, height))
        if self.task == "classification":
            self.scorer.update(index, self.model.class_logits([base])[0])
        else:
            self.scorer.update(index, self.model.analyze(base, (self.task,))[self.task])
        return {"head_bpp": self.rates[-1]}

    def compute(self) -> dict[str, float | None]:
        scores = {f"head_{name}": value for name, value in self.scorer.compute().items()}
        return {"head_bpp": float(np.mean(self.rates)), **scores}


@dataclass
class Context:
    """What an evaluator may need.

    Attributes:
        labeled: the data set that files are made of.
        rgb: has the RGB detector.
        weights: SqueezeNet's, for the perceptual ones; empty to download them.
        codec: whose files are evaluated, None for photographs themselves.
        saliency: says what is salient; by default, spectral residuals.
    """

    labeled: LabeledSet
    rgb: Model | None = None
    weights: str = ""
    codec: Codec | None = None
    saliency: Saliency | None = None


def new_evaluator(name: str, context: Context) -> Evaluator | None:
    """The registered evaluator of that name; None where it has nothing to say of what this codec makes.

    Raises:
        ValueError: if there is none.
    """
    return EVALUATORS[name](context)


def psnr(context: Context) -> Evaluator:
    """PSNR."""
    return PixelEvaluator("psnr")


def ms_ssim(context: Context) -> Evaluator:
    """MS-SSIM."""
    return PixelEvaluator("ms_ssim")


def lpips(context: Context) -> Evaluator:
    """LPIPS."""
    return LPIPSEvaluator(context.weights)


def salient(context: Context) -> Evaluator:
    """LPIPS and PSNR of salient places, and of the rest."""
    return SalientEvaluator(context.weights, context.saliency or SpectralResidual())


def fid(context: Context) -> Evaluator:
    """Fréchet distance of SqueezeNet's features."""
    return FrechetEvaluator(context.weights)


def accuracy(context: Context) -> Evaluator:
    """Accuracy of a classifier of photographs."""
    return ClassifierEvaluator(context.labeled)


def detection(context: Context) -> Evaluator:
    """AP of a detector of photographs."""
    if context.rgb is None:
        raise ValueError("the evaluator 'detection' needs a model with an RGB detector")
    return DetectorEvaluator(context.labeled, context.rgb)


def head(context: Context) -> Evaluator | None:
    """The scores of the codec's own head on its streams; a head reads none but its own model's."""
    return HeadEvaluator(context.labeled, context.codec.model) if isinstance(context.codec, ModelCodec) else None
