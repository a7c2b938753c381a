"""Predictions for people and programs: as plain data, as one line, and drawn on a picture."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..codec.tiles import STRIDE
from ..structures.latents import LAYERS
from ..structures.predictions import SURE, Detection, Prediction, Result, Segmentation

BACKGROUND = "background"
"""The class of what is none of the others."""
GRAY = (96, 96, 96)
PALETTE = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194),
    (188, 189, 34), (23, 190, 207), (174, 199, 232), (255, 187, 120), (152, 223, 138), (255, 152, 150), (197, 176, 213),
)  # fmt: skip


def described(result: Result, mask: Path | None = None) -> dict[str, Any]:
    """Predictions as JSON holds them; ``mask`` is where the segmentation was written, if it was."""
    tasks = {task: prediction.to_dict() for task, prediction in result.items()}
    if "segmentation" in tasks:
        tasks["segmentation"]["mask"] = str(mask) if mask else None
    return tasks


def summary(result: Result) -> dict[str, str]:
    """One short line for each task."""
    return {task: prediction.summary() for task, prediction in result.items()}


@singledispatch
def drawn(prediction: Prediction, canvas: Image.Image) -> Image.Image:
    """The canvas with a prediction drawn on it; as it is, for those that nobody can draw.

    Other kinds of predictions are drawn by what ``drawn.register`` is given.
    """
    return canvas


@drawn.register
def drawn_objects(detection: Detection, canvas: Image.Image) -> Image.Image:
    """The canvas with boxes, masks and labels of the detections whose score is at least ``SURE``."""
    canvas = canvas.convert("RGB")
    chosen = [i for i, score in enumerate(detection.scores) if score >= SURE]
    names = sorted(set(detection.labels))
    colors = [PALETTE[names.index(label) % len(PALETTE)] for label in detection.labels]
    if detection.masks is not None:
        array = np.asarray(canvas).astype(np.float32)
        for i in chosen:
            array[detection.masks[i]] = 0.5 * array[detection.masks[i]] + 0.5 * np.array(colors[i])
        canvas = Image.fromarray(array.round().astype(np.uint8))
    draw, thick = ImageDraw.Draw(canvas), max(2, min(canvas.size) // 160)
    for i in reversed(chosen):  # the surest on top
        x, y, width, height = detection.boxes[i].tolist()
        draw.rectangle((x, y, x + width, y + height), outline=colors[i], width=thick)
        above = (x + thick, max(0, y - _font(canvas).size - 2))
        _label(canvas, above, f"{detection.labels[i]} {detection.scores[i]:.2f}", colors[i])
    return canvas


@drawn.register
def drawn_classes(segmentation: Segmentation, canvas: Image.Image) -> Image.Image:
    """The canvas under the colors of the classes, but for the background, with the names of the large ones."""
    colors = np.array([PALETTE[i % len(PALETTE)] for i in range(len(segmentation.classes))], np.float32)
    shown = np.array([name != BACKGROUND for name in segmentation.classes], np.float32)
    share = 0.55 * shown[segmentation.mask][..., None]
    array = (1 - share) * np.asarray(canvas.convert("RGB")) + share * colors[segmentation.mask]
    image = Image.fromarray(array.round().astype(np.uint8))
    top = 4
    for name in [name for name in segmentation.shares() if name != BACKGROUND][:6]:
        color = PALETTE[segmentation.classes.index(name) % len(PALETTE)]
        top = 6 + _label(image, (6, top), name, color)
    return image


def gray_canvas(width: int, height: int) -> Image.Image:
    """What predictions are drawn on where nobody has decoded the photograph."""
    return Image.new("RGB", (width, height), GRAY)


GAP = 8
HEAT = np.array([(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)], np.float32)
"""From nothing to most, dark to light."""


def heat_map(bits: np.ndarray, size: tuple[int, int], stride: int = 0, title: str = "") -> Image.Image:
    """Bits (h, w) of a grid's cells as a picture of ``size`` (width, height): the brighter, the more.

    Args:
        stride: pixels of the photograph a cell; 0 where the whole photograph was resized to the grid.
        title: before the scale that the picture shows.
    """
    rows, columns = bits.shape
    density = bits / (stride**2 or size[0] * size[1] / bits.size)
    densest = float(density.max()) or 1.0
    places = density / densest * (len(HEAT) - 1)
    colors = np.stack([np.interp(places, np.arange(len(HEAT)), HEAT[:, c]) for c in range(3)], -1)
    image = Image.fromarray(colors.round().astype(np.uint8))
    image = image.resize((columns * stride, rows * stride) if stride else size, Image.Resampling.NEAREST)
    image = image.crop((0, 0, *size))
    _label(image, (4, 4), f"{title}white: {densest:.2g} bits a pixel", (0, 0, 0))
    return image


def bits_picture(maps: Mapping[str, np.ndarray], size: tuple[int, int]) -> Image.Image:
    """Heat maps of a stream's layers one below the other, each on its own grid over a photograph of ``size``."""
    strides = {LAYERS[-1]: STRIDE}
    panels = [heat_map(bits, size, strides.get(name, 0), f"{name}, ") for name, bits in maps.items()]
    page = Image.new("RGB", (size[0], len(panels) * size[1] + GAP * (len(panels) - 1)), "white")
    for number, panel in enumerate(panels):
        page.paste(panel, (0, number * (size[1] + GAP)))
    return page


def _font(canvas: Image.Image) -> Any:
    """Letters of a size that suits a picture."""
    return ImageFont.load_default(size=max(11, min(canvas.size) // 28))


def _label(canvas: Image.Image, place: tuple[float, float], text: str, color: tuple[int, int, int]) -> int:
    """White letters in a colored box; gives where they end, below."""
    draw, font = ImageDraw.Draw(canvas), _font(canvas)
    left, top, right, bottom = draw.textbbox(place, text, font=font)
    draw.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=color)
    draw.text(place, text, fill="white", font=font)
    return int(bottom)
