"""Check what docs/rate.md says of rates and budgets, and draw its pictures.

    CDANALYSIS_DATA=/path/to/data python tools/rate_control.py

Writes ``docs/rate.json``, the tables between the markers of ``docs/rate.md``, and the pictures beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from skimage import data

from cdanalysis import inspect
from cdanalysis.codec.tiles import STRIDE
from cdanalysis.codecs.ours import ModelCodec
from cdanalysis.data.images import ImageSet
from cdanalysis.files import json_text, write_whole
from cdanalysis.metrics.image import bpp
from cdanalysis.model import Model
from cdanalysis.photographs.read import to_tensor
from cdanalysis.reports.contact_sheet import sheet
from cdanalysis.reports.heat_maps import heat_map
from cdanalysis.reports.markdown import fill, table
from cdanalysis.roi.importance import importance_map
from cdanalysis.structures.latents import LAYERS, QUALITY_LEVELS, SEMANTIC
from cdanalysis.zoo import load

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "rate.md"
SETS = {"Kodak": ("kodak", 24), "coco_mini/val": ("coco_mini/val.tar", 50)}
STEP = 4
"""Quality levels between two rates of the smoothness check."""
BUDGETS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Budgets lie so far up a photograph's own range, in the logarithm."""
RATE = 0.5
"""bpp of the pictures."""


def rates(model: Model, image: Image.Image) -> np.ndarray:
    """Bytes at every ``STEP``-th quality level."""
    writer = model.writer([image])
    return np.array([len(writer.at((level,) * len(LAYERS))[0]) for level in range(0, QUALITY_LEVELS + 1, STEP)])


def budgets(model: Model, image: Image.Image, sizes: np.ndarray) -> list[float]:
    """The share of every budget that the stream uses: in bytes for the even ones, in bpp for the others."""
    shares = []
    for number, place in enumerate(BUDGETS):
        wanted = int(np.exp(np.interp(place, (0, 1), np.log([sizes[0], sizes[-1]]))))
        rate = 8 * wanted / (image.width * image.height)
        stream = model.encode(image, max_bytes=wanted) if number % 2 == 0 else model.encode(image, bpp=rate)
        shares.append(len(stream) / wanted)
    return shares


def layer_budgets(model: Model, image: Image.Image) -> list[float]:
    """The share that symbols use of the budgets of their layers, two for each semantic layer."""
    least, most = ([layer.bytes for layer in inspect(model.encode(image, q, SEMANTIC)).layers] for q in (0.0, 1.0))
    shares = []
    for place in (0.3, 0.7):
        wanted = tuple(int(low ** (1 - place) * high**place) for low, high in zip(least, most, strict=True))
        found = inspect(model.encode(image, max_bytes=wanted, layers=SEMANTIC)).layers
        shares += [layer.bytes / size for layer, size in zip(found, wanted, strict=True)]
    return shares


def claims(model: Model, name: str, most: int = 10**6) -> dict:
    """What holds on one set, or on that many photographs of it."""
    path, count = SETS[name]
    count = min(count, most)
    images = ImageSet(path)
    images = images.every(max(1, len(images) // count))
    count = min(count, len(images))
    ranges, drops, steps, used, ends, apart = [], [], [], [], [], []
    for index in track(range(count), description=name):
        image = images.image(index)
        sizes = rates(model, image)
        ratio = sizes[1:] / sizes[:-1]
        ranges.append(sizes[-1] / sizes[0])
        ends.append([bpp(int(size), image.width, image.height) for size in sizes[[0, -1]]])
        drops.append(float((1 - ratio).max()))
        steps.append(float(ratio.max() - 1))
        used += budgets(model, image, sizes)
        apart += layer_budgets(model, image)
    lowest, highest = np.mean(ends, 0)
    return {
        "set": name,
        "photographs": count,
        "mean bpp at quality 0": float(lowest),
        "mean bpp at quality 1": float(highest),
        "smallest range": f"{min(ranges):.1f}:1",
        f"largest step in {STEP / QUALITY_LEVELS:.3f} of quality": f"{100 * max(steps):.1f} %",
        "largest fall": f"{100 * max(0.0, *drops):.2f} %",
        "budgets": len(used),
        "exceeded": sum(share > 1 for share in used),
        "least used": f"{100 * min(used):.1f} %",
        "budgets of layers": len(apart),
        "of these exceeded": sum(share > 1 for share in apart),
        "and least used": f"{100 * min(apart):.1f} %",
    }


def drawn(model: Model, folder: Path) -> dict[str, int]:
    """Where bits go without and with a map, and what comes of it; gives the bytes of both streams."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(data.astronaut())
    size = int(RATE * image.width * image.height / 8)
    crop, panels, sizes = (150, 20, 310, 180), [], {}
    salient = importance_map("saliency", to_tensor(image))
    panels += [
        ("photograph", image),
        ("importance: spectral residual", Image.fromarray((255 * salient).astype(np.uint8))),
    ]
    crops = [("photograph", image.crop(crop))]
    box = (150, 20, 160, 160)
    for title, importance in (("everywhere alike", None), ("saliency", "saliency"), ("a box", [box])):
        codec = ModelCodec(title, model, 0.2, importance)
        stream = codec.encode_near(image, size)
        sizes[title] = len(stream)
        panels.append(
            (f"bits: {title}", heat_map(model.bit_maps(stream)[LAYERS[-1]].cpu().numpy(), image.size, STRIDE))
        )
        crops.append((f"{title}, {len(stream):,} bytes", Image.fromarray(codec.decode(stream)).crop(crop)))
    panels = [(title, part.resize((300, 300))) for title, part in panels]
    crops = [(title, part.resize((375, 375), Image.Resampling.BICUBIC)) for title, part in crops]
    sheet([panels]).save(folder / "bits.webp", quality=85)
    sheet([crops]).save(folder / "crops.webp", quality=90)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=10**6, help="photographs of each set; then nothing is written")
    options = parser.parse_args()
    model = load("photo")
    if options.most < 10**6:
        print(table([claims(model, name, options.most) for name in SETS]))
        return
    report = {"command": "python tools/rate_control.py", "fingerprint": model.fingerprint}
    report["claims"] = [claims(model, name) for name in SETS]
    report["pictures"] = drawn(model, PAGE.parent / "rate")
    write_whole(PAGE.with_suffix(".json"), json_text(report, indent=1) + "\n")
    sizes = ", ".join(f"{title}: {size:,}" for title, size in report["pictures"].items())
    fill(PAGE, {"claims": table(report["claims"]), "sizes": f"Bytes: {sizes}."})
    print(table(report["claims"]))


if __name__ == "__main__":
    main()
