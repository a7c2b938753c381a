"""Fit LPIPS-Comp to choices between distortions, and measure how well metrics agree with choices.

    python tools/lpips_comp.py fit choices.csv folder -o weights.safetensors
    python tools/lpips_comp.py measure choices.csv folder --linear weights.safetensors
    CDANALYSIS_DATA=/path/to/data python tools/lpips_comp.py construct

The first two take choices that people made: a CSV file with the columns ``original, a, b, share`` (of the people who
found ``a`` more like the original) and, if it likes, ``group``, and the folder that its file names are relative to. The
third one makes choices whose truth is known by construction, fits to some of them, and measures on the others; it
keeps all of that in ``runs/lpips_comp``, and writes what it found to ``docs/experiments/lpips_comp.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from constructed_preferences import construct
from rich.progress import track
from safetensors.torch import save_file

from cdanalysis.benchmarks.hardware import hardware
from cdanalysis.codecs.base import Codec, open_codec
from cdanalysis.codecs.ours import ModelCodec
from cdanalysis.data.images import ImageSet, data_path
from cdanalysis.data.preferences import Preference, read_preferences, write_preferences
from cdanalysis.files import json_text, write_whole
from cdanalysis.metrics import image as metrics
from cdanalysis.metrics.preferences import Metric, agreements
from cdanalysis.observers import LPIPS, LPIPSComp, Observer
from cdanalysis.photographs.read import to_tensor
from cdanalysis.reports.markdown import fill, table
from cdanalysis.training.preferences import channel_distances, fit_weights
from cdanalysis.zoo import load

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runs" / "lpips_comp"
PAGE = ROOT / "docs" / "experiments" / "lpips_comp.md"
LINEAR = FOLDER / "lpips_comp.safetensors"
SEEN, HELD_OUT = ("JPEG", "JPEG 2000", "WebP"), ("AVIF", "HEIC", "JPEG XL")


def mdsi(original: np.ndarray, distorted: np.ndarray) -> float:
    """What decides: Nafchi and others, "Mean deviation similarity index" (IEEE Access 2016), by the package piq."""
    import piq

    return float(piq.mdsi(to_tensor(original)[None], to_tensor(distorted)[None]))


def of_observer(observer: Observer) -> Metric:
    """An observer as a metric of arrays."""

    @torch.no_grad()
    def metric(original: np.ndarray, distorted: np.ndarray) -> float:
        return float(observer(to_tensor(original)[None], to_tensor(distorted)[None]))

    return metric


def compared(weights: Path | None, linear: Path) -> dict[str, Metric]:
    """The metrics of the table; each gives less where two photographs are more alike."""
    return {
        "PSNR": lambda a, b: -metrics.psnr(a, b),
        "MS-SSIM": lambda a, b: -metrics.ms_ssim(a, b),
        "LPIPS": of_observer(LPIPS(weights)),
        "LPIPS-Comp": of_observer(LPIPSComp(linear, weights)),
    }


def fit(preferences: list[Preference], weights: Path | None, output: Path) -> None:
    """Fit, and write the weights."""
    observer = LPIPS(weights)
    distances = channel_distances(observer, preferences, track)
    shares = torch.tensor([preference.share for preference in preferences])
    originals = [str(preference.original) for preference in preferences]
    linear = fit_weights(observer.linear_weights, distances, shares, originals)
    save_file({"linear": linear}, output, {"choices": str(len(preferences))})
    output.chmod(0o644)  # safetensors makes files for the owner alone


def percent(value: object) -> str:
    return value if isinstance(value, str) else f"{100 * value:.1f} %"


def build(weights: Path, folder: Path, every: int) -> None:
    """The whole, by construction."""
    started = time.monotonic()
    seen: list[Codec] = [open_codec(name) for name in SEEN]
    held_out: list[Codec] = [open_codec(name) for name in HELD_OUT]
    held_out.append(ModelCodec("cdanalysis", load("photo"), semantic=0.2))
    train, test = ImageSet("bsds500/train.tar").every(every), ImageSet("bsds500/val.tar").every(every)
    learned = construct(train, seen, mdsi, folder, "photographs learned from", track=track)
    write_preferences(folder / "learned.csv", folder, learned)
    asked = construct(test, seen, mdsi, folder, "new photographs", track=track)
    asked += construct(test, held_out, mdsi, folder, "new photographs and codecs", seed=1, track=track)
    write_preferences(folder / "asked.csv", folder, asked)
    fit(learned, weights, LINEAR)
    rows = agreements(compared(weights, LINEAR), asked, track)
    report = {
        "command": "python tools/lpips_comp.py construct" + (f" --every {every}" if every > 1 else ""),
        "hardware": hardware(),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "choices": {"learned from": len(learned), "asked": len(asked)},
        "codecs": {"learned from": SEEN, "held out": (*HELD_OUT, "cdanalysis")},
        "agreement": rows,
    }
    write_whole(PAGE.with_suffix(".json"), json_text(report, indent=1) + "\n")
    publish(report)
    print(table(rows, cell=percent))


def publish(report: dict) -> None:
    """Put what was found between the page's markers."""
    counts = report["choices"]
    facts = (
        f"`{report['command']}` on {report['hardware']}, {report['minutes']} minutes: "
        f"fitted to {counts['learned from']} choices, measured on {counts['asked']}."
    )
    fill(PAGE, {"facts": facts, "agreement": table(report["agreement"], cell=percent)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("fit", "measure", "construct"))
    parser.add_argument("files", nargs="*", metavar="choices.csv folder")
    parser.add_argument("-o", "--output", default="lpips_comp.safetensors", help="weights to write")
    parser.add_argument("--linear", default=str(LINEAR), help="weights to measure")
    parser.add_argument("--weights", default="weights/squeezenet1_1.pth", help="SqueezeNet's; '' to download them")
    parser.add_argument("--every", type=int, default=1, help="construct: only each so many-th photograph")
    options = parser.parse_args()
    weights = data_path(options.weights) if options.weights else None
    if options.action == "construct":
        build(weights, FOLDER, options.every)
        return
    if len(options.files) != 2:
        parser.error("name the table of choices and the folder of its files")
    preferences = read_preferences(*options.files)
    if options.action == "fit":
        fit(preferences, weights, Path(options.output))
    else:
        print(table(agreements(compared(weights, Path(options.linear)), preferences, track), cell=percent))


if __name__ == "__main__":
    main()
