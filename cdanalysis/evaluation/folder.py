"""Evaluation of a model on a folder of photographs, or on a labeled set: no configuration but a few options."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from ..benchmarks.hardware import versions
from ..codecs.base import Codec
from ..codecs.ours import ModelCodec
from ..codecs.pillow import BASELINES
from ..data.images import ImageSet
from ..data.labeled import LabeledSource, in_class_folders
from ..data.labels import class_index
from ..data.readable import readable
from ..heads.base import layers_of
from ..model import Model
from ..notices import notice
from ..structures.latents import LAYERS, Quality
from . import engine
from .configs import StudyConfig
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
        model: that encodes, and predicts.
        images: photographs, or a labeled set.
        qualities: in [0, 1], for all layers, or one for each of (global, spatial, detail).
        tasks: by default "reconstruction", and "classification" where a folder names a class; "detection" and
            "segmentation" on their labeled sets.
        baselines: whether JPEG, WebP and AVIF stand beside reconstructions.
        track: wraps an iterable to show progress.

    Returns:
        the report, as JSON holds it: for each task what `evaluate_task` or `evaluate_reconstruction` gives.

    Raises:
        ValueError: if no photograph can be read; also as `evaluate_task`.
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
    classification ``points_lost`` the points of a hundred that are not; None where no photograph has anything to find,
    and where the head has no counterpart: the row of photographs is then missing, and ``refused`` says why.

    Args:
        model: that encodes, and predicts.
        task: one of the model's.
        labeled: a set of that task; for classification also photographs in folders named by class.
        qualities: in [0, 1], for all layers, or one for each of (global, spatial, detail).
        track: wraps an iterable to show progress.

    Returns:
        numbers of photographs and classes, and ``rows``: one for photographs themselves, then one for each quality.

    Raises:
        ValueError: if the model has no such head, or the head does not know the data set's classes.
    """
    layers, rows = LAYERS[: layers_of([head_of(model, task)])], list[dict[str, Any]]()
    if isinstance(labeled, ImageSet) and task == "classification":
        labeled = in_class_folders(labeled)
        if not len(labeled):
            raise ValueError(f"no photograph of {labeled.title} lies in a folder that names its class")
    refused = model.reference.missing(task)
    if refused:
        notice(f"photographs themselves are not measured: {refused}")
    for quality in qualities if refused else (None, *qualities):
        stream = quality is not None
        encode = partial(_encoded, model, quality, layers) if stream else engine.untouched
        scores = TaskEvaluator(model, task, labeled, latents=stream)
        point = engine.measure(labeled, partial(engine.Case, encode, None, [scores]), track=track)
        row = {"input": "stream" if stream else "photograph", "quality": quality}
        row |= {name: point.mean(name) if stream else None for name in ("bpp", "bytes")} | point.summary["figures"]
        rows.append(row)
        first, own = None if refused else rows[0][scores.scorer.main], row[scores.scorer.main]
        if task == "classification":
            row["points_lost"] = None if first is None else 100 * (first - own)
        else:
            row["kept"] = own / first if first and own is not None else None
    report = {"photographs": len(labeled), "classes": len(labeled.classes), "rows": rows}
    return report | ({"refused": {"photograph": refused}} if refused else {})


def evaluate_reconstruction(
    model: Model,
    images: engine.Images,
    qualities: Sequence[Quality],
    baselines: bool = True,
    track: engine.Track = engine.no_track,
) -> dict[str, Any]:
    """Rate, PSNR and MS-SSIM of full decodes, beside other codecs at the nearest size they have.

    Means are over the photographs that have the measure; ``NAME_left_out`` counts the others, where there are any.

    Args:
        model: that encodes and decodes.
        images: photographs, or a labeled set.
        qualities: in [0, 1], for all layers, or one for each of (global, spatial, detail).
        baselines: whether JPEG, WebP and AVIF are measured, too, as far as they are installed.
        track: wraps an iterable to show progress.

    Returns:
        the number of photographs, and ``rows``: one for each codec at each quality.
    """
    others, rows = [codec for codec in BASELINES if baselines and codec.available()], list[dict[str, Any]]()
    for quality in qualities:
        ours = engine.measure(images, partial(_whole, model, quality), track=track)
        points = {"cdanalysis": ours}
        for codec in others:
            points[codec.name] = engine.measure(images, partial(_as_large, codec, ours.rows), track=track)
        for name, point in points.items():
            rows.append({"codec": name, "quality": quality, "bpp": point.mean("bpp")} | point.summary["figures"])
    return {"photographs": len(images), "rows": rows}


def _encoded(model: Model, quality: Quality, layers: Sequence[str], index: int, image: Image.Image) -> bytes:
    """A stream; of qualities for all layers, those of its own count."""
    own = quality[: len(layers)] if isinstance(quality, (tuple, list)) else quality
    return model.encode(image, own, layers)


def _whole(model: Model, quality: Quality) -> engine.Case:
    """Streams of all layers, and what the entropy models estimate of their bits."""

    def estimate(index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> Figures:
        return {"estimated_bpp": sum(model.estimated_bits(data).values()) / original[..., 0].size}

    evaluators = [*new_evaluators(MEASURES, Context()), MeanEvaluator(estimate, "estimated_bpp", decodes=False)]
    return engine.Case(partial(_encoded, model, quality, LAYERS), ModelCodec("cdanalysis", model).decode, evaluators)


def _as_large(codec: Codec, rows: dict[int, dict[str, Any]]) -> engine.Case:
    """A codec's files that are nearest in size to those of the rows."""
    encode = lambda index, image: codec.encode_near(image, rows[index]["bytes"], nearest=True)  # noqa: E731
    return engine.Case(encode, codec.decode, new_evaluators(MEASURES, Context()))


LEVELS = {"JPEG": [5, 15, 40], "WebP": [0, 15, 50], "AVIF": [5, 25, 55]}
"""Of the codecs that photographs in class folders are compared with."""


def folder_study(name: str, photographs: str, model: str, every: int, qualities: Sequence[float]) -> StudyConfig:
    """The study of photographs in class folders: heads on streams, and RGB heads on what other codecs decode to.

    Args:
        name: of its files.
        photographs: folder or tar archive of class folders.
        model: zoo name or folder.
        every: use each so many-th photograph only.
        qualities: in [0, 1], of the streams.
    """
    levels = {codec.name: LEVELS[codec.name] for codec in BASELINES if codec.available()}
    return StudyConfig(
        name,
        f"{name}: labels from few bits",
        "classification",
        model,
        LabeledSource(photographs),
        every,
        streams=list(qualities),
        baselines=levels,
        reduced=levels,
        perception=[],
    )
