"""How fast the codec and its heads are beside what else one would use, and how cost grows with work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image

from ..codecs.base import Codec
from ..codecs.compressai import RANDOM, CompressAI
from ..codecs.ours import ModelCodec
from ..data.images import open_image
from ..data.samples import jpegs, sample_of_size
from ..metrics.image import bpp
from ..model import Model
from ..structures.latents import LAYERS, SEMANTIC
from .macs import reads_pixels

RIVAL, RIVAL_LEVEL = "mbt2018-mean", 3
"""The learned codec to compare with, at a level at which it has 128 and 192 channels."""
SIZE = (768, 512)
QUALITY = (0.0, 0.0, 0.4)
"""Of photographs for people."""
LABEL_QUALITY = 0.4
"""Of streams for labels: about a hundred bytes of the global layer."""
COUNTS = (1, 10, 100, 1000)
MEGAPIXELS = (0.05, 0.2, 1.0, 4.0, 12.0, 24.0)
BATCH, SIDE = 32, 224
PRECISIONS = ("float32", "bfloat16")
"""The second is torch's autocast."""


def least(ways: Mapping[Any, Callable[[], object]], repeats: int, precision: str = "float32") -> dict[Any, float]:
    """Least seconds of each way, after once to warm up. They take turns, so that a slow moment is everybody's."""
    found = dict.fromkeys(ways, float("inf"))
    with torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16, precision == "bfloat16"):
        for turn in range(repeats + 1):
            for name, work in ways.items():
                seconds = timed(work)
                found[name] = min(found[name], seconds) if turn else found[name]
    return found


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes once."""
    started = now()
    work()
    return now() - started


def now() -> float:
    """Seconds on a clock, when the accelerator is done with what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def codec_speed(model: Model, weights: str = "", repeats: int = 5) -> dict[str, Any]:
    """Seconds to encode and to decode one photograph of 768 x 512, files included, beside CompressAI's model.

    Args:
        weights: folder of CompressAI's weights, see `CompressAI`; without one the network has random weights: it takes
            as long, but has fewer bits to code.
        repeats: each figure is the least of so many.
    """
    image, rival = sample_of_size(SIZE), CompressAI(RIVAL, weights or RANDOM)
    codecs: list[tuple[Codec, int]] = [(ModelCodec("cdanalysis", model, QUALITY[0]), ModelCodec.level(QUALITY[-1]))]
    codecs += [(rival, RIVAL_LEVEL)] if rival.available() else []
    files, ways = {codec.name: codec.encode(image, level) for codec, level in codecs}, dict[Any, Callable[[], object]]()
    for codec, level in codecs:
        ways[codec.name, "encode_s"] = partial(codec.encode, image, level)
        ways[codec.name, "decode_s"] = partial(codec.decode, files[codec.name])
    times, rows = least(ways, repeats), []
    for name, data in files.items():
        seconds = {verb: times[name, verb] for verb in ("encode_s", "decode_s")}
        rows.append({"codec": name, "bpp": bpp(len(data), *SIZE), **seconds, "both_s": sum(seconds.values())})
    return {"rows": _with_ratio(rows, "both_s"), "weights": weights or RANDOM}


def label_speed(model: Model, weights: str = "", repeats: int = 5) -> dict[str, Any]:
    """Seconds from the bytes of 32 photographs of 224 x 224 to their labels.

    From streams cut after the global layer, by the classification head; from JPEG files, by the layer's teacher
    (EfficientNet-Lite0, its batch norms folded) and the head's counterpart; from files of CompressAI's model, decoded,
    by the same. Each in float32 and under torch's autocast to bfloat16; the ratio is of the faster of each.
    """
    files = jpegs(BATCH, SIDE)
    images = [open_image(data) for data in files]
    streams, pixels = model.encode_batch(images, LABEL_QUALITY, LAYERS[:1]), reads_pixels(model)
    ways: dict[Any, Callable[[], object]] = {
        "streams": lambda: model.analyze_batch(streams, ("classification",)),
        "JPEG": lambda: pixels.analyze([open_image(data) for data in files], ("classification",)),
    }
    rival = CompressAI(RIVAL, weights or RANDOM)
    if rival.available():
        coded = [rival.encode(image, RIVAL_LEVEL) for image in images]
        ways[RIVAL] = lambda: pixels.analyze([rival.decode(data) for data in coded], ("classification",))
    times, rows = {precision: least(ways, repeats, precision) for precision in PRECISIONS}, []
    for name in ways:
        seconds = {f"{precision}_s": found[name] for precision, found in times.items()}
        rows.append({"from": name, **seconds, "least_s": min(seconds.values())})
    return {"rows": _with_ratio(rows, "least_s"), "batch": BATCH, "weights": weights or RANDOM}


def growth(
    model: Model, counts: Sequence[int] = COUNTS, megapixels: Sequence[float] = MEGAPIXELS
) -> dict[str, list[dict[str, float]]]:
    """Seconds as work grows: by the number of photographs of 224 x 224, and by the size of one of 3:2.

    ``semantic_s`` is the time of encoding the semantic layers alone.
    """
    samples = [open_image(data) for data in jpegs(min(max(counts), 64), SIDE)]
    model.analyze_batch(model.encode_batch(samples[:1]))
    by_count = [_many(model, [samples[i % len(samples)] for i in range(count)]) for count in counts]
    return {"by_count": by_count, "by_size": [_large(model, size) for size in megapixels]}


def _many(model: Model, images: Sequence[Image.Image]) -> dict[str, float]:
    groups, streams = [images[first : first + BATCH] for first in range(0, len(images), BATCH)], []
    encode_s = timed(lambda: streams.extend(model.encode_batch(g, layers=SEMANTIC) for g in groups))
    analyze_s = timed(lambda: [model.analyze_batch(group) for group in streams])
    return {"photographs": len(images), "encode_s": encode_s, "analyze_s": analyze_s}


def _large(model: Model, megapixels: float) -> dict[str, float]:
    image, streams = sample_of_size(sides(megapixels)), []
    semantic_s = timed(lambda: model.encode(image, layers=SEMANTIC))
    encode_s = timed(lambda: streams.append(model.encode(image, QUALITY)))
    decode_s, analyze_s = (timed(lambda verb=verb: verb(streams[0])) for verb in (model.decode, model.analyze))
    times = {"semantic_s": semantic_s, "encode_s": encode_s, "decode_s": decode_s, "analyze_s": analyze_s}
    return {"megapixels": megapixels, **times}


def sides(megapixels: float) -> tuple[int, int]:
    """(width, height) of a photograph of 3:2."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    return round(1.5 * height), height


def _with_ratio(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [{**row, "ratio": row[name] / rows[0][name]} for row in rows]
