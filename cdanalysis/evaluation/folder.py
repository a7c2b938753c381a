"""Evaluation of a model on a folder of photographs, or on a labeled set: no configuration but a few options."""

from __future__ import annotations

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
from ..data.labeled import in_class_folders
from ..data.labels import class_index
from ..data.readable import readable
from ..heads.base import layers_of
from ..metrics import image as metrics
from ..metrics.tasks import ClassificationScorer
from ..model import Model
from ..registry import METRICS
from ..structures.latents import LAYERS, Quality
from . import engine
from .evaluators import Context, Figures, MeanEvaluator, TaskEvaluator, head_of, new_evaluators

MEASURES = ("psnr", "ms_ssim")
"""Of reconstructions."""


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
        known = model.heads["classification"].classes if "classification" in model.heads else []
        folders = sorted({images.class_of(index) for index in range(len(images))} - {""})
        named = any(class_index(folder, known) is not None for folder in folders)
        tasks = ("classification", "reconstruction") if named else ("reconstruction",)
    report: dict[str, Any] = {
        "data": images.title if hasattr(images, "task") else images.root.name,
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
    layers, rows = LAYERS[: layers_of([head_of(model, task)])], list[dict[str, Any]]()
    new: Callable[..., Any] = partial(TaskEvaluator, task=task)
    main = METRICS[task].main if task in METRICS else ""
    if task == "classification":
        labeled, new = in_class_folders(labeled) if isinstance(labeled, ImageSet) else labeled, LogitsEvaluator
        if not len(labeled):
            raise ValueError(f"no photograph of {labeled.title} lies in a folder that names its class")
    for quality in (None, *qualities):
        stream = quality is not None
        encode = partial(_encoded, model, quality, layers) if stream else engine.untouched
        case = partial(engine.Case, encode, None, [new(model, labeled=labeled, latents=stream)])
        point = engine.measure(labeled, case, track=track)
        row = {"input": "stream" if stream else "photograph", "quality": quality}
        row |= {name: point.mean(name) if stream else None for name in ("bpp", "bytes")} | point.summary["figures"]
        rows.append(row)
        first, own = rows[0][main], row[main]
        if task == "classification":
            row["points_lost"] = None if first is None else 100 * (first - own)
        else:
            row["kept"] = own / first if first and own is not None else None
    return {"photographs": len(labeled), "classes": len(labeled.classes), "rows": rows}


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
        self.waiting, self.logits, self.targets = list[Any](), list[torch.Tensor](), list[int]()

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

    def estimate(index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> Figures:
        return {"estimated_bpp": sum(model.estimated_bits(data).values()) / original[..., 0].size}

    rows = []
    for quality in qualities:
        ours = ModelCodec("cdanalysis", model)
        evaluators = [*new_evaluators(MEASURES, Context()), MeanEvaluator(estimate, "estimated_bpp", decodes=False)]
        whole = partial(engine.Case, partial(_encoded, model, quality, LAYERS), ours.decode, evaluators)
        cases: list[tuple[Codec, Callable[[], engine.Case]]] = [(ours, whole)]
        sizes: dict[int, dict[str, Any]] = {}
        for other in BASELINES if baselines else ():
            cases += [(other, partial(_as_large, other, sizes))] if other.available() else []
        for codec, case in cases:
            point = engine.measure(images, case, track=track)
            rows.append({"codec": codec.name, "quality": quality, "bpp": point.mean("bpp")} | point.summary["figures"])
            if codec is ours:
                sizes |= point.rows
    return {"photographs": len(images), "rows": rows}


def _encoded(model: Model, quality: Quality, layers: Sequence[str], index: int, image: Image.Image) -> bytes:
    """A stream; of qualities for all layers, those of its own count."""
    own = quality[: len(layers)] if isinstance(quality, (tuple, list)) else quality
    return model.encode(image, own, layers)


def _as_large(codec: Codec, rows: dict[int, dict[str, Any]]) -> engine.Case:
    """A codec's files that are nearest in size to those of the rows."""
    encode = lambda index, image: codec.encode_near(image, rows[index]["bytes"], nearest=True)  # noqa: E731
    return engine.Case(encode, codec.decode, new_evaluators(MEASURES, Context()))
