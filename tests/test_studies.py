"""Studies: points that are measured once, figures on them, and a page that says what is better and what is worse."""

from __future__ import annotations

import argparse
import copy
import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import new_small_model, with_counterparts
from PIL import Image

from cdanalysis.benchmarks.macs import costs, macs
from cdanalysis.cli import main
from cdanalysis.codecs.base import open_codec
from cdanalysis.codecs.pillow import PillowCodec
from cdanalysis.commands import _comparison
from cdanalysis.data.images import ImageSet
from cdanalysis.data.labeled import LabeledSource, open_labeled
from cdanalysis.evaluation import engine, evaluators
from cdanalysis.evaluation import study as study_module
from cdanalysis.evaluation.configs import load_experiment, load_study
from cdanalysis.evaluation.engine import UNCOMPRESSED, Point
from cdanalysis.evaluation.evaluators import TaskEvaluator
from cdanalysis.evaluation.study import DECODED, LATENTS, REALISTIC, run_study
from cdanalysis.reference import Reference, teachers_weights
from cdanalysis.reports.plots import study_figure
from cdanalysis.reports.study_page import report_page, study_report
from cdanalysis.teachers.nanodet import COCO_CLASSES
from cdanalysis.training import retraining as retraining_module
from cdanalysis.training.head_data import HeadConfig
from cdanalysis.training.recipe import Recipe, StageConfig, load_recipe
from cdanalysis.training.retraining import compressed
from cdanalysis.training.trainer import Trainer
from cdanalysis.zoo import load

STUDIES = sorted((Path(__file__).parent.parent / "configs" / "evaluate").glob("*.yaml"))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A small model of random weights for the drawn world's three tasks, with its counterparts."""
    folder = tmp_path_factory.mktemp("drawn") / "model"
    torch.manual_seed(3)
    model = new_small_model()
    options = {
        "classification": {"classes": ["blue", "red"]},
        "detection": {"classes": ["red", "blue"]},
        "segmentation": {"classes": list("brd"), "width": 32},
    }
    for heads in (model.heads, model.counterparts):
        for task, own in options.items():
            heads[task] = model.new_head(task, **own)
        for head in heads["detection"].detector.heads:
            torch.nn.init.zeros_(head.predict.bias)
    model.save(folder)
    return folder


@pytest.fixture
def uncounted(monkeypatch) -> None:
    """Studies do not count arithmetic: `test_other_tasks_can_be_studied` looks at what they count."""
    monkeypatch.setattr(study_module, "costs", lambda *_: {})


@pytest.fixture
def study(tmp_path, world, model_folder) -> Path:
    text = f"""
name: drawn
title: "Drawn & measured"
task: classification
model: {model_folder}
source: {{path: {world / "classes"}}}
streams: [0.2, 0.5, 0.9]
reconstructions: [0.3, 0.6, 0.9]
baselines: {{JPEG: [5, 30, 80]}}
reduced: {{JPEG: [30, 80]}}
perception: [psnr]
shares: [0.5, 0.9]
draws: 10
presets:
  one: {{every: 6}}
"""
    path = tmp_path / "drawn.yaml"
    path.write_text(text)
    return path


def test_a_study_measures_every_point(study, tmp_path):
    report, images = study_report(load_study(study), tmp_path / "run", "a command")
    assert report["main"] == "top1" and report["photographs"] == 6
    points = {(row["series"], row["level"]): row for row in report["points"]}
    assert len(points) == 1 + 3 + 3 + 3 + 2 and points[UNCOMPRESSED, None]["bpp"] is None
    for (series, _), row in points.items():
        assert 0 <= row["score"]["low"] <= row["score"]["value"] <= row["score"]["high"] <= 1
        assert (row["psnr"] is not None) == (series in (DECODED, "JPEG"))
        assert row["read_s"] > 0
    assert points[DECODED, 36]["bytes"] > points[LATENTS, 24]["bytes"]
    assert {(r["test"], r["anchor"]) for r in report["comparisons"]} == {
        (ours, other)
        for ours in (LATENTS, DECODED)
        for other in (LATENTS, DECODED, "JPEG", "JPEG, reduced")
        if ours != other
    }
    assert points["JPEG, reduced", 30]["bytes"] < points["JPEG", 30]["bytes"], "96 pixels a side become 64"
    shares = {(r["test"], r["anchor"]): [] for r in report["rate_differences"]}
    for row in report["rate_differences"]:
        shares[row["test"], row["anchor"]].append(row["share"])
    assert all(each == [0.5, 0.9] for each in shares.values()) and "at 90 % of uncompressed" in report_page(report, [])
    rows = list(csv.DictReader((tmp_path / "run" / "photographs.csv").open()))
    assert len(rows) == 12 * 6 and {row["score"] for row in rows} <= {"0.0", "1.0"}
    for (series, level), row in points.items():
        own = [r for r in rows if r["series"] == series and r["level"] == ("" if level is None else str(level))]
        assert np.mean([float(r["score"]) for r in own]) == pytest.approx(row["score"]["value"])
    assert len(images) == 6 and images[0][0].startswith("worst: ")
    assert all("; predicted: " in caption and ("red" in caption or "blue" in caption) for caption, _ in images)
    json.dumps(report)


def test_one_slow_photograph_spoils_no_time():
    point = Point({number: {"encode_s": time} for number, time in enumerate((0.2, 0.1, 300.0))})
    assert point.median("encode_s") == 0.2


def test_a_killed_study_goes_on(study, tmp_path, monkeypatch, uncounted):
    config = load_study(study)
    whole, _ = run_study(config, tmp_path / "run", "a command")
    (path,) = (tmp_path / "run" / "points").glob("JPEG-30-*.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:17])
    encoded = []
    original = PillowCodec.encode
    monkeypatch.setattr(PillowCodec, "encode", lambda self, *a: encoded.append(a) or original(self, *a))
    monkeypatch.setattr(study_module.ModelCodec, "encode", None)
    again, _ = run_study(config, tmp_path / "run", "a command")
    assert len(encoded) == 3
    for before, after in zip(whole["points"], again["points"], strict=True):
        assert all(before[name] == after[name] for name in ("series", "level", "score", "bytes", "psnr"))


@pytest.mark.parametrize("task", ["detection", "segmentation", ""])
def test_other_tasks_can_be_studied(study, world, tmp_path, task):
    sources = {
        "detection": [f"source.path={world / 'pixels' / 'images'}", f"source.annotations={world / 'boxes.json'}"],
        "segmentation": [f"source.path={world / 'pixels'}"],
        "": [f"source.path={world / 'pixels' / 'images'}", "streams=[]", "reduced={JPEG: []}"],
    }
    words = [f"task='{task}'", *sources[task], "reconstructions=[0.5]", "baselines={JPEG: [30]}", "draws=3"]
    report, images = study_report(load_study(study, words), tmp_path / "run", "a command")
    assert report["main"] == {"detection": "AP50", "segmentation": "mIoU", "": "psnr"}[task]
    assert len(report["points"]) == (8 if task else 2) and len(images) > 0
    assert set(report["macs"]) >= {"encode", "decode"} and ("from latents" in report["macs"]) == bool(task)
    assert all(("predicted: " in caption) == bool(task) for caption, _ in images)
    page = report_page(report, images)
    assert page.count("<figure>") == len(images) and ("too few points" in page or "that both reach" in page)


@pytest.mark.parametrize("size", [(96, 64), (300, 451), (1000, 40)])
def test_predictions_from_reduced_files_are_in_pixels_of_the_photograph(small_folder, chelsea, monkeypatch, size):
    model = load(small_folder)
    model.heads["detection"] = model.new_head("detection", classes=["cat"]).eval()
    model.heads["segmentation"] = model.new_head("segmentation", classes=["sky", "road"], width=32).eval()
    seen = {}
    whole = Image.fromarray(chelsea).resize(size)
    model = with_counterparts(model)
    for task in ("detection", "segmentation"):
        scorer = SimpleNamespace(update=lambda index, found, task=task: seen.update({task: found}), parts={0: None})
        monkeypatch.setattr(evaluators, "METRICS", {task: lambda *a, scorer=scorer: scorer})
        TaskEvaluator(model, task, None, latents=False).update(
            0, np.asarray(whole), np.asarray(whole.resize((64, 96))), b""
        )
    assert seen["segmentation"].mask.shape == size[::-1]
    boxes = seen["detection"].boxes
    assert (boxes[:, 0] + boxes[:, 2] <= size[0] + 0.01).all() and (boxes[:, 1] + boxes[:, 3] <= size[1] + 0.01).all()


def test_photographs_too_small_for_a_measure_do_not_count_in_it(study, chelsea, tmp_path, uncounted):
    """MS-SSIM needs 176 pixels: its means are over those that have them; where none has, other measures remain."""
    folder = tmp_path / "sizes"
    folder.mkdir()
    for side in (100, 180, 190):
        Image.fromarray(chelsea[:side, : 2 * side]).save(folder / f"{side}.png")
    words = [
        f"source.path={folder}",
        "task=''",
        "streams=[]",
        "reduced={JPEG: []}",
        "reconstructions=[0.2, 0.8]",
        "draws=3",
    ]
    words.append("baselines={JPEG: [5, 80]}")
    config = load_study(study, [*words, "perception=[ms_ssim, psnr]"])
    report, images = study_report(config, tmp_path / "run", "a command")
    rows = list(csv.DictReader((tmp_path / "run" / "photographs.csv").open()))
    for point in report["points"]:
        own = [r for r in rows if (r["series"], r["level"]) == (point["series"], str(point["level"]))]
        assert [r["photograph"] for r in own if not r["ms_ssim"]] == ["100.png"]
        assert point["ms_ssim"] == pytest.approx(np.mean([float(r["ms_ssim"]) for r in own if r["ms_ssim"]]))
    assert report["main"] == "ms_ssim" and len(images) == 2 and b"<svg" in study_figure(report)
    for name in ("180.png", "190.png"):
        (folder / name).unlink()
    words.append("perception=[ms_ssim, psnr]")
    report, images = study_report(load_study(study, words), tmp_path / "small", "a command")
    assert report["main"] == "psnr" and {row["measure"] for row in report["comparisons"]} == {"psnr"}
    assert len(images) == 1 and b"<svg" in study_figure(report)
    with pytest.raises(ValueError, match="no photograph is large enough for ms_ssim"):
        run_study(load_study(study, [*words[:-1], "perception=[ms_ssim]"]), tmp_path / "none", "a command")


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_a_counterpart_learns_from_compressed_photographs(
    study, world, tmp_path, model_folder, task, monkeypatch, uncounted
):
    sources = {
        "classification": {"path": world / "classes"},
        "detection": {"path": world / "pixels" / "images", "annotations": world / "boxes.json"},
        "segmentation": {"path": world / "pixels"},
    }
    source = ", ".join(f"{key}: {value}" for key, value in sources[task].items())
    retraining = f"{{lr: 0.001, batch: 2, warmup: 0, head: {{epochs: 1, flip: true, sources: [{{{source}}}]}}}}"
    words = [
        f"task={task}",
        f"source={{{source}}}",
        f"retraining={retraining}",
        "retrained={JPEG: [5]}",
        "reduced={JPEG: []}",
    ]
    words += ["streams=[]", "reconstructions=[]", "baselines={JPEG: [5]}", "draws=0", "every=3"]
    config = load_study(study, words)
    seen = []
    compress = retraining_module.compressed
    monkeypatch.setattr(retraining_module, "compressed", lambda *a: seen.append(compress(*a)) or seen[-1])
    report, _ = run_study(config, tmp_path / "run", "a command")
    rows = {row["series"]: row for row in report["points"]}
    assert rows["JPEG, retrained"]["bytes"] == rows["JPEG"]["bytes"]
    (place,) = (tmp_path / "run/retrained").iterdir()
    before, after = (load(f, counterparts=True) for f in (model_folder, place / "model"))
    weights = [name for name, _ in after.named_parameters() if name.startswith(f"counterparts.{task}")]
    before, after = before.state_dict(), after.state_dict()
    for name, value in after.items():
        if not name.startswith(f"counterparts.{task}"):
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(after[name], before[name]) for name in weights)
    assert len(seen) == 1 and not (place / "photographs").exists()  # they were only on loan
    run_study(config, tmp_path / "run", "a command")
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("codec.synthesis.realism.out.0.bias", {REALISTIC}),
        ("codec.synthesis.out.0.bias", {DECODED, REALISTIC}),
        ("codec.spatial.g_s.to8.2.bias", {LATENTS, DECODED, REALISTIC}),
        ("heads.classification.classify.bias", {UNCOMPRESSED, LATENTS, DECODED, REALISTIC, "JPEG", "JPEG, reduced"}),
    ],
)
def test_only_what_depends_on_weights_is_measured_again(study, model_folder, tmp_path, uncounted, changed, again):
    model = load(model_folder, counterparts=True)
    if not model.realistic:
        model.codec.set_realism(1)
    model.save(tmp_path / "mine")
    words = [f"model={tmp_path / 'mine'}", "streams=[0.5]", "reconstructions=[0.5]", "realistic=[0.5]", "every=3"]
    words += ["baselines={JPEG: [30]}", "reduced={JPEG: [30]}", "draws=0"]
    series = {}
    for number in range(2):
        run_study(load_study(study, words), tmp_path / "run", "a command")
        for path in (tmp_path / "run" / "points").iterdir():
            series.setdefault(path, number)
        with torch.no_grad():
            model.state_dict()[changed].add_(1)
        model.save(tmp_path / "mine")
    names = {each.replace(" ", "-").replace(",", "") for each in again}
    assert len(series) == 6 + len(again)
    assert {path.name.rsplit("-", 2)[0] for path, number in series.items() if number} == names


def test_compressed_copies_are_the_codecs_own_files(world, tmp_path):
    jpeg = open_codec("JPEG")
    source = compressed(LabeledSource(str(world / "pixels")), jpeg, 10, tmp_path / "copy")
    before, after = (open_labeled("segmentation", s) for s in (LabeledSource(str(world / "pixels")), source))
    assert after.names == before.names and after.classes == before.classes
    for index, name in enumerate(after.names):
        assert (tmp_path / "copy" / name).read_bytes() == jpeg.encode(before.image(index), 10)
        assert np.array_equal(after.labels(index), before.labels(index))


def test_a_study_refuses_to_retrain_in_an_unknown_way(study, tmp_path):
    words = ["retrained={JPEG: [5]}", "retraining={epochs: 3}", "streams=[]", "reconstructions=[]"]
    with pytest.raises(ValueError, match="retraining: unknown key"):
        run_study(load_study(study, words), tmp_path / "run", "a command")


@pytest.fixture
def learned(world, small_folder, tmp_path) -> Path:
    """A model whose classification head learned from streams, as its recipe says."""
    head = HeadConfig(sources=[LabeledSource(str(world / "classes"))], epochs=3)
    stage = StageConfig("labels", ["heads.classification"], head=head, lr=0.01, batch=4)
    recipe = Recipe(name="own", init=str(small_folder), stages=[stage], precision="32-true")
    assert Trainer(recipe, tmp_path / "own").run()
    return tmp_path / "own" / "model"


def test_what_learned_from_streams_reads_no_photographs(study, learned, tmp_path, monkeypatch):
    """The counterpart that is missing is trained, once, on photographs, from the head on streams."""
    before = load(learned, counterparts=True)
    with pytest.raises(ValueError, match="has no counterpart of its classification head, which learned from streams"):
        before.counterpart("classification")
    words = [f"model={learned}", "streams=[0.2, 0.9]", "reconstructions=[]", "baselines={JPEG: [30]}"]
    report, _ = run_study(load_study(study, words), tmp_path / "run", "a command")
    assert report["refused"] == {} and report["fingerprint"] == before.fingerprint
    assert {row["series"] for row in report["points"]} == {UNCOMPRESSED, LATENTS, "JPEG", "JPEG, reduced"}
    (place,) = (tmp_path / "run").glob("counterpart-*")
    after = load(place / "model", counterparts=True)
    head, counterpart = after.heads["classification"], after.counterpart("classification")
    assert counterpart.classes == ["blue", "red"] and not torch.equal(counterpart.classify.weight, head.classify.weight)
    assert torch.equal(head.classify.weight, before.heads["classification"].classify.weight)
    image = Image.open(next((study.parent / "classes").rglob("*.png")))
    labels = [
        model.logits([image]) for model in (after.reference, Reference(after.codec, after.heads, after.heads, ""))
    ]
    assert not torch.equal(*labels), "uncompressed is what the counterpart reads"
    monkeypatch.setattr(retraining_module, "Trainer", None)
    again, _ = run_study(load_study(study, words), tmp_path / "run", "a command")
    assert again["points"] == report["points"]


@pytest.mark.parametrize("gone", ["recipe", "photographs", "stage"])
def test_rows_that_need_a_counterpart_are_refused_by_name(study, learned, tmp_path, gone, capsys):
    path = learned / "config.yaml"
    if gone == "recipe":
        path.unlink()
    elif gone == "photographs":
        path.write_text(path.read_text().replace("/classes", "/elsewhere"))
    else:
        path.write_text(path.read_text().replace("heads.classification", "codec.detail"))
    words = [f"model={learned}", "draws=3"]
    with pytest.warns(
        UserWarning, match=f"not measured: {UNCOMPRESSED}; {DECODED}; JPEG; JPEG, reduced: model 'own' has"
    ):
        report, images = study_report(load_study(study, words), tmp_path / "run", "a command")
    assert list(report["refused"]) == [UNCOMPRESSED, DECODED, "JPEG", "JPEG, reduced"]
    says = {"recipe": "does not say how", "photographs": "elsewhere", "stage": "does not say how"}[gone]
    assert all("no counterpart" in why and says in why for why in report["refused"].values())
    assert {row["series"] for row in report["points"]} == {LATENTS} and report["rate_differences"] == []
    page = report_page(report, images)
    assert "Not measured" in page and "no counterpart of its classification head" in page
    words += ["streams=[]"]
    with pytest.raises(ValueError, match="no counterpart"):
        run_study(load_study(study, words), tmp_path / "none", "a command")


def test_a_folder_of_labeled_photographs_gives_a_comparison_and_a_page(world, learned, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cdanalysis.evaluation.folder.LEVELS", {"JPEG": [5, 40], "WebP": [9], "AVIF": [9]})
    line = ["evaluate", "classes", "--model", str(learned), "--quality", "0.5", "--every", "2"]
    assert main(line) == 0
    captured = capsys.readouterr()
    assert (
        "classes: labels from few bits, 3 photographs" in captured.out and "Open runs/evaluate/classes" in captured.out
    )
    assert "photographs themselves are not measured: model 'own' has no counterpart" in captured.err
    page = Path("runs/evaluate/classes-folder/classes.html").read_text()
    assert all(f"<td>{series}</td>" in page for series in (UNCOMPRESSED, LATENTS, "JPEG", "WebP", "AVIF, reduced"))
    assert main([*line, "--json", "-o", "out/report.json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["input"] for row in report["classification"]["rows"]] == ["stream"]
    assert {row["series"] for row in report["comparison"]["points"]} > {UNCOMPRESSED, LATENTS, "JPEG, reduced"}
    assert Path("out/report/report.html").is_file()
    for less in (["--no-baselines"], ["--tasks", "classification"]):
        assert main([*line, *less, "--json"]) == 0 and "comparison" not in json.loads(capsys.readouterr().out)
    photographs = sorted(Path("classes").rglob("*"))
    assert main([*line, "-o", "classes.json"]) == 0 and Path("classes-folder/classes.html").is_file()
    assert sorted(Path("classes").rglob("*")) == photographs, "nothing is written among the photographs"
    of_a_class = argparse.Namespace(output="classes/red.json", photographs="classes")
    assert _comparison(of_a_class) == (Path("classes/red-folder"), "red")


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_a_head_that_still_is_its_teachers_is_its_own_counterpart(small, task):
    model = copy.deepcopy(small)
    classes = {"classification": [str(i) for i in range(1000)], "detection": COCO_CLASSES}[task]
    model.heads[task] = model.new_head(task, classes=classes)
    assert "which learned from streams" in model.reference.missing(task)
    head = model.heads[task]
    head.load_state_dict(head.state_dict() | teachers_weights(model.codec, head))
    assert model.counterpart(task) is head
    next(p for name, p in head.named_parameters() if name in teachers_weights(model.codec, head)).data.add_(0.001)
    with pytest.raises(ValueError, match=f"no counterpart of its {task} head"):
        model.counterpart(task)
    with pytest.raises(ValueError, match=f"no counterpart of its {task} head"):
        model.reference.analyze([np.zeros((40, 40, 3), np.uint8)], (task,))


def test_one_photograph_has_no_interval(study, tmp_path):
    report, _ = run_study(load_study(study, ["preset=one"]), tmp_path / "run", "a command")
    assert report["photographs"] == 1
    assert all(row["score"]["low"] is None for row in report["points"])
    assert "Undecided" in report_page(report, [])


def test_the_command_writes_a_page_that_needs_nothing_else(study, tmp_path, capsys):
    words = [str(study), "reconstructions=[0.5]", "streams=[0.5]", "-o", str(tmp_path / "out")]
    assert main(["evaluate", *words]) == 0
    out = capsys.readouterr().out
    assert "Drawn & measured, 6 photographs" in out and "drawn.html" in out
    page = (tmp_path / "out" / "drawn.html").read_text()
    assert "<svg" in page and "Drawn &amp; measured" in page and "reconstructions=[0.5]" in page
    assert not any(word in page for word in ("<script", 'src="http', 'href="http', "@import"))
    assert json.loads((tmp_path / "out" / "drawn.json").read_text())["command"].startswith("cdanalysis evaluate")


def test_what_the_command_line_says_to_a_study_is_heard(study, tmp_path, model_folder, capsys):
    another = tmp_path / "another"
    new_small_model(7).save(another)
    words = [
        str(study),
        "task=''",
        "streams=[]",
        "reduced={JPEG: []}",
        "reconstructions=[0.5]",
        "draws=0",
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(["evaluate", *words, "--model", str(another), "--every", "3", "--no-baselines", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fingerprint"] == load(another).fingerprint != load(model_folder).fingerprint
    assert report["photographs"] == 2 and {row["series"] for row in report["points"]} == {DECODED}
    assert "--no-baselines" in report["command"] and f"model={another}" in report["command"]
    assert main(["evaluate", *words, "--device", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--quality", "0.5"], ["--tasks", "detection"], ["--annotations", "x.json"]])
def test_what_a_study_says_itself_is_refused_on_the_command_line(study, capsys, option):
    assert main(["evaluate", str(study), *option]) == 1
    told = capsys.readouterr().err
    assert f"a study does not take {option[0]}" in told and len(told.splitlines()) == 1


class Counted:
    """An evaluator that counts photographs; with ``restorable`` it can take back what it has seen."""

    decodes = False

    def __init__(self, restorable: bool):
        self.seen = []
        if restorable:
            self.restore = lambda index, row: self.seen.append(index)

    def update(self, index, original, decoded, data):
        assert decoded is None, "nobody asked for a reconstruction"
        self.seen.append(index)
        return {"number": index, "_part": [index]}

    def compute(self):
        return {"photographs": len(self.seen)}


@pytest.mark.parametrize("restorable", [True, False])
@pytest.mark.parametrize("cut", ["", "a line", "the middle of a line", "before the summary", "nothing"])
def test_the_engine_goes_on_where_it_was_stopped(world, tmp_path, restorable, cut):
    """Whatever is left of its file: the figures are those of all photographs, each seen once."""
    images, path, encoded = ImageSet(world / "classes"), tmp_path / "rows.jsonl", []

    def case() -> engine.Case:
        encode = lambda index, image: encoded.append(index) or bytes(index + 1)  # noqa: E731
        return engine.Case(encode, lambda data: None, [Counted(restorable)], {"level": 3})

    whole = engine.measure(images, case, path)
    lines = path.read_text().splitlines(keepends=True)
    left = {"": "", "a line": lines[0], "the middle of a line": "".join(lines[:2]) + lines[2][:9]}
    left |= {"before the summary": "".join(lines[:-1]), "nothing": "".join(lines)}
    path.write_text(left[cut])
    before, encoded[:] = left[cut].count("\n"), []
    again = engine.measure(images, case, path)
    assert encoded == ([] if cut == "nothing" else list(range(before if restorable else 0, len(images))))
    assert again.summary["figures"] == whole.summary["figures"] == {"photographs": len(images)}
    assert again.summary["facts"] == {"level": 3}
    assert {i: row["bytes"] for i, row in again.rows.items()} == {i: i + 1 for i in range(len(images))}
    assert engine.measure(images, lambda: None, path).rows.keys() == again.rows.keys()
    fewer = engine.measure(images.every(2), case, path)  # rows are of other photographs: but for the first, anew
    assert fewer.summary["figures"] == {"photographs": 3} and sorted(fewer.rows) == [0, 1, 2]
    assert [row["_name"] for _, row in sorted(fewer.rows.items())] == images.every(2).names


@pytest.mark.parametrize(
    ("what", "read"), [("recipe", load_recipe), ("study", load_study), ("experiment", load_experiment)]
)
def test_all_configurations_have_presets_alike(tmp_path, what, read):
    path = tmp_path / "c.yaml"
    more = "question: '?'" if what == "experiment" else "title: t" if what == "study" else "seed: 1"
    path.write_text(f"name: a\n{more}\npresets: {{small: {{name: b}}}}\n")
    assert (read(path, []).name, read(path, []).preset) == ("a", "")
    assert (read(path, ["preset=small"]).name, read(path, ["preset=small"]).preset) == ("b", "small")
    assert read(path, ["preset=small", "name=c"]).name == "c"
    with pytest.raises(ValueError, match=r"c\.yaml has no preset 'large'; it has: small"):
        read(path, ["preset=large"])
    with pytest.raises(FileNotFoundError, match=f"no {what} at"):
        read(tmp_path / "none.yaml", [])
    for text in ("- a\n", "a: [\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"c\.yaml"):
            read(path, [])


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_studies_that_ship_load(path):
    for words in ([], ["preset=quick"]):
        config = load_study(path, words)
        assert config.name == path.stem and config.baselines
        assert all(0 <= q <= 1 for q in (*config.streams, *config.reconstructions))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["preset=huge"], "no preset 'huge'; it has: one"),
        (["stream=[0.5]"], "stream"),
        (["task=sound"], "unknown task 'sound'"),
        (["baselines={GIF: [3]}"], "unknown codec 'GIF'"),
        (["streams=[1.5]"], r"quality must be a number in \[0, 1\]"),
        (["task=''"], "reduced photographs are for tasks"),
        (["reduced={JPEG: [500]}"], r"reduced\.JPEG must have levels of 0 to 100"),
    ],
)
def test_bad_studies_say_what_is_wrong(study, tmp_path, words, says):
    with pytest.raises(ValueError, match=says):
        run_study(load_study(study, words), tmp_path / "run", "a command")


def test_a_codec_that_is_not_here_is_named(study, tmp_path, monkeypatch):
    monkeypatch.setattr("cdanalysis.codecs.pillow.PillowCodec.available", lambda self: False)
    with pytest.raises(ModuleNotFoundError, match=r"JPEG is not installed: pip install 'cdanalysis\[baselines\]'"):
        run_study(load_study(study), tmp_path / "run", "a command")


def test_photographs_that_cannot_be_read_are_named(study, world, tmp_path, capsys):
    (world / "classes" / "red" / "broken.png").write_bytes(b"no picture")
    assert main(["evaluate", str(study), "-o", str(tmp_path / "out")]) == 1
    assert "not an image" in capsys.readouterr().err
    assert main(["evaluate", str(world / "classes"), "every=2"]) == 1
    assert "is none (a YAML file)" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no study at"):
        load_study(tmp_path / "none.yaml")


def test_arithmetic_is_counted(small, chelsea):
    layer = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert macs(lambda: layer(torch.rand(1, 3, 10, 20))) == 5 * 3 * 9 * 10 * 20
    counted = costs(small, chelsea[:64, :96], "classification")
    assert counted["from pixels"] > 0 and counted["from latents"] > 0 and counted["encode"] > counted["from pixels"]
    image = Image.fromarray(chelsea[:64, :96])
    assert counted["from latents"] < counted["encode for the head"] < counted["encode"]
    assert costs(small, np.asarray(image), "").keys() == {"encode", "decode"}
