"""Where the time goes when a photograph becomes a stream, a stream a photograph, and streams labels."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch

from ..codec.encoder import Encoder
from ..codec.entropy import symbols
from ..codec.entropy.symbols import SymbolCoder
from ..codec.layered import LayeredCodec
from ..codec.second_look import SecondLook
from ..data.images import open_image
from ..heads.classification import ClassificationHead
from ..model import Model
from .head_training import jpegs
from .speed import BASE_QUALITY, BATCH, QUALITY, SIZE, sample_of_size

PARTS: dict[str, tuple[tuple[object, str], ...]] = {
    "backbone": ((Encoder, "features"),),
    "analysis": ((Encoder, "analyze"),),
    "second look": ((SecondLook, "semantic"), (SecondLook, "detail"), (SecondLook, "hyper")),
    "entropy models": ((Encoder, "quantize"), (SymbolCoder, "read")),
    "entropy coder": ((SymbolCoder, "write"), (symbols, "pop_each")),
    "synthesis": ((LayeredCodec, "to_images"),),
    "neck": ((Model, "pyramid"),),
    "head": ((ClassificationHead, "predict"),),
}
"""Functions that are a part each, less what they call of other parts."""
REST = "rest"


def parts(model: Model, repeats: int = 5) -> dict[str, Any]:
    """Seconds of every part of encoding and decoding one photograph of 768 x 512, and of reading 32 streams' labels.

    Those of the fastest of ``repeats`` runs. Photographs in float32, labels under torch's autocast to bfloat16.
    """
    image, images = sample_of_size(SIZE), [open_image(data) for data in jpegs(BATCH)]
    stream = model.encode(image, QUALITY)
    streams = model.encode_batch(images, BASE_QUALITY, layers=("semantic",))
    found = {
        "encode_s": _fastest(lambda: model.encode(image, QUALITY), repeats),
        "decode_s": _fastest(lambda: model.decode(stream), repeats),
    }
    with torch.autocast(model.device.type, torch.bfloat16):
        found["labels_s"] = _fastest(lambda: model.analyze_batch(streams, ("classification",)), repeats)
    names = [name for name in (*PARTS, REST) if any(name in seconds for seconds in found.values())]
    rows = [{"part": name, **{verb: seconds.get(name) for verb, seconds in found.items()}} for name in names]
    return {"rows": [*rows, {"part": "all", **{verb: sum(seconds.values()) for verb, seconds in found.items()}}]}


def _fastest(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Seconds of each part in the fastest run, after one to warm up."""
    work()
    runs = []
    for _ in range(repeats):
        watch = _Watch()
        with watch.on_parts(), watch.part(REST):
            work()
        runs.append(watch.seconds)
    return min(runs, key=lambda seconds: sum(seconds.values()))


class _Watch:
    """Seconds by part; those of a part that another calls count for the former alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = _now()
        self._inner.append(0.0)
        yield
        spent = _now() - started
        self.seconds[name] += spent - self._inner.pop()
        self._inner[-1] += spent

    @contextlib.contextmanager
    def on_parts(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name, functions in PARTS.items():
                for owner, attribute in functions:
                    timed = self._timed(name, getattr(owner, attribute))
                    stack.enter_context(patch.object(owner, attribute, timed))
            yield

    def _timed(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        def timed(*args: object, **kwargs: object) -> object:
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
