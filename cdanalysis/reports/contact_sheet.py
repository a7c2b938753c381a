"""Contact sheets: pictures in rows, each under its title."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ..codecs.base import Codec, open_codec
from ..data.images import ImageSet
from ..evaluation.configs import CropsConfig
from ..metrics.image import bpp

GAP, LINE = 8, 24

Titled = tuple[str, Image.Image]


def sheet(rows: Sequence[Sequence[Titled]]) -> Image.Image:
    """Pictures side by side in rows, each under its title.

    Args:
        rows: (title, picture) of each; all rows have as many. Pictures may differ in size.

    Returns:
        an RGB image, white between the pictures.
    """
    widths = [max(row[column][1].width for row in rows) for column in range(len(rows[0]))]
    heights = [max(image.height for _, image in row) for row in rows]
    size = (sum(widths) + GAP * (len(widths) - 1), sum(heights) + (LINE + GAP) * len(rows) - GAP)
    page = Image.new("RGB", size, "white")
    draw, font, top = ImageDraw.Draw(page), ImageFont.load_default(size=15), 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for (title, image), width in zip(row, widths, strict=True):
            draw.text((left + 2, top + 2), title, fill="black", font=font)
            page.paste(image.convert("RGB"), (left, top + LINE))
            left += width + GAP
        top += LINE + height + GAP
    return page


def crops_sheet(crops: CropsConfig, codecs: Sequence[Codec]) -> Image.Image:
    """A contact sheet with a row for each window at each rate: the original, other codecs, and ``codecs``.

    Args:
        crops: windows, rates, and names of the other codecs.
        codecs: more of them, shown behind the others.

    Returns:
        an RGB image.

    Raises:
        ValueError: if it names a photograph, or a codec, that is not there.
        FileNotFoundError: if the photographs' folder does not exist.
        ModuleNotFoundError: if a codec is not installed.
    """
    images, rows = ImageSet(crops.path), []
    codecs = [*(open_codec(name) for name in crops.baselines), *codecs]
    for name, (x, y, width, height) in crops.windows.items():
        if name not in images.names:
            raise ValueError(f"no photograph {name!r} in {crops.path}")
        image, box = images.named(name), (x, y, x + width, y + height)
        for rate in crops.bpp:
            files = [codec.encode_near(image, int(rate * image.width * image.height / 8)) for codec in codecs]
            rates = [f"{bpp(len(file), image.width, image.height):.3f} bpp" for file in files]
            titles = [f"{codec.name}, {reached}" for codec, reached in zip(codecs, rates, strict=True)]
            decoded = [Image.fromarray(c.decode(f)).crop(box) for c, f in zip(codecs, files, strict=True)]
            rows.append([(name, image.crop(box)), *zip(titles, decoded, strict=True)])
    return sheet(rows)
