"""Run the studies that docs/results.md shows, and write what came out.

    CDANALYSIS_DATA=/path/to/data python tools/results.py [NAME ...]

Runs ``cdanalysis evaluate configs/evaluate/NAME.yaml``, which goes on where it was stopped, keeps its page and its JSON
under ``docs/results``, and writes the tables of ``docs/results.md`` from all that lie there.
``--tables`` writes the tables alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from cdanalysis.files import write_whole
from cdanalysis.reports.markdown import fill, table
from cdanalysis.reports.plots import study_figure
from cdanalysis.reports.study_page import pairs_of, points_of

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
STUDIES = ("labels", "coco_boxes", "segmentation", "kodak")


def run(name: str) -> None:
    """Do what is left of a study, and keep its results."""
    subprocess.run([sys.executable, "-m", "cdanalysis.cli", "evaluate", f"configs/evaluate/{name}.yaml"], check=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for kind in ("json", "html"):
        shutil.copyfile(Path("runs") / "evaluate" / name / f"{name}.{kind}", RESULTS / f"{name}.{kind}")
    write_whole(RESULTS / f"{name}.svg", study_figure(json.loads((RESULTS / f"{name}.json").read_text())))


def facts_of(report: dict[str, Any]) -> str:
    macs = ", ".join(f"{name} {count / 1e6:.0f}" for name, count in report["macs"].items())
    config = report["config"]
    return (
        f"![{report['main']} by bits per pixel](results/{config['name']}.svg)\n\n"
        f"`{report['command']}`: {report['photographs']} photographs of {report['data']}, model `{config['model']}` "
        f"({report['fingerprint']}), on {report['hardware']}. Million multiply-accumulates for one photograph: {macs}. "
        f"[The whole report](results/{config['name']}.html)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(STUDIES)} (default: all)")
    parser.add_argument("--tables", action="store_true", help="write the tables alone")
    options = parser.parse_args()
    for name in [] if options.tables else options.names or STUDIES:
        run(name)
    files = {name: RESULTS / f"{name}.json" for name in STUDIES}
    reports = {name: json.loads(path.read_text()) for name, path in files.items() if path.is_file()}
    blocks: dict[str, str] = {}
    for name, report in reports.items():
        blocks |= {f"{name} facts": facts_of(report), f"{name} bits": table(pairs_of(report))}
        blocks[f"{name} points"] = table(points_of(report))
    fill(ROOT / "docs" / "results.md", blocks)


if __name__ == "__main__":
    main()
