"""Measure a zoo model, and write the figures where they are shown.

    CDANALYSIS_DATA=/path/to/data python tools/measure.py photo

Writes ``model_zoo/NAME/metrics.json``, and from it the tables between the markers in the model's card.
``--tables`` rewrites the tables alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.progress import track

from cdanalysis.benchmarks.hardware import hardware
from cdanalysis.data.coco import CocoImages
from cdanalysis.data.coco_masks import VOC_CLASSES, CocoMasks
from cdanalysis.data.images import ImageSet
from cdanalysis.evaluation.folder import evaluate_folder
from cdanalysis.files import json_text, write_whole
from cdanalysis.model import Model
from cdanalysis.reports.markdown import fill
from cdanalysis.zoo import CARD, METRICS, find, load

PEOPLE = (0.0, 0.25, 0.4, 0.6, 1.0)
HEADS = (0.0, 0.2, 0.4, 0.6, 1.0)
QUALITIES = {
    "labels": HEADS,
    "kodak": tuple((0.0, 0.0, detail) for detail in PEOPLE),  # people need little of the semantic layers
    "coco_boxes": tuple(sorted({*HEADS, 0.3})),
    "segmentation": HEADS,
}
SHOWN = (0.0, 0.2, 0.6)
SUMMARY = {
    "labels": ("ImageNet, 620 photographs, top-1 of 1000", "classification", "top1_all"),
    "coco_boxes": ("COCO, 500 photographs, AP50", "detection", "AP50"),
    "segmentation": ("COCO's masks in VOC's classes, 150 photographs, mIoU", "segmentation", "mIoU"),
}
README = Path(__file__).parent.parent / "README.md"
TITLES = {"detection": "AP | AP50 | AP75", "segmentation": "mIoU | pixel accuracy"}


def measure(name: str, sets: list[str], path: Path) -> None:
    """Measure ``sets`` anew. What ``path`` says of other sets stays; it is written after every set."""
    model = load(name, counterparts=True)
    for each in sets:
        started = time.monotonic()
        measured = _measure_one(model, each)
        report = json.loads(path.read_text()) if path.is_file() else {"minutes": {}}
        report["command"] = f"python tools/measure.py {name}"
        report["hardware"] = hardware()
        report["minutes"][each] = round((time.monotonic() - started) / 60, 1)
        write_whole(path, json_text({**report, each: measured}, indent=2) + "\n")


def _measure_one(model: Model, name: str) -> dict:
    qualities = QUALITIES[name]
    if name == "labels":
        return evaluate_folder(model, ImageSet("wide/val.tar"), qualities, ("classification",), track=track)
    if name == "kodak":
        return evaluate_folder(model, ImageSet("kodak"), qualities, ("reconstruction",), track=track)
    if name == "coco_boxes":
        labeled = CocoImages("coco_boxes/val.tar", "coco_boxes/instances_val.json")
        return evaluate_folder(model, labeled, qualities, ("detection",), track=track)
    labeled = CocoMasks("coco_mini/val.tar", "coco_mini/instances_val.json", VOC_CLASSES)
    return evaluate_folder(model, labeled, qualities, ("segmentation",), track=track)


def number(value: float | None, form: str, unit: str = "") -> str:
    """A figure, or a dash where it is not defined."""
    return "-" if value is None else f"{value:{form}}{unit}"


def labeled_table(report: dict, name: str) -> str:
    """Scores of heads on streams below their counterparts'."""
    task = "detection" if name == "coco_boxes" else "segmentation"
    columns = TITLES[task].split(" | ")
    rows = [f"| input | quality | bytes | bpp | {TITLES[task]} | kept |"]
    rows.append("| --- " * (5 + len(columns)) + "|")
    for row in report[name][task]["rows"]:
        stream = row["bpp"] is not None
        rate = f"{row['quality']:g} | {row['bytes']:.0f} | {row['bpp']:.3f}" if stream else "- | - | -"
        scores = " | ".join(number(row[c.replace(" ", "_")], ".3f") for c in columns)
        kept = number(row["kept"] and 100 * row["kept"], ".1f", " %")
        rows.append(f"| {row['input']} | {rate} | {scores} | {kept} |")
    return "\n".join(rows)


def labels_table(report: dict) -> str:
    classes = report["labels"]["classification"]["classes"]
    titles = f"top-1 of {classes} | points lost | top-1 of 1000 | top-5 of 1000 | calibration"
    rows = [f"| input | quality | bytes | bpp | {titles} |"]
    rows.append("| --- " * 9 + "|")
    for row in report["labels"]["classification"]["rows"]:
        stream = row["bpp"] is not None
        rate = f"{row['quality']:g} | {row['bytes']:.0f} | {row['bpp']:.3f}" if stream else "- | - | -"
        lost = f"{row['points_lost']:.1f}" if stream else "-"
        scores = f"{100 * row['top1']:.1f} % | {lost} | {100 * row['top1_all']:.1f} % | {100 * row['top5_all']:.1f} %"
        rows.append(f"| {row['input']} | {rate} | {scores} | {row['calibration_error']:.3f} |")
    return "\n".join(rows)


def kodak_table(report: dict) -> str:
    by_quality: dict[str, dict[str, dict]] = {}
    for row in report["kodak"]["reconstruction"]["rows"]:
        by_quality.setdefault(", ".join(f"{q:g}" for q in row["quality"]), {})[row["codec"]] = row
    codecs = list(next(iter(by_quality.values())))
    rows = ["| quality | bpp | estimated bpp | " + " | ".join(f"{c}: dB, MS-SSIM" for c in codecs) + " |"]
    rows.append("| --- " * (3 + len(codecs)) + "|")
    for quality, row in by_quality.items():
        ours = row["cdanalysis"]
        cells = [f"{number(row[c]['psnr'], '.2f')}, {number(row[c]['ms_ssim'], '.4f')}" for c in codecs]
        cells = [cell + _off(row[c], ours) for cell, c in zip(cells, codecs, strict=True)]
        rows.append(f"| {quality} | {ours['bpp']:.3f} | {ours['estimated_bpp']:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _off(row: dict, ours: dict) -> str:
    """The rate of a codec that has no file near ours in size."""
    return "" if abs(row["bpp"] / ours["bpp"] - 1) < 0.03 else f" (at {row['bpp']:.3f} bpp)"


def tables_of(report: dict) -> dict[str, str]:
    """A table for each set that was measured."""
    tables = {}
    for name in QUALITIES:
        if name in report:
            own = {"labels": labels_table, "kodak": kodak_table}
            tables[name] = own[name](report) if name in own else labeled_table(report, name)
    return tables


def summary_of(report: dict) -> dict[str, str]:
    """The README's tables."""
    rows = ["| | photographs themselves | streams | | |", "| --- | --- | --- | --- | --- |"]
    for name, (title, task, score) in SUMMARY.items():
        first, *streams = report[name][task]["rows"]
        cells = [f"{100 * row[score]:.1f} % in {row['bytes']:.0f} bytes" for row in streams if row["quality"] in SHOWN]
        rows.append(f"| {title} | {100 * first[score]:.1f} % | {' | '.join(cells)} |")
    return {"heads": "\n".join(rows), "people": kodak_table(report)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--tables", action="store_true", help="rewrite the tables from metrics.json alone")
    parser.add_argument("--sets", nargs="+", choices=tuple(QUALITIES), help="measure these anew (default: all)")
    options = parser.parse_args()
    path = find(options.name) / METRICS
    if not options.tables:
        if not options.sets:
            path.unlink(missing_ok=True)
        measure(options.name, options.sets or list(QUALITIES), path)
    tables = tables_of(json.loads(path.read_text()))
    fill(path.parent / CARD, tables)
    if set(tables) == set(QUALITIES) and options.name == "photo":
        fill(README, summary_of(json.loads(path.read_text())))
    print(*tables.values(), sep="\n\n")


if __name__ == "__main__":
    main()
