"""Write the tables of docs/benchmarks.md, and its figure, from what a benchmark found.

    cdanalysis benchmark -o docs/benchmarks.json
    python tools/benchmarks.py

Takes ``docs/benchmarks/cuda.json``, too, where it is: what a benchmark with ``--device cuda`` found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdanalysis.files import write_whole
from cdanalysis.reports.markdown import fill, table
from cdanalysis.reports.plots import growth_figure

DOCS = Path(__file__).parent.parent / "docs"


def costs(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What a million and a billion photographs cost: core hours by the figures of one thread, and bytes read."""
    folders, asked = report["folders"], report["tasks"]["rows"]
    encoded = folders["cores"] / folders["rows"][0]["photographs_per_s"]
    steps = [("encoding, once", encoded, folders["JPEG_bytes"])]
    largest = max(row["photographs"] for row in asked)
    for row in (row for row in asked if row["photographs"] == largest and row["from"] in ("streams", "JPEG")):
        layers = "global layer" if row["task"] == "classification" else "semantic layers"
        size = folders["JPEG_bytes" if row["from"] == "JPEG" else f"{layers}_bytes"]
        steps.append((f"{row['task']} from {row['from']}", row["least_s"] / largest, size))
    return [
        {
            "what": what,
            "core hours, a million": seconds * 1e6 / 3600,
            "core hours, a billion": seconds * 1e9 / 3600,
            "GB read, a million": size * 1e6 / 1e9,
            "TB read, a billion": size * 1e9 / 1e12,
        }
        for what, seconds, size in steps
    ]


def main() -> None:
    report = json.loads((DOCS / "benchmarks.json").read_text())
    blocks = {"hardware": report["hardware"]}
    for section in ("heads", "codec", "tasks", "folders", "parts", "memory"):
        if section in report:
            blocks[section] = table(report[section]["rows"])
    if {"folders", "tasks"} <= set(report):
        blocks["costs"] = table(costs(report))
        names = ("JPEG", "stream", "semantic layers", "global layer")
        blocks["sizes"] = table([{name: f"{report['folders'][f'{name}_bytes']:.0f}" for name in names}])
    if "start" in report:
        blocks["start"] = table([report["start"]])
    if "growth" in report:
        blocks |= {name: table(rows) for name, rows in report["growth"].items()}
        write_whole(DOCS / "benchmarks" / "growth.svg", growth_figure(report["growth"]))
    path = DOCS / "benchmarks" / "cuda.json"
    if path.is_file():
        accelerated = json.loads(path.read_text())
        blocks["cuda hardware"] = accelerated["hardware"]
        blocks |= {f"cuda {name}": table(accelerated[name]["rows"]) for name in ("codec", "tasks", "parts")}
    fill(DOCS / "benchmarks.md", blocks)


if __name__ == "__main__":
    main()
