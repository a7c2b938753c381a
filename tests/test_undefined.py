"""Figures that are none: null in JSON, left out of means and counted, never a number that looks like a score."""

from __future__ import annotations

import ast
import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import with_counterparts
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cdanalysis.benchmarks.hardware import versions
from cdanalysis.cli import main
from cdanalysis.codecs.base import open_codec
from cdanalysis.console import any_name, print_table, say
from cdanalysis.data.coco import CocoImages
from cdanalysis.data.images import ImageSet
from cdanalysis.data.labeled import ClassFolders
from cdanalysis.evaluation.configs import PlotConfig, load_study
from cdanalysis.evaluation.engine import Case, Point, measure
from cdanalysis.evaluation.evaluators import Context, SalientEvaluator, new_evaluators
from cdanalysis.evaluation.folder import evaluate_folder
from cdanalysis.evaluation.study import StudyPoint, summarize, table_of_images
from cdanalysis.files import json_text, json_value
from cdanalysis.metrics.image import LEFT_OUT, mean_of, psnr
from cdanalysis.metrics.tasks import ClassificationScorer, DetectionScorer, SegmentationScorer
from cdanalysis.reports.markdown import table
from cdanalysis.reports.plots import experiment_figure, study_figure
from cdanalysis.reports.study_page import report_page
from cdanalysis.structures.predictions import Detection, Segmentation

ROOT = Path(__file__).parent.parent
NONE = (float("nan"), float("inf"), -float("inf"))


def strict(text: str):
    """JSON as other languages read it."""

    def refuse(name: str):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


# -- JSON ------------------------------------------------------------------------------------------

LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.text(max_size=5), st.floats())
PLAIN = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)


def without(value):
    if isinstance(value, dict):
        return {key: without(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(PLAIN)
def test_json_has_null_and_never_nan_or_infinity(value):
    assert strict(json_text(value)) == without(value)
    assert json_value(json.dumps(value)) == without(value), "also what Python's own writer left in older files"
    wrapped = {"row": (np.float64("inf"), np.float64(0.5), value)}
    assert strict(json_text(wrapped, indent=1, sort_keys=True)) == {"row": [None, 0.5, without(value)]}


def test_nothing_else_writes_json():
    """Neither the package nor its tools, by whatever name they import it."""
    writers = []
    for path in [*(ROOT / "cdanalysis").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            dotted = isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps", "JSONEncoder")
            named = isinstance(node, ast.ImportFrom) and node.module == "json"
            if named or (dotted and isinstance(node.value, ast.Name) and node.value.id == "json"):
                writers.append(str(path.relative_to(ROOT)))
    assert set(writers) == {"cdanalysis/files.py"}


# -- means -------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.none(), st.sampled_from(NONE), st.floats(-1e6, 1e6)), min_size=1, max_size=9))
def test_means_leave_out_what_is_none_and_say_how_many(values):
    found, known = mean_of("x", values), [v for v in values if v is not None and math.isfinite(v)]
    assert found["x"] == (pytest.approx(np.mean(known)) if known else None)
    assert found.get("x" + LEFT_OUT, 0) == len(values) - len(known)
    point = Point({n: {"x": value} for n, value in enumerate(values)} | {99: {}})
    assert point.mean("x") == found["x"] and point.left_out("x") == len(values) - len(known) and not point.left_out("y")


@pytest.fixture
def exact(small, monkeypatch):
    """The small model, which happens to decode one photograph, the white one, without any error."""
    white, decode = Image.new("RGB", (64, 64), "white"), small.decode
    stream = small.encode(white, 0.5)
    monkeypatch.setattr(small, "decode", lambda s, *a, **k: white if s == stream else decode(s, *a, **k))
    return small


@pytest.fixture
def one_white(tmp_path, chelsea) -> Path:
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (64, 64), "white").save(tmp_path / "flat" / "white.png")
    Image.fromarray(chelsea[:200, :200]).save(tmp_path / "flat" / "large.png")
    Image.fromarray(chelsea[:64, :64]).save(tmp_path / "flat" / "small.png")
    return tmp_path / "flat"


def test_one_exact_photograph_does_not_make_a_mean_infinite(exact, one_white):
    report = strict(json_text(evaluate_folder(exact, ImageSet(one_white), [0.5], baselines=False)))
    (row,) = report["reconstruction"]["rows"]
    own = []
    for name in ("large", "small"):
        original = Image.open(one_white / f"{name}.png")
        own.append(psnr(np.asarray(original), np.asarray(exact.decode(exact.encode(original, 0.5)))))
    assert row["psnr"] == pytest.approx(np.mean(own)) and row["psnr_left_out"] == 1
    assert row["ms_ssim_left_out"] == 2 and 0 < row["ms_ssim"] <= 1 and "bpp_left_out" not in row


def test_the_table_says_how_many_are_left_out(exact, one_white, monkeypatch, capsys):
    monkeypatch.setattr("cdanalysis.zoo.load", lambda *a, **k: exact)
    assert main(["evaluate", str(one_white), "--quality", "0.5", "--no-baselines"]) == 0
    out = capsys.readouterr().out
    assert "psnr_left_out" in out and "inf" not in out
    assert main(["evaluate", str(one_white), "--quality", "0.5", "--no-baselines", "--json"]) == 0
    assert strict(capsys.readouterr().out)["reconstruction"]["rows"][0]["psnr_left_out"] == 1


def test_evaluators_leave_out_equal_and_small_photographs(chelsea):
    noisy = np.clip(chelsea.astype(int) + 9, 0, 255).astype(np.uint8)
    (evaluator,) = new_evaluators(["psnr"], Context())
    assert evaluator.update(0, chelsea, chelsea, b"") == {"psnr": None}
    one = evaluator.update(1, chelsea, noisy, b"")["psnr"]
    assert evaluator.compute() == {"psnr": one, "psnr_left_out": 1}
    (evaluator,) = new_evaluators(["ms_ssim"], Context())
    evaluator.update(0, chelsea[:100], noisy[:100], b"")
    assert evaluator.compute() == {"ms_ssim": None, "ms_ssim_left_out": 1}
    evaluator.update(1, chelsea, chelsea, b"")
    assert evaluator.compute() == {"ms_ssim": pytest.approx(1.0), "ms_ssim_left_out": 1}


SQUEEZENET = "weights/squeezenet1_1-b8a52dc0.pth"


def weights(data_root: Path) -> str:
    found = sorted(data_root.rglob("squeezenet*.pth"))
    if not found:
        pytest.skip("no weights of SqueezeNet")
    return str(found[0])


@pytest.mark.data
def test_evaluators_of_places_and_of_patches(data_root, chelsea):
    """A place that is decoded exactly has no PSNR; one patch of 64 pixels has no covariance."""
    changed = chelsea.copy()
    changed[:, 200:] = 255 - changed[:, 200:]
    marked = np.zeros(chelsea.shape[:2])
    marked[:, :200] = 1
    evaluator = SalientEvaluator(weights(data_root), lambda image: marked)
    own = evaluator.update(0, chelsea, changed, b"")
    assert own["psnr_salient"] is None and own["psnr_rest"] > 0
    found = evaluator.compute()
    assert found["psnr_salient"] is None and found["psnr_salient_left_out"] == 1 and found["with_salient_places"] == 1
    (evaluator,) = new_evaluators(["fid"], Context(weights=weights(data_root)))
    for narrow in (chelsea[:63], chelsea[:, :40]):  # in which no patch fits
        assert evaluator.update(0, narrow, narrow, b"") == {}
    assert evaluator.compute() == {"fid_squeezenet": None, "fid_patches": 0}
    evaluator.update(0, chelsea[:64, :100], changed[:64, :100], b"")
    assert evaluator.compute() == {"fid_squeezenet": None, "fid_patches": 1}


# -- scores that are not defined -----------------------------------------------------------------------------


def test_one_class_folder_is_no_choice(small, tmp_path, chelsea):
    (tmp_path / "one" / "cat").mkdir(parents=True)
    Image.fromarray(chelsea[:64, :64]).save(tmp_path / "one" / "cat" / "a.png")
    report = evaluate_folder(with_counterparts(small), ImageSet(tmp_path / "one"), [0.5], ("classification",))
    for row in report["classification"]["rows"]:
        assert row["top1"] is None and row["points_lost"] is None and row["top1_all"] in (0.0, 1.0)


def test_strays_are_not_classified_but_reconstructed(small, image_folder, chelsea):
    Image.fromarray(chelsea[:64, :64]).save(image_folder / "a stray.png")
    with pytest.warns(UserWarning, match="1 of 5 photographs of .* are in no class folder"):
        report = evaluate_folder(with_counterparts(small), ImageSet(image_folder), [0.5], baselines=False)
    assert report["classification"]["photographs"] == 4 and report["reconstruction"]["photographs"] == 5
    with pytest.raises(ValueError, match=r"no photograph of .*cat lies in a folder"):
        evaluate_folder(small, ImageSet(image_folder / "cat"), [0.5], ("classification",))


def test_folders_may_carry_synonyms(tmp_path):
    """Two folders that mean one class: whichever name comes first, a right answer is right."""
    for folder in ("house cat", "puss", "dog"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.png")
    scorer = ClassificationScorer(ClassFolders(tmp_path), ["house cat, puss", "dog"])
    for index, logits in enumerate([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]):
        scorer.update(index, torch.tensor(logits))
    assert scorer.compute()["top1"] == 1.0


def boxes(folder: Path, counts: list[int], crowd: bool = False) -> CocoImages:
    """Photographs with so many objects each."""
    images, annotations = [], []
    for i, count in enumerate(counts):
        Image.new("RGB", (40, 40)).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png"})
        for n in range(count):
            box = [1 + 9 * n, 1, 8, 8]
            annotations.append({"image_id": i, "category_id": 1, "bbox": box, "iscrowd": int(crowd)})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "boxes.json").write_text(json.dumps(content))
    return CocoImages(folder, folder / "boxes.json")


def found(*lefts: int) -> Detection:
    array = np.array([[left, 1, 8, 8] for left in lefts], np.float32).reshape(-1, 4)
    return Detection(array, ["cat"] * len(lefts), np.full(len(lefts), 0.9, np.float32))


@pytest.mark.parametrize("predicted", [0, 2])
@pytest.mark.parametrize(("counts", "crowd"), [([0, 0], False), ([2, 1], True)])
def test_without_objects_there_is_no_precision(tmp_path, predicted, counts, crowd):
    scorer = DetectionScorer(boxes(tmp_path, counts, crowd), ["cat"])
    for index in range(2):
        scorer.update(index, found(*[1, 10][:predicted]))
    assert scorer.compute() == {"AP": None, "AP50": None, "AP75": None}


@given(st.lists(st.integers(0, 2), min_size=2, max_size=4), st.data())
def test_scores_of_any_choice_are_shares_or_nothing(tmp_path_factory, counts, data):
    """Also of the resamples of a bootstrap, in which -1 stood for photographs without an object."""
    scorer = DetectionScorer(boxes(tmp_path_factory.mktemp("boxes"), counts), ["cat"])
    for index in range(len(counts)):
        scorer.update(index, found(*data.draw(st.lists(st.sampled_from([1, 10, 25]), max_size=2))))
    chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=5))
    for value in scorer.compute(chosen).values():
        assert (value is None) == (not any(counts[i] for i in chosen)) and (value is None or 0 <= value <= 1)


def test_a_photograph_without_labels_is_not_the_worst(world):
    void = Image.fromarray(np.full((96, 96), 7, np.uint8))
    void.save(world / "pixels" / "labels" / "0.png")
    described = json.loads((world / "pixels" / "classes.json").read_text())["classes"]
    described.append({"index": 7, "name": "void", "ignore": True})
    (world / "pixels" / "classes.json").write_text(json.dumps({"classes": described}))
    from cdanalysis.data.segmentation import LabeledPixels

    labeled = LabeledPixels(world / "pixels")
    scorer = SegmentationScorer(labeled, list("brd"))
    for index in range(2):
        scorer.update(index, Segmentation(np.zeros((96, 96), np.uint8), list("brd")))
    assert scorer.compute([0]) == {"mIoU": None, "pixel_accuracy": None}
    assert scorer.compute([0, 1]) == scorer.compute([1]) and scorer.compute()["mIoU"] > 0


def test_nothing_is_kept_of_a_score_that_is_not_there(three_tasks, tmp_path, capsys):
    labeled = boxes(tmp_path, [0, 0])
    report = strict(json_text(evaluate_folder(with_counterparts(three_tasks), labeled, [0.5], ("detection",))))
    for row in report["detection"]["rows"]:
        assert row["AP"] is None and row["AP50"] is None and row["kept"] is None
    runner_rows = report["detection"]["rows"]
    print_table("detection", runner_rows)
    assert "nan" not in (text := capsys.readouterr().out) and "-1" not in text


# -- studies and experiments -------------------------------------------------------------------------------


def study_of(tmp_path: Path, task: str) -> object:
    (tmp_path / "s.yaml").write_text(f"name: s\ntitle: s\ntask: '{task}'\nperception: [psnr]\ndraws: 40\n")
    return load_study(tmp_path / "s.yaml")


def points(scorer: DetectionScorer | None = None, **column) -> list[StudyPoint]:
    """Three levels of both of ours and of JPEG, which double in rate."""
    rows = lambda level: {  # noqa: E731
        i: {"bytes": 10, "bpp": 0.1 * 2**level, "encode_s": 0.1, "decode_s": 0.1, "read_s": 0.1}
        | {name: value[level][i] for name, value in column.items()}
        for i in range(3)
    }
    series = ("heads on latents", "own reconstructions", "JPEG")
    codec = open_codec("JPEG")
    return [StudyPoint(name, codec, level, None, Point(rows(level)), scorer) for name in series for level in range(3)]


@pytest.mark.parametrize("counts", [[0, 0, 0], [1, 0, 0]])
def test_a_study_of_photographs_without_objects_has_a_page_and_no_false_figures(tmp_path, counts):
    labeled = boxes(tmp_path, counts)
    scorer = DetectionScorer(labeled, ["cat"])
    for index in range(3):
        scorer.update(index, found(1))
    summary = strict(json_text(summarize(study_of(tmp_path, "detection"), points(scorer), 3)))
    for row in summary["points"]:
        assert row["score"]["value"] == (pytest.approx(1.0) if any(counts) else None)
        assert row["score"]["low"] is None or row["score"]["low"] >= 0, "a draw without objects counted as -1"
    facts = {
        "config": {"title": "s", "model": "m", "task": "detection"},
        "command": "",
        "hardware": "",
        "versions": {},
        "codecs": {},
    }
    report = {**facts, **summary, "fingerprint": "", "data": "d", "photographs": 3, "macs": {}}
    assert "nan" not in report_page(report, []).split("</svg>")[-1].lower() and b"<svg" in study_figure(report)


def test_a_study_of_exact_decodes_counts_the_others(tmp_path):
    values = [[float("inf"), 30.0 + level, 31.0 + level] for level in range(3)]
    all_points = points(psnr=values)
    summary = strict(json_text(summarize(study_of(tmp_path, ""), all_points, 3)))
    for row in summary["points"]:
        assert row["psnr"] == 30.5 + row["level"] == row["score"]["value"] and row["psnr_left_out"] == 1
        assert 30 <= row["score"]["low"] - row["level"] <= row["score"]["high"] - row["level"] <= 31
    drawn = np.array([[0, 1, 2], [0, 0, 0]])
    assert all(np.isfinite(each.scores(drawn, "psnr")).all() for each in all_points)
    for row in (row for each in all_points for row in each.point.rows.values()):
        row["psnr"] = float("inf")
    with pytest.raises(ValueError, match="decoded without any error"):
        summarize(study_of(tmp_path, ""), all_points, 3)


def test_what_older_files_say_of_infinity_is_nothing(tmp_path, small, image_folder):
    images = ImageSet(image_folder)
    path = tmp_path / "points.jsonl"
    row = {"bytes": 9, "bpp": 1.0, "encode_s": 1, "decode_s": 1, "read_s": 1, "psnr": float("inf")}
    path.write_text("".join(json.dumps({"photograph": i, "_name": images.names[i], **row}) + "\n" for i in range(3)))
    encode = lambda index, image: small.encode(image, 0.5)  # noqa: E731
    decode = lambda data: np.asarray(small.decode(data))  # noqa: E731
    point = measure(images, lambda: Case(encode, decode, new_evaluators(["psnr"], Context())), path)
    assert point.left_out("psnr") == 3 and point.mean("psnr") == point.rows[3]["psnr"]
    assert all("Infinity" not in line for line in path.read_text().splitlines()[3:])


@pytest.mark.parametrize("value", [None, *NONE, np.float64("nan")])
def test_tables_have_a_dash_for_what_is_none(value, capsys):
    print_table("", [{"a": value, "b": 1.23456, "c": 3}])
    out = capsys.readouterr().out
    assert " - " in out and "1.235" in out and "nan" not in out and "inf" not in out
    assert table([{"a": value, "b": 1.23456}]).splitlines()[-1] == "| - | 1.235 |"


def test_plots_leave_out_what_is_none():
    rows = [{"codec": "a", "bpp": 0.1 * n, "psnr": None if n == 1 else 30.0 + n} for n in range(1, 4)]
    rows += [{"codec": "b", "bpp": None, "psnr": None}, {"codec": "c", "bpp": None, "psnr": 33.0}]
    report = {"tables": {"t": {"rows": rows}}}
    assert experiment_figure(report, [PlotConfig("t", "bpp", "psnr")]).startswith(b"\x89PNG")


# -- notices on the command line ---------------------------------------------------------------------------------


def test_notices_reach_people_and_programs(small_folder, image_folder, chelsea, capsys, tmp_path):
    for name in ("cat/a.png", "dog/c.png"):
        Image.open(image_folder / name).save(image_folder / name, icc_profile=b"no profile")
    words = ["--model", str(small_folder), "--json"]
    for workers in ("1", "2"):
        out = tmp_path / workers
        assert main(["encode", str(image_folder), "-o", str(out), "--workers", workers, *words]) == 0
        told = capsys.readouterr()
        files = strict(told.out)["files"]
        assert [len(row.get("notices", [])) for row in files] == [1, 0, 1, 0] and "a.png" in files[0]["notices"][0]
        lines = [line for line in told.err.splitlines() if "color profile cannot be used" in line]
        assert len(lines) == 2 and all(line.split(":")[0].endswith(".png") for line in lines)
    arguments = ["evaluate", str(image_folder), "--quality", "0.3", "0.6", "--no-baselines"]
    assert main([*arguments, *words, "--tasks", "reconstruction"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "color profile" in line]
    assert [line.split(":")[0] for line in lines] == ["cat/a.png", "dog/c.png"], "once each, whatever is read again"
    strict(json_text(versions()))


def test_the_tables_of_photographs_have_empty_cells(tmp_path):
    labeled = boxes(tmp_path, [0, 1])
    scorer = DetectionScorer(labeled, ["cat"])
    for index in range(2):
        scorer.update(index, found(1))
    point = Point({i: {"bytes": 1, "bpp": 1.0, "psnr": None} for i in range(2)})
    each = StudyPoint("JPEG", open_codec("JPEG"), 3, None, point, scorer)
    rows = list(
        csv.DictReader(table_of_images([each], labeled.names, {"main": "AP50", "measures": ["psnr"]}).splitlines())
    )
    assert [row["psnr"] for row in rows] == ["", ""]
    assert rows[0]["score"] == "" and float(rows[1]["score"]) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["[a]x.png", "[/a].png", ":smile:.png", "[bold red]y", "a\\[b].png", "\udcff.png"])
def test_tables_and_messages_show_names_as_they_are(name, capsys):
    """Names of files and classes are anybody's, and are not rich's markup."""
    any_name()
    print_table(name, [{name: 1, "file": name}])
    say(name)
    captured, shown = capsys.readouterr(), name.replace("\udcff", "\\udcff")
    assert captured.out.count(shown) == 3 and captured.err.strip() == shown
