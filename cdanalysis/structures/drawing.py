"""Predictions on pictures: boxes, masks, classes of pixels and labels, drawn with Pillow; and tables for notebooks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from ..photographs.read import ImageLike

BACKGROUND = "background"
"""The class of what is none of the others."""
GRAY = (96, 96, 96)
PALETTE = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194),
    (188, 189, 34), (23, 190, 207), (174, 199, 232), (255, 187, 120), (152, 223, 138), (255, 152, 150), (197, 176, 213),
)  # fmt: skip
SHOWN_ROWS = 20
"""Rows of a table in a notebook."""
SHOWN_SIDE = 480
"""Longest side of a picture in a notebook, in pixels."""


def canvas_of(image: ImageLike | None, size: tuple[int, int] | None) -> Image.Image:
    """The picture that predictions are drawn on, as upright RGB: ``image``, or a gray one where there is none.

    Args:
        image: what to draw on, of any kind that `Model.encode` takes.
        size: (height, width) of the photograph that the predictions are of, where it is known.

    Returns:
        a new image.

    Raises:
        ValueError: if the image has another size than the photograph, or neither of them is known; for an image, as
            `to_image`.
        FileNotFoundError: if it is the path of a file that does not exist.
    """
    if image is None:
        if size is None:
            raise ValueError("there is no picture to draw on: give plot an image")
        return Image.new("RGB", size[::-1], GRAY)
    from ..photographs.read import to_image

    canvas = to_image(image)
    if size is not None and canvas.size != tuple(size[::-1]):
        raise ValueError(
            f"the image has {canvas.width}x{canvas.height} pixels and the photograph that the predictions are of "
            f"{size[1]}x{size[0]}: resize it"
        )
    return canvas


def draw_objects(
    canvas: Image.Image,
    boxes: np.ndarray,
    captions: Sequence[str],
    colors: Sequence[int],
    masks: np.ndarray | None = None,
) -> Image.Image:
    """Boxes, masks and captions of objects; the first objects are drawn on top.

    Args:
        canvas: an RGB image.
        boxes: (N, 4): x, y, width, height in its pixels.
        captions: N texts.
        colors: N numbers; equal numbers are equal colors.
        masks: (N, H, W) bool.

    Returns:
        a new image.
    """
    chosen = [PALETTE[number % len(PALETTE)] for number in colors]
    if masks is not None:
        array = np.asarray(canvas).astype(np.float32)
        for mask, color in zip(masks, chosen, strict=True):
            array[mask] = 0.5 * array[mask] + 0.5 * np.array(color)
        canvas = Image.fromarray(array.round().astype(np.uint8))
    else:
        canvas = canvas.copy()
    draw, thick = ImageDraw.Draw(canvas), max(2, min(canvas.size) // 160)
    for (x, y, width, height), caption, color in reversed(list(zip(boxes.tolist(), captions, chosen, strict=True))):
        draw.rectangle((x, y, x + max(0, width), y + max(0, height)), outline=color, width=thick)
        draw_label(canvas, (x + thick, max(0, y - font_of(canvas).size - 2)), caption, color)
    return canvas


def draw_classes(canvas: Image.Image, mask: np.ndarray, classes: Sequence[str], names: Sequence[str]) -> Image.Image:
    """A picture under the colors of its pixels' classes, but for the background.

    Args:
        canvas: an RGB image.
        mask: (H, W) class indices.
        classes: names in the order of the indices.
        names: the classes whose names are written, in the upper left corner.

    Returns:
        a new image.
    """
    colors = np.array([PALETTE[i % len(PALETTE)] for i in range(len(classes))], np.float32)
    shown = np.array([name != BACKGROUND for name in classes], np.float32)
    share = 0.55 * shown[mask][..., None]
    array = (1 - share) * np.asarray(canvas) + share * colors[mask]
    image, top = Image.fromarray(array.round().astype(np.uint8)), 4
    for name in names:
        top = 6 + draw_label(image, (6, top), name, PALETTE[classes.index(name) % len(PALETTE)])
    return image


def draw_label(canvas: Image.Image, place: tuple[float, float], text: str, color: tuple[int, int, int]) -> int:
    """White letters in a colored box, drawn on ``canvas`` itself.

    Args:
        canvas: an RGB image.
        place: x and y of the upper left corner.
        text: one line.
        color: of the box.

    Returns:
        the row where the letters end.
    """
    draw, font = ImageDraw.Draw(canvas), font_of(canvas)
    left, top, right, bottom = draw.textbbox(place, text, font=font)
    draw.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=color)
    draw.text(place, text, fill="white", font=font)
    return int(bottom)


def font_of(canvas: Image.Image) -> Any:
    """Letters of a size that suits a picture: 1/28 of its shorter side, at least 11 pixels.

    Args:
        canvas: the picture.

    Returns:
        one of Pillow's fonts.
    """
    return ImageFont.load_default(size=max(11, min(canvas.size) // 28))


def html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as HTML, all texts escaped, with the first ``SHOWN_ROWS`` rows; numbers have three decimal places.

    Args:
        title: above the table.
        columns: their names.
        rows: cells of each row, in the order of the columns.
    """
    head = _html_row("th", columns)
    body = [
        _html_row("td", (f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row))
        for row in rows[:SHOWN_ROWS]
    ]
    more = f"<p>… and {len(rows) - SHOWN_ROWS} more</p>" if len(rows) > SHOWN_ROWS else ""
    return f"<p>{html.escape(title)}</p><table>{head}{''.join(body)}</table>{more}"


def _html_row(kind: str, cells: Iterable[Any]) -> str:
    return "<tr>" + "".join(f"<{kind}>{html.escape(str(cell))}</{kind}>" for cell in cells) + "</tr>"


def html_picture(image: Image.Image) -> str:
    """A picture as HTML, reduced to at most ``SHOWN_SIDE`` pixels a side.

    Args:
        image: of any mode that PNG supports.
    """
    image, buffer = image.copy(), io.BytesIO()
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    image.save(buffer, "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
