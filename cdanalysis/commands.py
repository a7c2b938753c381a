"""What the commands do. Tables go to standard output, messages and progress to standard error."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track as rich_track
from rich.table import Table

from . import inspect as inspect_stream
from . import zoo as zoo_module
from .files import write_whole

if TYPE_CHECKING:
    from PIL import Image

_errors = Console(stderr=True)


def encode(options: argparse.Namespace) -> int:
    from .data.photographs import SUFFIXES, open_photograph

    model = zoo_module.load(options.model, options.device)
    layers = ("semantic",) if options.layers == "semantic" else ("semantic", "detail")
    jobs = list(_jobs(options.inputs, options.output, SUFFIXES, ".cda"))

    def work(source: Path, target: Path) -> dict[str, Any]:
        stream = model.encode(
            open_photograph(source),
            options.quality,
            layers,
            bpp=options.bpp,
            max_bytes=options.max_bytes,
            importance=options.importance,
        )
        write_whole(target, stream)
        info = inspect_stream(stream)
        return {"file": str(source), "stream": str(target), "bytes": info.bytes, "bpp": info.bpp}

    return _run(jobs, work, options.json, ("stream", "bytes", "bpp"))


def decode(options: argparse.Namespace) -> int:
    import io

    model = zoo_module.load(options.model, options.device)
    jobs = list(_jobs(options.inputs, options.output, {".cda"}, ".png"))

    def work(source: Path, target: Path) -> dict[str, Any]:
        image = model.decode(source.read_bytes(), options.preview)
        buffer = io.BytesIO()
        try:
            image.save(buffer, format=_image_format(target))
        except OSError as error:
            raise ValueError(f"cannot write {target}: {error}") from None
        write_whole(target, buffer.getvalue())
        return {"file": str(source), "image": str(target), "width": image.width, "height": image.height}

    return _run(jobs, work, options.json, ("image", "width", "height"))


def _image_format(path: Path) -> str:
    from PIL import Image

    known = Image.registered_extensions()
    if path.suffix.lower() not in known:
        raise ValueError(f"unknown image type {path.suffix!r} of {path}")
    return known[path.suffix.lower()]


def analyze(options: argparse.Namespace) -> int:
    from PIL import Image

    from .evaluation.show import described, summary

    model = zoo_module.load(options.model, options.device)

    def work(source: Path, target: Path) -> dict[str, Any]:
        data = source.read_bytes()
        result, info = model.analyze(data, options.tasks), inspect_stream(data)
        mask = None
        if options.output and result.segmentation is not None:
            mask = target
            write_whole(mask, _png(Image.fromarray(result.segmentation.mask)))
        tasks = described(result, mask)
        return {"file": str(source), "bits": 8 * info.bytes, "bpp": info.bpp, "tasks": tasks, **summary(result)}

    jobs = list(_jobs(options.inputs, options.output, {".cda"}, ".mask.png"))
    tasks = options.tasks or list(model.heads)
    return _run(jobs, work, options.json, ("file", "bits", "bpp", *tasks), hidden=tuple(tasks))


def _png(image: Image.Image) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def inspect(options: argparse.Namespace) -> int:
    mapped = bool(options.bits_map)
    model = zoo_module.load(options.model) if mapped else None

    def work(source: Path, target: Path) -> dict[str, Any]:
        data = source.read_bytes()
        info = inspect_stream(data).to_dict()
        layers = " + ".join(f"{layer['name']} {layer['bytes']}" for layer in info["layers"])
        if mapped:
            from .evaluation.show import heat_map

            bits = sum(model.bit_maps(data).values()).cpu().numpy()
            write_whole(target, _png(heat_map(bits, (info["width"], info["height"]), model.codec.semantic.spec.stride)))
        return {"file": str(source), **info, "summary": layers}

    columns = ("file", "model", "width", "height", "quality", "summary", "bytes", "bpp")
    jobs = list(_jobs(options.inputs, options.bits_map, {".cda"}, ".bits.png"))
    return _run(jobs, work, options.json, columns, hidden=("summary",))


def train(options: argparse.Namespace) -> int:
    import torch

    from .training.recipe import load_recipe
    from .training.trainer import Trainer

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
    from .data.labelled import LabelledSource, open_labelled
    from .data.photographs import Photographs
    from .evaluation.runner import evaluate_folder, evaluate_labelled

    model = zoo_module.load(options.model, options.device, counterparts=True)
    baselines, chosen = not options.no_baselines, options.tasks or []
    special = [task for task in ("detection", "segmentation") if task in chosen]
    if special and len(chosen) > 1:
        raise ValueError(f"{special[0]} is measured alone: its data are not those of other tasks")
    if special:
        source = LabelledSource(options.photographs, options.annotations or "")
        labelled = open_labelled(special[0], source).every(options.every)
        report = evaluate_labelled(model, special[0], labelled, options.quality, track=_track)
    else:
        photographs = Photographs(options.photographs).every(options.every)
        report = evaluate_folder(model, photographs, options.quality, options.tasks, baselines, track=_track)
    text = json.dumps(report, indent=2)
    if options.output:
        write_whole(options.output, text + "\n")
    if options.json:
        print(text)
    else:
        for task in ("classification", "reconstruction", "detection", "segmentation"):
            if task in report:
                _print_table(f"{task}, {report['photographs']} photographs", report[task]["rows"])
    return 0


def _study(options: argparse.Namespace) -> int:
    from .evaluation.report import report_page
    from .evaluation.study import load_study, run_study

    config = load_study(options.photographs, options.overrides)
    folder = Path(options.output or Path("runs") / "evaluate" / "-".join([config.name, *options.overrides]))
    command = " ".join(["cdanalysis evaluate", options.photographs, *options.overrides])
    report, pictures = run_study(config, folder, command, _track)
    text = json.dumps(report, indent=1)
    write_whole(folder / f"{config.name}.json", text + "\n")
    write_whole(folder / f"{config.name}.html", report_page(report, pictures))
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
    from .evaluation.benchmark import benchmark as run

    report = run(zoo_module.load(options.model, options.device), options.photographs, repeats=options.repeats)
    text = json.dumps(report, indent=2)
    if options.output:
        write_whole(options.output, text + "\n")
    if options.json:
        print(text)
    else:
        title = f"an epoch of {report['photographs']} photographs, {report['hardware']}"
        _print_table(title, report["head_training"])
    return 0


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
    from .evaluation.demo import run_demo

    model = zoo_module.load(options.model, options.device)
    report = run_demo(model, options.inputs, Path(options.output), options.quality, _track)
    if options.json:
        print(json.dumps(report))
    else:
        _print_table("", report["photographs"])
        print(f"Open {report['page']} in a browser.")
    return 0


def _jobs(inputs: list[str], output: str | None, suffixes: set[str], suffix: str) -> Iterator[tuple[Path, Path]]:
    """(file to read, file to write) for every input; a folder stands for the files in it."""
    several = len(inputs) > 1 or Path(inputs[0]).is_dir()
    as_folder = output is not None and (several or Path(output).is_dir() or not Path(output).suffix)
    for name in inputs:
        path = Path(name)
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        files = [path]
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in suffixes)
            if not files:
                raise ValueError(f"nothing to do in {path}: no {' or '.join(sorted(suffixes)[:3])} files")
        for file in files:
            inner = file.relative_to(path) if path.is_dir() else Path(file.name)
            if output is None:
                yield file, file.with_suffix(suffix)
            else:
                yield file, (Path(output) / inner).with_suffix(suffix) if as_folder else Path(output)


def _run(
    jobs: list[tuple[Path, Path]],
    work: Callable[[Path, Path], dict[str, Any]],
    as_json: bool,
    columns: tuple[str, ...],
    hidden: tuple[str, ...] = (),
) -> int:
    """Do every job; those that fail are reported at the end, and the rest is done."""
    rows, failures = [], []
    for source, target in _track(jobs) if len(jobs) > 1 else jobs:
        try:
            rows.append(work(source, target))
        except (ValueError, FileNotFoundError) as error:
            failures.append({"file": str(source), "error": str(error)})
    if as_json:
        plain = [{key: value for key, value in row.items() if key not in hidden} for row in rows]
        alone = len(jobs) == 1 and plain
        print(json.dumps(plain[0] if alone else {"files": plain, "failures": failures}))
    elif rows:
        _print_table("", [{key: row[key] for key in columns} for row in rows])
    for failure in failures:
        _errors.print(f"{failure['file']}: {failure['error']}", highlight=False, markup=False, soft_wrap=True)
    return 1 if failures else 0


def _track(items: Iterable) -> Iterable:
    return rich_track(items, console=_errors, description="", transient=True)


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
