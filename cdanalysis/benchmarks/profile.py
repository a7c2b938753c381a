"""Where the time goes when a photograph becomes a stream, a stream a photograph, and streams labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ..codec.detail import DetailLayer
from ..codec.entropy import symbols
from ..codec.entropy.symbols import SymbolCoder
from ..codec.layered import LayeredCodec
from ..codec.spatial_layer import SpatialAnalysis, SpatialLayer, SpatialSynthesis
from ..codec.vector_search import VectorSearch
from ..data.samples import jpegs, sample_of_size
from ..heads.classification import ClassificationHead
from ..heads.detection import DetectionHead
from ..heads.segmentation import SegmentationHead
from ..model import Model
from ..photographs.read import open_image
from ..structures.latents import LAYERS
from .speed import BATCH, LABEL_QUALITY, QUALITY, SIDE, SIZE, now

PARTS: dict[str, tuple[tuple[object, str], ...]] = {
    "teachers": ((LayeredCodec, "teachers_see"),),
    "spatial analysis": ((SpatialAnalysis, "forward"),),
    "detail analysis": ((LayeredCodec, "analyze"),),
    "entropy models": (
        (VectorSearch, "best"),
        (SpatialLayer, "quantize"),
        (DetailLayer, "quantize"),
        (SymbolCoder, "read"),
    ),
    "entropy coder": ((SymbolCoder, "write"), (symbols, "pop_each")),
    "spatial synthesis": ((SpatialSynthesis, "forward"),),
    "features": ((LayeredCodec, "features"),),
    "synthesis": ((LayeredCodec, "to_images"),),
    "head": ((ClassificationHead, "predict"), (DetectionHead, "predict"), (SegmentationHead, "predict")),
}
"""Functions that are a part each, less what they call of other parts."""
REST = "rest"


def parts(model: Model, repeats: int = 5) -> dict[str, Any]:
    """Seconds of every part of encoding, analyzing and decoding one photograph of 768 x 512, and of 32 streams' labels.

    Those of the fastest of ``repeats`` runs. Photographs in float32, labels under torch's autocast to bfloat16.
    """
    image, images = sample_of_size(SIZE), [open_image(data) for data in jpegs(BATCH, (SIDE, SIDE))]
    stream = model.encode(image, QUALITY)
    streams = model.encode_batch(images, LABEL_QUALITY, LAYERS[:1])
    found = {
        "encode_s": _fastest(lambda: model.encode(image, QUALITY), repeats),
        "decode_s": _fastest(lambda: model.decode(stream), repeats),
        "analyze_s": _fastest(lambda: model.analyze(stream), repeats),
    }
    with torch.autocast(model.device.type, torch.bfloat16):
        found["labels_s"] = _fastest(lambda: model.analyze_batch(streams, ("classification",)), repeats)
    names = [name for name in (*PARTS, REST) if any(name in seconds for seconds in found.values())]
    rows = [{"part": name, **{verb: seconds.get(name) for verb, seconds in found.items()}} for name in names]
    return {"rows": [*rows, {"part": "all", **{verb: sum(seconds.values()) for verb, seconds in found.items()}}]}


def _fastest(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Seconds of each part in the fastest run, after one to warm up."""
    return min([_watched(work) for _ in range(repeats + 1)][1:], key=lambda seconds: sum(seconds.values()))


def _watched(work: Callable[[], object]) -> dict[str, float]:
    """Seconds by part; those of a part that another calls count for the former alone."""
    seconds, stack, since = defaultdict[str, float](float), [REST], now()

    def count() -> None:
        nonlocal since
        moment = now()
        seconds[stack[-1]] += moment - since
        since = moment

    @contextmanager
    def part(name: str) -> Iterator[None]:
        count()
        stack.append(name)
        try:
            yield
        finally:
            count()
            stack.pop()

    with ExitStack() as originals:
        for name, (owner, attribute) in ((name, function) for name, own in PARTS.items() for function in own):
            function = getattr(owner, attribute)
            originals.callback(setattr, owner, attribute, function)
            setattr(owner, attribute, part(name)(function))
        work()
    count()
    return dict(seconds)
