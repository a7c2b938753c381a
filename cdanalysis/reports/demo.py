"""The demonstration: a few photographs through the whole of the library, and a page that shows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.samples import sample_images
from ..faults import sentence
from ..metrics import image as metrics
from ..model import Model
from ..outputs import FileState, Origin, check_outputs, write_result
from ..photographs.formats import file_of
from ..photographs.read import open_image
from ..stream.container import strip
from ..structures.latents import LAYERS, Quality
from ..structures.predictions import Result
from .pages import data_uri, rendered

TASKS = {"detection": "objects", "segmentation": "classes"}
"""What predictions that can be drawn are called."""
DRAWN = ("original", "decoded", "realistic", *(f"{kind}{over}" for kind in TASKS.values() for over in ("", "-over")))
"""What may be drawn of a photograph."""


def run_demo(
    model: Model,
    inputs: Sequence[str],
    folder: Path,
    quality: Quality = 0.5,
    track: Callable[[Iterable], Iterable] = lambda items: items,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Encode, analyze and decode photographs; write streams, pictures and one page into ``folder``.

    Args:
        model: that encodes and decodes.
        inputs: image files; none for those that scikit-image carries.
        folder: made where it does not exist.
        quality: in [0, 1], for all layers, or one for each of (global, spatial, detail).
        track: wraps an iterable to show progress.
        overwrite: write over files in ``folder`` that are no results of this library; never over an input.

    Returns:
        ``{"photographs": [{name, bytes, bpp, global_bytes, semantic_bytes, TASK: one line…, psnr}…],
        "failures": [{file, error}…], "page": path}``.

    Raises:
        ValueError: if no input can be read, or a file must not be written.
        ModuleNotFoundError: if there are no inputs, and scikit-image is not installed.
    """
    images = _named(inputs) if inputs else sample_images()
    kinds, sources = ("cda", *(f"{kind}.png" for kind in DRAWN)), {name: _source(name, images[name]) for name in images}
    files = {folder / f"{name}.{kind}": source for name, source in sources.items() for kind in kinds}
    check_outputs([*files, folder / "index.html"], inputs, overwrite, files)
    cards, failures = [], []
    for name, source in track(list(images.items())):
        try:
            image = open_image(source) if isinstance(source, str) else source
            state = FileState.of(source) if isinstance(source, str) else None
            cards.append(_card(model, name, image, quality, folder, Origin("demo", sources[name], state)))
        except (ValueError, FileNotFoundError, MemoryError) as error:
            failures.append({"file": str(source), "error": sentence(error)})
    if not cards:
        raise ValueError("; ".join(failure["error"] for failure in failures))
    page = folder / "index.html"
    write_result(page, rendered("demo.html", title="Encoded once, analyzed without decoding", model=model, cards=cards))
    return {"photographs": [row for row, *_ in cards], "failures": failures, "page": str(page)}


def _named(inputs: Sequence[str]) -> dict[str, str]:
    """Files by names of their own: their stems, where no two have the same."""
    named: dict[str, str] = {}
    for path in dict.fromkeys(inputs):
        stem = Path(path).stem
        names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        named[next(name for name in names if name not in named)] = path
    return named


def _source(name: str, image: str | Image.Image) -> str:
    """Of what a ledger says that pictures were made."""
    return os.path.abspath(image) if isinstance(image, str) else f"/scikit-image/{name}"


def _card(
    model: Model, name: str, image: Image.Image, quality: Quality, folder: Path, origin: Origin
) -> tuple[dict, list, list]:
    """(row of the table; captions, pictures and sizes; best labels) of one photograph; writes its files."""
    stream = model.encode(image, quality)
    result = model.analyze(stream)  # reads no more than the layers that the heads need
    decoded = model.decode(stream)
    write_result(folder / f"{name}.cda", stream, origin)
    shown = []
    pictures = _pictures(image, decoded, result)
    if model.realistic:
        pictures["realistic"] = (
            "decoded at a realism of 1: fine detail is invented",
            model.decode(stream, realism=1.0),
        )
    for kind, (caption, picture) in sorted(pictures.items(), key=lambda pair: DRAWN.index(pair[0])):
        write_result(folder / f"{name}.{kind}.png", file_of(picture, "PNG"), origin)
        shown.append((caption, data_uri(picture, quality=95), picture.size))
    row = {"name": name, "bytes": len(stream), "bpp": metrics.bpp(len(stream), image.width, image.height)}
    row |= {"global_bytes": len(strip(stream, LAYERS[:1])), "semantic_bytes": len(strip(stream)), **result.summary()}
    row["psnr"] = metrics.defined(metrics.psnr(np.asarray(image), np.asarray(decoded)))
    return row, shown, result.classification.top5 if result.classification else []


def _pictures(image: Image.Image, decoded: Image.Image, result: Result) -> dict[str, tuple[str, Image.Image]]:
    """By kind caption and picture: both photographs, then what each head saw, from the semantic layers alone."""
    shown = {"original": (f"original, {image.width} × {image.height}", image), "decoded": ("decoded", decoded)}
    for task, kind in TASKS.items():
        if (found := result.get(task)) is None:
            continue
        caption = "objects, from the semantic layers alone"
        if task == "segmentation":
            known = ", ".join(found.classes)
            caption = f"classes of pixels, from the semantic layers alone; the head knows nothing but {known}"
        shown[kind] = (caption, found.plot())
        shown[f"{kind}-over"] = ("the same over the decoded photograph", found.plot(decoded))
    return shown
