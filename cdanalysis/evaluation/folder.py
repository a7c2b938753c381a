"""Evaluation of a model on a folder of photographs, or on a labeled set: no configuration but a few options."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..benchmarks.hardware import versions
from ..codecs.base import Codec
from ..codecs.ours import ModelCodec
from ..codecs.pillow import BASELINES
from ..data.images import ImageSet
from ..data.labels import class_index
from ..data.readable import readable
from ..heads.base import layers_of
from ..metrics import image as metrics
from ..metrics.tasks import ClassificationScorer
from ..model import Model
from ..notices import notice
from ..registry import METRICS
from ..structures.latents import LAYERS, Quality
from . import engine
from .evaluators import Context, Evaluator, Figures, MeanEvaluator, new_evaluators, task_evaluator


def evaluate_folder(
    model: Model,
    images: engine.Images,
    qualities: Sequence[Quality],
    tasks: Sequence[str] | None = None,
    baselines: bool = True,
    track: engine.Track = engine.no_track,
) -> dict[str, Any]:
    """What is measured on a folder, with what is needed to know what was measured. What cannot be read is left out.

    Args:
        tasks: by default "reconstruction", and "classification" where a folder names a class; "detection" and
            "segmentation" on their labeled sets.
        baselines: whether JPEG, WebP and AVIF stand beside reconstructions.
    """
    images, failures = readable(images, track)
    if tasks is None:
        tasks = ("classification", "reconstruction") if _names_classes(images, model) else ("reconstruction",)
    report: dict[str, Any] = {
        "data": images.root.name if isinstance(images, ImageSet) else images.title,
        "photographs": len(images),
        "failures": failures,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "versions": versions(),
    }
    for task in sorted(tasks):
        if task == "reconstruction":
            report[task] = evaluate_reconstruction(model, images, qualities, baselines, track)
        else:
            report[task] = evaluate_task(model, task, images, qualities, track)
    return report


def evaluate_task(
    model: Model, task: str, labeled: engine.Images, qualities: Sequence[Quality], track: engine.Track = engine.no_track
) -> dict[str, Any]:
    """Scores from streams of no more layers than the head reads, beside the counterpart on photographs themselves.

    Bytes are those of whole files. ``kept`` is the share of the counterpart's main score that is left, for
    classification ``points_lost`` the points of a hundred that are not; None where no photograph has anything to find.

    Raises:
        ValueError: if the model has no such head, or the head does not know the data set's classes.
    """
    if task == "classification":
        labeled = _in_folders(labeled)
    rows: list[dict[str, Any]] = []
    for quality in (None, *qualities):
        row = _task_row(model, task, labeled, quality, track)
        main = METRICS[task].main
        first, own = (rows or [row])[0][main], row[main]
        if task == "classification":
            row["points_lost"] = None if first is None else 100 * (first - own)
        else:
            row["kept"] = own / first if first and own is not None else None
        rows.append(row)
    return {"photographs": len(labeled), "classes": len(labeled.classes), "rows": rows}


def _task_row(
    model: Model, task: str, labeled: engine.Images, quality: Quality | None, track: engine.Track
) -> dict[str, Any]:
    """One row: quality None is the counterpart on uncompressed photographs."""
    new = LogitsEvaluator if task == "classification" else partial(task_evaluator, task=task)
    evaluators = [new(model, labeled=labeled, latents=quality is not None)]
    case = engine.uncompressed(evaluators)
    if quality is not None:
        layers = LAYERS[: layers_of([model.heads[task]])]
        own = tuple(quality)[: len(layers)] if isinstance(quality, (tuple, list)) else quality
        case = engine.Case(lambda index, image: model.encode(image, own, layers), None, evaluators)
    point = engine.measure(labeled, lambda: case, track=track)
    row = {"input": "photograph" if quality is None else "stream", "quality": quality}
    row |= {name: None if quality is None else point.mean(name) for name in ("bpp", "bytes")}
    return row | point.summary["figures"]


class LogitsEvaluator:
    """Accuracy and calibration of a classification head, or of its counterpart, which read files a batch at a time.

    ``top1`` chooses among the classes that the folder has, and is None where it has but one, which nobody could miss;
    ``top1_all`` and ``top5_all`` among all that the head knows.
    """

    decodes, BATCH = False, 32

    def __init__(self, model: Model, labeled: ImageSet, latents: bool):
        self.head, self.latents = model.heads["classification"], latents
        self.read = model.class_logits if latents else model.reference.logits
        self.scorer = ClassificationScorer(labeled, self.head.classes)
        self.waiting: list[Any] = []
        self.logits: list[torch.Tensor] = []
        self.targets: list[int] = []

    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> Figures:
        self.targets.append(self.scorer.target(index))
        self.waiting.append(data if self.latents else original)
        if len(self.waiting) == self.BATCH:
            self._read()
        return {}

    def _read(self) -> None:
        self.logits += [self.read(self.waiting).cpu()] if self.waiting else []
        self.waiting = []

    def compute(self) -> Figures:
        self._read()
        logits, targets, among = torch.cat(self.logits), torch.tensor(self.targets), sorted(set(self.scorer.among))
        probabilities = (logits / self.head.temperature.cpu()).softmax(1)
        return {
            "top1": metrics.accuracy(logits, targets, among) if len(among) > 1 else None,
            "top1_all": metrics.accuracy(logits, targets),
            "top5_all": metrics.accuracy(logits, targets, top=5),
            "calibration_error": metrics.calibration_error(probabilities, targets),
        }


def evaluate_reconstruction(
    model: Model,
    images: engine.Images,
    qualities: Sequence[Quality],
    baselines: bool = True,
    track: engine.Track = engine.no_track,
) -> dict[str, Any]:
    """Rate, PSNR and MS-SSIM of full decodes, beside other codecs at the nearest size they have.

    Means are over the photographs that have the measure; ``NAME_left_out`` counts the others, where there are any.
    """
    rows: list[dict[str, Any]] = []

    def add(
        codec: Codec, quality: Quality, encode: Callable[[int, Image.Image], bytes], *more: Evaluator
    ) -> engine.Point:
        evaluators = [*new_evaluators(["psnr", "ms_ssim"], Context()), *more]
        point = engine.measure(images, lambda: engine.Case(encode, codec.decode, evaluators), track=track)
        row = {"codec": codec.name, "quality": quality, "bpp": point.mean("bpp")}
        rows.append(row | point.summary["figures"])
        return point

    def estimate(index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> Figures:
        return {"estimated_bpp": sum(model.estimated_bits(data).values()) / original[..., 0].size}

    for quality in qualities:
        ours = ModelCodec("cdanalysis", model)
        whole = partial(_encoded, model, quality)
        sizes = add(ours, quality, whole, MeanEvaluator(estimate, "estimated_bpp", decodes=False)).rows
        for codec in BASELINES if baselines else ():
            if codec.available():
                add(codec, quality, partial(_as_large, codec, sizes))
    return {"photographs": len(images), "rows": rows}


def _encoded(model: Model, quality: Quality, index: int, image: Image.Image) -> bytes:
    return model.encode(image, quality)


def _as_large(codec: Codec, rows: dict[int, dict[str, Any]], index: int, image: Image.Image) -> bytes:
    return codec.encode_near(image, rows[index]["bytes"], nearest=True)


def _names_classes(images: ImageSet, model: Model) -> bool:
    known = model.heads["classification"].classes if "classification" in model.heads else []
    folders = {images.class_of(index) for index in range(len(images))} - {""}
    return any(class_index(folder, known) is not None for folder in sorted(folders))


def _in_folders(images: ImageSet) -> ImageSet:
    """Those that lie in a folder, with these as ``classes``; a notice says how many do not."""
    view = copy.copy(images)
    view.names = [name for i, name in enumerate(images.names) if images.class_of(i)]
    if not view.names:
        raise ValueError(f"no photograph of {images.title} lies in a folder that names its class")
    if strays := len(images) - len(view):
        notice(f"{strays} of {len(images)} photographs of {images.title} lie in no class folder: not classified")
    view.classes = sorted({view.class_of(index) for index in range(len(view))})
    return view
