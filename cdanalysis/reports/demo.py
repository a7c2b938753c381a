"""The demonstration: a few photographs through the whole of the library, and a page that shows it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.images import open_image
from ..data.samples import sample_images
from ..files import write_whole
from ..metrics import image as metrics
from ..model import Model
from ..stream.container import strip
from ..structures.latents import Quality
from ..structures.predictions import Result
from .pages import data_uri, rendered
from .predictions import drawn_classes, drawn_objects, gray_canvas, summary


def run_demo(
    model: Model,
    inputs: Sequence[str],
    folder: Path,
    quality: Quality = 0.5,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> dict[str, Any]:
    """Encode, analyze and decode photographs; write streams, pictures and one page into ``folder``.

    Args:
        inputs: image files; none for those that scikit-image carries.

    Returns:
        ``{"photographs": [{name, bytes, bpp, base_bytes, TASK: one line…, psnr}…], "page": path}``.

    Raises:
        FileNotFoundError, ValueError: for an input that cannot be read.
    """
    images = {Path(p).stem: open_image(p) for p in inputs} if inputs else sample_images()
    cards = [_card(model, name, image, quality, folder) for name, image in track(list(images.items()))]
    page = folder / "index.html"
    write_whole(page, rendered("demo.html", title="Encoded once, analyzed without decoding", model=model, cards=cards))
    return {"photographs": [row for row, *_ in cards], "page": str(page)}


def _card(model: Model, name: str, image: Image.Image, quality: Quality, folder: Path) -> tuple[dict, list, list]:
    """(row of the table; captions, pictures and sizes; best labels) of one photograph; writes its files."""
    stream = model.encode(image, quality)
    base = strip(stream, ("semantic",))
    result = model.analyze(base)
    decoded = model.decode(stream)
    write_whole(folder / f"{name}.cda", stream)
    shown = []
    for kind, caption, drawn in _images(image, decoded, result):
        buffer = io.BytesIO()
        drawn.save(buffer, "PNG")
        write_whole(folder / f"{name}.{kind}.png", buffer.getvalue())
        shown.append((caption, data_uri(drawn, quality=95), drawn.size))
    row = {
        "name": name,
        "bytes": len(stream),
        "bpp": metrics.bpp(len(stream), image.width, image.height),
        "base_bytes": len(base),
        **summary(result),
        "psnr": metrics.defined(metrics.psnr(np.asarray(image), np.asarray(decoded))),
    }
    return row, shown, result.classification.top5


def _images(image: Image.Image, decoded: Image.Image, result: Result) -> Iterator[tuple[str, str, Image.Image]]:
    """(kind, caption, picture): both photographs, then what each head saw."""
    yield "original", f"original, {image.width} × {image.height}", image
    yield "decoded", "decoded", decoded
    if result.detection is not None:
        canvas = gray_canvas(image.width, image.height)
        yield "objects", "objects, from the semantic layer alone", drawn_objects(result.detection, canvas)
        yield "objects-over", "the same over the decoded photograph", drawn_objects(result.detection, decoded)
    if result.segmentation is not None:
        canvas, known = gray_canvas(image.width, image.height), ", ".join(result.segmentation.classes)
        caption = f"classes of pixels, from the semantic layer alone; the head knows nothing but {known}"
        yield "classes", caption, drawn_classes(result.segmentation, canvas)
        yield "classes-over", "the same over the decoded photograph", drawn_classes(result.segmentation, decoded)
