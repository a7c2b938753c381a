"""Measures a model on a folder of photographs: from photograph to file, and from file to figures."""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import features
from torch import Tensor

from ..codecs.pillow import BASELINES
from ..data.images import ImageSet, to_tensor
from ..data.labeled import LabeledSet
from ..data.labels import class_index
from ..files import write_whole
from ..metrics import image as metrics
from ..model import Model
from ..registry import METRICS
from ..structures.latents import Quality
from ..version import __version__

Track = Callable[[Iterable], Iterable]
"""Wraps an iterable to show progress."""


def _no_track(items: Iterable) -> Iterable:
    return items


def evaluate_folder(
    model: Model,
    images: ImageSet,
    qualities: Sequence[Quality],
    tasks: Sequence[str] | None = None,
    baselines: bool = True,
    track: Track = _no_track,
) -> dict[str, Any]:
    """Both evaluations, with what is needed to know what was measured.

    Args:
        tasks: "classification", "reconstruction"; by default reconstruction, and classification
            where the first photograph's folder names a class.
    """
    if tasks is None:
        labeled = class_index(images.class_of(0), model.heads["classification"].classes) is not None
        tasks = ("classification", "reconstruction") if labeled else ("reconstruction",)
    report = _head_of_report(model, images.root.name, len(images))
    if "classification" in tasks:
        report["classification"] = evaluate_classification(model, images, qualities, track)
    if "reconstruction" in tasks:
        report["reconstruction"] = evaluate_reconstruction(model, images, qualities, baselines, track)
    return report


def evaluate_labeled(
    model: Model, task: str, labeled: LabeledSet, qualities: Sequence[Quality], track: Track = _no_track
) -> dict[str, Any]:
    """`evaluate_task`, with what is needed to know what was measured."""
    report = _head_of_report(model, labeled.title, len(labeled))
    return {**report, task: evaluate_task(model, task, labeled, qualities, track)}


def _head_of_report(model: Model, data: str, images: int) -> dict[str, Any]:
    return {
        "data": data,
        "photographs": images,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of all that figures depend on."""
    packages = ("torch", "timm", "pillow", "constriction")
    found = {"cdanalysis": __version__, **{name: importlib.metadata.version(name) for name in packages}}
    formats = {name: features.version(name.lower()) for name in ("jpg", "webp", "avif")}
    return {"python": platform.python_version(), **found, **{f"pillow {k}": v or "-" for k, v in formats.items()}}


def evaluate_classification(
    model: Model, images: ImageSet, qualities: Sequence[Quality], track: Track = _no_track, batch: int = 32
) -> dict[str, Any]:
    """Accuracy from streams of the semantic layer alone, beside the same backbone on the photographs themselves.

    Every stream is written to a file; its size counts and its bytes are what the head sees. ``top1``
    chooses among the classes that the folder has; ``top1_all`` among all that the head knows.

    Raises:
        ValueError: if a photograph's folder names no class that the head knows.
    """
    targets = torch.tensor([_target(images, model, i) for i in range(len(images))])
    among = sorted(set(targets.tolist()))
    rows = [_classify(model, images, None, targets, among, track, batch)]
    rows += [_classify(model, images, quality, targets, among, track, batch) for quality in qualities]
    reference = rows[0]["top1"]
    for row in rows:
        row["points_lost"] = 100 * (reference - row["top1"])
    return {"photographs": len(images), "classes": len(among), "rows": rows}


def _classify(
    model: Model,
    images: ImageSet,
    quality: Quality | None,
    targets: Tensor,
    among: list[int],
    track: Track,
    batch: int,
) -> dict[str, Any]:
    """One row: quality None is the backbone on uncompressed images."""
    logits, sizes, rates = [], [], []
    for start in track(range(0, len(images), batch)):
        batch_of = [images[i][0] for i in range(start, min(start + batch, len(images)))]
        tensors = [to_tensor(image) for image in batch_of]
        if quality is None:
            logits.append(model.reference.logits(tensors))
            continue
        streams = _through_files(model.encode_batch(tensors, quality, layers=("semantic",)))
        sizes += [len(stream) for stream in streams]
        rates += [metrics.bpp(len(s), t.shape[2], t.shape[1]) for s, t in zip(streams, tensors, strict=True)]
        logits.append(model.class_logits(streams))
    scores = torch.cat(logits).cpu()
    probabilities = (scores / model.heads["classification"].temperature.cpu()).softmax(1)
    return {
        "input": "photograph" if quality is None else "stream",
        "quality": quality,
        "bpp": float(np.mean(rates)) if rates else None,
        "bytes": float(np.mean(sizes)) if sizes else None,
        "top1": metrics.accuracy(scores, targets, among),
        "top1_all": metrics.accuracy(scores, targets),
        "top5_all": metrics.accuracy(scores, targets, top=5),
        "calibration_error": metrics.calibration_error(probabilities, targets),
    }


def evaluate_task(
    model: Model, task: str, labeled: LabeledSet, qualities: Sequence[Quality], track: Track = _no_track
) -> dict[str, Any]:
    """Detection or segmentation from streams of the semantic layer alone, beside the counterpart on photographs.

    Every stream is written to a file; its size counts and its bytes are what the head sees. ``kept`` is the
    share of the counterpart's main score that is left.

    Raises:
        ValueError: if the model has no such head, or the head does not know the data set's classes.
    """
    if task not in model.heads:
        raise ValueError(f"model {model.name!r} has no {task} head; it has: {', '.join(model.heads)}")
    rows = [_score(model, task, labeled, quality, track) for quality in (None, *qualities)]
    main = METRICS[task].main
    for row in rows:
        row["kept"] = row[main] / rows[0][main] if rows[0][main] else None
    return {"photographs": len(labeled), "classes": len(labeled.classes), "rows": rows}


def _score(model: Model, task: str, labeled: LabeledSet, quality: Quality | None, track: Track) -> dict[str, Any]:
    """One row: quality None is the counterpart on uncompressed photographs."""
    head = model.counterpart(task) if quality is None else model.heads[task]
    scorer, sizes, rates = METRICS[task](labeled, head.classes), [], []
    for index in track(range(len(labeled))):
        image = labeled.image(index)
        if quality is None:
            (result,) = model.reference.analyze([image], (task,))
        else:
            (stream,) = _through_files([model.encode(image, quality, layers=("semantic",))])
            sizes.append(len(stream))
            rates.append(metrics.bpp(len(stream), image.width, image.height))
            result = model.analyze(stream, (task,))
        scorer.update(index, result[task])
    return {
        "input": "photograph" if quality is None else "stream",
        "quality": quality,
        "bpp": float(np.mean(rates)) if rates else None,
        "bytes": float(np.mean(sizes)) if sizes else None,
        **scorer.compute(),
    }


def evaluate_reconstruction(
    model: Model,
    images: ImageSet,
    qualities: Sequence[Quality],
    baselines: bool = True,
    track: Track = _no_track,
) -> dict[str, Any]:
    """Rate, PSNR and MS-SSIM of full decodes, beside other codecs at the nearest size they have."""
    rows: list[dict[str, Any]] = []
    for quality in qualities:
        measured: dict[str, list[dict[str, Any]]] = {}
        for index in track(range(len(images))):
            for name, record in _reconstruct(model, images, index, quality, baselines):
                measured.setdefault(name, []).append(record)
        rows += [{"codec": name, "quality": quality, **_means(records)} for name, records in measured.items()]
    return {"photographs": len(images), "rows": rows}


def _reconstruct(
    model: Model, images: ImageSet, index: int, quality: Quality, baselines: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    image = images[index][0]
    original = np.asarray(image)
    (stream,) = _through_files([model.encode(image, quality)])
    estimate = sum(model.estimated_bits(stream).values())
    yield (
        "cdanalysis",
        {
            **_compare(original, np.asarray(model.decode(stream)), len(stream)),
            "estimated_bpp": estimate / (image.width * image.height),
        },
    )
    for baseline in BASELINES if baselines else ():
        if baseline.available():
            data = baseline.encode_to_size(image, len(stream))
            yield baseline.name, _compare(original, baseline.decode(data), len(data))


def _compare(original: np.ndarray, decoded: np.ndarray, size: int) -> dict[str, Any]:
    height, width = original.shape[:2]
    return {
        "bpp": metrics.bpp(size, width, height),
        "psnr": metrics.psnr(original, decoded),
        "ms_ssim": metrics.ms_ssim(original, decoded),
    }


def _means(records: list[dict[str, Any]]) -> dict[str, float | None]:
    """Means over photographs; a measure that some photograph is too small for is None."""
    return {
        key: None if any(r[key] is None for r in records) else float(np.mean([r[key] for r in records]))
        for key in records[0]
    }


def _target(images: ImageSet, model: Model, index: int) -> int:
    folder = images.class_of(index)
    target = class_index(folder, model.heads["classification"].classes)
    if target is None:
        raise ValueError(f"the folder {folder!r} names no class that {model.name!r} knows")
    return target


def _through_files(streams: list[bytes]) -> list[bytes]:
    """Write the streams to files and read them back, so that what is measured is what lies on disk."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.cda" for index in range(len(streams))]
        for path, stream in zip(paths, streams, strict=True):
            write_whole(path, stream)
        return [path.read_bytes() for path in paths]
