"""Run an experiment: train its variants, have them evaluated, and write what came out.

    CDANALYSIS_DATA=/path/to/data python tools/experiment.py configs/experiments/observer_tradeoff.yaml

Writes ``docs/experiments/NAME.json``, ``NAME.png``, where crops are asked for ``NAME.webp``, where every photograph's
file has the rate a CSV with a line for each, and the tables between the markers in ``NAME.md``. Trained variants and
finished rows are kept under ``runs/experiments/NAME``; a run that was stopped goes on from there. ``preset=quick`` runs
the same thing in small, and writes nothing under ``docs``. Variants are trained side by side, one a core.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from rich.progress import track

from cdanalysis.evaluation.configs import load_experiment
from cdanalysis.evaluation.experiment import run_experiment, variant_codecs
from cdanalysis.files import json_text, run_name, write_whole
from cdanalysis.processes import cores
from cdanalysis.reports.contact_sheet import crops_sheet
from cdanalysis.reports.markdown import fill, table
from cdanalysis.reports.plots import experiment_figure

ROOT = Path(__file__).parent.parent
HIDDEN = ("wanted_bpp", "level", "variant", "fid_patches", "seconds")


def write_page(path: Path, report: dict) -> None:
    """Put tables and facts between the page's markers; a page that is not there yet is begun."""
    if not path.is_file():
        marks = "\n\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in ("facts", *report["tables"]))
        path.write_text(f"# {report['name']}\n\n{report['question']}\n\n![]({path.stem}.png)\n\n{marks}\n")
    minutes = "; ".join(f"{name} {spent:g}" for name, spent in report["minutes"].items())
    apart = f", {report['workers']} processes of one thread each" if report["workers"] > 1 else ""
    model = (
        f", base: model `{report['model']['name']}` ({report['model']['fingerprint']})," if "model" in report else ""
    )
    facts = f"`{report['command']}`{model} on {report['hardware']}{apart}. Minutes: {minutes}."
    blocks = {"facts": facts}
    for name, rows in report["tables"].items():
        head = f"**{rows['title']}** {rows['data']}, {rows['photographs']} photographs."
        blocks[name] = f"{head}\n\n{table(rows['rows'], HIDDEN)}"
        if (path.parent / f"{path.stem}-{name}.csv").is_file():
            blocks[name] += f"\n\n[Every photograph]({path.stem}-{name}.csv)."
    fill(path, blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes; preset=quick for a small run")
    parser.add_argument("--workers", type=int, help="processes of one thread each (default: one a core)")
    options = parser.parse_args()
    workers = options.workers or (1 if torch.cuda.is_available() else cores())
    config = load_experiment(options.experiment, options.overrides)
    small = bool(options.overrides)
    folder = ROOT / "runs" / "experiments" / run_name(config.name, options.overrides)
    output = folder if small else ROOT / "docs" / "experiments"
    output.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python tools/experiment.py", options.experiment, *options.overrides])
    report = run_experiment(config, folder, command, workers, track)
    write_whole(output / f"{config.name}.json", json_text(report, indent=1) + "\n")
    for name in (name for name, measure in config.measures.items() if measure.each):
        shutil.copyfile(folder / f"{name}.csv", output / f"{config.name}-{name}.csv")
    if config.plots:
        write_whole(output / f"{config.name}.png", experiment_figure(report, config.plots))
    if config.crops.windows:
        codecs = variant_codecs(config, folder, config.crops.variants)
        crops_sheet(config.crops, codecs).save(output / f"{config.name}.webp", quality=88)
    write_page(output / f"{config.name}.md", report)
    print(f"the results are in {output / config.name}.md")


if __name__ == "__main__":
    main()
