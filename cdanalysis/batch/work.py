"""What the commands do to one file. Each can be sent to another process or machine, where it loads its model once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .. import inspect as inspect_stream
from .. import zoo
from ..files import json_text, json_value
from ..outputs import Ledgers, Origin, file_digest, write_result
from ..stream.container import LARGEST_CLAIM, LAYERS, SEMANTIC, strip, unpack
from .base import Work

if TYPE_CHECKING:
    from ..model import Model


PRECISIONS = ("float32", "bfloat16")
"""In which networks of pixels may compute."""
MASK = ".mask.png"
"""Suffix of a segmentation beside a file of predictions."""


@lru_cache(maxsize=1)
def _model(name: str, device: str = "cpu", max_pixels: int | None = None) -> Model:
    model = zoo.load(name, device)
    model.max_pixels = max_pixels or model.max_pixels
    return model


def _precision(name: str, device: str) -> AbstractContextManager:
    """In here networks of pixels compute in ``name``, "float32" or "bfloat16"."""
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=name == "bfloat16")


def _check_precision(name: str) -> None:
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")


def _realism_weights(folder: Path) -> str:
    """Digits of what adds realism, which is no part of the fingerprint: pictures depend on it, and streams with effort
    for it."""
    return file_digest(folder / zoo.WEIGHTS)


def _check_image(path: str) -> None:
    """Raise unless it is an image file whose head can be read and whose end is there."""
    from ..photographs.formats import opened

    with opened(path) as image:
        image.load()


@dataclass(frozen=True)
class ModelWork(Work):
    """What a model does to one file.

    Attributes:
        model: zoo name or folder.
        device: torch device.
        max_pixels: see `Model.max_pixels`; by default the model's own.
    """

    model: str
    device: str = "cpu"
    max_pixels: int | None = None

    def loaded(self) -> Model:
        """The model, which is loaded once a process.

        Raises:
            FileNotFoundError: if there is no such model.
            ValueError: if a file of it is damaged, or torch has no such device here.
        """
        return _model(self.model, self.device, self.max_pixels)

    def check(self) -> None:
        """As `Work.check`."""
        zoo.describe(zoo.find(self.model))

    def prepare(self) -> None:
        """As `Work.prepare`."""
        self.loaded()

    def inputs(self) -> Sequence[Path]:
        """As `Work.inputs`: the files of the model's folder."""
        return zoo.files_of(self.model)


@dataclass(frozen=True)
class EncodeWork(ModelWork):
    """A photograph to a stream.

    Attributes:
        quality, layers, bpp, max_bytes, importance, spatial_size, effort, realism: as `Model.encode` takes them.
        precision: in which networks of pixels compute, "float32" or "bfloat16".
    """

    writes: ClassVar[str] = ".cda"
    writes_beside: ClassVar[str] = ".cda"
    columns: ClassVar[tuple[str, ...]] = ("stream", "bytes", "bpp")
    tells_others: ClassVar[bool] = True

    quality: Any = None
    layers: tuple[str, ...] = LAYERS
    bpp: Any = None
    max_bytes: Any = None
    importance: Any = None
    spatial_size: int | None = None
    effort: int = 0
    realism: float = 0.0
    precision: str = "float32"

    @property
    def reads(self) -> frozenset[str]:
        """Suffixes of the image files that can be opened."""
        from ..photographs.formats import suffixes

        return suffixes()

    def why_not(self, suffix: str) -> str:
        """As `Work.why_not`."""
        from ..photographs.formats import why_not

        return why_not(suffix)

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        from ..photographs.read import open_image

        names = ("bpp", "max_bytes", "importance", "spatial_size", "effort", "realism")
        model = self.loaded()
        rest = {name: getattr(self, name) for name in names}
        image = open_image(source, model.max_pixels)
        with _precision(self.precision, self.device):
            stream = model.encode(image, self.quality, self.layers, **rest)
        write_result(target, stream, origin)
        return self._row(source, target, stream)

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        """As `Work.done`."""
        return self._row(source, target, Path(target).read_bytes())

    def check(self) -> None:
        """As `Work.check`; settings are those of `Model.encode`."""
        from ..codec.budget import budget_of, check_one_rate, check_settings

        super().check()
        check_one_rate(self.quality, self.bpp, self.max_bytes)
        _check_precision(self.precision)
        self._levels()
        budget_of(1, self.bpp, self.max_bytes)
        for each in (self.bpp, self.max_bytes):
            if isinstance(each, tuple) and len(each) != len(self.layers):
                raise ValueError(f"a budget is one number, or one for each of {', '.join(self.layers)}, got {each}")
        self._importance_file()
        check_settings(len(self.layers), self.importance, self.spatial_size, self.effort, self.realism)

    def settings(self) -> dict[str, Any]:
        """As `Work.settings`."""
        fixed, file, folder = self.bpp is None and self.max_bytes is None, self._importance_file(), zoo.find(self.model)
        return {
            "verb": "encode",
            "model": zoo.describe(folder)["fingerprint"],
            "teachers": file_digest(folder / zoo.TEACHERS),  # no part of the fingerprint, but they look at the image
            "levels": self._levels() if fixed else None,
            "layers": self.layers,
            "bpp": self.bpp,
            "max_bytes": self.max_bytes,
            "importance": file_digest(file) if file else self.importance,
            "spatial_size": self.spatial_size,
            "effort": self.effort,
            "realism": self.realism,
            "weights": _realism_weights(folder) if self.realism else None,
            "precision": self.precision,
        }

    def inputs(self) -> Sequence[Path]:
        """As `Work.inputs`: the model's files, and the file of the importance."""
        file = self._importance_file()
        return [*super().inputs(), *([file] if file else ())]

    def _levels(self) -> tuple[int, ...]:
        from ..structures.latents import layer_count, quality_levels

        return quality_levels(0.5 if self.quality is None else self.quality, layer_count(self.layers))

    def _importance_file(self) -> Path | None:
        from ..roi.importance import importance_file

        return importance_file(self.importance) if isinstance(self.importance, str) else None

    def check_whole(self, path: str) -> None:
        """As `Work.check_whole`; every checksum of the stream is verified."""
        unpack(path, LARGEST_CLAIM)

    @staticmethod
    def _row(source: str, target: str, stream: bytes) -> dict[str, Any]:
        info = inspect_stream(stream)
        return {"file": source, "stream": target, "bytes": info.bytes, "bpp": info.bpp}


@dataclass(frozen=True)
class DecodeWork(ModelWork):
    """A stream to an image, in the format of the target's suffix.

    Attributes:
        preview, realism: as `Model.decode` takes them.
        precision: in which networks of pixels compute, "float32" or "bfloat16".
    """

    writes: ClassVar[str] = ".png"
    writes_beside: ClassVar[str] = ".decoded.png"
    columns: ClassVar[tuple[str, ...]] = ("image", "width", "height")

    preview: bool = False
    realism: float = 0.0
    precision: str = "float32"

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        from ..photographs.formats import BEST, file_of

        kind, model = _image_format(Path(target)), self.loaded()
        with _precision(self.precision, self.device):
            image = model.decode(Path(source).read_bytes(), self.preview, self.realism)
        try:
            data = file_of(image, kind, **BEST.get(kind, {}))
        except (OSError, ValueError) as error:  # such as WebP, which ends at 16,383 pixels a side
            raise ValueError(f"cannot write {target}: {error}; try another image format") from None
        write_result(target, data, origin)
        return {"file": source, "image": target, "width": image.width, "height": image.height}

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        """As `Work.done`."""
        from ..photographs.formats import opened

        with opened(target) as image:
            return {"file": source, "image": target, "width": image.width, "height": image.height}

    def check(self) -> None:
        """As `Work.check`; settings are those of `Model.decode`."""
        from ..codec.realism import check_realism

        super().check()
        check_realism(self.realism)
        _check_precision(self.precision)

    def settings(self) -> dict[str, Any]:
        """As `Work.settings`."""
        folder = zoo.find(self.model)
        asked = {name: getattr(self, name) for name in ("preview", "realism", "precision")}
        weights = _realism_weights(folder) if self.realism else None
        return {"verb": "decode", "model": zoo.describe(folder)["fingerprint"], "weights": weights, **asked}

    def check_whole(self, path: str) -> None:
        """As `Work.check_whole`; the image is decoded."""
        _check_image(path)


@dataclass(frozen=True)
class AnalyzeWork(ModelWork):
    """A stream to predictions.

    Attributes:
        tasks: what to predict; None for all that the model can.
        keep: whether predictions are written to the target (JSON), and segmentations beside it (PNG of class indices).
    """

    writes: ClassVar[str] = ".json"
    writes_beside: ClassVar[str] = ".json"
    columns: ClassVar[tuple[str, ...]] = ("file", "bits", "bpp")

    tasks: tuple[str, ...] | None = None
    keep: bool = False

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        from PIL import Image

        from ..photographs.formats import file_of

        data = Path(source).read_bytes()
        result, info = self.loaded().analyze(data, self.tasks), inspect_stream(data)
        mask = None
        if self.keep and result.segmentation is not None:
            mask = _mask_of(target)
            write_result(mask, file_of(Image.fromarray(result.segmentation.mask), "PNG"), origin)
        tasks = result.to_dict()
        if result.segmentation is not None:
            tasks["segmentation"]["mask"] = str(mask) if mask else None
        row = {"file": source, "bits": 8 * info.bytes, "bpp": info.bpp, "tasks": tasks}
        row["summary"] = result.summary()
        if self.keep:
            if mask is None:
                _drop_earlier(_mask_of(target), origin)
            write_result(target, json_text(row) + "\n", origin)
        return row

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        """As `Work.done`."""
        row = {**json_value(Path(target).read_text()), "file": source}
        if "segmentation" in row["tasks"]:  # its path may be from another working folder
            row["tasks"]["segmentation"]["mask"] = str(_mask_of(target))
        return row

    def check(self) -> None:
        """As `Work.check`; a task that the model has no head for is an invalid setting."""
        there = self._heads()
        for task in self.tasks or ():
            if task not in there:
                raise ValueError(f"unknown task {task!r}; model {self.model!r} has heads for {', '.join(there)}")

    def settings(self) -> dict[str, Any]:
        """As `Work.settings`."""
        weights = file_digest(zoo.find(self.model) / zoo.WEIGHTS)  # heads too: a fingerprint is the codec's alone
        return {"verb": "analyze", "model": weights, "tasks": sorted(self.tasks or self._heads())}

    def files(self, target: str) -> tuple[str, ...]:
        """As `Work.files`: the JSON file and the segmentation beside it; none if predictions are not written."""
        masks = (str(_mask_of(target)),) if "segmentation" in (self.tasks or self._heads()) else ()
        return (target, *masks) if self.keep else ()

    def check_whole(self, path: str) -> None:
        """As `Work.check_whole`; of a segmentation the image is decoded, of predictions the JSON is read."""
        _check_image(path) if path.endswith(MASK) else json_value(Path(path).read_text())

    def _heads(self) -> tuple[str, ...]:
        return tuple(zoo.describe(zoo.find(self.model))["heads"])


def _drop_earlier(path: Path, origin: Origin) -> None:
    """Remove what an earlier run made of the same source, if it is still as it was written: it would look current."""
    if not path.exists():
        return
    entry, whole = Ledgers().find(path)
    if whole and entry is not None and entry.origin.source == origin.source:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class InspectWork(Work):
    """The header of a stream; with a model, also an image of the bits spent per place.

    Attributes:
        model: zoo name or folder; None for the header alone.
    """

    writes: ClassVar[str] = ".bits.png"
    writes_beside: ClassVar[str] = ".bits.png"
    columns: ClassVar[tuple[str, ...]] = ("file", "model", "width", "height", "quality", "layers", "bytes", "bpp")

    model: str | None = None

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        data = Path(source).read_bytes()
        info = inspect_stream(data).to_dict()
        if self.model is not None:
            from ..photographs.formats import file_of
            from ..reports.heat_maps import bits_picture

            maps = {name: bits.cpu().numpy() for name, bits in _model(self.model).bit_maps(data).items()}
            write_result(target, file_of(bits_picture(maps, (info["width"], info["height"])), "PNG"), origin)
        layers = " + ".join(map(_described_layer, info["layers"]))
        return {"file": source, **info, "summary": {"layers": layers}}

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        """As `Work.done`: None, so that every header is read."""
        return None

    def check(self) -> None:
        """As `Work.check`."""
        if self.model is not None:
            zoo.describe(zoo.find(self.model))

    def prepare(self) -> None:
        """As `Work.prepare`."""
        if self.model is not None:
            _model(self.model)

    def settings(self) -> dict[str, Any]:
        """As `Work.settings`."""
        fingerprint = None if self.model is None else zoo.describe(zoo.find(self.model))["fingerprint"]
        return {"verb": "inspect", "model": fingerprint}

    def inputs(self) -> Sequence[Path]:
        """As `Work.inputs`: the files of the model's folder, if there is a model."""
        return () if self.model is None else zoo.files_of(self.model)

    def files(self, target: str) -> tuple[str, ...]:
        """As `Work.files`: none without a model."""
        return () if self.model is None else (target,)

    def check_whole(self, path: str) -> None:
        """As `Work.check_whole`; the image is decoded."""
        _check_image(path)


@dataclass(frozen=True)
class StripWork(Work):
    """A stream to the same one without its last layers.

    Attributes:
        layers: that are kept, see `cdanalysis.stream.container.strip`.
    """

    writes: ClassVar[str] = ".cda"
    writes_beside: ClassVar[str] = ".cda"
    columns: ClassVar[tuple[str, ...]] = ("stream", "bytes", "bpp")

    layers: tuple[str, ...] = SEMANTIC

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        stream = strip(Path(source).read_bytes(), self.layers)
        write_result(target, stream, origin)
        return EncodeWork._row(source, target, stream)

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        """As `Work.done`."""
        return EncodeWork._row(source, target, Path(target).read_bytes())

    def settings(self) -> dict[str, Any]:
        """As `Work.settings`."""
        return {"verb": "strip", "layers": self.layers}

    def check_whole(self, path: str) -> None:
        """As `Work.check_whole`; every checksum of the stream is verified."""
        unpack(path, LARGEST_CLAIM)


def _described_layer(layer: dict[str, Any]) -> str:
    """``spatial 1240 B at 448 px``: bytes, and the side to which the photograph was reduced for a semantic layer."""
    at = f" at {layer['working']} px" if layer["working"] else ""
    return f"{layer['name']} {layer['bytes']} B{at}"


def _mask_of(target: str) -> Path:
    """Where the segmentation lies beside a JSON file of predictions."""
    return Path(target).with_suffix(MASK)


def _image_format(path: Path) -> str:
    from PIL import Image

    from ..photographs.formats import STREAM_FORMAT, load_plugins

    load_plugins()
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind == STREAM_FORMAT or kind not in Image.SAVE:
        raise ValueError(
            f"unknown image type {path.suffix!r} of {path}: Pillow cannot write it; use .png or .webp, say"
        )
    return kind
