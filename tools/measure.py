"""Measure a zoo model, and write the figures where they are shown.

    CDANALYSIS_DATA=/path/to/data python tools/measure.py photo

Writes ``model_zoo/NAME/metrics.json``, and from it the tables between the markers in the model's card and
in the README. ``--tables`` rewrites the tables alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import time
from pathlib import Path

import torch
from rich.progress import track

from cdanalysis.data.photographs import Photographs
from cdanalysis.evaluation.runner import evaluate_folder
from cdanalysis.files import write_whole
from cdanalysis.zoo import METRICS, find, load

ROOT = Path(__file__).parent.parent
IMAGENETTE_QUALITIES = (0.0, 0.3, 0.8)
IMAGENETTE_EVERY, KODAK_EVERY = 5, 3
KODAK_QUALITIES = (0.0, 0.15, 0.5)


def measure(name: str) -> dict:
    model, started = load(name), time.monotonic()
    imagenette = Photographs("imagenette224/val.tar").every(IMAGENETTE_EVERY)
    kodak = Photographs("kodak").every(KODAK_EVERY)
    report = {
        "command": f"python tools/measure.py {name}",
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, no accelerator",
        "imagenette": evaluate_folder(model, imagenette, IMAGENETTE_QUALITIES, ("classification",), track=track),
        "kodak": evaluate_folder(model, kodak, KODAK_QUALITIES, ("reconstruction",), track=track),
    }
    report["minutes"] = round((time.monotonic() - started) / 60, 1)
    return report


def imagenette_table(report: dict) -> str:
    rows = [
        "| input | quality | bytes | bpp | top-1 of 10 | points lost | top-1 of 1000 | top-5 of 1000 | calibration |"
    ]
    rows.append("| --- " * 9 + "|")
    for row in report["imagenette"]["classification"]["rows"]:
        stream = row["bpp"] is not None
        rate = f"{row['quality']:g} | {row['bytes']:.0f} | {row['bpp']:.3f}" if stream else "- | - | -"
        lost = f"{row['points_lost']:.1f}" if stream else "-"
        scores = f"{100 * row['top1']:.1f} % | {lost} | {100 * row['top1_all']:.1f} % | {100 * row['top5_all']:.1f} %"
        rows.append(f"| {row['input']} | {rate} | {scores} | {row['calibration_error']:.3f} |")
    return "\n".join(rows)


def kodak_table(report: dict) -> str:
    by_quality: dict[float, dict[str, dict]] = {}
    for row in report["kodak"]["reconstruction"]["rows"]:
        by_quality.setdefault(row["quality"], {})[row["codec"]] = row
    codecs = list(next(iter(by_quality.values())))
    rows = ["| quality | bpp | estimated bpp | " + " | ".join(f"{c}: dB, MS-SSIM" for c in codecs) + " |"]
    rows.append("| --- " * (3 + len(codecs)) + "|")
    for quality, row in by_quality.items():
        ours = row["cdanalysis"]
        cells = [f"{row[c]['psnr']:.2f}, {row[c]['ms_ssim']:.4f}" + _off(row[c], ours) for c in codecs]
        rows.append(f"| {quality:g} | {ours['bpp']:.3f} | {ours['estimated_bpp']:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _off(row: dict, ours: dict) -> str:
    """The rate of a codec that has no file near ours in size."""
    return "" if abs(row["bpp"] / ours["bpp"] - 1) < 0.03 else f" (at {row['bpp']:.3f} bpp)"


def write_tables(report: dict, paths: list[Path]) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""
    for path in paths:
        text = path.read_text()
        for name, table in (("imagenette", imagenette_table(report)), ("kodak", kodak_table(report))):
            pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
            text = re.sub(pattern, lambda m, t=table: m[1] + t + "\n" + m[2], text, flags=re.S)
        write_whole(path, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--tables", action="store_true", help="rewrite the tables from metrics.json alone")
    options = parser.parse_args()
    folder = find(options.name)
    if not options.tables:
        write_whole(folder / METRICS, json.dumps(measure(options.name), indent=2) + "\n")
    report = json.loads((folder / METRICS).read_text())
    write_tables(report, [folder / "README.md", ROOT / "README.md"])
    print(imagenette_table(report), kodak_table(report), sep="\n\n")


if __name__ == "__main__":
    main()
