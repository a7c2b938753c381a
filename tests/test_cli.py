"""The command line as a person and as a program meet it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import with_counterparts
from PIL import Image

import cdanalysis as cda
from cdanalysis.benchmarks.folders import folder_speed
from cdanalysis.benchmarks.hardware import hardware
from cdanalysis.benchmarks.memory import memory, start_costs
from cdanalysis.benchmarks.profile import PARTS, REST, parts
from cdanalysis.benchmarks.speed import growth
from cdanalysis.cli import main, parser
from cdanalysis.reports.heat_maps import GAP
from cdanalysis.reports.plots import growth_figure
from cdanalysis.structures.latents import LAYERS


@pytest.fixture
def run(capsys, small_folder):
    """Run a command with the small model; gives (status, standard output, standard error)."""

    def call(*words, model=True):
        words = [str(word) for word in words]
        if model:
            words += ["--model", str(small_folder)]
        status = main(words)
        return status, *capsys.readouterr()

    return call


def test_the_top_level_verbs_are_the_models(small, small_folder, image):
    stream, model = cda.encode(image, (0.3, 0.4, 0.5), model=str(small_folder)), str(small_folder)
    assert stream == small.encode(image, (0.3, 0.4, 0.5))
    first = cda.strip(stream, ("global",))
    assert cda.embed(first, model=model).equal(small.embed(stream)) and cda.embed(first, model=model).ndim == 1
    assert cda.analyze(first, model=model).classification == small.analyze(stream).classification
    assert cda.decode(stream, model=model).tobytes() == small.decode(stream).tobytes()


def test_there_and_back(run, image_folder, tmp_path, small):
    status, out, _ = run("encode", image_folder, "-o", tmp_path / "streams", "--quality", "0.4,0.3,0.6", "--json")
    report = json.loads(out)
    assert status == 0 and len(report["files"]) == 4 and report["failures"] == []
    path = tmp_path / "streams" / "cat" / "a.cda"
    info = cda.inspect(path.read_bytes())
    assert [layer.quality for layer in info.layers] == pytest.approx([0.4, 0.3, 0.6], abs=0.005)
    assert report["files"][0]["bytes"] == path.stat().st_size == info.bytes

    status, out, _ = run("decode", path, "-o", tmp_path / "back.png", "--json")
    assert status == 0 and json.loads(out)["width"] == 96
    assert Image.open(tmp_path / "back.png").tobytes() == small.decode(path.read_bytes()).tobytes()

    assert run("decode", tmp_path / "streams", "-o", tmp_path / "pictures")[0] == 0
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 4


def test_analyze_json_has_the_promised_shape(run, image_folder, tmp_path):
    run("encode", image_folder / "cat" / "a.png", "-o", tmp_path / "a.cda", "--layers", "global")
    status, out, _ = run("analyze", tmp_path / "a.cda", "--json")
    report, data = json.loads(out), (tmp_path / "a.cda").read_bytes()
    assert status == 0 and set(report) == {"file", "bits", "bpp", "tasks"}
    assert report["bits"] == 8 * len(data) and report["bpp"] == pytest.approx(8 * len(data) / (64 * 96))
    found = report["tasks"]["classification"]
    assert found["label"] == found["top5"][0][0] and found["score"] == found["top5"][0][1]
    assert run("analyze", tmp_path / "a.cda")[1].count("a.cda") == 1


def test_analyze_of_three_tasks(three_tasks_folder, capsys, image_folder, tmp_path):
    """Boxes as numbers, shares of classes, masks as pictures of class indices, one line each for people."""
    words = ["--model", str(three_tasks_folder)]
    assert main(["encode", str(image_folder / "cat"), "-o", str(tmp_path / "streams"), *words]) == 0
    capsys.readouterr()
    assert main(["analyze", str(tmp_path / "streams"), "-o", str(tmp_path / "masks"), "--json", *words]) == 0
    first = json.loads(capsys.readouterr().out)["files"][0]["tasks"]
    assert set(first) == {"classification", "detection", "segmentation"}
    assert (
        set(first["detection"][0]) == {"label", "class_id", "score", "box"} and len(first["detection"][0]["box"]) == 4
    )
    assert sum(first["segmentation"]["classes"].values()) == pytest.approx(1)
    mask = Image.open(first["segmentation"]["mask"])
    assert mask.size == (96, 64) and mask.mode == "L"
    assert main(["analyze", str(tmp_path / "streams"), "--tasks", "segmentation", *words]) == 0
    assert "%" in capsys.readouterr().out
    assert main(["demo", str(image_folder / "cat" / "a.png"), "-o", str(tmp_path / "demo"), *words]) == 0
    assert {p.name for p in (tmp_path / "demo").glob("a.*.png")} == {
        f"a.{kind}.png" for kind in ("original", "decoded", "objects", "objects-over", "classes", "classes-over")
    }


def test_evaluate_detection_and_segmentation(three_tasks, capsys, image_folder, tmp_path):
    with_counterparts(three_tasks).save(tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "--quality", "0.5", "--json"]
    content = {
        "images": [{"id": 1, "file_name": "cat/a.png", "width": 96, "height": 64}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30], "area": 900, "iscrowd": 0}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    boxes = ["--tasks", "detection", "--annotations", str(tmp_path / "boxes.json")]
    assert main(["evaluate", str(image_folder), *boxes, *words]) == 0
    rows = json.loads(capsys.readouterr().out)["detection"]["rows"]
    assert [row["input"] for row in rows] == ["photograph", "stream"] and "AP50" in rows[1]
    assert main(["evaluate", str(image_folder), "--tasks", "detection", *words]) == 1
    assert "set annotations" in capsys.readouterr().err
    assert main(["evaluate", str(image_folder), "--tasks", "detection", "classification", *words]) == 1
    assert "measured alone" in capsys.readouterr().err


def test_inspect_json_has_the_promised_shape(run, image_folder, tmp_path, small):
    run("encode", image_folder / "cat" / "a.png", "-o", tmp_path / "a.cda")
    status, out, _ = run("inspect", tmp_path / "a.cda", "--json", model=False)
    report = json.loads(out)
    keys = {"file", "version", "model", "fingerprint", "width", "height", "quality", "layers", "bytes", "bpp"}
    assert status == 0 and set(report) == keys
    assert report["fingerprint"] == small.fingerprint and [x["name"] for x in report["layers"]] == list(LAYERS)
    assert [x["working"] for x in report["layers"]] == list(small.codec.config.working_sizes)
    assert "at 96 px" in " ".join(run("inspect", tmp_path / "a.cda", model=False)[1].split())


def test_one_broken_photograph_does_not_stop_the_others(run, image_folder):
    (image_folder / "cat" / "broken.png").write_text("no image")
    status, out, err = run("encode", image_folder, "--json")
    report = json.loads(out)
    assert status == 1 and len(report["files"]) == 4
    assert report["failures"][0]["file"].endswith("broken.png") and "broken.png" in err
    assert len(list(image_folder.rglob("*.cda"))) == 4


def test_failures_are_one_line_and_status_1(run, tmp_path, image_folder):
    (tmp_path / "bad.cda").write_bytes(b"garbage")
    (tmp_path / "empty").mkdir()
    run("encode", image_folder / "cat" / "a.png", "-o", tmp_path / "base.cda", "--layers", "global,spatial")
    for words, says in [
        (("encode", tmp_path / "missing.png"), "no such file"),
        (("encode", tmp_path / "empty"), "no files to process"),
        (("analyze", tmp_path / "bad.cda"), "not a .cda stream"),
        (("decode", tmp_path / "base.cda"), "no detail layer"),
        (("decode", tmp_path / "base.cda", "--preview", "-o", tmp_path / "x.xyz"), "unknown image type"),
        (("analyze", tmp_path / "base.cda", "--tasks", "sound"), "unknown task"),
        (("evaluate", tmp_path / "empty"), "no images"),
        (("demo", tmp_path / "missing.png"), "no such file"),
    ]:
        status, _, err = run(*words)
        assert status == 1 and says in err and len(err.strip().splitlines()) == 1, err
    for words, says in [
        (("encode", image_folder, "--model", "nowhere"), "no model 'nowhere'"),
        (("zoo", "show"), "needs the name"),
        (("train", tmp_path / "none.yaml"), "no recipe"),
    ]:
        status, _, err = run(*words, model=False)
        assert status == 1 and says in err and len(err.strip().splitlines()) == 1, err


def test_usage_errors_are_status_2():
    for words in (["encode"], ["nonsense"], ["encode", "x", "--quality", "2"], ["encode", "x", "--quality", "a"], []):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


def test_evaluate_measures_both_tasks(run, image_folder, tmp_path, small):
    (image_folder / "dog").rename(image_folder / "cup")
    with_counterparts(small).save(tmp_path / "model")
    words = ["--quality", "0.5", "--json", "-o", tmp_path / "report.json", "--model", tmp_path / "model"]
    status, out, _ = run("evaluate", image_folder, *words, model=False)
    report = json.loads(out)
    assert status == 0 and json.loads((tmp_path / "report.json").read_text()) == report
    image, stream = report["classification"]["rows"]
    assert image["bpp"] is None and stream["bytes"] > 0 and report["classification"]["classes"] == 2
    assert stream["points_lost"] == pytest.approx(100 * (image["top1"] - stream["top1"]))
    codecs = {row["codec"]: row for row in report["reconstruction"]["rows"]}
    assert {"cdanalysis", "JPEG", "WebP"} <= set(codecs)
    assert codecs["cdanalysis"]["ms_ssim"] is None, "too small for MS-SSIM, and said so"
    status, out, _ = run("evaluate", image_folder, "--quality", "0.5", "--tasks", "reconstruction")
    assert status == 0 and "JPEG" in out and "estimated_bpp" in out
    status, out, _ = run("evaluate", image_folder, "--quality", "0.5", "--tasks", "reconstruction", "--no-baselines")
    assert status == 0 and "cdanalysis" in out and "JPEG" not in out


def test_zoo_lists_and_shows_what_ships(run):
    status, out, _ = run("zoo", "list", "--json", model=False)
    assert status == 0 and "photo" in [m["name"] for m in json.loads(out)["models"]]
    status, out, _ = run("zoo", "show", "photo", "--json", model=False)
    assert (
        status == 0
        and "metrics" in json.loads(out)
        and len(json.loads(out)["heads"]["classification"]["classes"]) == 1000
    )
    assert "photo" in run("zoo", "show", "photo", model=False)[1]
    assert run("zoo", "list", model=False)[0] == 0


def test_the_demo_writes_its_page(run, tmp_path):
    status, out, _ = run("demo", "-o", tmp_path / "demo", "--json")
    report = json.loads(out)
    page = (tmp_path / "demo" / "index.html").read_text()
    assert status == 0 and len(report["photographs"]) == 4
    assert page.count("data:image/webp;base64,") == 8 and "http" not in page and "$" not in page
    for row in report["photographs"]:
        assert (tmp_path / "demo" / f"{row['name']}.cda").stat().st_size == row["bytes"] > row["semantic_bytes"]
        assert row["semantic_bytes"] > row["global_bytes"]
        for kind in ("original", "decoded"):
            Image.open(tmp_path / "demo" / f"{row['name']}.{kind}.png").verify()


def test_train_from_the_command_line(run, image_folder, tmp_path, small_folder):
    (tmp_path / "r.yaml").write_text(
        f"name: pets\ninit: {small_folder}\nprecision: 32-true\n"
        "stages:\n- name: labels\n  trains: [heads.classification]\n"
        f"  head: {{sources: [{{path: {image_folder}}}], epochs: 2}}\n"
    )
    status, out, _ = run(
        "train", tmp_path / "r.yaml", "stages.labels.head.epochs=1", "-o", tmp_path / "run", model=False
    )
    assert status == 0 and "the model is in" in out
    assert cda.load(str(tmp_path / "run" / "model")).heads["classification"].classes == ["cat", "dog"]
    status, _, err = run("train", tmp_path / "r.yaml", "stages.labels.haed.epochs=1", model=False)
    assert status == 1 and "nearest known one is 'head'" in err


def test_benchmark_compares_three_tasks(run, tmp_path):
    earlier = {"hardware": hardware(), "codec": {"rows": [{"codec": "ours"}]}}
    (tmp_path / "b.json").write_text(json.dumps(earlier))
    status, out, _ = run(
        "benchmark", "heads", "--photographs", "3", "--repeats", "1", "--json", "-o", tmp_path / "b.json"
    )
    report = json.loads(out)
    assert status == 0 and json.loads((tmp_path / "b.json").read_text()) == report
    assert report.pop("codec") == earlier["codec"] and set(report) == {"hardware", "heads"}
    assert [row["task"] for row in report["heads"]["rows"]] == ["classification", "detection", "segmentation"]
    for row in report["heads"]["rows"]:
        assert row["ratio"] == pytest.approx(row["end_to_end_s"] / row["from_latents_s"]) and row["from_latents_s"] > 0


def test_benchmark_times_codecs_and_tasks(three_tasks_folder, capsys, image_folder, monkeypatch):
    """Each beside what else one would use: ratios within a rate, and within a task and a number of photographs."""
    monkeypatch.setattr("cdanalysis.benchmarks.speed.BATCH", 2)
    monkeypatch.setattr("cdanalysis.benchmarks.speed.RATES", (2.0, 4.0))
    words = ["benchmark", "codec", "tasks", "--repeats", "1", "--json", "--images", str(image_folder)]
    assert main([*words, "--model", str(three_tasks_folder)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["task"] for row in report["tasks"]["rows"]} == {"classification", "detection", "segmentation"}
    assert {row["photographs"] for row in report["tasks"]["rows"]} == {1, 2}
    for section, least, alike in (
        ("codec", "both_s", ("wanted_bpp",)),
        ("tasks", "least_s", ("task", "photographs")),
    ):
        groups: dict[tuple, list] = {}
        for row in report[section]["rows"]:
            groups.setdefault(tuple(row[key] for key in alike), []).append(row)
        for first, *others in groups.values():
            assert first["ratio"] == 1 and others
            assert all(row["ratio"] == pytest.approx(row[least] / first[least]) for row in others)
    assert all(row["bpp"] <= row["wanted_bpp"] for row in report["codec"]["rows"] if "mbt" not in row["codec"])


def test_unknown_benchmarks_are_refused(run):
    assert run("benchmark", "heads", "tails")[0] == 1


def test_parts_are_all_of_the_time(three_tasks):
    rows = {row.pop("part"): row for row in parts(three_tasks, repeats=1)["rows"]}
    whole = rows.pop("all")
    assert set(rows) == {*PARTS, REST}
    for verb, seconds in whole.items():
        own = [row[verb] for row in rows.values() if row[verb] is not None]
        assert min(own) >= 0 and sum(own) == pytest.approx(seconds)
    assert rows["synthesis"]["decode_s"] > 0 and rows["synthesis"]["labels_s"] is None
    assert rows["teachers"]["encode_s"] > 0 and rows["teachers"]["labels_s"] is rows["teachers"]["decode_s"] is None
    assert rows["spatial synthesis"]["labels_s"] is None, "labels need no more than the global layer"


def test_benchmarks_of_another_machine_are_not_kept(run, tmp_path, monkeypatch):
    monkeypatch.setattr("cdanalysis.benchmarks.head_training.head_speed", lambda *a, **k: {"rows": []})
    (tmp_path / "b.json").write_text(json.dumps({"hardware": "another", "codec": {}}))
    status, out, _ = run("benchmark", "heads", "--json", "-o", tmp_path / "b.json", "--overwrite")
    assert status == 0 and set(json.loads(out)) == {"hardware", "heads"}


def test_growth_is_measured_and_drawn(small):
    found = growth(small, counts=(1, 3), megapixels=(0.01, 0.03))
    assert [row["photographs"] for row in found["by_count"]] == [1, 3]
    assert all(row[verb] > 0 for row in found["by_size"] for verb in ("encode_s", "decode_s", "analyze_s"))
    assert b"<svg" in growth_figure(found)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks of memory are read from /proc")
def test_memory_grows_with_the_photograph(small_folder):
    first, second = memory(small_folder, [2.0], ["encode"])["rows"]
    assert first["megapixels"] == 0.39 and second["megapixels"] == 2.0
    assert all(row["encode_mib"] >= row["loaded_mib"] > 100 for row in (first, second))
    assert second["encode_mib"] > first["encode_mib"] + 20


def test_folders_are_timed_on_all_cores(three_tasks_folder):
    found = folder_speed(str(three_tasks_folder), photographs=2)
    assert [row["what"] for row in found["rows"]][:3] == ["encode", "analyze", "decode"]
    for row in found["rows"]:
        assert row["photographs_per_s"] == pytest.approx(2 / row["seconds"])
        assert row["megapixels_per_s"] == pytest.approx(row["photographs_per_s"] * 0.3072)
    assert 0 < found["global layer_bytes"] < found["semantic layers_bytes"] < found["stream_bytes"]


def test_starting_is_timed():
    assert all(0 < seconds < 60 for seconds in start_costs().values())


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from cdanalysis.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'numpy', 'rich', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_every_command_is_there_and_says_what_it_is_for():
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert list(commands.choices) == [
        "encode", "decode", "analyze", "inspect", "strip", "train", "evaluate", "benchmark", "zoo", "export", "demo",
        "index", "search", "app",
    ]  # fmt: skip
    assert all(command.description for command in commands.choices.values())


def test_inspect_draws_where_the_bits_of_each_layer_went(run, tmp_path, chelsea):
    """One picture of the photograph's size for each layer, on the layer's own grid."""
    Image.fromarray(np.hstack([chelsea[:96, :96], np.full((96, 80, 3), 120, np.uint8)])).save(tmp_path / "half.png")
    assert run("encode", tmp_path / "half.png", "--importance", "0,0,90,96")[0] == 0
    status, out, _ = run("inspect", tmp_path / "half.cda", "--bits-map", tmp_path / "map.png", "--json")
    assert status == 0 and json.loads(out)["layers"][2]["mapped"]
    drawn = np.asarray(Image.open(tmp_path / "map.png"))
    assert drawn.shape == (3 * 96 + 2 * GAP, 176, 3)
    one, where, look = (drawn[top + 40 : top + 96] for top in range(0, len(drawn), 96 + GAP))
    assert len(np.unique(one.reshape(-1, 3), axis=0)) == 1, "the global layer has one cell"
    assert len(np.unique(where.reshape(-1, 3), axis=0)) > 5
    assert look[:, :96].mean() > 2 * look[:, 112:].mean()


def test_strip_cuts_layers_off_without_a_model(run, image_folder, tmp_path):
    run("encode", image_folder, "-o", tmp_path / "s")
    for name, layers in (("two", ("global", "spatial")), ("t", ("global",))):
        words = ["--layers", "global"] if name == "t" else []
        status, out, _ = run("strip", tmp_path / "s", "-o", tmp_path / name, *words, "--json", model=False)
        assert status == 0 and len(json.loads(out)["files"]) == 4
        for row in json.loads(out)["files"]:
            assert Path(row["stream"]).read_bytes() == cda.strip(row["file"], layers)
    status, _, err = run("strip", tmp_path / "t", "-o", tmp_path / "u", "--layers", "all", model=False)
    assert status == 1 and "no spatial layer" in err
    assert run("analyze", tmp_path / "t")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--bpp", "0.4", "--quality", "0.5"], "not allowed with"),
        (["--bpp", "much"], "not a number"),
        (["--max-bytes", "-3"], "above 0"),
        (["--importance", "1,2,3"], "a box is four numbers"),
        (["--quality", "0.1,0.2,0.3,0.4"], "there are 3 layers"),
        (["--layers", "spatial"], "the first one or more of global, spatial, detail"),
    ],
)
def test_impossible_wishes_are_usage_errors(words, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["encode", "x.png", *words])
    assert stopped.value.code == 2 and says in capsys.readouterr().err


def test_budgets_on_the_command_line(run, tmp_path, chelsea):
    Image.fromarray(chelsea[:96, :96]).save(tmp_path / "a.png")
    most = json.loads(run("encode", tmp_path / "a.png", "--quality", "0.5", "--json")[1])["bytes"]
    found = json.loads(run("encode", tmp_path / "a.png", "--max-bytes", most, "--json")[1])
    assert 0.95 * most <= found["bytes"] <= most
    for words, says in (
        (["--bpp", "0.01"], "a stream of this photograph can have"),
        (["--importance", "gaze"], "importance must be 'saliency', boxes or a file"),
        (["--quality", "0.5,0.5"], "one for each of global, spatial, detail"),
        (["--max-bytes", "100,1000"], "one for each of global, spatial, detail"),
        (["--max-bytes", "100,1000,9000", "--layers", "global,spatial"], "one for each of global, spatial, got"),
        (["--spatial-size", "100"], "a working size is a multiple of 32 up to 1024, got 100"),
        (["--spatial-size", "64", "--layers", "global"], "a size is given for the spatial layer, which is not written"),
    ):
        status, _, err = run("encode", tmp_path / "a.png", *words)
        assert status == 1 and says in err and len(err.strip().splitlines()) == 1
