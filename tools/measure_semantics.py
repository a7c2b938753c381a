"""What the semantic layers keep of what their teachers see: labels, vectors, boxes and bytes, at any size.

    CDANALYSIS_DATA=/path/to/data python tools/measure_semantics.py photo            # an hour
    CDANALYSIS_DATA=/path/to/data python tools/measure_semantics.py photo labels probe --every 5

Writes ``docs/results/semantics.json``, a part at a time; ``--every`` above 1 prints only. Bytes count whole files.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from cdanalysis.data.coco import CocoImages
from cdanalysis.data.images import ImageSet, data_path
from cdanalysis.files import json_text, json_value, write_whole
from cdanalysis.metrics.tasks import DetectionScorer
from cdanalysis.model import Model
from cdanalysis.structures.latents import SEMANTIC, quality_level
from cdanalysis.zoo import load

RESULT = Path(__file__).parent.parent / "docs" / "results" / "semantics.json"
QUALITIES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
SIDES = (224, 500, 1024, 3000)
FACTORS = (1, 2, 4)
SPATIAL_SIZES = (32, 160, 224, 320, 480)
MEGAPIXELS = (0.25, 1, 4, 24)
UNSEEN = ("food10/", "houses/", "dtd10/")
"""Folders of wide/train whose classes the teacher does not know."""
RIDGE = 1.0


class Decoded(NamedTuple):
    """Embeddings (N, E) that streams of one quality hold, and the mean of their bytes."""

    quality: float
    bytes: float
    embeddings: Tensor


def embedded(model: Model, images: ImageSet, what: str) -> tuple[Tensor, list[Decoded]]:
    """The teacher's embeddings (N, E) of images, and those in streams cut after the global layer, at each quality."""
    own, decoded, sizes = [], {q: [] for q in QUALITIES}, {q: [] for q in QUALITIES}
    for index in track(range(len(images)), what):
        image = images.image(index)
        own.append(model.reference.features([image], 1).embedding[0])
        writer = model.writer([image], 1)
        for quality in QUALITIES:
            (stream,) = writer.at((quality_level(quality),))
            decoded[quality].append(model.embed(stream))
            sizes[quality].append(len(stream))
    return torch.stack(own), [Decoded(q, float(np.mean(sizes[q])), torch.stack(decoded[q])) for q in QUALITIES]


def labels(model: Model, every: int) -> dict[str, Any]:
    """Top-1 on wide/val of streams cut after the global layer, of the teacher, and agreement of nearest neighbors."""
    images, head = ImageSet("wide/val.tar").every(every), model.heads["classification"]
    truth = np.array([int(name.split("/")[0]) for name in images.names])
    own, streams = embedded(model, images, "labels")
    right = lambda e: float(np.mean(head.classify(e).argmax(1).numpy() == truth))  # noqa: E731
    nearest = _nearest(own)

    def row(each: Decoded) -> dict[str, float]:
        same = float((_nearest(each.embeddings) == nearest).float().mean())
        return {"quality": each.quality, "bytes": each.bytes, "top1": right(each.embeddings), "same_nearest": same}

    found = {"images": len(images), "teacher": right(own), "streams": [row(each) for each in streams]}
    with _rounded(model):
        _, streams = embedded(model, images, "symbols rounded instead of searched for")
    return {**found, "rounded": [row(each) for each in streams]}


@contextlib.contextmanager
def _rounded(model: Model) -> Iterator[None]:
    """In here the encoder writes the nearest symbols."""
    before, model.codec.search_rounds = model.codec.search_rounds, 0
    try:
        yield
    finally:
        model.codec.search_rounds = before


def _nearest(embeddings: Tensor) -> Tensor:
    """The nearest other of each of (N, E), by the cosine of what differs from the mean."""
    apart = torch.nn.functional.normalize(embeddings - embeddings.mean(0), dim=1)
    return (apart @ apart.T).fill_diagonal_(-2).argmax(1)


def probe(model: Model, every: int) -> dict[str, Any]:
    """Accuracy of a linear probe for classes that the teacher does not know, on decoded and on undecoded embeddings."""
    images = ImageSet("wide/train.tar")
    chosen = [i for i, name in enumerate(images.names) if name.startswith(UNSEEN)][::every]
    kinds = sorted({images.names[i].rsplit("/", 1)[0] for i in chosen})
    truth = torch.tensor([kinds.index(images.names[i].rsplit("/", 1)[0]) for i in chosen])
    own, streams = embedded(model, images.chosen(chosen), "probe")
    best = _probed(own, truth)
    rows = [
        {"quality": each.quality, "bytes": each.bytes, "accuracy": _probed(each.embeddings, truth)} for each in streams
    ]
    for row in rows:
        row["kept"] = row["accuracy"] / best
    return {"images": len(chosen), "classes": len(kinds), "undecoded": best, "streams": rows}


def _probed(embeddings: Tensor, truth: Tensor) -> float:
    """Accuracy of ridge regression to one-hot labels, five-fold: every fifth image is tested on the others."""
    x = embeddings.double() - embeddings.double().mean(0)
    x = x / x.square().mean().sqrt()
    right = torch.zeros(len(x), dtype=torch.bool)
    for fold in range(5):
        test = torch.arange(len(x)) % 5 == fold
        known, wanted = x[~test], torch.nn.functional.one_hot(truth[~test], int(truth.max()) + 1).double()
        gram = known @ known.T + RIDGE * known.shape[1] * torch.eye(len(known), dtype=known.dtype)
        weights = known.T @ torch.linalg.solve(gram, wanted - wanted.mean(0))
        right[test] = (x[test] @ weights + wanted.mean(0)).argmax(1) == truth[test]
    return float(right.double().mean())


def sides(model: Model, every: int) -> dict[str, Any]:
    """Top-1 of the same images resized to squares of several sides, from streams cut after the global layer."""
    images, rows = ImageSet("wide/val.tar").every(every), []
    for side in SIDES:
        right, sizes = [], []
        for index in track(range(len(images)), f"{side} pixels"):
            image = images.image(index).resize((side, side), Image.Resampling.BICUBIC)
            stream = model.encode(image, 0.5, SEMANTIC[:1])
            right.append(int(model.class_logits([stream])[0].argmax()) == int(images.names[index].split("/")[0]))
            sizes.append(len(stream))
        rows.append({"side": side, "top1": float(np.mean(right)), "bytes": float(np.mean(sizes))})
    return {"images": len(images), "quality": 0.5, "rows": rows}


def boxes(model: Model, every: int) -> dict[str, Any]:
    """Average precision on coco_boxes/val, and the same images enlarged, from streams of both semantic layers."""
    images = CocoImages("coco_boxes/val.tar", "coco_boxes/instances_val.json").every(every)
    rows = [{"factor": factor, **_boxes(model, images, f"{factor} times", factor)} for factor in FACTORS]
    return {"images": len(images), "quality": 0.5, "rows": rows}


def sizes(model: Model, every: int) -> dict[str, Any]:
    """Average precision on coco_boxes/val where the spatial layer sees images at other sizes than the model's."""
    images = CocoImages("coco_boxes/val.tar", "coco_boxes/instances_val.json").every(every)
    rows = [{"size": size, **_boxes(model, images, f"{size} pixels", spatial_size=size)} for size in SPATIAL_SIZES]
    return {"images": len(images), "quality": 0.5, "rows": rows}


def _boxes(
    model: Model, images: CocoImages, what: str, factor: int = 1, spatial_size: int | None = None
) -> dict[str, float]:
    scorer, taken = DetectionScorer(images, model.heads["detection"].classes), []
    for index in track(range(len(images)), what):
        image = images.image(index)
        large = image.resize((factor * image.width, factor * image.height), Image.Resampling.BICUBIC)
        stream = model.encode(large, 0.5, SEMANTIC, spatial_size=spatial_size)
        found = model.analyze(stream, "detection").detection
        scorer.update(index, type(found)(found.boxes / factor, found.labels, found.scores))
        taken.append(len(stream))
    return {"bytes": float(np.mean(taken)), **scorer.compute()}


def growth(model: Model, every: int) -> dict[str, Any]:
    """Bytes of both semantic layers of Kodak's images, resized to so many megapixels."""
    images, rows = ImageSet("kodak").every(max(every, 4)), []
    for megapixels in MEGAPIXELS:
        sizes = []
        for index in track(range(len(images)), f"{megapixels} megapixels"):
            image = images.image(index)
            factor = (1e6 * megapixels / (image.width * image.height)) ** 0.5
            size = (round(factor * image.width), round(factor * image.height))
            sizes.append(len(model.encode(image.resize(size, Image.Resampling.BICUBIC), 0.5, SEMANTIC)))
        rows.append({"megapixels": megapixels, "bytes": float(np.mean(sizes))})
    return {"images": len(images), "quality": 0.5, "rows": rows}


def asked(
    about: str, parts: Iterable[str], default: Sequence[str], option: str, /, **settings: Any
) -> argparse.Namespace:
    """What the command line of such a tool says: a model, parts to measure (those of ``default``), and one option."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = f"of {', '.join(parts)} (default: {', '.join(default)})"
    parser.add_argument("model", help="zoo name or folder")
    parser.add_argument("parts", nargs="*", metavar="PART", help=told)
    parser.add_argument(option, **settings)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"unknown part {unknown.pop()!r}; there are {', '.join(parts)}")
    options.parts = options.parts or list(default)
    return options


def keep(path: Path, model: Model, name: str, found: dict[str, Any]) -> None:
    """Put what was measured of a model into its file, beside the other parts; those of another model go."""
    known = json_value(path.read_text()) if path.is_file() else {}
    known = known if known.get("fingerprint") == model.fingerprint else {"fingerprint": model.fingerprint}
    write_whole(path, json_text({**known, name: found}, indent=1) + "\n")


PARTS: dict[str, Callable[[Model, int], dict[str, Any]]] = {
    "labels": labels, "probe": probe, "sides": sides, "boxes": boxes, "sizes": sizes, "growth": growth,
}  # fmt: skip


def main() -> None:
    told = "measure each so-many-th image, and print only"
    options = asked(__doc__, PARTS, list(PARTS), "--every", type=int, default=1, help=told)
    model = load(options.model, counterparts=True)
    data_path("wide")
    with torch.inference_mode():
        for name in options.parts:
            found = PARTS[name](model, options.every)
            print(name, json_text(found, indent=1), flush=True)
            if options.every == 1:
                keep(RESULT, model, name, found)


if __name__ == "__main__":
    main()
