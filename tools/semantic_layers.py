"""The global and the spatial layer: their teachers' features, their training, and what the trained ones keep.

    python tools/semantic_layers.py features runs/features    # hours; goes on where it was stopped
    python tools/semantic_layers.py train runs/features       # minutes for the global layer, an hour for the other
    python tools/semantic_layers.py measure                   # model_zoo/semantic_layers on wide/val and coco_boxes/val

CDANALYSIS_DATA names the folder that the data sets lie in. Bytes are those of coded symbols, without a container.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.ops import batched_nms

from cdanalysis.codec.entropy.models import Pass
from cdanalysis.codec.entropy.tables import gaussian_cdf_tables
from cdanalysis.codec.gains import quality_plane
from cdanalysis.codec.global_layer import GlobalLayer
from cdanalysis.codec.spatial_layer import SpatialLayer
from cdanalysis.data.coco import CocoImages
from cdanalysis.data.images import ImageSet
from cdanalysis.files import json_text, write_whole
from cdanalysis.metrics.tasks import DetectionScorer
from cdanalysis.stream.coder import CdfTables, SymbolWriter
from cdanalysis.structures.latents import STEPS, quality_level
from cdanalysis.structures.predictions import Detection
from cdanalysis.teachers import Classifier, DeepLab, NanoDetPlus
from cdanalysis.teachers.nanodet import decode_boxes
from cdanalysis.training.semantic_layers import (
    Fit,
    GlobalLoss,
    SegmentationProbe,
    SpatialLoss,
    Statistics,
    analysis_inputs,
    fit,
    start_global_layer,
    start_spatial_layer,
)  # fmt: skip
from cdanalysis.training.teacher_features import FeatureCache, Teachers, pixels, working_size, write_features

ZOO = Path(__file__).parent.parent / "model_zoo" / "semantic_layers"
SOURCES = ("wide", "coco_boxes", "coco_mini", "bsds500", "pixels")
GLOBAL = {"embedding": 1280, "groups": [16, 16, 32, 64, 128, 256, 256], "hidden": 16, "context": 160}
SPATIAL = {"inputs": [96, 328, 560], "outputs": [96, 96, 96], "side": 768, "channels": 64, "hidden": 192, "depth": 5}
QUALITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def teachers() -> Teachers:
    """The three networks with their weights."""
    return Teachers(Classifier().load_imagenet(), NanoDetPlus().load(), DeepLab().load())


def new_layers() -> tuple[GlobalLayer, SpatialLayer, SegmentationProbe]:
    return GlobalLayer(**GLOBAL), SpatialLayer(**SPATIAL), SegmentationProbe(96, 1280, 21)


def train(folder: Path, steps: tuple[int, int]) -> None:
    """Train both layers on features in ``folder``; the weights go to the zoo."""
    cache, (first, second, probe) = FeatureCache(folder), new_layers()
    classifier, detector = Classifier().load_imagenet(), NanoDetPlus().load()
    weight, bias = classifier.classifier_weights()
    embeddings = cache.embeddings.float()
    whole = torch.tensor([not view.number for view in cache.views])
    start_global_layer(first, embeddings[whole], weight)
    loss = GlobalLoss(first, weight, bias, embeddings[whole])
    draws = (embeddings[torch.randint(len(embeddings), (256,))] for _ in iter(int, 1))
    # The transforms stay principal components: what they learn of few classes costs the others.
    _run("global", loss, first, draws, Fit(steps[0], 1.5e-3, average=0.998, frozen=[first.g_a, first.g_s]))
    batches = cache.batches(4, seed=0)
    known = Statistics.of(next(batches) for _ in range(24))
    start_spatial_layer(second, (next(batches) for _ in range(24)), known)
    spatial = SpatialLoss(second, probe, first, detector.heads, known).to(memory_format=torch.channels_last)

    _run("spatial", torch.autocast("cpu", torch.bfloat16)(spatial), spatial, batches, Fit(steps[1], 5e-4))
    save(first, second, probe)


def _run(name: str, loss: Callable, module: nn.Module, batches, how: Fit) -> None:
    for step, terms in fit(loss, module, batches, how):
        _tell(name, step, terms)


def _tell(name: str, step: int, terms: dict[str, float]) -> None:
    if step % 100 == 0:
        print(name, step, " ".join(f"{key} {value:.4g}" for key, value in terms.items()), flush=True)


def save(first: GlobalLayer, second: SpatialLayer, probe: SegmentationProbe) -> None:
    """Write the trained layers in half precision."""
    ZOO.mkdir(parents=True, exist_ok=True)
    parts = {"global": first, "spatial": second, "probe": probe}
    tensors = {f"{n}.{k}": v.half().contiguous() for n, part in parts.items() for k, v in part.state_dict().items()}
    save_file(tensors, ZOO / "layers.safetensors", {"cdanalysis": json_text({"global": GLOBAL, "spatial": SPATIAL})})


def load() -> tuple[GlobalLayer, SpatialLayer]:
    """The layers of the zoo, of the shape that their file says."""
    path = ZOO / "layers.safetensors"
    with safe_open(path, "pt") as file:
        shape = json.loads(file.metadata()["cdanalysis"])
    tensors, layers = load_file(path), (GlobalLayer(**shape["global"]), SpatialLayer(**shape["spatial"]))
    for name, layer in zip(("global.", "spatial."), layers, strict=True):
        layer.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
        layer.eval().requires_grad_(False)
    return layers


TABLES = CdfTables(gaussian_cdf_tables().numpy())


def coded_bytes(passes: list[Pass]) -> int:
    """Bytes of one image's symbols."""
    writer = SymbolWriter()
    for each in passes:
        writer.push(each.symbols[0].numpy(), each.tables[0].numpy(), TABLES)
    return len(writer.finish())


@torch.inference_mode()
def measure_labels(layer: GlobalLayer, every: int) -> dict:
    """Top-1 on wide/val of the classifier on decoded embeddings, and on the photographs' own."""
    images = ImageSet("wide/val.tar").every(every)
    classifier = Classifier().load_imagenet()
    weight, bias = classifier.classifier_weights()
    right: dict[str, list[float]] = {"photographs": [], **{f"{q:g}": [] for q in QUALITIES}}
    sizes: dict[str, list[int]] = {f"{q:g}": [] for q in QUALITIES}
    for index in track(range(len(images)), "labels"):
        image, label = images[index]
        embedding = classifier(pixels(image, working_size(*image.size, shorter=224))).float()
        right["photographs"].append(_is(embedding, weight, bias, label))
        for quality in QUALITIES:
            level = quality_level(quality)
            values, passes = layer.quantize(layer.g_a(embedding), level)
            found = layer.embedding(layer.dequantize(values / STEPS, quality_plane(level, embedding)))
            right[f"{quality:g}"].append(_is(found, weight, bias, label))
            sizes[f"{quality:g}"].append(coded_bytes(passes))
    rows = [{"quality": q, "bytes": float(np.mean(sizes[q])), "top1": float(np.mean(right[q]))} for q in sizes]
    return {"images": len(images), "photographs": float(np.mean(right["photographs"])), "streams": rows}


def _is(embedding, weight, bias, label: str) -> float:
    return float(int((embedding @ weight.T + bias).argmax(1)) == int(label))


@torch.inference_mode()
def measure_boxes(first: GlobalLayer, second: SpatialLayer, every: int) -> dict:
    """AP on coco_boxes/val of the teacher's own head on decoded features, and on the photographs' own."""
    images = CocoImages("coco_boxes/val.tar", "coco_boxes/instances_val.json").every(every)
    classifier, detector = Classifier().load_imagenet(), NanoDetPlus().load()
    scorers = {
        name: DetectionScorer(images, images.classes) for name in ("photographs", *(f"{q:g}" for q in QUALITIES))
    }
    sizes: dict[str, list[int]] = {f"{q:g}": [] for q in QUALITIES}
    for index in track(range(len(images)), "boxes"):
        image = images.image(index)
        width, height = working_size(*image.size, longer=448)
        seen = detector(pixels(image, (width, height)))
        levels = ("p3", "p4", "p5", "p6", "c3", "c4", "c5")
        maps = dict(zip(levels, (*seen.pyramid, *seen.backbone), strict=True))
        embedding = classifier(pixels(image, working_size(*image.size, shorter=224))).float()
        scale = image.width / width, image.height / height
        scorers["photographs"].update(index, detection(detector, seen.pyramid, scale, images.classes))
        y, e = second.g_a(analysis_inputs(maps)), first.g_a(embedding)
        for quality in QUALITIES:
            level = quality_level(quality)
            plane = quality_plane(level, e)
            side, side_passes = first.quantize(e, level)
            values, passes = second.quantize(y, side, level)
            latents = first.dequantize(side / STEPS, plane)
            pyramid = second.g_s(second.dequantize(values / STEPS, plane), plane, latents)
            scorers[f"{quality:g}"].update(index, detection(detector, pyramid, scale, images.classes))
            sizes[f"{quality:g}"].append(coded_bytes(side_passes) + coded_bytes(passes))
    rows = [{"quality": q, "bytes": float(np.mean(sizes[q])), **scorers[q].compute()} for q in sizes]
    return {"images": len(images), "photographs": scorers["photographs"].compute(), "streams": rows}


def detection(detector: NanoDetPlus, pyramid, scale: tuple[float, float], classes: list[str]) -> Detection:
    """The surest hundred boxes of one image, in its own pixels."""
    scores, boxes = decode_boxes([head(p) for head, p in zip(detector.heads, pyramid, strict=True)])
    places, kinds = (scores[0] > 0.02).nonzero(as_tuple=True)
    sure, found = scores[0][places, kinds], boxes[0][places]
    kept = batched_nms(found, sure, kinds, 0.6)[:100]
    found = found[kept] * found.new_tensor([*scale, *scale])
    xywh = torch.cat([found[:, :2], found[:, 2:] - found[:, :2]], 1)
    return Detection(xywh.numpy(), [classes[k] for k in kinds[kept].tolist()], sure[kept].numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("features", "train", "measure"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/features"))
    parser.add_argument("--every", type=int, default=1, help="measure each so-many-th image")
    parser.add_argument("--steps", type=int, nargs=2, default=(2000, 8500), help="of the global and the spatial layer")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.action == "features":
        sources = [ImageSet(f"{name}/train.tar") for name in SOURCES]
        write_features(options.folder, sources, teachers(), 2, lambda jobs: track(jobs, "features"))
    elif options.action == "train":
        train(options.folder, tuple(options.steps))
    else:
        first, second = load()
        found = {"labels": measure_labels(first, options.every), "boxes": measure_boxes(first, second, options.every)}
        print(json_text(found, indent=1))
        if options.every == 1:
            write_whole(ZOO / "metrics.json", json_text(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
