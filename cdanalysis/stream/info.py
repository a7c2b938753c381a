"""What a stream's header says, without any network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..structures.latents import QUALITY_LEVELS
from .container import StreamBytes, stream_bytes, unpack


@dataclass(frozen=True)
class LayerInfo:
    """One layer that is in the stream: its name, bytes of symbols, and quality in [0, 1].

    ``mapped`` says that a map in the layer lowers its quality in places.
    """

    name: str
    bytes: int
    quality: float
    mapped: bool


@dataclass(frozen=True)
class Info:
    """What `inspect` tells of a stream.

    Attributes:
        version: of the format.
        model: the zoo's name for the model that wrote it; None if the zoo does not know it.
        fingerprint: of the model that wrote it.
        width, height: true size of the photograph in pixels.
        quality: of the last layer in the stream, in [0, 1].
        layers: those whose bytes are in the stream.
        bytes: of the whole stream, container included.
        bpp: bits of the whole stream per pixel of the photograph.
    """

    version: int
    model: str | None
    fingerprint: str
    width: int
    height: int
    quality: float
    layers: tuple[LayerInfo, ...]
    bytes: int
    bpp: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect(source: StreamBytes, model_name: Callable[[str], str | None] = lambda fingerprint: None) -> Info:
    """Read a stream's header and verify its checksums.

    Args:
        source: the stream, or the path of its file.
        model_name: gives a model's name for its fingerprint, or None.

    Raises:
        StreamError: if the stream is bad.
    """
    data = stream_bytes(source)
    stream = unpack(data)
    layers = tuple(
        LayerInfo(layer.name, layer.length, layer.level / QUALITY_LEVELS, layer.mapped)
        for layer in stream.layers
        if layer.data is not None
    )
    bpp = 8 * len(data) / (stream.width * stream.height)
    return Info(
        stream.version,
        model_name(stream.fingerprint),
        stream.fingerprint,
        stream.width,
        stream.height,
        layers[-1].quality,
        layers,
        len(data),
        bpp,
    )
