"""The demonstration: a few photographs through the whole of the library, and a page that shows it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from string import Template
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
from .predictions import drawn_classes, drawn_objects, gray_canvas, summary

PAGE = Path(__file__).with_name("pages") / "demo.html"


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
    rows, cards = [], []
    for name, image in track(list(images.items())):
        row, shown, top5 = _one(model, name, image, quality, folder)
        rows.append(row)
        cards.append(_card(row, shown, top5))
    page = folder / "index.html"
    text = Template(PAGE.read_text()).substitute(
        cards="\n".join(cards), model=html.escape(model.name), version=model.fingerprint
    )
    write_whole(page, text)
    return {"photographs": rows, "page": str(page)}


def _one(
    model: Model, name: str, image: Image.Image, quality: Quality, folder: Path
) -> tuple[dict[str, Any], list[tuple[str, Image.Image]], list[tuple[str, float]]]:
    """(row of the table, captions with pictures, best labels) of one photograph; writes its files."""
    stream = model.encode(image, quality)
    base = strip(stream, ("semantic",))
    result = model.analyze(base)
    decoded = model.decode(stream)
    write_whole(folder / f"{name}.cda", stream)
    shown = []
    for kind, caption, drawn in _images(image, decoded, result):
        write_whole(folder / f"{name}.{kind}.png", _bytes_of(drawn, "PNG"))
        shown.append((caption, drawn))
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


def _bytes_of(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def _card(row: dict[str, Any], captioned: list[tuple[str, Image.Image]], top5: list[tuple[str, float]]) -> str:
    bars = "".join(
        f'<li><span style="width:{100 * score:.1f}%"></span><b>{html.escape(label.split(",")[0])}</b>'
        f"<i>{100 * score:.0f}&thinsp;%</i></li>"
        for label, score in top5
    )
    figures = (
        (f"{row['bytes']:,} B", "the whole stream"),
        (f"{row['base_bytes']:,} B", "semantic layer: all that the label needs"),
        (f"{row['bpp']:.3f}", "bits per pixel"),
        ("exact" if row["psnr"] is None else f"{row['psnr']:.2f} dB", "PSNR of the decoded photograph"),
    )
    facts = "".join(f"<div><dt>{value}</dt><dd>{text}</dd></div>" for value, text in figures)
    images = "".join(
        f'<figure><img src="{_data_uri(image)}" width="{image.width}" height="{image.height}" '
        f'alt="{html.escape(row["name"])}, {caption}"><figcaption>{caption}</figcaption></figure>'
        for caption, image in captioned
    )
    return (
        f'<article><h2>{html.escape(row["name"])}</h2><div class="pair">{images}</div>'
        f'<div class="facts"><dl>{facts}</dl><ol>{bars}</ol></div></article>'
    )


def _data_uri(image: Image.Image) -> str:
    """The picture inside the page, as WebP of high quality so that the page stays small."""
    return "data:image/webp;base64," + base64.b64encode(_bytes_of(image, "WEBP", quality=95)).decode()
