"""Compressed-domain multi-task image analysis.

A photograph is encoded once into a small layered stream; heads read the stream's latents without
decoding it; a synthesis network reconstructs the photograph for people who want to see it.

    import cdanalysis as cda

    model = cda.load("photo")
    stream = model.encode(image, quality=0.5)
    label = model.analyze(stream).classification.label
    vector = model.embed(stream)
    image = model.decode(stream)

A stream has three layers, each on a grid of its own: ``global`` (what the photograph shows: one vector), ``spatial``
(where things are) and ``detail`` (what it looks like). It may be cut after any of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from . import lean as _lean
from .stream.container import LAYERS, strip
from .stream.errors import StreamError
from .stream.info import Info
from .stream.info import inspect as _inspect
from .version import __version__

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from .archive import Archive
    from .model import Model
    from .photographs.read import ImageLike
    from .roi.importance import Importance
    from .stream.container import StreamBytes
    from .stream_dataset import StreamDataset
    from .structures.latents import Quality
    from .structures.predictions import Result

# Torch takes large memory in large pages, where Linux has them; "0" keeps it from that. Read before the first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
_lean.install()

__all__ = [
    "Archive",
    "Info",
    "StreamDataset",
    "StreamError",
    "__version__",
    "analyze",
    "decode",
    "embed",
    "encode",
    "inspect",
    "load",
    "strip",
]


def __getattr__(name: str) -> Any:
    """What needs numpy or torch is imported when it is first asked for."""
    if name == "Archive":
        from .archive.search import Archive

        return Archive
    if name == "StreamDataset":
        from .stream_dataset import StreamDataset

        return StreamDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def inspect(stream: StreamBytes) -> Info:
    """Read a stream's header: size, model, quality, bytes of each layer. Loads no network.

    Args:
        stream: the bytes of a ``.cda`` file, or its path; it may be cut after any of its layers.

    Returns:
        what the header says, and the size in bits per pixel.

    Raises:
        StreamError: if the stream is damaged, truncated or of another format.
        FileNotFoundError: if it is the path of a file that is not there.
    """
    from .zoo import name_of

    return _inspect(stream, name_of)


def load(name: str = "photo", device: str = "cpu") -> Model:
    """Load a model by its zoo name, from a folder, or from the Hugging Face Hub.

    Args:
        name: a zoo name (``cdanalysis zoo list``), a folder that training or `Model.save` wrote, or
            ``hf-hub:owner/name[@revision]`` (the extra ``hub``), which is downloaded once; or
            ``compressai:NAME:QUALITY`` for one of CompressAI's networks, without heads.
        device: torch device.

    Returns:
        the model, in evaluation mode, with frozen parameters.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if its files are damaged, or torch has no such device here.
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
    bpp: float | tuple[float, ...] | None = None,
    max_bytes: int | tuple[int, ...] | None = None,
    importance: Importance | None = None,
    spatial_size: int | None = None,
    effort: int = 0,
    realism: float = 0.0,
    model: str = "photo",
) -> bytes:
    """Encode a photograph into a stream. The model is loaded once and kept.

    Args:
        image: PIL image of any mode, the path of an image file, uint8 array (H, W, 3) or (H, W), or tensor (3, H, W),
            uint8 or float in [0, 1].
        quality: in [0, 1], for all layers, or one for each: (global, spatial, detail); 0.5 where no budget is given.
        layers: the first one or more of ``("global", "spatial", "detail")``.
        bpp: maximum bits per pixel of the whole stream; or one number for the symbols of each layer.
        max_bytes: the same in bytes.
        importance: region of interest, see `Model.encode`.
        spatial_size: longer side at which the spatial layer sees the photograph, see `Model.encode`.
        effort: steps that fit the detail layer to the photograph, see `Model.encode`.
        realism: at which pictures will be decoded, which effort serves, see `Model.encode`.
        model: zoo name or folder.

    Returns:
        the bytes of a ``.cda`` file.

    Raises:
        ValueError: for an image, quality, layers, budget, importance, size, effort or realism that cannot be used.
        FileNotFoundError: if there is no such model, or a file that is named is not there.
        ModuleNotFoundError: for a saliency model whose package is not installed (the extra ``saliency``).
    """
    return _loaded(model).encode(
        image, quality, layers, bpp=bpp, max_bytes=max_bytes, importance=importance, spatial_size=spatial_size,
        effort=effort, realism=realism,
    )  # fmt: skip


def analyze(stream: StreamBytes, tasks: Sequence[str] | None = None, *, model: str = "photo") -> Result:
    """Predict from a stream's semantic layers, without decoding pixels. The model is loaded once and kept.

    Args:
        stream: the bytes of a ``.cda`` file, or its path; only the layers that the tasks read are needed: the global
            one for classification, that and the spatial one for detection and segmentation.
        tasks: tasks to run; by default all of the model's.
        model: zoo name or folder of the model that wrote the stream.

    Returns:
        predictions by task; geometry is in pixels of the original photograph.

    Raises:
        StreamError: if the stream is bad, was written by another model, or lacks a layer that a task needs.
        ValueError: for a task that the model has no head for.
        FileNotFoundError: if there is no such model, or the stream is the path of a file that is not there.
    """
    return _loaded(model).analyze(stream, tasks)


def embed(stream: StreamBytes, *, model: str = "photo") -> Tensor:
    """The vector that a stream's global layer holds, to search by. The model is loaded once and kept.

    Args:
        stream: the bytes of a ``.cda`` file, or its path; layers after the global one are not read.
        model: zoo name or folder of the model that wrote the stream.

    Returns:
        (E,), float32.

    Raises:
        StreamError: if the stream is bad, or was written by another model.
        FileNotFoundError: if there is no such model, or the stream is the path of a file that is not there.
    """
    return _loaded(model).embed(stream)


def decode(stream: StreamBytes, preview: bool = False, realism: float = 0.0, *, model: str = "photo") -> Image.Image:
    """Reconstruct the photograph of a stream. The model is loaded once and kept.

    Args:
        stream: the bytes of a ``.cda`` file, or its path.
        preview: accept a stream without detail layer, and return a rough picture, if the model makes such.
        realism: in [0, 1], see `Model.decode`.
        model: zoo name or folder of the model that wrote the stream.

    Returns:
        an RGB image of the original size.

    Raises:
        StreamError: if the stream is bad, was written by another model, or lacks its detail layer.
        ValueError: for a preview by a model that makes none; for a realism as `Model.decode` refuses it.
        FileNotFoundError: if there is no such model, or the stream is the path of a file that is not there.
    """
    return _loaded(model).decode(stream, preview, realism)
