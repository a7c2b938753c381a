"""Contact sheets: pictures in rows, each under its title."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, LINE = 8, 24

Titled = tuple[str, Image.Image]


def sheet(rows: Sequence[Sequence[Titled]]) -> Image.Image:
    """Pictures side by side in rows; all rows have as many, and a row's pictures the same height."""
    widths = [max(row[column][1].width for row in rows) for column in range(len(rows[0]))]
    heights = [max(picture.height for _, picture in row) for row in rows]
    size = (sum(widths) + GAP * (len(widths) - 1), sum(heights) + (LINE + GAP) * len(rows) - GAP)
    page = Image.new("RGB", size, "white")
    draw, font, top = ImageDraw.Draw(page), ImageFont.load_default(size=15), 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for (title, picture), width in zip(row, widths, strict=True):
            draw.text((left + 2, top + 2), title, fill="black", font=font)
            page.paste(picture.convert("RGB"), (left, top + LINE))
            left += width + GAP
        top += LINE + height + GAP
    return page
