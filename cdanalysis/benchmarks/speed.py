"""How fast the codec and its heads are beside what else one would use, and how cost grows with work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..codecs.compressai import RANDOM, CompressAI
from ..data.images import open_image, to_tensor
from ..data.samples import sample_images
from ..model import Model
from .head_training import PRECISIONS, jpegs

RIVAL, RIVAL_LEVEL = "mbt2018-mean", 3
"""The learned codec to compare with, at a level at which it has 128 and 192 channels."""
SIZE = (768, 512)
QUALITY = (0.0, 0.4)
"""Of photographs for people: 0.27 bpp on Kodak."""
BASE_QUALITY = 0.19
"""Of streams for labels: 0.05 bpp on Imagenette."""
COUNTS = (1, 10, 100, 1000)
MEGAPIXELS = (0.05, 0.2, 1.0, 4.0, 12.0, 24.0)
BATCH = 32


def codec_speed(model: Model, weights: str = "", repeats: int = 5) -> dict[str, Any]:
    """Seconds to encode and to decode one photograph of 768 x 512, files included, beside CompressAI's model.

    Args:
        weights: folder of CompressAI's weights, see `CompressAI`; without one the network has random weights: it takes
            as long, but has fewer bits to code.
        repeats: each figure is the least of so many.
    """
    image = sample_of_size(SIZE)
    data = {"cdanalysis": model.encode(image, QUALITY)}
    ways: dict[str, Callable[[], object]] = {
        "cdanalysis encode_s": lambda: model.encode(image, QUALITY),
        "cdanalysis decode_s": lambda: model.decode(data["cdanalysis"]),
    }
    rival = _rival(weights)
    if rival is not None:
        data[RIVAL] = rival.encode(image, RIVAL_LEVEL)
        ways[f"{RIVAL} encode_s"] = lambda: rival.encode(image, RIVAL_LEVEL)
        ways[f"{RIVAL} decode_s"] = lambda: rival.decode(data[RIVAL])
    times = _least(ways, repeats)
    rows = []
    for codec, file in data.items():
        seconds = {part: times[f"{codec} {part}"] for part in ("encode_s", "decode_s")}
        rows.append({"codec": codec, "bpp": _bpp(file, image), **seconds})
    for row in rows:
        row["both_s"] = row["encode_s"] + row["decode_s"]
        row["ratio"] = row["both_s"] / rows[0]["both_s"]
    return {"rows": rows, "weights": weights or RANDOM}


def label_speed(model: Model, weights: str = "", repeats: int = 5) -> dict[str, Any]:
    """Seconds from the bytes of 32 photographs of 224 x 224 to their labels.

    From streams, by the classification head; from JPEG files, by EfficientNet-Lite0 (the codec's own backbone, its
    batch norms folded, with its classifier); from files of CompressAI's model, decoded, by the same. Each in float32
    and under torch's autocast to bfloat16; the ratio is of the faster of each.
    """
    files = jpegs(BATCH)
    images = [open_image(data) for data in files]
    streams = model.encode_batch(images, BASE_QUALITY, layers=("semantic",))
    ways: dict[str, Callable[[], object]] = {
        "streams": lambda: model.analyze_batch(streams, ("classification",)),
        "JPEG": lambda: _labels(model, [open_image(data) for data in files]),
    }
    rival = _rival(weights)
    if rival is not None:
        coded = [rival.encode(image, RIVAL_LEVEL) for image in images]
        ways[RIVAL] = lambda: _labels(model, [Image.fromarray(rival.decode(data)) for data in coded])
    times = {precision: _least(ways, repeats, precision) for precision in PRECISIONS}
    rows: list[dict[str, Any]] = []
    for name in ways:
        seconds = {f"{precision}_s": least[name] for precision, least in times.items()}
        rows.append({"from": name, **seconds, "least_s": min(seconds.values())})
    for row in rows:
        row["ratio"] = row["least_s"] / rows[0]["least_s"]
    return {"rows": rows, "batch": BATCH, "weights": weights or RANDOM}


def growth(
    model: Model, counts: Sequence[int] = COUNTS, megapixels: Sequence[float] = MEGAPIXELS
) -> dict[str, list[dict[str, float]]]:
    """Seconds as work grows: by the number of photographs of 224 x 224, and by the size of one of 3:2."""
    by_count = []
    samples = [open_image(data) for data in jpegs(min(max(counts), 64))]
    model.analyze_batch(model.encode_batch(samples[:1]))
    for count in counts:
        started = time.perf_counter()
        streams = []
        for first in range(0, count, BATCH):
            images = [samples[i % len(samples)] for i in range(first, min(count, first + BATCH))]
            streams += model.encode_batch(images, BASE_QUALITY, layers=("semantic",))
        encoded = time.perf_counter()
        for first in range(0, count, BATCH):
            model.analyze_batch(streams[first : first + BATCH])
        done = time.perf_counter()
        by_count.append({"photographs": count, "encode_s": encoded - started, "analyze_s": done - encoded})
    by_size = []
    for size in megapixels:
        image = sample_of_size(sides(size))
        started = time.perf_counter()
        stream = model.encode(image, QUALITY)
        encoded = time.perf_counter()
        model.decode(stream)
        decoded = time.perf_counter()
        model.analyze(stream)
        times = (encoded - started, decoded - encoded, time.perf_counter() - decoded)
        by_size.append({"megapixels": size, **dict(zip(("encode_s", "decode_s", "analyze_s"), times, strict=True))})
    return {"by_count": by_count, "by_size": by_size}


def _labels(model: Model, images: Sequence[Image.Image]) -> object:
    x = torch.stack([to_tensor(image) for image in images]).to(model.device, memory_format=torch.channels_last)
    with torch.inference_mode():
        return model.counterpart("classification").predict(model.codec.backbone(x), [])


def sample_of_size(size: tuple[int, int]) -> Image.Image:
    """A photograph of a size, (width, height): those that scikit-image carries, side by side, none enlarged much."""
    width, height = size
    sheet = np.empty((height, width, 3), np.uint8)
    images = [np.asarray(image) for image in sample_images().values()]
    top, number = 0, 0
    while top < height:
        left, row = 0, 10**9
        while left < width:
            part = images[number % len(images)][: height - top, : width - left]
            sheet[top : top + len(part), left : left + part.shape[1]] = part
            left, row, number = left + part.shape[1], min(row, len(part)), number + 1
        top += row
    return Image.fromarray(sheet)


def sides(megapixels: float) -> tuple[int, int]:
    """(width, height) of a photograph of 3:2."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    return round(1.5 * height), height


def _rival(weights: str) -> CompressAI | None:
    rival = CompressAI(RIVAL, weights or RANDOM)
    return rival if rival.available() else None


def _bpp(data: bytes, image: Image.Image) -> float:
    return 8 * len(data) / (image.width * image.height)


def _least(ways: dict[str, Callable[[], object]], repeats: int, precision: str = "float32") -> dict[str, float]:
    """Least seconds of each way, after once to warm up. They take turns, so that a slow moment is everybody's."""
    least = dict.fromkeys(ways, float("inf"))
    with torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16, precision == "bfloat16"):
        for turn in range(repeats + 1):
            for name, work in ways.items():
                started = time.perf_counter()
                work()
                if turn:
                    least[name] = min(least[name], time.perf_counter() - started)
    return least
