"""What a stream's header says; needs no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..structures.latents import QUALITY_LEVELS
from .container import LARGEST_CLAIM, StreamBytes, named_stream, stream_bytes, unpack


@dataclass(frozen=True)
class LayerInfo:
    """One layer that is in the stream.

    Attributes:
        name: "global", "spatial" or "detail".
        bytes: of its symbols.
        quality: in [0, 1].
        working: side in pixels to which the photograph was resized for a semantic layer: the shorter one for the global
            layer, the longer one for the spatial layer; 0 for the detail layer.
        mapped: whether a map lowers the quality in places.
    """

    name: str
    bytes: int
    quality: float
    working: int
    mapped: bool


@dataclass(frozen=True)
class Info:
    """What `inspect` returns.

    Attributes:
        version: of the format.
        model: zoo name of the model that wrote it; None if the zoo does not have it.
        fingerprint: of the model that wrote it, six hexadecimal digits.
        width: true width of the photograph in pixels.
        height: true height.
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
        """The same as plain data."""
        return asdict(self)


def inspect(source: StreamBytes, model_name: Callable[[str], str | None] = lambda fingerprint: None) -> Info:
    """Read a stream's header and verify its checksums.

    Args:
        source: the stream, or the path of its file.
        model_name: maps a fingerprint to a model's name, or None.

    Returns:
        what the header says, and the size in bits per pixel.

    Raises:
        StreamError: if the stream is bad.
        FileNotFoundError: if it is the path of a file that is not there.
    """
    with named_stream(source):
        data = stream_bytes(source)
        stream = unpack(data, LARGEST_CLAIM)  # nothing is made that grows with the photograph
    layers = tuple(
        LayerInfo(layer.name, layer.length, layer.level / QUALITY_LEVELS, layer.working, layer.mapped)
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
