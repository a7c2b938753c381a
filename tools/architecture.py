"""Pixel layers of other shapes, trained from the start on the same crops: what each is worth, and what it costs.

    CDANALYSIS_DATA=/path/to/data python tools/architecture.py           # trains all of them side by side
    CDANALYSIS_DATA=/path/to/data python tools/architecture.py --times   # what they cost, on this machine

Writes ``docs/experiments/architecture.json``, and the table between the markers of the page beside it. Rates are the
entropy models' estimates for the detail layer. An accelerator is used where there is one; without, this takes days.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cdanalysis.benchmarks.hardware import hardware
from cdanalysis.benchmarks.macs import macs
from cdanalysis.benchmarks.speed import least
from cdanalysis.codec.shape import CodecConfig
from cdanalysis.data.crops import Crops
from cdanalysis.data.samples import sample_of_size
from cdanalysis.files import json_text, write_whole
from cdanalysis.metrics.bjontegaard import Curve, bd_rate
from cdanalysis.model import Model
from cdanalysis.photographs.read import to_tensor
from cdanalysis.reports.markdown import fill, table
from cdanalysis.training.auxiliary import CropBatch
from cdanalysis.training.averaging import WeightAverage
from cdanalysis.training.losses import StageLoss
from cdanalysis.training.recipe import StageConfig, load_recipe
from cdanalysis.training.stages import select
from cdanalysis.training.trainer import learning_rate
from cdanalysis.training.validation import validate

PAGE = Path(__file__).parent.parent / "docs" / "experiments" / "architecture.md"
RECIPE = "configs/pixels.yaml"
QUALITIES = [0.0, 0.2, 0.4, 0.6, 0.8]
SIZE, LEVEL = (768, 512), 48
"""Of the photograph that is timed, and its quality level."""
PRESENT = "as it is"
"""The shape that the shipped model had when this was asked."""

VARIANTS: dict[str, dict[str, int]] = {
    PRESENT: {},
    "pointwise ends": {"ends": 1},
    "pointwise ends, two blocks at stride 8": {"ends": 1, "analysis_depth": 2, "synthesis_depth": 2},
    "pointwise ends, 192 latent channels": {"ends": 1, "detail_channels": 192},
    "pointwise ends, width 160": {"ends": 1, "width": 160},
    "four passes of context": {"detail_passes": 4},
}


def made(name: str) -> Model:
    """A model with fresh pixel layers of a variant's shape; of its semantic layers nothing is used."""
    torch.manual_seed(0)
    return Model(CodecConfig(**{"detail_channels": 256, **VARIANTS[name]}), {})


class Learner:
    """A variant and what teaches it."""

    def __init__(self, name: str, stage: StageConfig, device: str):
        self.model = made(name).to(device, memory_format=torch.channels_last)
        self.loss, self.stage = StageLoss(self.model, stage).train(), stage
        self.parameters = select(self.model, stage)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=stage.lr, weight_decay=stage.weight_decay, betas=(0.9, 0.98)
        )
        self.average = WeightAverage(self.parameters, stage.average)

    def step(self, batch: CropBatch, step: int) -> None:
        """A step of training, as the trainer does it."""
        torch.manual_seed(step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.stage, step, self.stage.steps)
        with torch.autocast(batch.images.device.type, torch.bfloat16):
            loss, _ = self.loss(batch, step)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.stage.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(step + 1)


def batches(stage: StageConfig, seed: int, workers: int, device: str) -> Iterator[tuple[int, CropBatch]]:
    """The stage's crops, step by step."""
    crops = Crops(stage.sources, stage.crop, seed, stage.steps * stage.batch)
    loader = DataLoader(crops, stage.batch, num_workers=workers, pin_memory=device == "cuda")
    for step, images in enumerate(loader):
        yield step, CropBatch(images.to(device, memory_format=torch.channels_last))


def trained(overrides: list[str]) -> dict[str, Any]:
    """Train all variants on the same crops, and measure each on photographs that none has seen."""
    recipe, device = load_recipe(RECIPE, overrides), "cuda" if torch.cuda.is_available() else "cpu"
    (stage,) = recipe.stages
    started = time.monotonic()
    learners = {name: Learner(name, stage, device) for name in VARIANTS}
    for step, batch in track(batches(stage, recipe.seed, recipe.workers, device), "training", stage.steps):
        for learner in learners.values():
            learner.step(batch, step)
    minutes = (time.monotonic() - started) / 60
    asked = replace(stage.validation, qualities=QUALITIES)
    found: dict[str, Any] = {}
    for name, learner in track(learners.items(), "validation"):
        learner.average.copy_to_weights()
        found[name] = validate(learner.model, asked)
    sources = [source.path for source in stage.sources]
    facts = {"steps": stage.steps, "batch": stage.batch, "crop": stage.crop, "sources": sources}
    command = shlex.join(["python", "tools/architecture.py", *overrides])
    facts |= {"command": command, "hardware": hardware(), "minutes": round(minutes, 1)}
    return facts | {"validation": asked.source, "photographs": asked.limit, "points": found}


def times(repeats: int) -> dict[str, Any]:
    """Seconds and multiplications of every variant for one photograph, on one thread. They do not depend on weights."""
    torch.set_num_threads(1)
    image = to_tensor(sample_of_size(SIZE))[None]
    image = image.contiguous(memory_format=torch.channels_last)
    ways: dict[tuple[str, str], Callable[[], Tensor | object]] = {}
    for name in VARIANTS:
        codec = made(name).codec.eval().to(memory_format=torch.channels_last)
        codec.freeze_tables()
        with torch.inference_mode():
            y, quality = codec.detail.g_a(image), image.new_full((1, 1, 1, 1), LEVEL / 120)
        ways[name, "analysis"] = lambda codec=codec: codec.detail.g_a(image)
        ways[name, "entropy model"] = lambda codec=codec, y=y: codec.detail.quantize(y, LEVEL, None)
        ways[name, "synthesis"] = lambda codec=codec, y=y, quality=quality: codec.synthesis(y, quality)
    with torch.inference_mode():
        found = least(ways, repeats)
        counted = {way: macs(work) for way, work in ways.items()}
    rows = {name: {part: found[name, part] for part in ("analysis", "entropy model", "synthesis")} for name in VARIANTS}
    work = {name: {part: counted[name, part] for part in ("analysis", "synthesis")} for name in VARIANTS}
    return {"hardware": hardware(), "size": SIZE, "seconds": rows, "macs": work}


def curve(points: dict[str, float]) -> Curve:
    """Rate and PSNR of a variant."""
    rates, scores = (np.array([points[f"{kind}@{q:g}"] for q in QUALITIES]) for kind in ("bpp", "psnr"))
    return Curve(rates, scores)


def write_page(report: dict[str, Any]) -> None:
    """Put what is known between the page's markers."""
    pixels, rows = SIZE[0] * SIZE[1], []
    curves = {name: curve(points) for name, points in report["points"].items()}
    for name, own in curves.items():
        row: dict[str, Any] = {"pixel layers": name, "bits at equal PSNR, %": bd_rate(curves[PRESENT], own)}
        if costs := report.get("times"):
            row |= {f"{part}, kMAC a pixel": count / pixels / 1000 for part, count in costs["macs"][name].items()}
            row |= {f"{part}, s": seconds for part, seconds in costs["seconds"][name].items()}
        rows.append(row)
    said = (
        f"`{report['command']}` on {report['hardware']}, {report['minutes']:g} minutes for all: "
        f"{report['steps']} steps of {report['batch']} crops of {report['crop']} x {report['crop']} from "
        f"{', '.join(report['sources'])}; measured on {report['photographs']} photographs of {report['validation']}."
    )
    if costs := report.get("times"):
        said += f" Times: `python tools/architecture.py --times` on {costs['hardware']}."
    fill(PAGE, {"facts": said, "table": table(rows)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"changes to {RECIPE}")
    parser.add_argument("--times", action="store_true", help="measure times alone")
    parser.add_argument("--repeats", type=int, default=5, help="of each time, of which the least counts")
    options = parser.parse_args()
    path = PAGE.with_suffix(".json")
    report = json.loads(path.read_text()) if path.is_file() else {}
    if options.times:
        report["times"] = times(options.repeats)
    else:
        report = {**trained(options.overrides), **{key: report[key] for key in ("times",) if key in report}}
    write_whole(path, json_text(report, indent=1) + "\n")
    write_page(report)


if __name__ == "__main__":
    main()
