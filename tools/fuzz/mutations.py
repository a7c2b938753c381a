"""Damaged streams: what a network, a disk or an enemy may make of one."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cdanalysis import StreamError, inspect, strip
from cdanalysis.model import Model
from cdanalysis.stream import container
from cdanalysis.structures.latents import SEMANTIC

SECONDS = 1.0
"""A verb that takes longer is a hang."""
HEADER = 24
"""About as many bytes a header has."""
MAX_PIXELS = 2**19
"""What the model under test accepts: half a megapixel is read in well under a second."""


class Source(Protocol):
    """Numbers that mutations are drawn from: numpy's generator, or whatever a fuzzer provides."""

    def integers(self, low: int, high: int) -> int: ...


def mutated(source: Source, data: bytes, other: bytes = b"") -> bytes:
    """One to four mutations: bits, bytes, runs, cuts, insertions, repetitions, and splices with another stream.

    Every other one is of the header: sizes, levels, working sizes and lengths are few bytes of a stream.
    """
    result = bytearray(data)
    for _ in range(int(source.integers(1, 5))):
        most = len(result) if int(source.integers(0, 2)) else min(HEADER, len(result))
        kind, at = int(source.integers(0, 7)), int(source.integers(0, max(1, most)))
        length = int(source.integers(1, 17))
        if kind == 0 and result:
            result[at] ^= 1 << int(source.integers(0, 8))
        elif kind == 1 and result:
            result[at] = int(source.integers(0, 256))
        elif kind == 2:
            result[at : at + length] = bytes(int(source.integers(0, 256)) for _ in range(length))
        elif kind == 3:
            del result[at : at + length]
        elif kind == 4:
            result[at:at] = bytes(int(source.integers(0, 256)) for _ in range(length))
        elif kind == 5:
            result[at:at] = result[at : at + length]
        else:
            result[at:] = other[at:]
    return bytes(result)


def repaired(data: bytes) -> bytes:
    """The same bytes with checksums that fit, as an enemy would make them; as they are where no header can be read."""
    try:
        body = data[: _header_end(data)]
        check = container._header_check(body).to_bytes(2, "big")
        stream, position, _ = container._unpack_header(body + check, container.MAX_PIXELS)
    except StreamError:
        return data
    parts, left = [body, check], data[position:]
    for layer in stream.layers:
        payload = left[: layer.length]
        parts += [payload, container._layer_check(body, layer.name, payload)]
        left = left[layer.length + container.CHECK_BYTES :]
    return b"".join(parts)


def _header_end(data: bytes) -> int:
    """Where the header's own checksum begins."""
    reader = container.Reader(data)
    reader.take(2 + container.FINGERPRINT_BYTES)
    reader.varint()
    reader.varint()
    container._layer_table(reader)
    return reader.position


@dataclass
class Verdict:
    """What became of one stream.

    Attributes:
        refused: why it was refused; empty if it was read.
        seconds: how long the slowest verb took.
    """

    refused: str
    seconds: float


def examine(model: Model, data: bytes) -> Verdict:
    """Read a stream by all verbs that need no synthesis, the detail layer too.

    Whatever is raised, but for `StreamError`, is a bug and goes through.
    """
    model.max_pixels = MAX_PIXELS
    refused, seconds = "", 0.0
    try:
        layers = [layer.name for layer in inspect(data).layers]
        verbs = [lambda: strip(data, layers[:1]), lambda: model.embed(data), lambda: model.features(data, layers)]
        for verb in verbs + [lambda: model.analyze(data)] * (len(layers) > 1):
            started = time.perf_counter()
            try:
                verb()
            finally:
                seconds = max(seconds, time.perf_counter() - started)
    except StreamError as error:
        refused = str(error)
    return Verdict(refused, seconds)


def peak_mib() -> float:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def streams_of(model: Model, images: list[np.ndarray]) -> list[bytes]:
    """Streams to start from: of each photograph one, two and three layers, and three with an importance map."""
    made = []
    for image in images:
        made += [model.encode(image, 0.3), model.encode(image, 0.6, SEMANTIC), model.encode(image, 0.8, SEMANTIC[:1])]
        made.append(model.encode(image, 0.5, importance=[(4, 4, 20, 20)]))
    return made
