"""How fast the codec and its heads are beside what else one would use, and how cost grows with work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..codec.layered import resized
from ..codecs.base import Codec, level_at
from ..codecs.compressai import RANDOM, CompressAI
from ..codecs.ours import ModelCodec
from ..codecs.pillow import BASELINES, MORE_BASELINES
from ..data.images import ImageSet
from ..data.samples import jpegs, sample_of_size
from ..heads.base import layers_of
from ..metrics.image import bpp
from ..model import Model
from ..photographs.read import open_image, to_pixels
from ..structures.latents import LAYERS, SEMANTIC
from ..teachers.deeplab import DeepLab
from .macs import reads_pixels

RIVAL, RIVAL_LEVEL = "mbt2018-mean", 3
"""The learned codec to compare with, at a level at which it has 128 and 192 channels."""
RATES = (0.25, 0.5, 1.0)
"""Bits a pixel at which codecs are compared; the rival at the first alone."""
SIZE, LARGER = (768, 512), (640, 480)
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


def codec_speed(model: Model, weights: str = "", repeats: int = 5, photographs: str = "") -> dict[str, Any]:
    """Seconds a photograph to encode and to decode, files included, beside Pillow's codecs of equal rates.

    CompressAI's model stands beside them once, at its level 3. Learned codecs are timed in float32 and under torch's
    autocast to bfloat16.

    Args:
        weights: folder of CompressAI's weights, see `CompressAI`; without one the network has random weights: it takes
            as long, but has fewer bits to code.
        repeats: each figure is the least of so many.
        photographs: folder of photographs; by default one of 768 x 512 that scikit-image carries.
    """
    named = ImageSet(photographs) if photographs else None
    images = [sample_of_size(SIZE)] if named is None else [named.image(index) for index in range(len(named))]
    ours, rival = ModelCodec("cdanalysis", model, QUALITY[0]), CompressAI(RIVAL, weights or RANDOM)
    others: list[Codec] = [codec for codec in (*BASELINES, *MORE_BASELINES) if codec.available()]
    rows: list[dict[str, Any]] = []
    for rate in RATES:
        levels = [(codec, level_at(codec, images, rate)) for codec in (ours, *others)]
        if rate == RATES[0] and rival.available():
            levels.append((rival, RIVAL_LEVEL))
        reached = [(codec, level) for codec, level in levels if level is not None]
        rows += [{"wanted_bpp": rate, **row} for row in _with_ratio(_coding(reached, images, repeats), "both_s")]
    return {"rows": rows, "photographs": len(images), "weights": weights or RANDOM}


def _coding(codecs: Sequence[tuple[Codec, int]], images: Sequence[Image.Image], repeats: int) -> list[dict[str, Any]]:
    """A row for each codec at its level, and one more for what autocast makes of a learned one."""
    files = {codec: [codec.encode(image, level) for image in images] for codec, level in codecs}
    ways, rows = dict[Any, Callable[[], object]](), list[dict[str, Any]]()
    for codec, level in codecs:
        ways[codec, "encode_s"] = partial(_each, partial(codec.encode, level=level), images)
        ways[codec, "decode_s"] = partial(_each, codec.decode, files[codec])
    times = {"": least(ways, repeats)}
    learned = {key: way for key, way in ways.items() if isinstance(key[0], (CompressAI, ModelCodec))}
    times |= {", bfloat16": least(learned, repeats, "bfloat16")} if learned else {}
    for how, found in times.items():
        for codec in dict.fromkeys(codec for codec, _ in found):
            rate = sum(bpp(len(data), *image.size) for data, image in zip(files[codec], images, strict=True))
            seconds = {verb: found[codec, verb] / len(images) for verb in ("encode_s", "decode_s")}
            whole = {"bpp": rate / len(images), **seconds, "both_s": sum(seconds.values())}
            rows.append({"codec": f"{codec.name}{how}", **whole})
    return rows


def _each(work: Callable[[Any], object], items: Sequence[Any]) -> None:
    for item in items:
        work(item)


def task_speed(model: Model, weights: str = "", repeats: int = 5) -> dict[str, Any]:
    """Seconds from the bytes of 1 and of 32 photographs to what each head says.

    From streams cut after the layers that the head reads; from JPEG files, by the layers' teachers (batch norms folded)
    and the head's counterpart, masks also by DeepLabv3; and one by one from files of CompressAI's model, decoded, by
    the same. Photographs are of 224 x 224 for labels, else of 640 x 480. Each in float32 and under torch's autocast to
    bfloat16; the ratio is of the faster of each.
    """
    rows, rival = [], CompressAI(RIVAL, weights or RANDOM)
    pixels, deeplab = reads_pixels(model), DeepLab().to(model.device)
    for task, head in model.heads.items():
        count = layers_of([head])
        files = jpegs(BATCH, (SIDE, SIDE) if count == 1 else LARGER)
        images = [open_image(data) for data in files]
        streams = model.encode_batch(images, LABEL_QUALITY, LAYERS[:count])
        for batch in (1, BATCH):
            own, seen = streams[:batch], files[:batch]
            ways: dict[Any, Callable[[], object]] = {
                "streams": lambda own=own, task=task: model.analyze_batch(own, (task,)),
                "JPEG": lambda seen=seen, task=task: pixels.analyze([open_image(data) for data in seen], (task,)),
            }
            if task == "segmentation":
                ways["JPEG, DeepLabv3"] = lambda seen=seen: _each(partial(_masks, deeplab), seen)
            if batch == 1 and rival.available():
                coded = rival.encode(images[0], RIVAL_LEVEL)
                ways[RIVAL] = lambda coded=coded, task=task: pixels.analyze([rival.decode(coded)], (task,))
            times = {precision: least(ways, repeats, precision) for precision in PRECISIONS}
            sizes = {"streams": _mean_size(own), "JPEG": _mean_size(seen)}
            found = [
                {"from": name, "bytes": sizes.get(name), **{f"{p}_s": times[p][name] for p in PRECISIONS}}
                for name in ways
            ]
            found = [{**row, "least_s": min(row[f"{p}_s"] for p in PRECISIONS)} for row in found]
            rows += [{"task": task, "photographs": batch, **row} for row in _with_ratio(found, "least_s")]
    return {"rows": rows, "weights": weights or RANDOM}


def _mean_size(files: Sequence[bytes]) -> float:
    return sum(map(len, files)) / len(files)


@torch.inference_mode()
def _masks(deeplab: DeepLab, data: bytes) -> Tensor:
    """Classes of a JPEG file's pixels, at the size that the network knows."""
    x = resized(to_pixels(open_image(data))[None], (513, 513))
    return deeplab(x.to(next(deeplab.parameters()).device)).argmax(1)


def growth(
    model: Model, counts: Sequence[int] = COUNTS, megapixels: Sequence[float] = MEGAPIXELS
) -> dict[str, list[dict[str, float]]]:
    """Seconds as work grows: by the number of photographs of 224 x 224, and by the size of one of 3:2.

    ``semantic_s`` is the time of encoding the semantic layers alone.
    """
    samples = [open_image(data) for data in jpegs(min(max(counts), 64), (SIDE, SIDE))]
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
