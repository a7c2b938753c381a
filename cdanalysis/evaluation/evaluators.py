"""Who judges files: pixels, perception, networks that know nothing of compression, and heads that read streams."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ..codecs.ours import Coder, ModelCoder
from ..data.coco import CocoPhotographs
from ..data.images import data_path, to_tensor
from ..data.labeled import ClassFolders, LabelledSet
from ..data.segmentation import LabelledPixels
from ..metrics import image as metrics
from ..metrics.tasks import SCORERS, ClassificationScorer, DetectionScorer
from ..model import Model
from ..observers import LPIPS
from ..observers.base import weighted_mean
from ..roi.saliency import Saliency, SpectralResidual
from ..stream.container import strip
from ..training.pretrained import imagenet_classes, imagenet_classifier

JUDGES = ("psnr", "ms_ssim", "lpips", "salient", "fid", "accuracy", "detection", "head")
RECOGNISERS = ("accuracy", "detection")
"""Those that need no original to compare with."""


class Judge(Protocol):
    """Sees photographs, their reconstructions, both uint8 (H, W, 3), and the files between; then gives its figures.

    ``add`` gives those of the photograph alone, where it has any.
    """

    def add(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float]: ...
    def figures(self) -> dict[str, float]: ...


class PixelJudge:
    """Mean PSNR in dB, and mean MS-SSIM (absent where a photograph is too small for it)."""

    def __init__(self, name: str):
        self.name, self.values = name, []
        self.measure = {"psnr": metrics.psnr, "ms_ssim": metrics.ms_ssim}[name]

    def add(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float]:
        self.values.append(self.measure(original, decoded))
        return {self.name: self.values[-1]} if self.values[-1] is not None else {}

    def figures(self) -> dict[str, float]:
        return {self.name: float(np.mean(self.values))} if None not in self.values else {}


class LPIPSJudge:
    """Mean LPIPS on SqueezeNet.

    Args:
        weights: SqueezeNet's state dict; a path below ``CDANALYSIS_DATA`` or absolute; empty to download it.
    """

    def __init__(self, weights: str):
        self.observer, self.values = LPIPS(data_path(weights) if weights else None), []

    @torch.inference_mode()
    def add(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float]:
        a, b = (to_tensor(x)[None] for x in (original, decoded))
        self.values.append(float(self.observer(a, b)))
        return {"lpips": self.values[-1]}

    def figures(self) -> dict[str, float]:
        return {"lpips": float(np.mean(self.values))}


class SalientJudge:
    """Mean LPIPS and PSNR on what is salient, and on the rest.

    Args:
        weights: as for `LPIPSJudge`.
        saliency: maps a photograph to numbers in [0, 1]; what it gives 0.5 or more is salient. A photograph without
            such a place, or without any other, does not count.
    """

    def __init__(self, weights: str, saliency: Saliency):
        self.observer, self.saliency = LPIPS(data_path(weights) if weights else None), saliency
        self.values: dict[str, list[float]] = defaultdict(list)

    @torch.inference_mode()
    def add(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float]:
        marked = np.asarray(self.saliency(original)) >= 0.5
        if marked.all() or not marked.any():
            return {}
        distance, own = self.observer.map(*(to_tensor(x)[None] for x in (original, decoded))), {}
        for part, place in (("salient", marked), ("rest", ~marked)):
            weight = torch.from_numpy(place.astype(np.float32))[None, None]
            own[f"lpips_{part}"] = float(weighted_mean(distance, weight))
            own[f"psnr_{part}"] = metrics.psnr(original[place], decoded[place])
        for name, value in own.items():
            self.values[name].append(value)
        return own

    def figures(self) -> dict[str, float]:
        if not self.values:
            return {}
        means = {name: float(np.mean(values)) for name, values in self.values.items()}
        return {**means, "with_salient_places": len(self.values["lpips_salient"])}


class FrechetJudge:
    """Frechet distance (Heusel and others, NeurIPS 2017) between photographs and reconstructions.

    The features are SqueezeNet's, not Inception's, so figures compare with each other and with no paper's. Photographs
    are seen as patches of 64x64 pixels, because a few dozen whole ones would not fill the features' space.

    Args:
        weights: as for `LPIPSJudge`.
    """

    SIDE = 64

    def __init__(self, weights: str):
        self.distance = FrechetInceptionDistance(_SqueezeFeatures(LPIPS(data_path(weights) if weights else None)))
        self.patches = 0

    @torch.inference_mode()
    def add(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float]:
        for array, real in ((original, True), (decoded, False)):
            patches = _patches(torch.from_numpy(array.copy()).permute(2, 0, 1), self.SIDE)
            if len(patches):
                self.distance.update(patches, real=real)
        self.patches += len(patches)
        return {}

    def figures(self) -> dict[str, float]:
        return {"fid_squeezenet": float(self.distance.compute()), "fid_patches": self.patches}


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


class ClassifierJudge:
    """Top-1 accuracy, among the data's classes, of an ImageNet classifier that was trained on photographs alone.

    Args:
        labelled: the photographs, in folders named by class.
        network: timm's name of the classifier.
    """

    def __init__(self, labelled: ClassFolders, network: str = "tf_efficientnet_lite0"):
        self.net, self.scorer = imagenet_classifier(network), ClassificationScorer(labelled, imagenet_classes())
        config = getattr(self.net, "pretrained_cfg", {})
        self.mean, self.deviation = (torch.tensor(config[k]).reshape(3, 1, 1) for k in ("mean", "std"))

    @torch.inference_mode()
    def add(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float]:
        self.scorer.add(index, self.net(((to_tensor(decoded) - self.mean) / self.deviation)[None])[0])
        return {"accuracy": self.scorer.scores([index])["top1"]}

    def figures(self) -> dict[str, float]:
        return {"accuracy": self.scorer.scores()["top1"]}


class DetectorJudge:
    """Average precision of a model's RGB detector (its counterpart), which never saw a compressed photograph.

    Args:
        labelled: the photographs, with their annotations.
        model: whose backbone and counterpart detect.
    """

    def __init__(self, labelled: LabelledSet, model: Model):
        if "detection" not in model.counterparts:
            raise ValueError(f"model {model.name!r} has no RGB detector: load it with its counterparts")
        self.model, self.scorer = model, DetectionScorer(labelled, model.counterpart("detection").classes)

    def add(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float]:
        self.scorer.add(index, self.model.reference.analyze([decoded], ("detection",))[0].detection)
        return {}

    def figures(self) -> dict[str, float]:
        return self.scorer.scores()


class HeadJudge:
    """The scores of a model's own head on its own streams' semantic layers, and what these take in bits a pixel.

    Args:
        labelled: the photographs, with their targets.
        model: which wrote the streams.
    """

    def __init__(self, labelled: LabelledSet, model: Model):
        kinds = {ClassFolders: "classification", CocoPhotographs: "detection", LabelledPixels: "segmentation"}
        self.model, self.task = model, kinds[type(labelled)]
        if self.task not in model.heads:
            raise ValueError(f"model {model.name!r} has no {self.task} head")
        self.scorer = SCORERS[self.task](labelled, model.heads[self.task].classes)
        self.rates: list[float] = []

    def add(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float]:
        base, (height, width) = strip(data), original.shape[:2]
        self.rates.append(metrics.bpp(len(base), width, height))
        if self.task == "classification":
            self.scorer.add(index, self.model.class_logits([base])[0])
        else:
            self.scorer.add(index, getattr(self.model.analyze(base, (self.task,)), self.task))
        return {"head_bpp": self.rates[-1]}

    def figures(self) -> dict[str, float]:
        scores = {f"head_{name}": value for name, value in self.scorer.scores().items()}
        return {"head_bpp": float(np.mean(self.rates)), **scores}


def new_judge(
    name: str, labelled: LabelledSet, rgb: Model, weights: str, coder: Coder | None, saliency: Saliency | None = None
) -> Judge | None:
    """The judge of that name; None where it judges nothing that this coder makes.

    Args:
        labelled: the data set that is judged.
        rgb: has the RGB detector.
        weights: SqueezeNet's, for the perceptual ones.
        coder: whose files are judged, None for photographs themselves; a head judges none but its own model's.
        saliency: says what is salient; by default, spectral residuals.

    Raises:
        ValueError: if there is none.
    """
    makers: dict[str, Any] = {
        "psnr": lambda: PixelJudge("psnr"),
        "ms_ssim": lambda: PixelJudge("ms_ssim"),
        "lpips": lambda: LPIPSJudge(weights),
        "salient": lambda: SalientJudge(weights, saliency or SpectralResidual()),
        "fid": lambda: FrechetJudge(weights),
        "accuracy": lambda: ClassifierJudge(labelled),
        "detection": lambda: DetectorJudge(labelled, rgb),
        "head": lambda: HeadJudge(labelled, coder.model) if isinstance(coder, ModelCoder) else None,
    }
    if name not in makers:
        raise ValueError(f"unknown judge {name!r}; there are {', '.join(JUDGES)}")
    return makers[name]()
