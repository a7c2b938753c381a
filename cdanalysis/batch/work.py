"""What the commands do to one file. Each can be sent to another process or machine, and loads its model there, once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .. import inspect as inspect_stream
from .. import zoo
from ..files import json_text, json_value
from ..outputs import Origin, file_digest, write_result
from ..stream.container import unpack
from .base import Work

if TYPE_CHECKING:
    from PIL import Image

    from ..model import Model


@lru_cache(maxsize=1)
def _model(name: str, device: str = "cpu", max_pixels: int | None = None) -> Model:
    model = zoo.load(name, device)
    model.max_pixels = max_pixels or model.max_pixels
    return model


def _model_files(name: str) -> list[Path]:
    return [path for path in zoo.find(name).iterdir() if path.is_file()]


def _check_image(path: str) -> None:
    """Raise unless it is an image file whose head can be read and whose end is there."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()


@dataclass(frozen=True)
class EncodeWork(Work):
    """A photograph to a stream; arguments as `Model.encode` takes them."""

    writes: ClassVar[str] = ".cda"
    writes_beside: ClassVar[str] = ".cda"
    columns: ClassVar[tuple[str, ...]] = ("stream", "bytes", "bpp")
    tells_others: ClassVar[bool] = True

    model: str
    device: str = "cpu"
    quality: Any = None
    layers: tuple[str, ...] = ("semantic", "detail")
    bpp: Any = None
    max_bytes: Any = None
    importance: Any = None
    max_pixels: int | None = None

    @property
    def reads(self) -> frozenset[str]:
        from ..data.images import suffixes

        return suffixes()

    def why_not(self, suffix: str) -> str:
        from ..data.images import why_not

        return why_not(suffix)

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        from ..data.images import open_image

        budget = {"bpp": self.bpp, "max_bytes": self.max_bytes, "importance": self.importance}
        model = _model(self.model, self.device, self.max_pixels)
        stream = model.encode(open_image(source, model.max_pixels), self.quality, self.layers, **budget)
        write_result(target, stream, origin)
        return self._row(source, target, stream)

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        return self._row(source, target, Path(target).read_bytes())

    def check(self) -> None:
        from ..codec.budget import budget_of

        zoo.describe(zoo.find(self.model))
        budget_of(1, self.bpp, self.max_bytes)
        self._importance_file()
        if self.importance is not None and "detail" not in self.layers:
            raise ValueError("importance says where the bits of the detail layer go, and that is not written")

    def prepare(self) -> None:
        _model(self.model, self.device, self.max_pixels)

    def settings(self) -> dict[str, Any]:
        from ..structures.latents import quality_levels

        fixed, file = self.bpp is None and self.max_bytes is None, self._importance_file()
        return {
            "verb": "encode",
            "model": zoo.describe(zoo.find(self.model))["fingerprint"],
            "levels": quality_levels(0.5 if self.quality is None else self.quality) if fixed else None,
            "layers": self.layers,
            "bpp": self.bpp,
            "max_bytes": self.max_bytes,
            "importance": file_digest(file) if file else self.importance,
        }

    def inputs(self) -> Sequence[Path]:
        file = self._importance_file()
        return [*_model_files(self.model), *([file] if file else ())]

    def _importance_file(self) -> Path | None:
        from ..roi.importance import importance_file

        return importance_file(self.importance) if isinstance(self.importance, str) else None

    def check_whole(self, path: str) -> None:
        unpack(Path(path).read_bytes())

    @staticmethod
    def _row(source: str, target: str, stream: bytes) -> dict[str, Any]:
        info = inspect_stream(stream)
        return {"file": source, "stream": target, "bytes": info.bytes, "bpp": info.bpp}


@dataclass(frozen=True)
class DecodeWork(Work):
    """A stream to a photograph, in the image format that the target's name says."""

    writes: ClassVar[str] = ".png"
    writes_beside: ClassVar[str] = ".decoded.png"
    columns: ClassVar[tuple[str, ...]] = ("image", "width", "height")

    model: str
    device: str = "cpu"
    preview: bool = False
    max_pixels: int | None = None

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        kind = _image_format(Path(target))
        image = _model(self.model, self.device, self.max_pixels).decode(Path(source).read_bytes(), self.preview)
        buffer = io.BytesIO()
        try:
            image.save(buffer, format=kind)
        except (OSError, ValueError) as error:  # such as WebP, which ends at 16,383 pixels a side
            raise ValueError(f"cannot write {target}: {error}") from None
        write_result(target, buffer.getvalue(), origin)
        return {"file": source, "image": target, "width": image.width, "height": image.height}

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        from PIL import Image

        with Image.open(target) as image:
            return {"file": source, "image": target, "width": image.width, "height": image.height}

    def check(self) -> None:
        zoo.describe(zoo.find(self.model))

    def prepare(self) -> None:
        _model(self.model, self.device, self.max_pixels)

    def settings(self) -> dict[str, Any]:
        fingerprint = zoo.describe(zoo.find(self.model))["fingerprint"]
        return {"verb": "decode", "model": fingerprint, "preview": self.preview}

    def inputs(self) -> Sequence[Path]:
        return _model_files(self.model)

    def check_whole(self, path: str) -> None:
        _check_image(path)


@dataclass(frozen=True)
class AnalyzeWork(Work):
    """A stream to predictions.

    Attributes:
        tasks: what to predict; None for all that the model can.
        keep: whether predictions are written to the target (JSON), and segmentations beside it (PNG of class indices).
        max_pixels: see `Model.max_pixels`.
    """

    writes: ClassVar[str] = ".json"
    writes_beside: ClassVar[str] = ".json"
    columns: ClassVar[tuple[str, ...]] = ("file", "bits", "bpp")

    model: str
    device: str = "cpu"
    tasks: tuple[str, ...] | None = None
    keep: bool = False
    max_pixels: int | None = None

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        from PIL import Image

        from ..reports.predictions import described, summary

        data = Path(source).read_bytes()
        result, info = _model(self.model, self.device, self.max_pixels).analyze(data, self.tasks), inspect_stream(data)
        mask = None
        if self.keep and result.segmentation is not None:
            mask = _mask_of(target)
            write_result(mask, png(Image.fromarray(result.segmentation.mask)), origin)
        row = {"file": source, "bits": 8 * info.bytes, "bpp": info.bpp, "tasks": described(result, mask)}
        row["summary"] = summary(result)
        if self.keep:
            write_result(target, json_text(row) + "\n", origin)
        return row

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        row = {**json_value(Path(target).read_text()), "file": source}
        if "segmentation" in row["tasks"]:  # its path may be from another working folder
            row["tasks"]["segmentation"]["mask"] = str(_mask_of(target))
        return row

    def check(self) -> None:
        there = self._heads()
        for task in self.tasks or ():
            if task not in there:
                raise ValueError(f"unknown task {task!r}; model {self.model!r} can do: {', '.join(there)}")

    def prepare(self) -> None:
        _model(self.model, self.device, self.max_pixels)

    def settings(self) -> dict[str, Any]:
        weights = file_digest(zoo.find(self.model) / zoo.WEIGHTS)  # heads too: a fingerprint is the codec's alone
        return {"verb": "analyze", "model": weights, "tasks": sorted(self.tasks or self._heads())}

    def inputs(self) -> Sequence[Path]:
        return _model_files(self.model)

    def files(self, target: str) -> tuple[str, ...]:
        masks = (str(_mask_of(target)),) if "segmentation" in (self.tasks or self._heads()) else ()
        return (target, *masks) if self.keep else ()

    def check_whole(self, path: str) -> None:
        json_value(Path(path).read_text()) if path.endswith(".json") else _check_image(path)

    def _heads(self) -> tuple[str, ...]:
        return tuple(zoo.describe(zoo.find(self.model))["heads"])


@dataclass(frozen=True)
class InspectWork(Work):
    """What a stream's header says; with a model, also a picture of where its bits went."""

    writes: ClassVar[str] = ".bits.png"
    writes_beside: ClassVar[str] = ".bits.png"
    columns: ClassVar[tuple[str, ...]] = ("file", "model", "width", "height", "quality", "layers", "bytes", "bpp")

    model: str | None = None

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        data = Path(source).read_bytes()
        info = inspect_stream(data).to_dict()
        if self.model is not None:
            from ..reports.predictions import heat_map

            model = _model(self.model)
            bits = sum(model.bit_maps(data).values()).cpu().numpy()
            stride = model.codec.semantic.spec.stride
            write_result(target, png(heat_map(bits, (info["width"], info["height"]), stride)), origin)
        layers = " + ".join(f"{layer['name']} {layer['bytes']}" for layer in info["layers"])
        return {"file": source, **info, "summary": {"layers": layers}}

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        return None

    def check(self) -> None:
        if self.model is not None:
            zoo.describe(zoo.find(self.model))

    def prepare(self) -> None:
        if self.model is not None:
            _model(self.model)

    def settings(self) -> dict[str, Any]:
        fingerprint = None if self.model is None else zoo.describe(zoo.find(self.model))["fingerprint"]
        return {"verb": "inspect", "model": fingerprint}

    def inputs(self) -> Sequence[Path]:
        return () if self.model is None else _model_files(self.model)

    def files(self, target: str) -> tuple[str, ...]:
        return () if self.model is None else (target,)

    def check_whole(self, path: str) -> None:
        _check_image(path)


def _mask_of(target: str) -> Path:
    """Where the segmentation lies beside a JSON file of predictions."""
    return Path(target).with_suffix(".mask.png")


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _image_format(path: Path) -> str:
    from PIL import Image

    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise ValueError(f"unknown image type {path.suffix!r} of {path}, or one that Pillow cannot write here")
    return kind
