"""Draw the README's picture: a photograph that scikit-image carries, decoded, and what its stream says of it.

    python tools/front_picture.py

Writes ``docs/demo.webp``.
"""

from __future__ import annotations

from pathlib import Path

from cdanalysis import strip
from cdanalysis.data.samples import sample_images
from cdanalysis.reports.contact_sheet import sheet
from cdanalysis.zoo import load

TARGET = Path(__file__).parent.parent / "docs" / "demo.webp"
QUALITY = (0.4, 0.4, 0.5)


def main() -> None:
    model, image = load("photo"), sample_images()["coffee"]
    stream = model.encode(image, QUALITY)
    semantic = strip(stream)
    decoded, result = model.decode(stream), model.analyze(semantic)
    first = [("photograph", image), (f"decoded from {len(stream):,} bytes", decoded)]
    second = [
        (f"objects, from its first {len(semantic):,} bytes", result.detection.plot(decoded)),
        ("classes, from the same", result.segmentation.plot(decoded)),
    ]
    sheet([first, second]).save(TARGET, quality=90)


if __name__ == "__main__":
    main()
