"""What the commands do. Tables go to standard output, messages and progress to standard error."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track as rich_track
from rich.table import Table

from . import zoo as zoo_module
from .files import run_name, write_whole
from .registry import HEADS

if TYPE_CHECKING:
    from .batch.work import Work

_errors = Console(stderr=True)


def encode(options: argparse.Namespace) -> int:
    from .batch.work import EncodeWork

    layers = ("semantic",) if options.layers == "semantic" else ("semantic", "detail")
    rate = {"quality": options.quality, "bpp": options.bpp, "max_bytes": options.max_bytes}
    work = EncodeWork(options.model, options.device, layers=layers, importance=options.importance, **rate)
    return _run(work, options, ".cda")


def decode(options: argparse.Namespace) -> int:
    from .batch.work import DecodeWork

    return _run(DecodeWork(options.model, options.device, options.preview), options, ".png")


def analyze(options: argparse.Namespace) -> int:
    from .batch.work import AnalyzeWork

    tasks = None if options.tasks is None else tuple(options.tasks)
    return _run(AnalyzeWork(options.model, options.device, tasks, keep=options.output is not None), options, ".json")


def inspect(options: argparse.Namespace) -> int:
    from .batch.work import InspectWork

    options.output, options.workers, options.overwrite, options.strict = options.bits_map, 1, True, False
    return _run(InspectWork(options.model if options.bits_map else None), options, ".bits.png")


def train(options: argparse.Namespace) -> int:
    import torch

    from .training.recipe import load_recipe
    from .training.trainer import Trainer

    logging.basicConfig(format="%(message)s", level=logging.INFO)  # progress and results, on standard error
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = load_recipe(options.recipe, options.overrides)
    folder = Path(options.output or Path("runs") / recipe.name)
    trainer = Trainer(recipe, folder)
    if trainer.run(resume=options.resume):
        print(f"the model is in {folder / 'model'}")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    if options.photographs.endswith((".yaml", ".yml")):
        return _study(options)
    if options.overrides:
        raise ValueError(f"{options.overrides[0]!r} changes a study, and {options.photographs} is none (a YAML file)")
    from .data.images import ImageSet
    from .data.labeled import LabeledSource, open_labeled
    from .evaluation.runner import evaluate_folder, evaluate_labeled

    model = zoo_module.load(options.model, options.device, counterparts=True)
    baselines, chosen = not options.no_baselines, options.tasks or []
    special = [task for task in chosen if task not in ("classification", "reconstruction")]
    if special and len(chosen) > 1:
        raise ValueError(f"{special[0]} is measured alone: its data are not those of other tasks")
    if special:
        source = LabeledSource(options.photographs, options.annotations or "")
        labeled = open_labeled(special[0], source).every(options.every)
        report = evaluate_labeled(model, special[0], labeled, options.quality, track=_track)
    else:
        images = ImageSet(options.photographs).every(options.every)
        report = evaluate_folder(model, images, options.quality, options.tasks, baselines, track=_track)
    text = json.dumps(report, indent=2)
    if options.output:
        write_whole(options.output, text + "\n")
    if options.json:
        print(text)
    else:
        for task in (*HEADS, "reconstruction"):
            if task in report:
                _print_table(f"{task}, {report['photographs']} photographs", report[task]["rows"])
    return 0


def _study(options: argparse.Namespace) -> int:
    from .evaluation.study import load_study
    from .reports.study_page import report_page, study_report

    config = load_study(options.photographs, options.overrides)
    folder = Path(options.output or Path("runs") / "evaluate" / run_name(config.name, options.overrides))
    command = " ".join(["cdanalysis evaluate", options.photographs, *options.overrides])
    report, images = study_report(config, folder, command, _track)
    text = json.dumps(report, indent=1)
    write_whole(folder / f"{config.name}.json", text + "\n")
    write_whole(folder / f"{config.name}.html", report_page(report, images))
    if options.json:
        print(text)
    else:
        main = report["main"]
        columns = ("series", "level", "bytes", "bpp")
        rows = [{**{k: row[k] for k in columns}, main: row["score"]["value"]} for row in report["points"]]
        _print_table(f"{config.title}, {report['photographs']} photographs", rows)
        print(f"Open {folder / config.name}.html in a browser.")
    return 0


def benchmark(options: argparse.Namespace) -> int:
    from .benchmarks.hardware import hardware
    from .benchmarks.head_training import head_speed
    from .benchmarks.memory import memory, start_costs
    from .benchmarks.profile import parts
    from .benchmarks.speed import codec_speed, growth, label_speed

    model, weights, repeats = zoo_module.load(options.model, options.device), options.compressai, options.repeats
    sections = {
        "heads": lambda: head_speed(model, options.photographs, repeats=repeats),
        "codec": lambda: codec_speed(model, weights, repeats),
        "labels": lambda: label_speed(model, weights, repeats),
        "parts": lambda: parts(model, repeats),
        "start": start_costs,
        "memory": lambda: memory(options.model),
        "growth": lambda: growth(model),
    }
    chosen = options.sections or list(sections)
    for name in chosen:
        if name not in sections:
            raise ValueError(f"unknown section {name!r}; there are {', '.join(sections)}")
    found = {name: sections[name]() for name in chosen}
    report = _sections_of(options.output, hardware()) | found
    text = json.dumps(report, indent=2)
    if options.output:
        write_whole(options.output, text + "\n")
    if options.json:
        print(text)
        return 0
    for name, own in found.items():
        tables = {name: [own]} if name == "start" else {k: v for k, v in own.items() if isinstance(v, list)}
        for title, rows in tables.items():
            _print_table(name if title == "rows" else title, rows)
    return 0


def _sections_of(path: str | None, machine: str) -> dict[str, Any]:
    """What a benchmark measured before on such a machine; sections compare within themselves, never with each other."""
    kept = json.loads(Path(path).read_text()) if path and Path(path).is_file() else {}
    return kept if kept.get("hardware") == machine else {"hardware": machine}


def zoo(options: argparse.Namespace) -> int:
    if options.action == "list":
        models = [zoo_module.describe(zoo_module.find(name)) for name in zoo_module.names()]
        rows = [{"name": m["name"], "fingerprint": m["fingerprint"], "tasks": ", ".join(m["heads"])} for m in models]
        print(json.dumps({"models": rows})) if options.json else _print_table("", rows)
        return 0
    if not options.name:
        raise ValueError("zoo show needs the name of a model")
    folder = zoo_module.find(options.name)
    if options.json:
        metrics = folder / zoo_module.METRICS
        measured = json.loads(metrics.read_text()) if metrics.is_file() else None
        print(json.dumps({**zoo_module.describe(folder), "metrics": measured}))
    else:
        card = folder / zoo_module.CARD
        print(card.read_text() if card.is_file() else json.dumps(zoo_module.describe(folder), indent=2))
    return 0


def demo(options: argparse.Namespace) -> int:
    from .reports.demo import run_demo

    model = zoo_module.load(options.model, options.device)
    report = run_demo(model, options.inputs, Path(options.output), options.quality, _track)
    if options.json:
        print(json.dumps(report))
    else:
        _print_table("", report["photographs"])
        print(f"Open {report['page']} in a browser.")
    return 0


def _run(work: Work, options: argparse.Namespace, suffix: str) -> int:
    """Do the work on all inputs; those that fail are reported at the end, and the rest is done."""
    from .batch import run

    jobs = run.jobs_of(options.inputs, options.output, work, suffix)
    if work.model is not None:
        zoo_module.describe(zoo_module.find(work.model))  # one message, not one for every file
    if getattr(options, "runner", "local") == "ray":
        from .integrations.ray import on_cluster as runner
    else:
        runner = run.local_runner(len(jobs), getattr(options, "device", "cpu"), options.workers)
    again = options.overwrite or not run.is_several(options.inputs)
    track = _track if len(jobs) > 1 else lambda items, total: items
    outcome = run.run_jobs(work, jobs, runner, again, options.strict, track)
    if options.json:
        plain = [{key: value for key, value in row.items() if key != "summary"} for row in outcome.rows]
        alone = len(jobs) == 1 and plain
        print(json.dumps(plain[0] if alone else {"files": plain, "failures": outcome.failures}))
    elif outcome.rows:
        columns = (*work.columns, *outcome.rows[0].get("summary", {}))
        _print_table("", [{key: {**row, **row.get("summary", {})}.get(key) for key in columns} for row in outcome.rows])
    if outcome.kept:
        _errors.print(f"{outcome.kept} of {len(jobs)} were done before; --overwrite does them again", highlight=False)
    for failure in outcome.failures:
        _errors.print(f"{failure['file']}: {failure['error']}", highlight=False, markup=False, soft_wrap=True)
    return 1 if outcome.failures else 0


def _track(items: Iterable, total: int | None = None) -> Iterable:
    return rich_track(items, console=_errors, description="", transient=True, total=total)


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    columns = [key for key in rows[0] if not isinstance(rows[0][key], (dict, list))] if rows else []
    table = Table(title=title or None)
    for column in columns:
        number = any(isinstance(row.get(column), (int, float)) for row in rows)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
