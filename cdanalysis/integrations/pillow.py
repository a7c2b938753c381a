"""Pillow's plugin for streams: after `register_pillow()`, ``Image.open("x.cda")`` and ``image.save("x.cda")`` work.

Pillow imports no plugins but its own, so a program says once that it wants this one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageFile

from ..model import Model
from ..photographs.formats import STREAM_FORMAT
from ..stream.container import MAGIC, VERSION, Stream, read_header, stream_bytes, unpack
from ..stream.errors import StreamError
from ..structures.latents import QUALITY_LEVELS
from ..zoo import load, name_of

SUFFIX, MIME = ".cda", "image/x-cda"
LONGEST_HEADER = 64
"""Bytes; the format's headers are shorter."""
OPTIONS = ("quality", "layers", "bpp", "max_bytes", "importance", "spatial_size", "effort", "realism")
"""Of `Model.encode`, which ``image.save`` takes."""


@dataclass
class _Models:
    """Which models read and write."""

    name: str | Path | Model = "photo"
    device: str = "cpu"
    preview: bool = False
    realism: float = 0.0
    loaded: dict[str, Model] = field(default_factory=dict)
    """By fingerprint."""

    def writer(self, chosen: str | Path | Model | None = None) -> Model:
        """The model that writes."""
        if chosen is None:
            if not isinstance(self.name, Model):
                self.name = load(self.name, self.device)
            chosen = self.name
        return self.kept(chosen if isinstance(chosen, Model) else load(chosen, self.device))

    def reader(self, fingerprint: str) -> Model:
        """The model that wrote a stream: one that was registered, else one that ships."""
        if fingerprint not in self.loaded:
            name = name_of(fingerprint)
            model = self.writer() if name is None else self.kept(load(name, self.device))
            if model.fingerprint != fingerprint:
                raise OSError(
                    f"the stream was written by a model with fingerprint {fingerprint}, which does not ship: give it "
                    "to register_pillow(model=...)"
                )
        return self.loaded[fingerprint]

    def kept(self, model: Model) -> Model:
        """The same model, to be found again."""
        self.loaded[model.fingerprint] = model
        return model


_models = _Models()


def register_pillow(
    model: str | Path | Model = "photo", device: str = "cpu", preview: bool = False, realism: float = 0.0
) -> None:
    """Let Pillow open and save ``.cda`` streams. May be called again, for another model; earlier ones still read.

    Opening reads a stream's header alone; pixels are decoded when they are asked for. ``image.save(path)`` takes
    ``quality`` (in [0, 1], or one for each layer; 0.5), ``layers``, ``bpp``, ``max_bytes``, ``importance``,
    ``spatial_size``, ``effort`` and ``realism`` as `Model.encode` does, and ``model`` for another one than here.

    Args:
        model: that writes, and reads its own streams: a model, a zoo name, a folder, or "hf-hub:owner/name"; loaded
            when it is first needed. Streams of models that ship are read in any case.
        device: torch device of models that are loaded.
        preview: show a rough picture of streams without a detail layer, if their model makes such.
        realism: in [0, 1], of pictures whose models have it, see `Model.decode`; others are decoded without.
    """
    _models.name, _models.device, _models.preview, _models.realism = model, device, preview, realism
    if isinstance(model, Model):
        _models.kept(model)
    Image.register_open(STREAM_FORMAT, StreamImageFile, _accepts)
    Image.register_save(STREAM_FORMAT, _save)
    Image.register_extension(STREAM_FORMAT, SUFFIX)
    Image.register_mime(STREAM_FORMAT, MIME)


class StreamImageFile(ImageFile.ImageFile):
    """A stream as Pillow's image. ``info`` has its ``layers``, the ``quality`` of each, and the ``fingerprint``."""

    format = STREAM_FORMAT
    format_description = "cdanalysis layered stream"

    def _open(self) -> None:
        assert self.fp is not None
        try:
            stream = read_header(self.fp.read(LONGEST_HEADER))
        except StreamError as error:  # as Pillow expects it of files that are not of this format, or damaged
            raise SyntaxError(str(error)) from None
        self._size, self._mode = (stream.width, stream.height), "RGB"
        self.info.update(_facts(stream))
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 0, self.mode)]

    def load(self) -> Any:
        """Decode the stream, if that was not done before; as Pillow's images do it.

        Returns:
            what `PIL.ImageFile.ImageFile.load` returns.

        Raises:
            OSError: if the stream is damaged, has no detail layer, or its model is not known; the message says which.
        """
        if self.tile and self.fp is not None:
            decoded = self._decoded(self._bytes())
            if self._exclusive_fp:
                self.fp.close()
            self.fp = io.BytesIO(decoded.tobytes())
        return super().load()

    def load_seek(self, position: int) -> None:
        """As Pillow's, but does nothing: pixels are all of what is read by then.

        Args:
            position: does not count.
        """

    def verify(self) -> None:
        """Check every checksum; decodes nothing.

        Raises:
            OSError: if the stream is damaged.
        """
        if self.fp is not None:
            try:
                unpack(self._bytes())
            except StreamError as error:
                raise OSError(str(error)) from None
        super().verify()

    def _bytes(self) -> bytes:
        assert self.fp is not None
        self.fp.seek(0)
        return stream_bytes(self.fp.read())

    def _decoded(self, data: bytes) -> Image.Image:
        try:
            model = _models.reader(self.info["fingerprint"])
            return model.decode(data, _models.preview, _models.realism if model.realistic else 0.0)
        except ValueError as error:  # a StreamError, or a model that makes no previews
            raise OSError(str(error)) from None


def _facts(stream: Stream) -> dict[str, Any]:
    """What ``info`` holds of a stream: of the layers that its header lists."""
    return {
        "layers": tuple(layer.name for layer in stream.layers),
        "quality": tuple(layer.level / QUALITY_LEVELS for layer in stream.layers),
        "fingerprint": stream.fingerprint,
    }


def _accepts(prefix: bytes) -> bool | str:
    """Whether a file may be a stream; a sentence, which Pillow warns by, for a stream of another format version."""
    if len(prefix) < 2 or int.from_bytes(prefix[:2], "big") >> 4 != MAGIC:
        return False
    version = prefix[1] & 15
    return version == VERSION or f"a .cda stream of format version {version}; this library reads version {VERSION}"


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    wanted: dict[str, Any] = getattr(image, "encoderinfo", {})
    options = {name: wanted[name] for name in OPTIONS if wanted.get(name) is not None}
    fp.write(_models.writer(wanted.get("model")).encode(image, **options))
