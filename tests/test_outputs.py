"""Nothing is lost: no command writes over what it reads, nor over a file that this library did not write."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cdanalysis.batch.work import DecodeWork, EncodeWork
from cdanalysis.cli import main
from cdanalysis.data.images import ImageSet
from cdanalysis.outputs import LEDGER, FileState, Ledgers, Origin, check_outputs, write_result
from cdanalysis.zoo import find, load

OTHER = '{"shapes": [], "tool": "labels"}'
STUDY = "name: s\ntitle: S\nmodel: {model}\nsource: {{path: photos}}\nreconstructions: [0.5]\n"
RECIPE = (
    "name: pets\ninit: {model}\nprecision: 32-true\nstages:\n- name: labels\n  trains: [heads.classification]\n"
    "  head: {{sources: [{{path: photos}}], epochs: 1}}\n"
)


@pytest.fixture
def desk(tmp_path, image_folder, small_folder, monkeypatch) -> Path:
    """A folder as people have them: photographs, streams, other tools' files, a model, a recipe and a study."""
    place = tmp_path / "desk"
    place.mkdir()
    shutil.copytree(image_folder, place / "photos")
    shutil.copytree(small_folder, place / "model")
    shutil.copy(image_folder / "cat" / "a.png", place / "t.png")
    monkeypatch.chdir(place)
    assert main(["encode", "t.png", "-o", "u.cda", "--model", "model"]) == 0
    (place / LEDGER).unlink()  # as if it came from somewhere else
    (place / "d").mkdir()
    shutil.copy("u.cda", "d/k01.cda")
    for name in ("d/k01.json", "d/k01.png", "d/k01.decoded.png", "d/k01.bits.png", "boxes.json", "d/photographs.csv"):
        Path(name).write_text(OTHER)
    for name in ("index.html", "t.cda", "t.original.png"):
        (place / "page").mkdir(exist_ok=True)
        (place / "page" / name).write_text(OTHER)
    (place / "taken" / "model").mkdir(parents=True)
    (place / "taken" / "model" / "config.yaml").write_text(OTHER)
    Image.fromarray(np.full((64, 96), 255, np.uint8)).save("mask.png")
    Path("study.yaml").write_text(STUDY.format(model="model"))
    Path("recipe.yaml").write_text(RECIPE.format(model="model"))
    (place / "run").mkdir()
    shutil.copytree("model", "run/model")
    Path("own.yaml").write_text(RECIPE.format(model="run/model"))
    shutil.copy("own.yaml", "run/model/config.yaml")
    os.symlink("t.png", "symlink.cda")
    os.link("t.png", "hardlink.cda")
    os.symlink("nowhere", "dangling.cda")
    return place


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != LEDGER)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


INPUTS = [
    "encode t.png -o t.png",
    "encode t.png -o symlink.cda",
    "encode t.png -o hardlink.cda",
    "encode t.png -o ./photos/../t.png",
    "encode t.png --importance mask.png -o mask.png",
    "encode t.png -o model/model.safetensors",
    "decode u.cda -o u.cda",
    "decode d -o d",
    "analyze u.cda -o u.cda",
    "analyze u.cda -o model/model.safetensors",
    "inspect u.cda --bits-map u.cda --model model",
    "train own.yaml -o run",
    "train run/model/config.yaml -o run",
    "evaluate photos --tasks detection --annotations boxes.json -o boxes.json",
    "evaluate study.yaml -o .",
    "evaluate photos --quality 0.5 --tasks classification -o photos/cat/a.png",
    "evaluate t.png --quality 0.5 --tasks reconstruction -o t.png",
]
OTHERS = [
    "encode t.png -o boxes.json",
    "encode t.png -o dangling.cda",
    "encode photos t.png -o page",
    "decode u.cda -o t.png",
    "decode d",
    "decode d -o d",
    "analyze d -o d",
    "inspect d --bits-map d --model model",
    "evaluate photos --quality 0.5 --tasks classification -o boxes.json",
    "evaluate photos --quality 0.5 --tasks classification -o d",
    "evaluate study.yaml -o d",
    "benchmark start -o boxes.json",
    "demo t.png -o page",
    "demo photos/cat/a.png -o page",
    "train recipe.yaml -o taken",
]


def words(line: str) -> list[str]:
    model = [] if "--model" in line or line.startswith(("train", "evaluate study")) else ["--model", "model"]
    return [*line.split(), *model]


@pytest.mark.parametrize("line", INPUTS)
@pytest.mark.parametrize("flag", [[], ["--overwrite"]])
def test_no_input_is_ever_overwritten(desk, line, flag):
    if "study" in line:
        Path("study.yaml").rename("s.json")
        Path("study.yaml").symlink_to("s.json")
    read = [desk / word for word in line.split()[1:] if (desk / word).is_file()]
    read += [*(desk / "model").iterdir(), *(desk / "run" / "model").iterdir()]
    before = {path: path.read_bytes() for path in read}
    status = main([*words(line), *flag])
    assert {path: path.read_bytes() for path in read} == before
    assert status == 1 or line == "decode d -o d"


@pytest.mark.parametrize("line", OTHERS)
def test_no_file_of_others_is_overwritten_unless_told(desk, line, capsys):
    before = contents(desk)
    status = main(words(line))
    after = contents(desk)
    assert {name: after.get(name) for name in before} == before
    says = capsys.readouterr().err
    assert status == 1 and ("--overwrite" in says or "is a folder" in says), says
    assert os.path.islink("dangling.cda")


@pytest.mark.parametrize("line", [line for line in OTHERS if "-o d" not in line or "analyze" in line])
def test_told_to_it_overwrites(desk, line):
    if line.startswith(("evaluate", "benchmark", "train")):
        pytest.skip("minutes, and the same check")
    assert main([*words(line), "--overwrite"]) == 0
    assert any(data != OTHER.encode() for data in contents(desk / "d").values())


def test_decoding_beside_the_originals_leaves_them(desk):
    before = contents(desk / "photos")
    assert main(["encode", "photos", "--model", "model"]) == main(["decode", "photos", "--model", "model"]) == 0
    after = contents(desk / "photos")
    assert {name: after[name] for name in before} == before
    assert {"cat/a.cda", "cat/a.decoded.png"} <= set(after) and len(after) == 3 * len(before)
    assert main(["encode", "photos", "--model", "model"]) == 0
    assert set(contents(desk / "photos")) == set(after), "what was decoded is no photograph of the folder"
    assert len(ImageSet("photos")) == 4, "for whoever measures or trains on it, neither"
    assert main(["decode", "photos", "-o", "apart", "--model", "model"]) == 0
    assert len(ImageSet("apart")) == 4, "but apart from them it is"


def test_own_results_are_replaced_and_changed_ones_are_not(desk, capsys):
    line = words("analyze u.cda -o out.json")
    assert main(line) == main(line) == 0
    first = Path("out.json").read_text()
    Path("out.json").write_text(OTHER)
    assert main(line) == 1 and "has changed since" in capsys.readouterr().err
    assert Path("out.json").read_text() == OTHER
    assert main([*line, "--overwrite"]) == 0 and Path("out.json").read_text() == first


def test_a_result_of_another_photograph_is_not_replaced(desk, capsys):
    """Streams may be all that is left of a photograph: a new one of that name is no reason to drop them."""
    assert main(words("encode photos/cat/a.png -o streams")) == 0
    first = Path("streams/a.cda").read_bytes()
    shutil.copy("photos/dog/d.png", "a.png")
    assert main(words("encode a.png -o streams")) == 1
    assert "was made from" in capsys.readouterr().err and Path("streams/a.cda").read_bytes() == first
    assert main(words("encode a.png -o streams/a.cda")) == 0, "a result that the user names is the user's to replace"


@pytest.fixture
def pair(desk) -> Path:
    """Streams of two photographs, where what is written for one may be called like what is written for the other."""
    segmenting().save("segments")
    for name, photograph in (("x", "cat/a"), ("x.mask", "dog/d"), ("y", "dog/c")):
        assert main(words(f"encode photos/{photograph}.png -o s/{name}.cda")) == 0
    return desk


def test_fewer_tasks_leave_no_mask_of_before(pair):
    """Beside the new predictions it would look like theirs; what somebody else has put there is left alone."""
    line, mask = words("analyze s/y.cda -o out/ --model segments"), Path("out/y.mask.png")
    assert main(line) == 0 and mask.is_file()
    assert main([*line, "--tasks", "classification"]) == 0 and not mask.exists()
    theirs = Path(shutil.copy("photos/cat/a.png", mask)).read_bytes()
    assert main([*line, "--tasks", "classification", "--overwrite"]) == 0 and mask.read_bytes() == theirs
    assert main(line) == 1 and mask.read_bytes() == theirs


def segmenting():
    model = load("model")
    model.heads["segmentation"] = model.new_head("segmentation", classes=["sky", "road"], width=32)
    return model


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("decode s/x.mask.cda -o out/", "analyze s/x.cda -o out/ --model segments"),
        ("decode s -o out", "analyze s -o out --model segments"),
        ("analyze s/x.cda -o out/r.txt --model segments", "analyze s/y.cda -o out/r.json --model segments"),
        ("encode photos/cat/a.png -o out/", "demo a.png -o out"),
        ("demo photos/cat/a.png -o out", "demo a.png -o out"),
        ("demo photos/cat/a.png -o out", "encode a.png -o out/"),
        ("demo -o out", "demo coffee.png -o out"),
    ],
)
def test_no_command_replaces_what_another_made_of_another_file(pair, first, second, capsys):
    shutil.copy("photos/dog/d.png", "a.png")
    shutil.copy("a.png", "coffee.png")
    assert main(words(first)) == 0
    before = contents(Path("out"))
    assert main(words(second)) == 1
    assert "was made from" in capsys.readouterr().err
    assert {name: data for name, data in contents(Path("out")).items() if name in before} == before
    assert main([*words(second), "--overwrite"]) == 0


def test_what_belongs_to_a_result_that_the_user_names_is_replaced_with_it(pair):
    for name in ("x", "y"):
        assert main(words(f"analyze s/{name}.cda -o r.json --model segments")) == 0
    assert json.loads(Path("r.json").read_text())["file"] == "s/y.cda"


@pytest.mark.parametrize(
    "line",
    [
        "5", "[]", "[1]", "null", '{"a": 1}', '{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "abcd": 6}', "9" * 5000,
        '["t.cda", 1, "x", "s", ["l"], null]', '[["t.cda"], 1, "x", "s", "l", null]',
        '["t.cda", "1", "x", "s", "l", 3]',
        '["t.cda", 1, "x", "s", "l", [1, 2]]', '["t.cda", 1, {}, "s", "l", []]', "\x00", "\udcff",
    ],
)  # fmt: skip
def test_lines_that_no_ledger_has_are_passed_over(desk, line):
    (Path("photos/cat") / LEDGER).write_text(f"{line}\n", errors="surrogateescape")
    for _ in range(2):
        assert main(words("encode photos/cat")) == 0
    assert len(ImageSet("photos/cat")) == 2


@pytest.mark.parametrize("place", ["t.png/x", "dangling.cda/x", "t.png/deep/x"])
@pytest.mark.parametrize("line", ["encode t.png -o {}.cda", "evaluate photos -o {}.json", "train recipe.yaml -o {}"])
def test_a_file_where_a_folder_must_be_is_named_before_the_work(desk, place, line, capsys, monkeypatch):
    monkeypatch.setattr("cdanalysis.evaluation.folder.evaluate_folder", None)  # hours
    assert main(words(line.format(place))) == 1
    assert f"a folder must be: {place.split('/')[0]}" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_printed_all_the_same(desk, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "r.json")

    monkeypatch.setattr("cdanalysis.commands.write_result", full)
    assert main(words("evaluate photos --quality 0.5 --tasks classification --json -o r.json")) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["photographs"] == 4 and "No space left on device: r.json" in captured.err


def test_what_another_machine_measured_is_not_dropped(desk, capsys):
    Path("b.json").write_text('{"hardware": "another machine", "codec": [1]}')
    assert main(words("benchmark start -o b.json")) == 1 and "another machine" in capsys.readouterr().err
    assert "codec" in Path("b.json").read_text()


def test_kept_predictions_say_where_their_mask_is_now(pair, monkeypatch, capsys):
    line = "analyze s -o an --model segments --json"
    assert main(words(line)) == 0
    monkeypatch.chdir(pair.parent)
    capsys.readouterr()
    assert main(["analyze", "desk/s", "-o", "desk/an", "--model", "desk/segments", "--json"]) == 0
    captured = capsys.readouterr()
    assert "done before" in captured.err
    for row in json.loads(captured.out)["files"]:
        assert Path(row["tasks"]["segmentation"]["mask"]).is_file()


@pytest.mark.parametrize("count", ["0", "-100", "1.5", "many"])
def test_a_bound_of_pixels_is_a_number_of_them(desk, count, capsys):
    with pytest.raises(SystemExit):
        main(words(f"encode t.png -o v.cda --max-pixels {count}"))
    assert "whole number above 0" in capsys.readouterr().err


def test_a_path_of_a_model_is_not_its_name_in_the_zoo(desk):
    """``./photo`` is what lies here, whatever ships under that name."""
    shutil.copytree("model", "photo")
    assert find("./photo") == find(Path("photo").absolute()).relative_to(desk) and find("photo") != Path("photo")


def test_devices_and_folders_are_no_files_to_write(tmp_path):
    os.mkfifo(tmp_path / "pipe.cda")
    (tmp_path / "folder.cda").mkdir()
    for name in ("pipe.cda", "folder.cda"):
        with pytest.raises(ValueError, match="no file at all"):
            check_outputs([tmp_path / name], overwrite=True)


def test_a_benchmark_keeps_a_benchmarks_file_alone(desk, capsys):
    Path("b.json").write_text("not even JSON")
    assert main(words("benchmark start -o b.json")) == 1 and "--overwrite" in capsys.readouterr().err
    assert Path("b.json").read_text() == "not even JSON"


def test_a_stopped_run_is_not_started_anew_unless_told(desk, capsys):
    Path("stopped").mkdir()
    Path("stopped/checkpoint.pt").write_bytes(b"hours of work")
    assert main(["train", "recipe.yaml", "-o", "stopped"]) == 1
    assert "--resume" in capsys.readouterr().err and Path("stopped/checkpoint.pt").read_bytes() == b"hours of work"


def test_a_ledger_outlives_crashes(tmp_path, monkeypatch):
    path = tmp_path / "a.cda"
    write_result(path, b"first", Origin("one"))
    with monkeypatch.context() as patch:  # killed after the entry, before the file got its name
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_result(path, b"second", Origin("two"))
    entry, unchanged = Ledgers().find(path)
    assert unchanged and entry.origin.settings == "one" and path.read_bytes() == b"first"
    with open(tmp_path / LEDGER, "a") as ledger:  # killed in the middle of an entry
        ledger.write('\n["a.cda", 6, "ab')
    write_result(path, b"third", Origin("three"))
    assert Ledgers().find(path)[0].origin.settings == "three"
    assert sorted(p.name for p in tmp_path.iterdir()) == [LEDGER, "a.cda"]


def test_files_are_known_by_their_content(tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(b"0123456789")
    state, times = FileState.of(path), (path.stat().st_atime, path.stat().st_mtime)
    os.utime(path, (1, 1))
    assert state.holds(path), "only its date is another"
    path.write_bytes(b"9876543210")
    os.utime(path, times)
    assert not state.holds(path), "same name, size and date, other content"
    path.unlink()
    assert not state.holds(path)


# -- what is done before is done again where anything that it depends on is another ------------------


@pytest.fixture
def others(small_folder, tmp_path) -> Path:
    """A model of the same codec, and so the same fingerprint, whose head answers otherwise."""
    model = load(small_folder)
    for parameter in model.heads.parameters():
        parameter.neg_()
    model.save(tmp_path / "others")
    return tmp_path / "others"


ENCODING = [
    ["--quality", "0.9"], ["--quality", "0.5,0.5,0.6"], ["--max-bytes", "700"], ["--bpp", "1.2"],
    ["--layers", "global"], ["--spatial-size", "64"],
    ["--precision", "bfloat16"],
    ["--importance", "0,0,20,20"], ["--importance", "saliency"],
]  # fmt: skip


def rerun(first: list[str], second: list[str], output: str, capsys) -> None:
    """Run both into one folder, and the second into a fresh one: the same must come of it; and once more is no work."""
    assert main([*first, "-o", output]) == 0
    capsys.readouterr()
    assert main([*second, "-o", output]) == 0
    assert "made again" in capsys.readouterr().err
    assert main([*second, "-o", output + "-fresh"]) == 0
    kept, fresh = contents(Path(output)), contents(Path(output + "-fresh"))
    assert {n: d.replace(f"{output}-fresh".encode(), output.encode()) for n, d in fresh.items()} == kept
    capsys.readouterr()
    assert main([*second, "-o", output]) == 0 and "4 of 4 were done before" in capsys.readouterr().err


@pytest.mark.parametrize("options", ENCODING, ids=" ".join)
def test_streams_of_other_settings_are_made_again(desk, options, capsys):
    start = ["encode", "photos", "--model", "model", "--workers", "1"]
    rerun(start, [*start, *options], "out", capsys)


def test_streams_of_other_teachers_are_made_again(desk, capsys):
    """Teachers are no part of the fingerprint, because streams are read without them; but they look at the image."""
    model = load("model")
    for parameter in model.codec.detector.parameters():
        parameter.neg_()
    model.save("taught")
    assert load("taught").fingerprint == model.fingerprint
    start = ["encode", "photos", "--workers", "1", "--model"]
    rerun([*start, "model"], [*start, "taught"], "out", capsys)


def save_two_branches() -> None:
    """The same model with two branches for realism, in the folders ``branch1`` and ``branch2``."""
    for number in (1, 2):
        model = load("model")
        model.codec.set_realism(1)
        torch.nn.init.constant_(model.codec.synthesis.realism.out[0].bias, 0.1 * number)
        model.save(f"branch{number}")


@pytest.mark.parametrize("realism", [0.0, 1.0])
def test_pictures_of_another_branch_for_realism_are_made_again(desk, capsys, realism):
    """It is no part of the fingerprint, because streams do not depend on it; but pictures do, above a realism of 0."""
    save_two_branches()
    assert load("branch1").fingerprint == load("branch2").fingerprint == load("model").fingerprint
    assert main(["encode", "photos", "-o", "s", "--model", "model"]) == 0
    start = ["decode", "s", "--workers", "1", "--realism", str(realism), "--model"]
    if realism:
        return rerun([*start, "branch1"], [*start, "branch2"], "out", capsys)
    assert main([*start, "branch1", "-o", "out"]) == 0
    capsys.readouterr()
    assert main([*start, "branch2", "-o", "out"]) == 0 and "4 of 4 were done before" in capsys.readouterr().err


def test_streams_fitted_to_another_branch_for_realism_are_made_again(desk, capsys):
    save_two_branches()
    start = ["encode", "photos", "--workers", "1", "--effort", "1", "--realism", "1", "--model"]
    rerun([*start, "branch1"], [*start, "branch2"], "out", capsys)


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (EncodeWork("model", quality=0.5, bpp=0.3), "give one of quality, bpp and max_bytes"),
        (EncodeWork("model", effort=True), "effort is a number of steps"),
        (EncodeWork("model", realism=1.0), "give effort, or no realism"),
        (EncodeWork("model", precision="float16"), "precision must be one of float32, bfloat16"),
        (DecodeWork("model", precision="float16"), "precision must be one of float32, bfloat16"),
        (DecodeWork("model", realism=1.5), r"realism must be a number in \[0, 1\]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_that_cannot_be_are_refused_before_the_first_file(desk, work, says):
    with pytest.raises(ValueError, match=says):
        work.check()


@pytest.mark.parametrize("importance", ["0,0,20,20", "saliency"])
def test_streams_within_one_budget_depend_on_the_importance_too(desk, importance, capsys):
    start = ["encode", "photos", "--model", "model", "--workers", "1", "--max-bytes", "700"]
    rerun(start, [*start, "--importance", importance], "out", capsys)


def test_budgets_that_grow_are_used(desk, capsys):
    start = ["encode", "photos", "--model", "model", "--workers", "1"]
    rerun([*start, "--max-bytes", "700"], [*start, "--max-bytes", "900"], "out", capsys)


def test_a_mask_that_changed_under_its_name_counts(desk, capsys):
    start = ["encode", "photos", "--model", "model", "--workers", "1", "--importance", "mask.png"]
    assert main([*start, "-o", "out"]) == 0
    half = np.zeros((64, 96), np.uint8)
    half[:32, :48] = 255
    Image.fromarray(half).save("mask.png")
    os.utime("mask.png", (1, 1))
    capsys.readouterr()
    assert main([*start, "-o", "out"]) == 0 and "4 of 4 were made with another" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "other"), [("analyze", "--model"), ("decode", "--preview"), ("analyze", "--tasks")])
def test_results_of_other_models_and_settings_are_made_again(desk, others, capsys, verb, other):
    layers = "global,spatial" if other == "--preview" else "all"
    assert main(["encode", "photos", "-o", "s", "--model", "model", "--layers", layers]) == 0
    start = [verb, "s", "--workers", "1"]
    if other == "--preview":
        assert main(["encode", "photos", "-o", "s", "--model", "model", "--overwrite"]) == 0
        rerun([*start, "--model", "model"], [*start, "--model", "model", "--preview"], "out", capsys)
    elif other == "--model":
        rerun([*start, "--model", "model"], [*start, "--model", str(others)], "out", capsys)
    else:
        first = [*start, "--model", "model", "--tasks", "classification"]
        assert main([*first, "-o", "out"]) == 0
        capsys.readouterr()
        assert main([*start, "--model", "model", "-o", "out"]) == 0
        assert "4 of 4 were done before" in capsys.readouterr().err, "all tasks are that one"


@pytest.mark.parametrize("date", [1.0, None, 2e9], ids=["older", "same", "newer"])
@pytest.mark.parametrize("verb", ["encode", "analyze", "decode"])
def test_a_source_that_was_replaced_is_worked_on_again(desk, verb, date, capsys):
    assert main(["encode", "photos", "-o", "s", "--model", "model"]) == 0
    source, kind = (Path("photos"), ".png") if verb == "encode" else (Path("s"), ".cda")
    line = [verb, str(source), "-o", "out", "--model", "model", "--workers", "1"]
    assert main(line) == 0
    first, path = contents(Path("out")), source / "cat" / f"a{kind}"
    before = path.stat().st_mtime
    shutil.copyfile(source / "dog" / f"d{kind}", path)
    os.utime(path, (date or before, date or before))
    capsys.readouterr()
    assert main(line) == 0
    said = capsys.readouterr().err
    assert "1 of 4 were made before their source changed, and were made again" in said and "3 of 4" in said
    second = contents(Path("out"))
    assert {name for name in first if first[name] != second[name]} == {next(n for n in first if n.startswith("cat/a"))}


def test_dates_and_places_alone_are_no_reason(desk, capsys):
    line = ["--model", "model", "--workers", "1", "-o", "out"]
    assert main(["encode", "photos", *line]) == 0
    for path in Path("photos").rglob("*.png"):
        os.utime(path, None)
    shutil.move("photos", "moved")
    shutil.copytree("out", "elsewhere")
    capsys.readouterr()
    for output in ("out", "elsewhere"):
        assert main(["encode", "moved", *line[:-1], output]) == 0
        assert "4 of 4 were done before" in capsys.readouterr().err


def test_a_study_measures_again_what_depends_on_other_things(desk, others):
    assert main(["evaluate", "study.yaml", "-o", "study", "perception=[psnr]"]) == 0
    first = json.loads(Path("study/s.json").read_text())
    assert main(["evaluate", "study.yaml", "-o", "study", "perception=[psnr]"]) == 0
    assert json.loads(Path("study/s.json").read_text())["points"] == first["points"]
    before = set(Path("study/points").iterdir())
    shutil.copyfile("photos/dog/d.png", "photos/cat/a.png")
    assert main(["evaluate", "study.yaml", "-o", "study", "perception=[psnr]"]) == 0
    assert json.loads(Path("study/s.json").read_text())["points"] != first["points"]
    after = set(Path("study/points").iterdir())
    assert len(after) == 2 * len(before) and before < after, "what was measured before is not lost"
