"""Write the tables of docs/benchmarks.md, and its figure, from what a benchmark found.

    cdanalysis benchmark -o docs/benchmarks.json
    python tools/benchmarks.py

Takes ``docs/benchmarks/rival.json`` too, where it is: the report of configs/evaluate/rival.yaml: rate and distortion
beside the codec whose speed is compared.
"""

from __future__ import annotations

import json
from pathlib import Path

from cdanalysis.files import write_whole
from cdanalysis.reports.markdown import fill, table
from cdanalysis.reports.plots import growth_figure

DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    report = json.loads((DOCS / "benchmarks.json").read_text())
    blocks = {"hardware": report["hardware"]}
    for section in ("heads", "codec", "tasks", "folders", "parts", "memory"):
        if section in report:
            blocks[section] = table(report[section]["rows"])
    if "start" in report:
        blocks["start"] = table([report["start"]])
    if "growth" in report:
        blocks |= {name: table(rows) for name, rows in report["growth"].items()}
        write_whole(DOCS / "benchmarks" / "growth.svg", growth_figure(report["growth"]))
    path = DOCS / "benchmarks" / "rival.json"
    rival = json.loads(path.read_text())["points"] if path.is_file() else []
    figures = ("series", "level", "bpp", "psnr", "ms_ssim", "lpips")
    if rival:
        blocks["rival"] = table([{name: row[name] for name in figures} for row in rival if row["bpp"]])
    fill(DOCS / "benchmarks.md", blocks)


if __name__ == "__main__":
    main()
