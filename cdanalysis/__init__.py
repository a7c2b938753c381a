"""Compressed-domain multi-task image analysis.

A photograph is encoded once into a small layered stream; heads read the stream's latents without
decoding it; a synthesis network gives the photograph back to people who want to see it.

    import cdanalysis as cda

    model = cda.load("photo")
    stream = model.encode(image, quality=0.5)
    label = model.analyze(stream).classification.label
    image = model.decode(stream)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from .stream.container import LAYERS, strip
from .stream.errors import StreamError
from .stream.info import Info
from .stream.info import inspect as _inspect
from .version import __version__

if TYPE_CHECKING:
    from PIL import Image

    from .data.images import ImageLike
    from .model import Model
    from .roi.importance import Importance
    from .stream.container import StreamBytes
    from .structures.latents import Quality
    from .structures.predictions import Result

# Torch takes large memory in large pages, where Linux has them; "0" keeps it from that. Read before the first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__all__ = [
    "Info",
    "StreamError",
    "__version__",
    "analyze",
    "decode",
    "encode",
    "inspect",
    "load",
    "strip",
]


def inspect(stream: StreamBytes) -> Info:
    """What a stream's header says: size, model, quality, bytes of each layer. Needs no network.

    Raises:
        StreamError: if the stream is bad.
    """
    from .zoo import name_of

    return _inspect(stream, name_of)


def load(name: str = "photo", device: str = "cpu") -> Model:
    """Load a model by its zoo name, or from a folder. See `cdanalysis.zoo.load`."""
    from .zoo import load as load_model

    return load_model(name, device)


@lru_cache(maxsize=2)
def _loaded(name: str) -> Model:
    return load(name)


def encode(
    image: ImageLike,
    quality: Quality | None = None,
    layers: Sequence[str] = LAYERS,
    *,
    bpp: float | tuple[float, float] | None = None,
    max_bytes: int | tuple[int, int] | None = None,
    importance: Importance | None = None,
    model: str = "photo",
) -> bytes:
    """Encode a photograph with a model that is loaded once and kept. See `cdanalysis.model.Model.encode`."""
    return _loaded(model).encode(image, quality, layers, bpp=bpp, max_bytes=max_bytes, importance=importance)


def analyze(stream: StreamBytes, tasks: Sequence[str] | None = None, model: str = "photo") -> Result:
    """Predictions from a stream, with a model that is kept. See `cdanalysis.model.Model.analyze`."""
    return _loaded(model).analyze(stream, tasks)


def decode(stream: StreamBytes, preview: bool = False, model: str = "photo") -> Image.Image:
    """The photograph in a stream, with a model that is kept. See `cdanalysis.model.Model.decode`."""
    return _loaded(model).decode(stream, preview)
