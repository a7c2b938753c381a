"""What the commands do. Tables go to standard output, messages and progress to standard error."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import zoo as zoo_module
from .console import print_table, say, track
from .files import LeftOut, check_folder, json_text, json_value, run_name
from .outputs import check_outputs, read_below, write_result
from .registry import HEADS

if TYPE_CHECKING:
    from .archive.search import Archive, Match
    from .batch.run import Runner
    from .batch.work import Work
    from .evaluation.configs import StudyConfig
    from .training.recipe import Recipe

QUALITIES = (0.25, 0.5, 0.75)
SHEETS = {".html": "HTML", ".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG"}
"""Kinds of contact sheets by their suffix."""


def encode(options: argparse.Namespace) -> int:
    from .batch.work import EncodeWork

    rate = {"quality": options.quality, "bpp": options.bpp, "max_bytes": options.max_bytes}
    rate |= {name: getattr(options, name) for name in ("max_pixels", "spatial_size", "effort", "realism", "precision")}
    work = EncodeWork(options.model, options.device, layers=options.layers, importance=options.importance, **rate)
    return _run(work, options)


def decode(options: argparse.Namespace) -> int:
    from .batch.work import DecodeWork

    asked = {name: getattr(options, name) for name in ("preview", "max_pixels", "realism", "precision")}
    return _run(DecodeWork(options.model, options.device, **asked), options)


def analyze(options: argparse.Namespace) -> int:
    from .batch.work import AnalyzeWork

    tasks = None if options.tasks is None else tuple(options.tasks)
    keep = options.output is not None
    return _run(AnalyzeWork(options.model, options.device, options.max_pixels, tasks, keep), options)


def inspect(options: argparse.Namespace) -> int:
    from .batch.work import InspectWork

    if options.model and not options.bits_map:
        raise ValueError("--model is for --bits-map alone: headers are read without a model")
    options.output, options.workers, options.strict = options.bits_map, 1, False
    return _run(InspectWork((options.model or "photo") if options.bits_map else None), options)


def strip(options: argparse.Namespace) -> int:
    from .batch.work import StripWork

    return _run(StripWork(options.layers), options)


def train(options: argparse.Namespace) -> int:
    import torch

    from .training.trainer import Trainer

    logging.basicConfig(format="%(message)s", level=logging.INFO)  # progress and results, on standard error
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = _recipe_of(options)
    folder = Path(options.output or Path("runs") / recipe.name)
    check_folder(folder)
    _check_run(options, recipe.init, folder)
    trainer = Trainer(recipe, folder)
    if trainer.run(resume=options.resume):
        for stage, found in trainer.validated.items():
            print(_validation_line(stage, found))
        print(f"the model is in {folder / 'model'}")
    if trainer.unreadable:
        say(f"left out {len(trainer.unreadable)} photographs that cannot be read: {'; '.join(trainer.unreadable)}")
    return 0


def _recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe that is named, or that of a task with the values filled in that the options give."""
    from .training.plain import plain_recipe
    from .training.recipe import load_recipe

    if not hasattr(options, "data"):
        return load_recipe(options.recipe, options.overrides)
    texts = {name: getattr(options, name) or "" for name in ("annotations", "val", "val_annotations", "name", "start")}
    return plain_recipe(options.recipe, options.data, **texts, epochs=options.epochs, overrides=options.overrides)


def _validation_line(stage: str, found: dict[str, Any]) -> str:
    """The score that counts of a stage's best epoch, and of what it is; ``metrics.json`` has the others."""
    name, value = found["score"], found[found["score"]]
    scores = f"{name} {'-' if value is None else f'{value:.3f}'}"
    which = "held-out" if found["held_out"] else "validation"
    read = "" if found["quality"] is None else f", from streams of quality {found['quality']:g}"
    return f"{stage}: {scores} on {found['photographs']} {which} photographs{read}, after epoch {found['epoch']}"


def _check_run(options: argparse.Namespace, init: str, folder: Path) -> None:
    """Refuse to train over what training starts from, over files of others, or over a run that was stopped."""
    model, checkpoint = folder / "model", folder / "checkpoint.pt"
    start = zoo_module.files_of(init) if init else []
    ours = {zoo_module.WEIGHTS, zoo_module.TEACHERS, zoo_module.COUNTERPARTS, zoo_module.RECIPE}
    written = [model / name for name in sorted(ours) if (model / name).exists()]
    is_model = _is_model(model)
    check_outputs(written, [options.recipe, *start], overwrite=options.overwrite or is_model)
    if is_model and not (options.resume or options.overwrite):
        raise ValueError(f"{model} is there already, from a run that is finished: --overwrite trains it anew")
    stopped = checkpoint.is_file() and not (model / zoo_module.WEIGHTS).is_file()
    if stopped and not (options.resume or options.overwrite):
        raise ValueError(f"{folder} holds a run that was stopped: --resume goes on with it, --overwrite starts anew")


def _is_model(folder: Path) -> bool:
    try:
        return bool(zoo_module.describe(folder))
    except (OSError, ValueError):  # none, or a damaged one
        return False


def evaluate(options: argparse.Namespace) -> int:
    if options.photographs.endswith((".yaml", ".yml")):
        return _study(options)
    if options.overrides:
        raise ValueError(f"{options.overrides[0]!r} changes a study, and {options.photographs} is none (a YAML file)")
    if options.output:
        _check_file(options, [options.photographs, *([options.annotations] if options.annotations else ())])
    if compared := not (options.tasks or options.no_baselines):
        check_outputs(_study_files(*_comparison(options)), [options.photographs], options.overwrite)
    report = _evaluated(options)
    page = _compared(options, report) if compared else None
    text = json_text(report, indent=2)
    print(text) if options.json else _print_evaluated(report, page)
    if options.output:  # last: what was measured is seen, even where the disk is full
        write_result(options.output, text + "\n")
    return _told(_errors(report))


def _print_evaluated(report: dict[str, Any], page: Path | None) -> None:
    for task in (*HEADS, "reconstruction"):
        if task in report:
            print_table(f"{task}, {report['photographs']} photographs", report[task]["rows"])
    if page:
        _print_study(report["comparison"], page)


def _evaluated(options: argparse.Namespace) -> dict[str, Any]:
    """The report on a folder of photographs."""
    from .data.images import ImageSet
    from .data.labeled import LabeledSource, open_labeled
    from .evaluation.folder import evaluate_folder

    chosen, qualities = options.tasks or [], options.quality or QUALITIES
    every = 1 if options.every is None else options.every
    special = [task for task in chosen if task not in ("classification", "reconstruction")]
    if special and len(chosen) > 1:
        raise ValueError(f"{special[0]} is measured alone: its data are not those of other tasks")
    if options.annotations and set(special) <= {"segmentation"}:
        raise ValueError("--annotations is for --tasks detection, which was not asked for")
    if options.no_baselines and special:
        raise ValueError(f"--no-baselines is for reconstruction: {special[0]} has none")
    model = zoo_module.load(options.model or "photo", options.device, counterparts=True)
    source = LabeledSource(options.photographs, options.annotations or "")
    images = open_labeled(special[0], source) if special else ImageSet(options.photographs)
    return evaluate_folder(model, images.every(every), qualities, options.tasks, not options.no_baselines, track)


def _compared(options: argparse.Namespace, report: dict[str, Any]) -> Path | None:
    """Add to the report on class folders a study of them; gives its page."""
    if report.get("classification", {}).get("classes", 0) < 2:
        return None
    if lacking := [name for name in ("bjontegaard", "matplotlib") if importlib.util.find_spec(name) is None]:
        say(f"no comparison with other codecs: {lacking[0]} is missing; pip install 'cdanalysis[experiments]'")
        return None
    from .evaluation.folder import folder_study

    folder, name = _comparison(options)
    qualities = [each if isinstance(each, float) else each[0] for each in options.quality or QUALITIES]
    config = folder_study(name, options.photographs, options.model or "photo", options.every or 1, qualities)
    report["comparison"] = _run_study(config, folder, f"cdanalysis evaluate {options.photographs}", options)
    return folder / f"{name}.html"


def _comparison(options: argparse.Namespace) -> tuple[Path, str]:
    """Folder and name of the study of class folders: beside the output, or else where studies are, apart from these.

    It never is, nor lies in, the photographs' own folder.
    """
    from .data.images import data_path

    name = Path(options.output or options.photographs).resolve().name.split(".")[0]
    if not options.output:
        return Path("runs") / "evaluate" / f"{name}-folder", name
    beside, photographs = Path(options.output).parent, data_path(options.photographs).resolve()
    inside = (beside / name).resolve().is_relative_to(photographs)
    return beside / (f"{name}-folder" if inside else name), name


def _study_files(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}.json", folder / f"{name}.html", folder / "photographs.csv"]


def _check_file(options: argparse.Namespace, inputs: list[str]) -> None:
    """Refuse an output that is no file to write, before hours of measuring."""
    if options.output.endswith(("/", os.sep)) or Path(options.output).is_dir():
        raise ValueError(f"{options.output} is a folder; -o names the JSON file to write")
    check_folder(Path(options.output).parent)
    read = [path for name in inputs for path in (read_below(name) if Path(name).is_dir() else [Path(name)])]
    check_outputs([options.output], read, options.overwrite)


def _study(options: argparse.Namespace) -> int:
    from .evaluation.configs import load_study

    for name, key in (("quality", "streams or reconstructions"), ("tasks", "task"), ("annotations", "source")):
        if getattr(options, name):
            raise ValueError(f"a study does not take --{name}: write key=value, where the key is {key}")
    words = [f"{key}={value}" for key in ("model", "every") if (value := getattr(options, key)) is not None]
    words = [*options.overrides, *words]
    config = load_study(options.photographs, words)
    if options.no_baselines:
        config.baselines, config.reduced, config.retrained = {}, {}, {}
        words = [*words, "--no-baselines"]
    folder = Path(options.output or Path("runs") / "evaluate" / run_name(config.name, words))
    report = _run_study(config, folder, " ".join(["cdanalysis evaluate", options.photographs, *words]), options)
    if options.json:
        print(json_text(report, indent=1))
    else:
        _print_study(report, folder / f"{config.name}.html")
    return _told(_errors(report))


def _run_study(config: StudyConfig, folder: Path, command: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a study, and write its report and its page."""
    from .reports.study_page import report_page, study_report

    files = _study_files(folder, config.name)
    check_outputs(files, [options.photographs], options.overwrite)
    report, images = study_report(config, folder, command, track, options.device)
    write_result(files[0], json_text(report, indent=1) + "\n")
    write_result(files[1], report_page(report, images))
    return report


def _print_study(report: dict[str, Any], page: Path) -> None:
    columns = ("series", "level", "bytes", "bpp")
    rows = [{**{k: row[k] for k in columns}, report["main"]: row["score"]["value"]} for row in report["points"]]
    print_table(f"{report['config']['title']}, {report['photographs']} photographs", rows)
    print(f"Open {page} in a browser.")


def benchmark(options: argparse.Namespace) -> int:
    from .benchmarks.folders import folder_speed
    from .benchmarks.hardware import hardware
    from .benchmarks.head_training import head_speed
    from .benchmarks.memory import memory, start_costs
    from .benchmarks.profile import parts
    from .benchmarks.speed import codec_speed, growth, task_speed

    kept = _sections_of(options, hardware())
    model, weights, repeats = zoo_module.load(options.model, options.device), options.compressai, options.repeats
    sections = {
        "heads": lambda: head_speed(model, options.photographs, repeats=repeats),
        "codec": lambda: codec_speed(model, weights, repeats, options.images),
        "tasks": lambda: task_speed(model, weights, repeats),
        "folders": lambda: folder_speed(options.model),
        "parts": lambda: parts(model, repeats),
        "start": lambda: start_costs(options.model),
        "memory": lambda: memory(options.model),
        "growth": lambda: growth(model),
    }
    chosen = options.sections or list(sections)
    for name in chosen:
        if name not in sections:
            raise ValueError(f"unknown section {name!r}; there are {', '.join(sections)}")
    found = {name: sections[name]() for name in chosen}
    report = kept | found
    text = json_text(report, indent=2)
    if options.json:
        print(text)
    for name, own in ({} if options.json else found).items():
        tables = {name: [own]} if name == "start" else {k: v for k, v in own.items() if isinstance(v, list)}
        for title, rows in tables.items():
            print_table(name if title == "rows" else title, rows)
    if options.output:
        write_result(options.output, text + "\n")
    return 0


def _sections_of(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """What a benchmark measured before on such a machine; sections compare within themselves, never with each other.

    Raises:
        ValueError: if the file to write is there, and no benchmark's.
    """
    kept: Any = {}
    if options.output and Path(options.output).is_file():
        try:
            kept = json_value(Path(options.output).read_text())
        except ValueError:
            kept = None
    if options.output and not (isinstance(kept, dict) and "hardware" in kept):
        _check_file(options, [])
        kept = {}
    if kept.get("hardware", machine) != machine and not options.overwrite:
        raise ValueError(f"{options.output} is of another machine, {kept['hardware']}; --overwrite replaces it")
    return kept if kept.get("hardware") == machine else {"hardware": machine}


def zoo(options: argparse.Namespace) -> int:
    if options.action == "list":
        models = [zoo_module.describe(zoo_module.find(name)) for name in zoo_module.names()]
        rows = [{"name": m["name"], "fingerprint": m["fingerprint"], "tasks": ", ".join(m["heads"])} for m in models]
        print(json_text({"models": rows})) if options.json else print_table("", rows)
        return 0
    if not options.name:
        raise ValueError("zoo show needs the name of a model")
    folder = zoo_module.find(options.name)
    if options.json:
        metrics = folder / zoo_module.METRICS
        measured = json_value(metrics.read_text()) if metrics.is_file() else None
        print(json_text({**zoo_module.describe(folder), "metrics": measured}))
    else:
        card = folder / zoo_module.CARD
        print(card.read_text() if card.is_file() else json_text(zoo_module.describe(folder), indent=2))
    return 0


def export(options: argparse.Namespace) -> int:
    from .integrations.onnx import DESCRIPTION, export_onnx

    model = zoo_module.load(options.model)
    paths = export_onnx(model, options.output, options.parts, options.overwrite, track)
    rows = [{"file": str(path), "bytes": path.stat().st_size} for path in paths]
    described = str(Path(options.output) / DESCRIPTION)
    print(json_text({"files": rows, "description": described})) if options.json else print_table("", rows)
    return 0


def demo(options: argparse.Namespace) -> int:
    from .reports.demo import run_demo

    model = zoo_module.load(options.model, options.device)
    report = run_demo(model, options.inputs, Path(options.output), options.quality, track, options.overwrite)
    if options.json:
        print(json_text(report))
    else:
        print_table("", report["photographs"])
        print(f"Open {report['page']} in a browser.")
    return _told(_errors(report))


def index(options: argparse.Namespace) -> int:
    from .batch.index import TASKS, IndexWork, index_streams

    tasks = TASKS[:1] if options.tasks is None else tuple(sorted(set(options.tasks)))
    work, left_out = IndexWork(options.model, options.device, options.max_pixels, tasks), LeftOut()
    runner_of = lambda count: _runner(options, count)  # noqa: E731
    chosen = {"overwrite": options.overwrite, "strict": options.strict, "faiss": options.faiss, "track": track}
    found = index_streams(work, options.inputs, options.output, runner_of, left_out=left_out, **chosen)
    row = {"archive": options.output, **vars(found)}
    if options.json:
        print(json_text({**row, "left_out": left_out.to_list()}))
    else:
        print_table("", [{name: row[name] for name in ("archive", "streams", "added", "kept", "dropped")}])
    return _told(_named_errors(found.failures), [*found.notices, *left_out.lines()])


def search(options: argparse.Namespace) -> int:
    from .archive.search import MANY, Archive

    if len(options.inputs) > 2:
        raise ValueError(f"search takes at most one query and one archive, got {' '.join(options.inputs)}")
    query, folder = options.inputs[0] if len(options.inputs) == 2 else None, options.inputs[-1]
    archive = Archive(folder, options.model, options.device)
    if options.sheet:
        _check_sheet(options, query)
    filters = {"label": options.label, "objects": options.objects, "min_score": options.min_score}
    matches = archive.search(query, options.k, **filters, exact=options.exact)
    if options.json:
        about = {"archive": folder, "streams": len(archive), "query": query, **filters}
        print(json_text({**about, "found": [match.to_dict() for match in matches]}))
    elif matches:
        print_table("", [match.row() for match in matches])
    if not matches:
        say(f"nothing was found among {len(archive)} streams")
    elif options.sheet:
        _write_sheet(options, archive, query, matches)
    compared = query and not (options.label or options.objects) and not archive.manifest.faiss
    if compared and len(archive) > MANY:
        say(f"{len(archive)} vectors were compared one by one; `cdanalysis index --faiss` makes that faster")
    return 0


def _check_sheet(options: argparse.Namespace, query: str | None) -> None:
    """Refuse, before searching, a sheet that cannot be written."""
    if Path(options.sheet).suffix.lower() not in SHEETS:
        raise ValueError(f"a contact sheet is one of {', '.join(SHEETS)}, and not {options.sheet!r}")
    check_folder(Path(options.sheet).parent)
    check_outputs([options.sheet], [query] if query else [], options.overwrite)


def _write_sheet(options: argparse.Namespace, archive: Archive, query: str | None, matches: list[Match]) -> None:
    from .archive.sheet import match_page, match_sheet, query_picture
    from .photographs.formats import file_of

    kind = SHEETS[Path(options.sheet).suffix.lower()]
    if kind != "HTML":
        write_result(options.sheet, file_of(match_sheet(archive.model, matches, track), kind))
        return
    words = [f"nearest to {Path(query).name}"] if query else []
    words += [f"labeled {options.label!r}"] if options.label else []
    words += [f"with {' and '.join(options.objects)}"] if options.objects else []
    about = f"{len(matches)} of {len(archive)} streams, {', '.join(words)}."
    picture = query_picture(archive.model, query) if query else None
    write_result(options.sheet, match_page(archive.model, matches, about, picture, track))


def app(options: argparse.Namespace) -> int:
    from .app.page import gradio_module, new_page, serve
    from .app.view import MAX_BYTES, MAX_PIXELS

    max_bytes = options.max_bytes or MAX_BYTES
    gradio_module()  # known before the model is loaded
    page = new_page(zoo_module.load(options.model, options.device), options.max_pixels or MAX_PIXELS, max_bytes)
    address = serve(page, options.host, options.port, max_bytes)
    print(json_text({"address": address}) if options.json else f"Open {address} in a browser.", flush=True)
    page.block_thread()
    return 0


def _run(work: Work, options: argparse.Namespace) -> int:
    """Do the work on all inputs; those that fail are reported at the end, and the rest is done."""
    from .batch import run

    left_out = LeftOut()
    jobs = run.jobs_of(options.inputs, options.output, work, left_out=left_out)
    runner = _runner(options, len(jobs))
    again = options.overwrite or not run.is_several(options.inputs)
    shown = track if len(jobs) > 1 else lambda items, total: items
    named = run.names_a_file(options.inputs, options.output)
    outcome = run.run_jobs(work, jobs, runner, again, options.strict, shown, options.overwrite, named)
    failures = [*left_out.failures, *outcome.failures]
    if options.json:
        plain = [{key: value for key, value in row.items() if key != "summary"} for row in outcome.rows]
        alone = len(jobs) == 1 and plain and not failures and not left_out.kinds
        many = {"files": plain, "failures": failures, "left_out": left_out.to_list()}
        print(json_text(plain[0] if alone else many))
    elif outcome.rows:
        columns = (*work.columns, *outcome.rows[0].get("summary", {}))
        print_table("", [{key: {**row, **row.get("summary", {})}.get(key) for key in columns} for row in outcome.rows])
    if outcome.kept:
        say(f"{outcome.kept} of {len(jobs)} were done before; --overwrite does them again")
    for reason, count in outcome.again.items():
        say(f"{count} of {len(jobs)} {reason}, and were made again")
    return _told(_named_errors(failures), [*outcome.notices, *left_out.lines()])


def _told(errors: list[str], notices: Iterable[str] = ()) -> int:
    """Say what a user should know of what was done, last what failed; gives the exit status."""
    for text in [*notices, *errors]:
        say(text)
    return 1 if errors else 0


def _errors(report: dict[str, Any]) -> list[str]:
    """What failed in a report, whose sentences name the files."""
    return [failure["error"] for failure in report["failures"]]


def _named_errors(failures: list[dict[str, str]]) -> list[str]:
    return [f"{failure['file']}: {failure['error']}" for failure in failures]


def _runner(options: argparse.Namespace, jobs: int) -> Runner:
    """Who does so many jobs: this machine, or a cluster."""
    from .batch.run import local_runner

    if getattr(options, "runner", "local") == "ray":
        from .integrations.ray import on_cluster

        return on_cluster
    return local_runner(jobs, getattr(options, "device", "cpu"), options.workers)
