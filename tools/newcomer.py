"""Time the first jobs of somebody with data of their own, and score the heads; writes the table of docs/layouts.md.

    CDANALYSIS_DATA=/path/to/data python tools/newcomer.py [-o runs/newcomer] [--photographs 300]

A classifier of three class folders (of ``wide/train.tar``), and a detector of two classes (of ``coco_boxes``), each
from so many photographs by one command: as it is, with names that the model does not know, and from random weights.
Scores are of the fifth of the photographs that the commands hold out. What was measured before (``measured`` in the
output folder) is kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cdanalysis.data.images import data_path
from cdanalysis.files import json_text, json_value, write_whole
from cdanalysis.reports.markdown import fill, table

PAGE = Path(__file__).parent.parent / "docs" / "layouts.md"
FOLDERS = ("food10", "grocery81", "flowers102")
CLASSES = ("bottle", "tennis racket")
"""Of the detector."""


def class_folders(folder: Path, count: int) -> Path:
    """A folder for each of three classes, with as many photographs each."""
    with tarfile.open(data_path("wide/train.tar")) as archive:
        for name in FOLDERS:
            members = sorted((m for m in archive if m.isfile() and m.name.startswith(f"{name}/")), key=lambda m: m.name)
            step = max(1, len(members) * len(FOLDERS) // count)
            for member in members[::step][: count // len(FOLDERS)]:
                write_whole(folder / name / member.name.replace("/", "-"), archive.extractfile(member).read())
    return folder


def boxes(folder: Path, count: int) -> Path:
    """Photographs and a COCO file of two classes; photographs that show neither fill up the number."""
    content = json_value(data_path("coco_boxes/instances_train.json").read_bytes())
    categories = [category for category in content["categories"] if category["name"] in CLASSES]
    wanted = {category["id"] for category in categories}
    objects = [a for a in content["annotations"] if a["category_id"] in wanted]
    showing = {a["image_id"] for a in objects}
    images = sorted(content["images"], key=lambda image: (image["id"] not in showing, image["id"]))[:count]
    kept = {image["id"] for image in images}
    with tarfile.open(data_path("coco_boxes/train.tar")) as archive:
        for image in images:
            name = image["file_name"]
            write_whole(folder / "images" / name, archive.extractfile(name).read())
    objects = [a for a in objects if a["image_id"] in kept]
    found = {"images": images, "annotations": objects, "categories": categories}
    write_whole(folder / "annotations.json", json_text(found))
    return folder


def unknown(folder: Path, count: int) -> Path:
    """The same as `boxes`, in names that the model does not know."""
    boxes(folder, count)
    content = json_value((folder / "annotations.json").read_text())
    for number, category in enumerate(content["categories"]):
        category["name"] = f"thing {number}"
    write_whole(folder / "annotations.json", json_text(content))
    return folder


class Job(NamedTuple):
    """A command: of a task, on data that ``make`` draws up, with further words."""

    title: str
    task: str
    make: Callable[[Path, int], Path]
    words: tuple[str, ...] = ()


def from_noise(task: str) -> tuple[str, ...]:
    """The words by which a plain command starts from random weights."""
    return (f"stages.{task}.head.init=noise",)


JOBS = {
    "classification": Job("classification", "classification", class_folders),
    "classification-noise": Job(
        "classification, random weights", "classification", class_folders, from_noise("classification")
    ),
    "detection": Job("detection", "detection", boxes),
    "detection-unknown": Job("detection, names that `photo` does not know", "detection", unknown),
    "detection-noise": Job("detection, random weights", "detection", boxes, from_noise("detection")),
}


def timed(job: Job, data: Path, out: Path) -> dict[str, Any]:
    """Train by the plain command; a row of the table."""
    command = ["train", job.task, str(data), "-o", str(out), "--overwrite", *job.words]
    started, before = time.monotonic(), os.times()
    subprocess.run([sys.executable, "-m", "cdanalysis.cli", *command], check=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    found = json_value((out / "model" / "metrics.json").read_text())["validation"][job.task]
    photographs = sum(len(names) for _, _, names in os.walk(data)) - (data / "annotations.json").is_file()
    return {
        "photographs": photographs,
        "held out": found["photographs"],
        **{name: round(100 * found[name], 1) for name in ("top1", "AP50", "AP") if name in found},
        "best epoch": found["epoch"],
        "CPU seconds": round(cpu),
        "seconds": round(time.monotonic() - started),
    }


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("-o", "--output", type=Path, default=Path("runs/newcomer"))
    words.add_argument("--photographs", type=int, default=300)
    words.add_argument("--only", choices=JOBS, nargs="+", default=list(JOBS), help="jobs to do (default: all)")
    options = words.parse_args()
    measured = {name: options.output / "measured" / f"{name}.json" for name in JOBS}
    for name in options.only:
        job, path = JOBS[name], measured[name]
        data = options.output / f"{job.make.__name__}-{options.photographs}"
        data = data if data.is_dir() else job.make(data, options.photographs)
        if not path.is_file():
            row = timed(job, data, options.output / name)
            write_whole(path, json_text(row) + "\n")
    rows = [
        {"train": JOBS[name].title, **json_value(path.read_text())} for name, path in measured.items() if path.is_file()
    ]
    shown = table(rows)
    print(shown)
    fill(PAGE, {"newcomer": shown})


if __name__ == "__main__":
    main()
