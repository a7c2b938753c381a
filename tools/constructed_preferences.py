"""Choices between distortions whose truth is known by construction, or that a metric made in people's place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cdanalysis.codecs.base import Codec
from cdanalysis.data.images import ImageSet
from cdanalysis.data.preferences import Preference
from cdanalysis.metrics.preferences import Metric

LESS, LEVELS, TRIES = 0.95, (0.1, 0.9), 4
"""Of two files of one codec one has at most this share of the other's bytes; from levels in this part of the range."""
EQUAL, RATES = 0.05, (0.15, 1.2)
"""Files of two codecs that differ by less than this share in bytes are equal; at rates, in bpp, between these."""


def construct(
    images: ImageSet,
    codecs: Sequence[Codec],
    metric: Metric,
    folder: Path,
    what: str,
    each: int = 4,
    side: int = 224,
    seed: int = 0,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> list[Preference]:
    """Choices between compressions of windows of photographs; their files are PNG below ``folder``.

    Of every photograph ``each`` pairs by one codec, of which one has more bits and must win ("more bits"), and as many
    of equal bytes by two codecs, of which ``metric`` finds one more alike ("equal bits"). A choice's group is its kind
    and ``what``. Pairs that a codec cannot make, and ties, are left out.

    Args:
        side: of the windows, in pixels; smaller photographs are seen whole.
    """
    preferences = []
    for index in track(range(len(images))):
        rng = np.random.default_rng([seed, index])
        window = _window(images.image(index), side, rng)
        place = folder / what.replace(" ", "-").replace(",", "") / str(index)
        place.mkdir(parents=True, exist_ok=True)
        window.save(place / "original.png")
        pairs = [("more bits", _more_bits(window, codecs, rng)) for _ in range(each)]
        pairs += [("equal bits", _equal_bits(window, codecs, metric, rng)) for _ in range(each)]
        for number, (kind, pair) in enumerate(pairs):
            if pair is None:
                continue
            swap = bool(rng.integers(2))
            paths = [place / f"{number}{letter}.png" for letter in "ab"]
            for path, array in zip(paths, pair[::-1] if swap else pair, strict=True):
                Image.fromarray(array).save(path)
            preferences.append(
                Preference(place / "original.png", paths[0], paths[1], float(not swap), f"{kind}, {what}")
            )
    return preferences


def _window(image: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    left, top = (int(rng.integers(max(1, length - side + 1))) for length in image.size)
    return image.crop((left, top, min(left + side, image.width), min(top + side, image.height)))


def _more_bits(
    window: Image.Image, codecs: Sequence[Codec], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """(better, worse) of one codec."""
    codec = codecs[int(rng.integers(len(codecs)))]
    for _ in range(TRIES):
        level = int(rng.uniform(*LEVELS) * codec.max_level)
        better = codec.encode(window, level)
        for lower in range(level - 1, -1, -max(1, codec.max_level // 25)):
            worse = codec.encode(window, lower)
            if len(worse) <= LESS * len(better):
                return codec.decode(better), codec.decode(worse)
    return None


def _equal_bits(
    window: Image.Image, codecs: Sequence[Codec], metric: Metric, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """(nearer, farther) of two codecs, as the metric says."""
    for _ in range(TRIES):
        pair = [codecs[i] for i in rng.choice(len(codecs), 2, replace=False)]
        size = int(np.exp(rng.uniform(*np.log(RATES))) * window.width * window.height / 8)
        files = [codec.encode_near(window, size) for codec in pair]
        if abs(len(files[0]) - len(files[1])) > EQUAL * min(map(len, files)):
            continue
        first, second = (codec.decode(data) for codec, data in zip(pair, files, strict=True))
        original = np.asarray(window)
        distances = metric(original, first), metric(original, second)
        if distances[0] != distances[1]:
            return (first, second) if distances[0] < distances[1] else (second, first)
    return None
