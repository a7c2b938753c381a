"""The .cda container: header, layers, checksums. Needs no network; `docs/format.md` specifies every byte."""

from __future__ import annotations

import binascii
import contextlib
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

from ..photographs.limits import MAX_PIXELS
from ..structures.latents import LAYERS, PAD, QUALITY_LEVELS, SEMANTIC, layer_count
from .errors import StreamError

MAGIC = 0xCDA
VERSION = 2
FINGERPRINT_BYTES = 3
CHECK_BYTES = 3
LARGEST_CLAIM = 2**80
"""Pixels; no header can claim more."""
MAX_WORKING = 1024
"""Sides of working sizes end here: what a semantic layer costs is bounded, whatever a header says."""


def check_working(size: int) -> int:
    """A working size, if it is one.

    Args:
        size: in pixels.

    Returns:
        the same.

    Raises:
        ValueError: if it is not a multiple of 32 from 32 to 1,024.

    >>> check_working(480)
    480
    """
    if not isinstance(size, Integral) or size % PAD or not 0 < size <= MAX_WORKING:
        raise ValueError(f"a working size is a multiple of {PAD} up to {MAX_WORKING}, got {size!r}")
    return int(size)


@dataclass(frozen=True)
class Layer:
    """One layer of a stream.

    Attributes:
        name: one of ``LAYERS``.
        level: quality level 0..120.
        length: bytes of the layer's symbols, without checksum.
        data: the symbols as the entropy coder wrote them; None where the stream was cut before the layer.
        working: side in pixels, a multiple of 32, to which the photograph was resized for a semantic layer (the shorter
            side for the global layer, the longer one for the spatial layer); 0 for the detail layer.
        mapped: whether the symbols start with a quality map; only the detail layer may have one.
    """

    name: str
    level: int
    length: int
    data: bytes | None
    working: int = 0
    mapped: bool = False


@dataclass(frozen=True)
class Stream:
    """A parsed stream of one photograph.

    Attributes:
        fingerprint: of the model that wrote it, six hexadecimal digits.
        width: true width of the photograph in pixels.
        height: true height.
        layers: those that the header lists.
        version: of the format.
    """

    fingerprint: str
    width: int
    height: int
    layers: tuple[Layer, ...]
    version: int = VERSION

    def layer(self, name: str) -> Layer | None:
        """The layer of a name; None if its bytes are missing.

        Args:
            name: one of ``LAYERS``.
        """
        return next((layer for layer in self.layers if layer.name == name and layer.data is not None), None)

    def require(self, name: str) -> Layer:
        """The layer of a name.

        Args:
            name: one of ``LAYERS``.

        Raises:
            StreamError: if its bytes are missing.
        """
        layer = self.layer(name)
        if layer is None:
            raise StreamError(f"the stream has no {name} layer: it was stripped, or cut before that layer")
        return layer


def pack(stream: Stream) -> bytes:
    """Serialize a stream.

    Args:
        stream: whose layers are the first one or more, in order, each with its ``data``. Its ``version`` does not
            count.

    Returns:
        the bytes of a ``.cda`` file, of format version 2.

    Raises:
        ValueError: for a size, level, fingerprint or layer that the format cannot represent, or a layer without data.

    >>> layer = Layer("global", level=60, length=3, data=b"abc", working=224)
    >>> data = pack(Stream("0e3ea2", width=640, height=480, layers=(layer,)))
    >>> len(data), unpack(data).layers[0].data
    (20, b'abc')
    """
    _check_fields(stream)
    header = bytearray((MAGIC << 4 | VERSION).to_bytes(2, "big"))
    header += bytes.fromhex(stream.fingerprint)
    header += varint(stream.width) + varint(stream.height)
    for index, layer in enumerate(stream.layers):
        more = index + 1 < len(stream.layers)
        last = layer.name == LAYERS[-1]
        header.append(layer.level << 1 | (layer.mapped if last else more))
        header += b"" if last else varint(layer.working // PAD)
        header += varint(len(layer.data))
    parts = [bytes(header), _header_check(bytes(header)).to_bytes(2, "big")]
    for layer in stream.layers:
        parts += [layer.data, _layer_check(bytes(header), layer.name, layer.data)]
    return b"".join(parts)


StreamBytes = bytes | bytearray | memoryview | str | os.PathLike
"""A stream, or the path of the file that holds it."""


def stream_bytes(source: StreamBytes) -> bytes:
    """The bytes of a stream; of a path, what is in the file.

    Args:
        source: the bytes of a ``.cda`` file, or its path. They are not checked.

    Raises:
        FileNotFoundError: if there is no such file.
        StreamError: if it is neither bytes nor a path, or the path of a folder.
    """
    if isinstance(source, (str, os.PathLike)):
        try:
            with open(source, "rb") as file:
                return file.read()
        except IsADirectoryError:
            raise StreamError(f"{os.fspath(source)}: it is a folder, where a stream's file is read") from None
    if not isinstance(source, (bytes, bytearray, memoryview)):
        raise StreamError(f"a stream is bytes, or the path of a file; got {type(source).__name__}")
    return bytes(source)


def unpack(source: StreamBytes, max_pixels: int = MAX_PIXELS) -> Stream:
    """Parse a stream and verify every checksum.

    A stream may end right after any of its layers; those that follow then have no ``data``.

    Args:
        source: the bytes of a ``.cda`` file, or its path.
        max_pixels: maximum size of the photograph, padded to multiples of 32.

    Returns:
        the stream, with all layers that its header lists.

    Raises:
        StreamError: if it is not a .cda stream, is damaged or truncated, or claims more than
            ``max_pixels`` pixels, padded.
        FileNotFoundError: if it is the path of a file that is not there.
    """
    with named_stream(source):
        return _unpack(stream_bytes(source), max_pixels)


@contextlib.contextmanager
def named_stream(source: StreamBytes) -> Iterator[None]:
    """What is wrong with a stream in the block is said with the name of its file, if it has one.

    Args:
        source: the bytes of a ``.cda`` file, or its path.

    Raises:
        StreamError: that of the block, with the path before its message where ``source`` is a path.
    """
    try:
        yield
    except StreamError as error:
        if not isinstance(source, (str, os.PathLike)) or str(error).startswith(f"{os.fspath(source)}: "):
            raise
        raise StreamError(f"{os.fspath(source)}: {error}") from None


def _unpack(data: bytes, max_pixels: int) -> Stream:
    stream, position, header = _unpack_header(data, max_pixels)
    layers: list[Layer] = []
    for layer in stream.layers:
        if layers and position == len(data):
            layers.append(layer)
            continue
        end = position + layer.length
        if end + CHECK_BYTES > len(data):
            raise StreamError(f"truncated: the {layer.name} layer ends {end + CHECK_BYTES - len(data)} bytes too early")
        payload = bytes(data[position:end])
        if bytes(data[end : end + CHECK_BYTES]) != _layer_check(header, layer.name, payload):
            raise StreamError(f"damaged: the checksum of the {layer.name} layer does not match")
        layers.append(replace(layer, data=payload))
        position = end + CHECK_BYTES
    if position != len(data):
        raise StreamError(f"damaged: {len(data) - position} bytes after the end of the stream")
    return replace(stream, layers=tuple(layers))


def read_header(data: bytes) -> Stream:
    """Parse a stream's header alone: size, model, and the layers that it lists, none of them with ``data``.

    Args:
        data: the first 64 bytes of a stream, or more. How many pixels it claims is for the caller to bound.

    Raises:
        StreamError: if it is not the header of a .cda stream, or a damaged one.
    """
    return _unpack_header(bytes(data), max_pixels=LARGEST_CLAIM)[0]


def strip(stream: StreamBytes, layers: Sequence[str] = SEMANTIC) -> bytes:
    """Keep only the named layers of a stream. Loads no network, and does not decode anything.

    Args:
        stream: the bytes of a ``.cda`` file, or its path.
        layers: the first one or more of ``("global", "spatial", "detail")``; a layer needs those before it.

    Returns:
        the bytes that encoding without the other layers would give.

    Raises:
        StreamError: if the stream is bad, or lacks one of the layers.
        ValueError: for any other list of layers.
        FileNotFoundError: if it is the path of a file that is not there.
    """
    layer_count(layers)
    parsed = unpack(stream, LARGEST_CLAIM)
    with named_stream(stream):
        return pack(replace(parsed, layers=tuple(parsed.require(name) for name in layers)))


def _unpack_header(data: bytes, max_pixels: int) -> tuple[Stream, int, bytes]:
    """(stream without layer bytes, position after the header, the header's bytes without their checksum)."""
    reader = Reader(data)
    if len(data) < 2 or int.from_bytes(data[:2], "big") >> 4 != MAGIC:
        raise StreamError("not a .cda stream")
    version = reader.take(2)[1] & 15
    if version != VERSION:
        wrote = "an edition before 0.2 of this library" if version < VERSION else "a newer edition of this library"
        raise StreamError(f"format version {version}, which {wrote} wrote; this one reads version {VERSION}")
    fingerprint = reader.take(FINGERPRINT_BYTES).hex()
    width, height = reader.varint(), reader.varint()
    layers = _layer_table(reader)
    header = data[: reader.position]
    if reader.take(2) != _header_check(header).to_bytes(2, "big"):
        raise StreamError("damaged: the checksum of the header does not match")
    if any(layer.level > QUALITY_LEVELS for layer in layers):
        raise StreamError(f"damaged: the header claims a quality level above {QUALITY_LEVELS}")
    if any(not 0 < layer.working <= MAX_WORKING for layer in layers if layer.name in SEMANTIC):
        raise StreamError(f"damaged: the header claims a working size that is not above 0 and at most {MAX_WORKING}")
    if width * height == 0 or padded_pixels(width, height) > max_pixels:
        raise StreamError(f"the header claims {width}x{height} pixels; at most {max_pixels}, padded, are accepted")
    return Stream(fingerprint, width, height, tuple(layers), version), reader.position, header


def _layer_table(reader: Reader) -> list[Layer]:
    layers, more = [], True
    for name in LAYERS:
        if more:
            byte, last = reader.take(1)[0], name == LAYERS[-1]
            working = 0 if last else PAD * reader.varint()
            layers.append(Layer(name, byte >> 1, reader.varint(), None, working, last and bool(byte & 1)))
            more = bool(byte & 1)
    return layers


def padded_pixels(width: int, height: int) -> int:
    """Pixels of a photograph as it is worked on: a row of pixels is as much work as 32 are.

    Args:
        width: in pixels.
        height: in pixels.

    Returns:
        the pixels of the photograph padded to multiples of 32.
    """
    return math.prod(-(-side // PAD) * PAD for side in (width, height))


class Reader:
    """Reads bytes from the first on.

    Args:
        data: the bytes.

    Attributes:
        position: of the byte that is read next.
    """

    def __init__(self, data: bytes):
        self.data, self.position = data, 0

    def take(self, count: int) -> bytes:
        """The next bytes.

        Args:
            count: how many.

        Raises:
            StreamError: where there are no more so many.
        """
        if self.position + count > len(self.data):
            raise StreamError("truncated: the header is not complete")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self) -> int:
        """The next number, as `varint` writes it.

        Returns:
            0 to 2^35 - 1.

        Raises:
            StreamError: where there is none, or it is written in more bytes than it need be.
        """
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                if shift and byte == 0:
                    raise StreamError("damaged: a number in the header is longer than it need be")
                return value
        raise StreamError("damaged: a number in the header is too large")


def varint(value: int) -> bytes:
    """Little-endian base 128: seven bits a byte, the top bit says that more follow.

    Args:
        value: at least 0; `Reader.varint` reads values below 2^35.
    """
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes(parts + bytes([value]))


def _header_check(header: bytes) -> int:
    return binascii.crc_hqx(header, 0xFFFF)


def _layer_check(header: bytes, name: str, payload: bytes) -> bytes:
    """Three bytes: CRC-16/CCITT, then the low byte of CRC-32, of the layer's symbols.

    Both start from the header and the layer's number, so that a layer fits one header and one place only, and a header
    whose own checksum fits by chance is found out by another polynomial.
    """
    number = LAYERS.index(name)
    crc16 = binascii.crc_hqx(payload, (_header_check(header) + number) & 0xFFFF)
    crc32 = zlib.crc32(payload, (zlib.crc32(header) + number) & 0xFFFFFFFF)
    return crc16.to_bytes(2, "big") + bytes([crc32 & 255])


def _check_fields(stream: Stream) -> None:
    if not 1 <= stream.width < 2**31 or not 1 <= stream.height < 2**31:
        raise ValueError(f"a stream cannot hold a photograph of {stream.width}x{stream.height} pixels")
    if len(bytes.fromhex(stream.fingerprint)) != FINGERPRINT_BYTES:
        raise ValueError(f"a fingerprint has {2 * FINGERPRINT_BYTES} hexadecimal digits, got {stream.fingerprint!r}")
    layer_count([layer.name for layer in stream.layers])
    for layer in stream.layers:
        if layer.data is None or not 0 <= layer.level <= QUALITY_LEVELS:
            raise ValueError(f"layer {layer.name} has no data, or a quality level outside 0..{QUALITY_LEVELS}")
        if layer.name not in SEMANTIC:
            continue
        if layer.mapped:
            raise ValueError(f"the {layer.name} layer can have no quality map")
        check_working(layer.working)
