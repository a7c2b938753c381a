"""Many files: done once, by whoever is there; what is broken is told, what was stopped goes on."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from cdanalysis import processes
from cdanalysis.batch import run as jobs_module
from cdanalysis.batch.run import in_process, in_processes, jobs_of, local_runner, run_jobs
from cdanalysis.batch.work import EncodeWork, Work
from cdanalysis.cli import main
from cdanalysis.outputs import Origin, write_result
from cdanalysis.processes import each
from cdanalysis.stream.container import unpack

ERRORS = {
    type(error).__name__: error
    for error in (
        MemoryError(), TypeError("odd"), KeyError("tasks"), RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        struct.error("unpack requires"), OverflowError("too large"), AssertionError(), ZeroDivisionError("by zero"),
        EOFError(), RecursionError("too deep"),
    )
}  # fmt: skip
"""What decoders and networks might raise of a file."""


@dataclass(frozen=True)
class Copying(Work):
    """Copies a file; one that says "deadly" kills the process that touches it, other words make it raise errors."""

    reads: ClassVar[frozenset[str]] = frozenset({".txt"})
    writes: ClassVar[str] = ".copy"
    writes_beside: ClassVar[str] = ".copy"
    columns: ClassVar[tuple[str, ...]] = ("file",)

    def __call__(self, source: str, target: str, origin: Origin) -> dict:
        text = Path(source).read_text()
        if "bad" in text:
            raise ValueError("bad text")
        if text in ERRORS:
            raise ERRORS[text]
        if "deadly" in text:
            os._exit(9)
        write_result(target, text, origin)
        return {"file": source}

    def done(self, source: str, target: str) -> dict | None:
        return {"file": source} if Path(target).read_text() else None


@pytest.fixture
def texts(tmp_path) -> Path:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    return tmp_path


@pytest.fixture
def streams(small_folder, image_folder, tmp_path):
    """Encodes the folder of photographs, with more words; gives the streams' bytes by name."""

    def encode(*words: object, status: int = 0) -> dict[str, bytes]:
        output = tmp_path / "streams"
        arguments = ["encode", image_folder, "-o", output, "--model", small_folder, *words]
        assert main([str(word) for word in arguments]) == status
        return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*.cda")}

    return encode


@pytest.mark.parametrize("method", sorted({"spawn", processes.METHOD}))
def test_processes_write_the_same_streams(streams, method, monkeypatch):
    monkeypatch.setattr(processes, "METHOD", method)
    alone = streams("--workers", 1)
    assert streams("--workers", 2, "--overwrite") == alone and len(alone) == 4


def test_what_is_done_is_not_done_again(streams, tmp_path, capsys, monkeypatch):
    first = streams("--workers", 1)
    names = sorted(first)
    (tmp_path / "streams" / names[1]).unlink()
    (tmp_path / "streams" / names[2]).write_bytes(b"what a crash might leave")
    done = []
    original = EncodeWork.__call__
    monkeypatch.setattr(EncodeWork, "__call__", lambda self, s, t, o: done.append(t) or original(self, s, t, o))
    capsys.readouterr()
    assert streams("--workers", 1) == first and len(done) == 2
    captured = capsys.readouterr()
    assert "2 of 4 were done before" in captured.err and all(name in captured.out for name in names)
    assert streams("--workers", 1, "--overwrite") == first and len(done) == 6


@pytest.mark.parametrize("suffix", [".txt", ".json", ".mask.png"])
def test_what_somebody_edited_is_refused_whatever_it_is_now(three_tasks_folder, three_tasks, chelsea, tmp_path, suffix):
    (tmp_path / "a.cda").write_bytes(three_tasks.encode(chelsea[:64, :96]))
    target = tmp_path / ("a.txt" if suffix == ".txt" else "a.json")
    words = ["analyze", str(tmp_path / "a.cda"), "-o", str(target), "--model", str(three_tasks_folder)]
    assert main(words) == 0
    result = target.with_suffix(suffix)
    whole = result.read_bytes()
    result.write_bytes(whole + b"and a note of mine")
    assert main(words) == 1 and result.read_bytes().endswith(b"of mine")
    result.write_bytes(whole[: len(whole) // 2])  # what a crash might leave
    assert main(words) == 0 and result.read_bytes() == whole


def test_other_settings_and_newer_photographs_are_done_again(streams, image_folder, monkeypatch):
    first = streams("--workers", 1)
    assert streams("--workers", 1, "--quality", 0.2) != first
    assert streams("--workers", 1, "--layers", "global").keys() == first.keys()
    assert streams("--workers", 1) == first
    path = next(image_folder.rglob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    os.utime(path, (time.time() + 5, time.time() + 5))
    again = streams("--workers", 1)
    assert sum(again[name] != first[name] for name in first) == 1


def test_a_broken_photograph_is_told_at_the_end(streams, image_folder, capsys):
    (image_folder / "aaa.png").write_bytes(b"no picture")
    assert len(streams("--workers", 1, status=1)) == 4
    assert "aaa.png is not an image file that Pillow can open" in capsys.readouterr().err
    assert main(["encode", str(image_folder), "--strict", "--workers", "1", "-o", str(image_folder / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("aaa.png") >= 1 and not list((image_folder / "out").rglob("*.cda"))


def test_predictions_are_kept_and_read_again(streams, small_folder, tmp_path, capsys, monkeypatch):
    streams("--workers", 1)
    words = [
        "analyze",
        str(tmp_path / "streams"),
        "-o",
        str(tmp_path / "found"),
        "--model",
        str(small_folder),
        "--json",
    ]
    capsys.readouterr()
    assert main([*words, "--workers", "1"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert len(first["files"]) == len(list((tmp_path / "found").rglob("*.json"))) == 4
    monkeypatch.setattr("cdanalysis.batch.work.zoo.load", None)
    assert main([*words, "--workers", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_a_killed_run_leaves_whole_files_and_goes_on(small_folder, tmp_path, chelsea):
    images, output = tmp_path / "photographs", tmp_path / "streams"
    images.mkdir()
    for number in range(12):
        Image.fromarray(np.roll(chelsea, 9 * number, 1)[:160, :160]).save(images / f"{number}.png")
    words = ["encode", images, "-o", output, "--model", small_folder, "--workers", "1"]
    command = [sys.executable, "-m", "cdanalysis.cli", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(output.glob("*.cda")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    written = {path: path.stat().st_mtime_ns for path in output.glob("*.cda")}
    assert 0 < len(written) < 12
    for path in written:
        unpack(path.read_bytes())
    assert main([str(word) for word in words]) == 0
    assert len(list(output.glob("*.cda"))) == 12
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_full_disk_is_one_line(streams, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "a.cda")

    monkeypatch.setattr("cdanalysis.batch.work.write_result", full)
    streams("--workers", 1, status=1)
    assert capsys.readouterr().err.strip().endswith("cdanalysis encode: No space left on device: a.cda")


def test_a_file_that_kills_its_process_is_named_and_the_rest_is_done(texts):
    (texts / "1.txt").write_text("deadly")
    (texts / "3.txt").write_text("deadly")
    outcome = run_jobs(Copying(), jobs_of([str(texts)], None, Copying()), in_processes(2))
    assert [Path(row["file"]).name for row in outcome.rows] == ["0.txt", "2.txt", "4.txt"]
    assert [Path(failure["file"]).name for failure in outcome.failures] == ["1.txt", "3.txt"]
    assert all("the process that worked on it died" in failure["error"] for failure in outcome.failures)


def test_workers_have_the_environment_of_their_parent_as_it_is(monkeypatch):
    for value in ("first", "second"):
        monkeypatch.setenv("CDANALYSIS_TEST", value)
        assert list(each(os.getenv, [("CDANALYSIS_TEST",)], 1)) == [value]


def _deadly(number: int) -> None:
    os._exit(9)


def test_processes_that_all_die_are_told():
    with pytest.raises(RuntimeError, match="a worker process died"):
        list(each(_deadly, [(0,), (1,)], 2))
    with pytest.raises(RuntimeError, match="a worker process died"):
        list(each(_deadly, [(number,) for number in range(9)], 2, died=lambda number: number))


@pytest.mark.parametrize("kind", ERRORS)
def test_whatever_a_file_makes_its_work_raise_is_that_files_failure(texts, kind):
    (texts / "3.txt").write_text(kind)
    outcome = run_jobs(Copying(), jobs_of([str(texts)], None, Copying()), in_process)
    assert len(outcome.rows) == 4
    (failure,) = outcome.failures
    assert failure["file"].endswith("3.txt") and failure["error"].strip() and "None" not in failure["error"]
    memory = kind in ("MemoryError", "RuntimeError")
    assert ("not enough memory" if memory else "a fault of cdanalysis itself") in failure["error"]
    report = re.search(r"\S*cdanalysis-fault-\S*\.txt", failure["error"])
    assert (report is None) == memory
    if report:
        assert kind in Path(report[0]).read_text() or kind == "error"
        Path(report[0]).unlink()


def test_failures_do_not_stop_the_rest(texts):
    (texts / "1.txt").write_text("bad")
    (texts / "2.txt").unlink()
    (texts / "2.txt").symlink_to(texts / "nowhere.txt")
    jobs = [*jobs_of([str(texts)], None, Copying()), (str(texts / "gone.txt"), str(texts / "gone.copy"))]
    outcome = run_jobs(Copying(), jobs, in_process)
    assert [Path(row["file"]).name for row in outcome.rows] == ["0.txt", "3.txt", "4.txt"]
    assert {f["error"].split(":")[0] for f in outcome.failures} == {"bad text", "No such file or directory"}
    with pytest.raises(ValueError, match=r"1\.txt: bad text"):
        run_jobs(Copying(), jobs, in_process, strict=True)


def test_two_files_are_not_written_to_one_place(texts):
    (texts / "more").mkdir()
    (texts / "more" / "0.txt").write_text("other")
    inputs = [str(texts / "0.txt"), str(texts / "more" / "0.txt")]
    with pytest.raises(ValueError, match="would both be written to"):
        jobs_of(inputs, str(texts / "out"), Copying())
    assert len(jobs_of([str(texts)], str(texts / "out"), Copying())) == 6


def test_many_files_have_a_process_a_core(monkeypatch):
    monkeypatch.setattr(jobs_module, "cores", lambda: 7)
    monkeypatch.setattr(jobs_module, "in_processes", lambda workers: workers)
    assert local_runner(2) is in_process and local_runner(100, "cuda") is in_process
    assert local_runner(100) == 7 and local_runner(3, workers=5) == 3 and local_runner(100, workers=1) is in_process
    with pytest.raises(ValueError, match="at least 1"):
        local_runner(3, workers=0)


def test_ray_does_the_same(streams, image_folder, capsys):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    import ray

    (image_folder / "aaa.png").write_bytes(b"no picture")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        by_ray = streams("--runner", "ray", status=1)
    finally:
        ray.shutdown()
    assert "aaa.png is not an image file that Pillow can open" in capsys.readouterr().err
    assert len(by_ray) == 4 and streams("--workers", 1, "--overwrite", status=1) == by_ray


def test_a_missing_ray_is_named(streams, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    streams("--runner", "ray", status=1)
    assert "Ray is not installed: pip install 'cdanalysis[ray]'" in capsys.readouterr().err
