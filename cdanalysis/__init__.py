"""Compressed-domain multi-task image analysis.

A photograph is encoded once into a small layered stream; heads read the stream's latents without
decoding it; a synthesis network reconstructs the photograph for people who want to see it.

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
    """Read a stream's header: size, model, quality, bytes of each layer. Loads no network.

    Args:
        stream: the bytes of a ``.cda`` file, or its path; it may be cut after its first layer.

    Returns:
        what the header says, and the size in bits per pixel.

    Raises:
        StreamError: if the stream is damaged, truncated or of another format.
    """
    from .zoo import name_of

    return _inspect(stream, name_of)


def load(name: str = "photo", device: str = "cpu") -> Model:
    """Load a model by its zoo name, or from a folder.

    Args:
        name: a zoo name (``cdanalysis zoo list``), or a folder that training wrote.
        device: torch device.

    Returns:
        the model, in evaluation mode, with frozen parameters.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if its files are damaged.
    """
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
    """Encode a photograph into a stream. The model is loaded once and kept.

    Args:
        image: PIL image of any mode, the path of an image file, uint8 array (H, W, 3) or (H, W), or float tensor
            (3, H, W) in [0, 1].
        quality: in [0, 1], or a pair (semantic, detail); 0.5 where no budget is given.
        layers: ``("semantic",)`` for a stream without detail layer.
        bpp: maximum bits per pixel of the whole stream; or a pair, for the symbols of each layer.
        max_bytes: the same in bytes.
        importance: region of interest, see `Model.encode`.
        model: zoo name or folder.

    Returns:
        the bytes of a ``.cda`` file.

    Raises:
        ValueError: for an image, quality, layers, budget or importance that cannot be used.
        FileNotFoundError: if there is no such model.
    """
    return _loaded(model).encode(image, quality, layers, bpp=bpp, max_bytes=max_bytes, importance=importance)


def analyze(stream: StreamBytes, tasks: Sequence[str] | None = None, model: str = "photo") -> Result:
    """Predict from a stream's semantic layer, without decoding pixels. The model is loaded once and kept.

    Args:
        stream: the bytes of a ``.cda`` file, or its path; the detail layer is not needed.
        tasks: tasks to run; by default all of the model's.
        model: zoo name or folder of the model that wrote the stream.

    Returns:
        predictions by task; geometry is in pixels of the original photograph.

    Raises:
        StreamError: if the stream is bad, or was written by another model.
        ValueError: for a task that the model has no head for.
    """
    return _loaded(model).analyze(stream, tasks)


def decode(stream: StreamBytes, preview: bool = False, model: str = "photo") -> Image.Image:
    """Reconstruct the photograph of a stream. The model is loaded once and kept.

    Args:
        stream: the bytes of a ``.cda`` file, or its path.
        preview: accept a stream without detail layer, and return a rough picture.
        model: zoo name or folder of the model that wrote the stream.

    Returns:
        an RGB image of the original size.

    Raises:
        StreamError: if the stream is bad, was written by another model, or lacks its detail layer.
    """
    return _loaded(model).decode(stream, preview)
