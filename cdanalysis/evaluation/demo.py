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

from .. import strip
from ..data.photographs import open_photograph
from ..files import write_whole
from ..latents import Quality
from ..model import Model
from ..results import Result
from . import metrics
from .show import drawn_classes, drawn_objects, grey_canvas, summary

CARRIED = ("astronaut", "chelsea", "coffee", "rocket")
"""Photographs that come with scikit-image."""


def carried_photographs() -> dict[str, Image.Image]:
    """The photographs that scikit-image carries, by name."""
    from skimage import data

    return {name: Image.fromarray(getattr(data, name)()).convert("RGB") for name in CARRIED}


def run_demo(
    model: Model,
    inputs: Sequence[str],
    folder: Path,
    quality: Quality = 0.5,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> dict[str, Any]:
    """Encode, analyse and decode photographs; write streams, pictures and one page into ``folder``.

    Args:
        inputs: image files; none for those that scikit-image carries.

    Returns:
        ``{"photographs": [{name, bytes, bpp, base_bytes, TASK: one line…, psnr}…], "page": path}``.

    Raises:
        FileNotFoundError, ValueError: for an input that cannot be read.
    """
    photographs = {Path(p).stem: open_photograph(p) for p in inputs} if inputs else carried_photographs()
    rows, cards = [], []
    for name, image in track(list(photographs.items())):
        row, pictures, top5 = _one(model, name, image, quality, folder)
        rows.append(row)
        cards.append(_card(row, pictures, top5))
    page = folder / "index.html"
    text = Template(_PAGE).substitute(cards="\n".join(cards), model=html.escape(model.name), version=model.fingerprint)
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
    pictures = []
    for kind, caption, picture in _pictures(image, decoded, result):
        write_whole(folder / f"{name}.{kind}.png", _bytes_of(picture, "PNG"))
        pictures.append((caption, picture))
    row = {
        "name": name,
        "bytes": len(stream),
        "bpp": metrics.bpp(len(stream), image.width, image.height),
        "base_bytes": len(base),
        **summary(result),
        "psnr": metrics.psnr(np.asarray(image), np.asarray(decoded)),
    }
    return row, pictures, result.classification.top5


def _pictures(image: Image.Image, decoded: Image.Image, result: Result) -> Iterator[tuple[str, str, Image.Image]]:
    """(kind, caption, picture): both photographs, then what each head saw."""
    yield "original", f"original, {image.width} × {image.height}", image
    yield "decoded", "decoded", decoded
    if result.detection is not None:
        canvas = grey_canvas(image.width, image.height)
        yield "objects", "objects, from the semantic layer alone", drawn_objects(result.detection, canvas)
        yield "objects-over", "the same over the decoded photograph", drawn_objects(result.detection, decoded)
    if result.segmentation is not None:
        canvas = grey_canvas(image.width, image.height)
        yield "classes", "classes of pixels, from the semantic layer alone", drawn_classes(result.segmentation, canvas)
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
        (f"{row['psnr']:.2f} dB", "PSNR of the decoded photograph"),
    )
    facts = "".join(f"<div><dt>{value}</dt><dd>{text}</dd></div>" for value, text in figures)
    pictures = "".join(
        f'<figure><img src="{_data_uri(picture)}" width="{picture.width}" height="{picture.height}" '
        f'alt="{html.escape(row["name"])}, {caption}"><figcaption>{caption}</figcaption></figure>'
        for caption, picture in captioned
    )
    return (
        f'<article><h2>{html.escape(row["name"])}</h2><div class="pair">{pictures}</div>'
        f'<div class="facts"><dl>{facts}</dl><ol>{bars}</ol></div></article>'
    )


def _data_uri(image: Image.Image) -> str:
    """The picture inside the page, as WebP of high quality so that the page stays small."""
    return "data:image/webp;base64," + base64.b64encode(_bytes_of(image, "WEBP", quality=95)).decode()


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>cdanalysis demo</title>
<style>
  :root { color-scheme: light dark; --ink: #1c2024; --soft: #6a737d; --line: #e3e6ea; --bar: #cfe3ff; --card: #fff; --page: #f5f6f8 }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8eaed; --soft: #9aa3ad; --line: #343a41; --bar: #23466f; --card: #1d2125; --page: #14171a }
  }
  body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 1080px; background: var(--page); color: var(--ink);
         font: 16px/1.5 system-ui, sans-serif }
  h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.1rem; margin: 0 0 .75rem }
  p { color: var(--soft); max-width: 46rem; margin: .4rem 0 2rem }
  article { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem; margin-bottom: 1.5rem }
  .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem }
  figure { margin: 0 } img { width: 100%; height: auto; border-radius: 6px; display: block }
  figcaption, dd { color: var(--soft); font-size: .85rem } figcaption { margin-top: .3rem }
  .facts { display: grid; grid-template-columns: 3fr 2fr; gap: 1.5rem; margin-top: 1rem; align-items: start }
  dl { display: grid; grid-template-columns: repeat(2, 1fr); gap: .75rem 1.5rem; margin: 0 }
  dt { font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums } dd { margin: 0 }
  ol { list-style: none; margin: 0; padding: 0; font-size: .9rem }
  li { position: relative; display: flex; justify-content: space-between; padding: .15rem .5rem; margin-bottom: .25rem }
  li span { position: absolute; inset: 0 auto 0 0; background: var(--bar); border-radius: 4px }
  li b, li i { position: relative; font-weight: 500; font-style: normal; font-variant-numeric: tabular-nums }
  @media (max-width: 640px) { .pair, .facts { grid-template-columns: 1fr } }
</style>
<h1>Encoded once, analysed without decoding</h1>
<p>Each photograph became one stream. The labels were read from the stream's semantic layer alone, without decoding
a pixel; the pictures on the right were decoded from the whole stream. Pictures in this page are stored as WebP of
high quality; the exact ones are the PNG files beside it. Model $model, $version.</p>
$cards
</html>
"""
