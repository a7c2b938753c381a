"""What the commands do to one file. Each can be sent to another process or machine, and loads its model there, once."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .. import inspect as inspect_stream
from .. import zoo
from ..files import write_whole
from ..stream.container import Stream, unpack

if TYPE_CHECKING:
    from PIL import Image

    from ..model import Model

STREAMS = frozenset({".cda"})


class Work(Protocol):
    """Done to one file.

    Attributes:
        reads: suffixes of the files in a folder that it is for.
        writes: suffix of what it writes.
        columns: of the rows, what a table shows.
        model: name or folder of the model that it needs, if any.
    """

    reads: ClassVar[frozenset[str]]
    writes: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    @property
    def model(self) -> str | None: ...

    def __call__(self, source: str, target: str) -> dict[str, Any]:
        """Do it, write ``target`` whole or not at all, and give a row of plain data.

        Raises:
            ValueError, FileNotFoundError: where the file is not what it must be; the sentence goes to the user.
        """
        ...

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        """The row of a job whose target is there, as a run that was stopped left it; None if it must be done.

        Raises:
            OSError, ValueError: if the target cannot be read; then, too, it must be done.
        """
        ...


@lru_cache(maxsize=1)
def _model(name: str, device: str) -> Model:
    return zoo.load(name, device)


def _suffixes() -> frozenset[str]:
    from ..data.images import SUFFIXES

    return frozenset(SUFFIXES)


@dataclass(frozen=True)
class EncodeWork:
    """A photograph to a stream; arguments as `Model.encode` takes them."""

    writes: ClassVar[str] = ".cda"
    columns: ClassVar[tuple[str, ...]] = ("stream", "bytes", "bpp")

    model: str
    device: str = "cpu"
    quality: Any = None
    layers: tuple[str, ...] = ("semantic", "detail")
    bpp: Any = None
    max_bytes: Any = None
    importance: Any = None

    @property
    def reads(self) -> frozenset[str]:
        return _suffixes()

    def __call__(self, source: str, target: str) -> dict[str, Any]:
        from ..data.images import open_image

        budget = {"bpp": self.bpp, "max_bytes": self.max_bytes, "importance": self.importance}
        model = _model(self.model, self.device)
        stream = model.encode(open_image(source), self.quality, self.layers, **budget)
        write_whole(target, stream)
        return self._row(source, target, stream)

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        stream = Path(target).read_bytes()
        return self._row(source, target, stream) if self._fits(unpack(stream), len(stream)) else None

    def _fits(self, stream: Stream, size: int) -> bool:
        """Whether a stream is one that this work might have written."""
        from ..codec.budget import budget_of
        from ..structures.latents import quality_levels

        there = tuple(layer.name for layer in stream.layers)
        if there != self.layers or stream.fingerprint != zoo.describe(zoo.find(self.model))["fingerprint"]:
            return False
        budget = budget_of(stream.width * stream.height, self.bpp, self.max_bytes)
        if isinstance(budget, int):
            return size <= budget
        if budget is not None:
            return all(layer.length <= limit for layer, limit in zip(stream.layers, budget, strict=False))
        levels = quality_levels(0.5 if self.quality is None else self.quality)
        return all(layer.level == level for layer, level in zip(stream.layers, levels, strict=False))

    @staticmethod
    def _row(source: str, target: str, stream: bytes) -> dict[str, Any]:
        info = inspect_stream(stream)
        return {"file": source, "stream": target, "bytes": info.bytes, "bpp": info.bpp}


@dataclass(frozen=True)
class DecodeWork:
    """A stream to a photograph, in the image format that the target's name says."""

    reads: ClassVar[frozenset[str]] = STREAMS
    writes: ClassVar[str] = ".png"
    columns: ClassVar[tuple[str, ...]] = ("image", "width", "height")

    model: str
    device: str = "cpu"
    preview: bool = False

    def __call__(self, source: str, target: str) -> dict[str, Any]:
        image = _model(self.model, self.device).decode(Path(source).read_bytes(), self.preview)
        buffer = io.BytesIO()
        try:
            image.save(buffer, format=_image_format(Path(target)))
        except OSError as error:
            raise ValueError(f"cannot write {target}: {error}") from None
        write_whole(target, buffer.getvalue())
        return {"file": source, "image": target, "width": image.width, "height": image.height}

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        from PIL import Image

        with Image.open(target) as image:
            return {"file": source, "image": target, "width": image.width, "height": image.height}


@dataclass(frozen=True)
class AnalyzeWork:
    """A stream to predictions.

    Attributes:
        tasks: what to predict; None for all that the model can.
        keep: whether predictions are written to the target (JSON), and segmentations beside it (PNG of class indices).
    """

    reads: ClassVar[frozenset[str]] = STREAMS
    writes: ClassVar[str] = ".json"
    columns: ClassVar[tuple[str, ...]] = ("file", "bits", "bpp")

    model: str
    device: str = "cpu"
    tasks: tuple[str, ...] | None = None
    keep: bool = False

    def __call__(self, source: str, target: str) -> dict[str, Any]:
        from PIL import Image

        from ..reports.predictions import described, summary

        data = Path(source).read_bytes()
        result, info = _model(self.model, self.device).analyze(data, self.tasks), inspect_stream(data)
        mask = None
        if self.keep and result.segmentation is not None:
            mask = Path(target).with_suffix(".mask.png")
            write_whole(mask, png(Image.fromarray(result.segmentation.mask)))
        row = {"file": source, "bits": 8 * info.bytes, "bpp": info.bpp, "tasks": described(result, mask)}
        row["summary"] = summary(result)
        if self.keep:
            write_whole(target, json.dumps(row) + "\n")
        return row

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        row = json.loads(Path(target).read_text()) if self.keep else None
        wanted = self.tasks or tuple(zoo.describe(zoo.find(self.model))["heads"])
        return row if row and set(row["tasks"]) == set(wanted) else None


@dataclass(frozen=True)
class InspectWork:
    """What a stream's header says; with a model, also a picture of where its bits went."""

    reads: ClassVar[frozenset[str]] = STREAMS
    writes: ClassVar[str] = ".bits.png"
    columns: ClassVar[tuple[str, ...]] = ("file", "model", "width", "height", "quality", "layers", "bytes", "bpp")

    model: str | None = None

    def __call__(self, source: str, target: str) -> dict[str, Any]:
        data = Path(source).read_bytes()
        info = inspect_stream(data).to_dict()
        if self.model is not None:
            from ..reports.predictions import heat_map

            model = _model(self.model, "cpu")
            bits = sum(model.bit_maps(data).values()).cpu().numpy()
            stride = model.codec.semantic.spec.stride
            write_whole(target, png(heat_map(bits, (info["width"], info["height"]), stride)))
        layers = " + ".join(f"{layer['name']} {layer['bytes']}" for layer in info["layers"])
        return {"file": source, **info, "summary": {"layers": layers}}

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        return None


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _image_format(path: Path) -> str:
    from PIL import Image

    known = Image.registered_extensions()
    if path.suffix.lower() not in known:
        raise ValueError(f"unknown image type {path.suffix!r} of {path}")
    return known[path.suffix.lower()]
