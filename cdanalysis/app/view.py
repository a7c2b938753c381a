"""What the page shows of a photograph: its stream, what is read from it, and other codecs' files of the same size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..codecs.pillow import AVIF, JPEG, PillowCodec
from ..metrics import image as metrics
from ..photographs.read import open_image
from ..reports.markdown import table
from ..stream.container import SEMANTIC, strip
from ..stream.info import inspect
from ..structures.drawing import canvas_of
from ..structures.latents import Quality, quality_levels
from ..structures.predictions import Result

if TYPE_CHECKING:
    from ..model import Model

MAX_PIXELS, MAX_BYTES = 2**22, 20 * 2**20
"""What the page takes by default: four megapixels, 20 MiB."""
RIVALS = (JPEG, AVIF)
READ_BY = {"global": "classification, search", "spatial": "detection, segmentation", "detail": "decoding"}


@dataclass(frozen=True)
class View:
    """A photograph at one quality.

    Attributes:
        stream: the bytes of its ``.cda`` file.
        layers: a table of the layers, in Markdown.
        labels: probabilities of the most probable classes; None if the model has no classification head.
        objects: boxes, drawn on gray: no pixel was decoded for them; None if it has no detection head.
        classes: the classes of pixels, on gray; None if it has no segmentation head.
        pictures: (caption, picture) of the decoded stream, and of other codecs' files of its size.
    """

    stream: bytes
    layers: str
    labels: dict[str, float] | None
    objects: Image.Image | None
    classes: Image.Image | None
    pictures: list[tuple[str, Image.Image]]


class Photograph:
    """A photograph that is analyzed once, to be shown at any quality.

    Args:
        model: encodes and reads it.
        image: RGB, upright.

    Raises:
        ValueError: if it has no pixels, or more than the model takes.
    """

    def __init__(self, model: Model, image: Image.Image):
        self.model, self.image = model, image
        self.writer = model.writer([image])

    def at(self, quality: Quality, realism: float = 0.0) -> View:
        """What to show at a quality.

        Args:
            quality: in [0, 1], one number or one for each layer.
            realism: of the decoded stream, in [0, 1].

        Raises:
            ValueError: for a quality outside [0, 1], or a realism that the model does not decode with.
        """
        (stream,) = self.writer.at(quality_levels(quality))
        result = self.model.analyze(strip(stream, SEMANTIC))
        label = result.classification
        return View(
            stream,
            _layers(stream),
            None if label is None else _labels(label.top5),
            self._drawn(result, "detection"),
            self._drawn(result, "segmentation"),
            [
                self._titled("cdanalysis", stream, self.model.decode(stream, realism=realism)),
                *(self._rival(codec, stream) for codec in RIVALS),
            ],
        )

    def _drawn(self, result: Result, task: str) -> Image.Image | None:
        return None if (found := result.get(task)) is None else found.plot()

    def _rival(self, codec: PillowCodec, stream: bytes) -> tuple[str, Image.Image]:
        """Another codec's file of the stream's size at most, or its smallest; gray where Pillow has not got it."""
        if not codec.available():
            return f"{codec.name}: this build of Pillow cannot write it", canvas_of(None, self.image.size[::-1])
        data = codec.encode_near(self.image, len(stream))
        name = codec.name if len(data) <= len(stream) else f"{codec.name}, its smallest file"
        return self._titled(name, data, Image.fromarray(codec.decode(data)))

    def _titled(self, name: str, data: bytes, picture: Image.Image) -> tuple[str, Image.Image]:
        psnr = metrics.defined(metrics.psnr(np.asarray(self.image), np.asarray(picture)))
        quality = "exact" if psnr is None else f"{psnr:.1f} dB"
        return f"{name}: {len(data):,} bytes, {quality}", picture


def opened(path: str | Path, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Image.Image:
    """An uploaded photograph.

    Args:
        path: of the file.
        max_pixels: a larger photograph is refused before it is decoded.
        max_bytes: a larger file is refused before it is opened.

    Returns:
        the photograph, RGB and upright.

    Raises:
        ValueError: if it is too large, or is no photograph that Pillow can open; the message says what to do.
        FileNotFoundError: if there is no such file.
    """
    size = os.stat(path).st_size
    if size > max_bytes:
        raise ValueError(
            f"the file has {size:,} bytes, more than the limit of {max_bytes:,}; raise it with --max-bytes"
        )
    return open_image(path, max_pixels, name=Path(path).name)


def _labels(top: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Scores by the first name of each class; by more of them where two classes share it, as ImageNet's two cranes."""
    labels: dict[str, float] = {}
    for names, score in top:
        first = names.split(",")[0]
        labels[first if first not in labels else f"{names} (another)"] = score
    return labels


def _layers(stream: bytes) -> str:
    """Layers with their bytes, what they see and who reads them."""
    info = inspect(stream)
    rows = [
        {
            "layer": layer.name,
            "bytes": f"{layer.bytes:,}",
            "sees the photograph at": f"{layer.working} pixels" if layer.working else "its own size",
            "read by": READ_BY[layer.name],
        }
        for layer in info.layers
    ]
    rest = info.bytes - sum(layer.bytes for layer in info.layers)
    rows.append({"layer": "header, checksums", "bytes": f"{rest:,}"})
    rate = f"{info.bpp:.3f} bits per pixel"
    rows.append({"layer": "**whole stream**", "bytes": f"**{info.bytes:,}**", "sees the photograph at": rate})
    return table(rows, cell=lambda value: "" if value is None else str(value))
