"""What a model says of twenty photographs that nobody chose: every seventh of coco_mini/val, from its semantic layers.

    CDANALYSIS_DATA=/path/to/data python tools/prediction_sheet.py photo

Writes ``docs/predictions.webp``; docs/predictions.md says of each whether it is useful.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cdanalysis.data.coco import CocoImages
from cdanalysis.structures.latents import SEMANTIC
from cdanalysis.zoo import load

TARGET = Path(__file__).parent.parent / "docs" / "predictions.webp"
STEP, COUNT, COLUMNS, SIDE, LINES = 7, 20, 5, 300, 44
QUALITY = 0.4


def cell(model, image: Image.Image, number: int) -> Image.Image:
    """A photograph with its boxes and masks, and three lines below: label and bytes, classes, objects."""
    stream = model.encode(image, QUALITY, SEMANTIC)
    result = model.analyze(stream)
    shown = result.detection.plot(result.segmentation.plot(image))
    shown.thumbnail((SIDE, SIDE))
    whole = Image.new("RGB", (SIDE, SIDE + LINES), "white")
    whole.paste(shown, (0, 0))
    draw = ImageDraw.Draw(whole)
    texts = (
        f"{number}: {result.classification.summary()} | {len(stream)} bytes",
        result.segmentation.summary(),
        result.detection.summary(),
    )
    for line, text in enumerate(texts):
        draw.text((2, SIDE + 2 + 14 * line), text[:50], fill=("black", "black", "blue")[line])
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="zoo name or folder")
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    options = parser.parse_args()
    model = load(options.model)
    images = CocoImages("coco_mini/val.tar", "coco_mini/instances_val.json")
    cells = [cell(model, images.image(i), i) for i in range(0, STEP * COUNT, STEP)]
    rows = [np.hstack([np.asarray(c) for c in cells[i : i + COLUMNS]]) for i in range(0, COUNT, COLUMNS)]
    Image.fromarray(np.vstack(rows)).save(options.output, quality=80)


if __name__ == "__main__":
    main()
