"""One bad file is that file's failure, named at the end, and the rest is done; and no file is left out silently."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import signal
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import cdanalysis as cda
from cdanalysis.batch.work import EncodeWork
from cdanalysis.cli import main
from cdanalysis.codecs.pillow import JPEG
from cdanalysis.data.crops import Crops, Source
from cdanalysis.data.images import ImageSet
from cdanalysis.data.labeled import LabeledSource
from cdanalysis.data.labeled_crops import LabeledCrops
from cdanalysis.data.segmentation import class_indices
from cdanalysis.faults import sentence
from cdanalysis.files import LEDGER, LeftOut, files_below, write_whole
from cdanalysis.metrics.image import psnr
from cdanalysis.notices import InputWarning, collected
from cdanalysis.photographs import formats
from cdanalysis.photographs.formats import load_plugins, suffixes, unbounded, why_not
from cdanalysis.photographs.read import header_of, open_image, to_rgb


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def broken_avif(image: Image.Image) -> bytes:
    data = bytearray(saved(image, "AVIF"))
    place = data.index(b"mdat") + 4
    data[place : place + 2] = b"\0\0"
    return bytes(data)


def turned_jpeg(image: Image.Image, old: bytes = b"", new: bytes = b"") -> bytes:
    """A JPEG with orientation 6 and a description, one of whose EXIF entries is damaged."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "a cat", 72.0
    data = saved(image, "JPEG", exif=exif, quality=95)
    assert old in data
    return data.replace(old, new, 1)


@pytest.fixture
def photograph(chelsea) -> Image.Image:
    return Image.fromarray(chelsea[:60, :80])


# -- decoders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [b"\x01\x41\x00\x02", b"\x01\x1a\x00\x02", b"\x01\x0e\xff\xff", b"\xff\xff\x00\x02"])
@pytest.mark.parametrize("order", [">", "<"])
def test_damaged_exif_turns_the_photograph_all_the_same(photograph, new, order):
    whole = turned_jpeg(photograph)
    entry = b"\x01\x0e\x00\x02"
    if entry not in whole:
        entry, new = (struct.pack("<HH", *struct.unpack(">HH", part)) for part in (entry, new))
    data = whole.replace(entry, new, 1)
    assert data != whole or entry == new
    upright = open_image(data)
    assert upright.size == (60, 80) and upright.tobytes() == open_image(whole).tobytes()
    assert to_rgb(upright).size == (60, 80), "turned once, however often it is looked at"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_pillows_and_taken_once(photograph, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photograph, kind, exif=exif)
    ours, theirs = open_image(data), ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert ours.tobytes() == theirs.convert("RGB").tobytes() and to_rgb(ours).tobytes() == ours.tobytes()


KINDS = (
    "JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO", "TGA", "PCX", "SGI", "DDS", "QOI",
    "HEIF", "JXL",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_decoder_raises_is_a_value_error_that_names_the_file(photograph, tmp_path, kind, data):
    formats.load_plugins()
    if kind not in Image.SAVE:
        pytest.skip("this Pillow does not write it")
    try:
        exif = {"exif": photograph.getexif()} if kind in ("JPEG", "WEBP") else {}
        whole = bytearray(saved(photograph, kind, **exif))
    except OSError as error:
        pytest.skip(str(error))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "bad.bin"
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    try:
        assert open_image(path).mode == "RGB"
    except ValueError as error:
        assert "bad.bin" in str(error)


@pytest.mark.parametrize("error", [MemoryError(), struct.error("x"), KeyError(1), IndexError(), SystemError("s")])
def test_errors_of_decoders_become_sentences(photograph, tmp_path, monkeypatch, error):
    (tmp_path / "a.png").write_bytes(saved(photograph, "PNG"))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(ValueError, match=r"a\.png cannot be read"):
        open_image(tmp_path / "a.png")


def test_large_photographs_are_not_pillows_to_refuse(photograph, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    (tmp_path / "a.png").write_bytes(saved(photograph, "PNG"))
    assert open_image(tmp_path / "a.png").size == (80, 60) and not recwarn.list
    with pytest.raises(ValueError, match=r"a\.png has 80x60 pixels, more than the limit of 4799; raise it"):
        open_image(tmp_path / "a.png", max_pixels=4799)
    with unbounded(), unbounded():
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_max_pixels_holds_both_ways(small_folder, photograph, tmp_path, capsys):
    """What would make a stream that is refused is not encoded, and both ways the bound can be moved."""
    (tmp_path / "a.png").write_bytes(saved(photograph, "PNG"))
    words = [str(tmp_path / "a.png"), "--model", str(small_folder), "--max-pixels"]
    assert main(["encode", *words, "4800"]) == 1 and "padded" in capsys.readouterr().err
    assert main(["encode", *words, "4799"]) == 1 and "--max-pixels" in capsys.readouterr().err
    assert main(["encode", *words, "6144"]) == 0
    words[0] = str(tmp_path / "a.cda")
    assert main(["decode", *words, "6143"]) == 1 and "at most 6143" in capsys.readouterr().err
    assert main(["decode", *words, "6144"]) == 0


def test_further_pictures_of_a_file_are_told(photograph, tmp_path):
    more = [photograph.rotate(90), photograph.rotate(180)]
    photograph.save(tmp_path / "a.tif", save_all=True, append_images=more)
    with pytest.warns(InputWarning, match=r"a\.tif has 3 frames, of which the first was read"):
        assert open_image(tmp_path / "a.tif").tobytes() == photograph.tobytes()


# -- every verb goes on without it ------------------------------------------------------------------


@pytest.fixture
def spoiled(image_folder, photograph) -> Path:
    """The folder of photographs with a damaged AVIF, a cut JPEG and a text among them."""
    (image_folder / "cat" / "bad.avif").write_bytes(broken_avif(photograph))
    (image_folder / "cat" / "cut.jpg").write_bytes(saved(photograph, "JPEG")[:300])
    (image_folder / "dog" / "text.png").write_text("no picture")
    (image_folder / "dog" / "turned.jpg").write_bytes(turned_jpeg(photograph))
    return image_folder


BAD = ("bad.avif", "cut.jpg", "text.png")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_encode_goes_on(spoiled, small_folder, tmp_path, capsys, workers):
    words = ["encode", str(spoiled), "-o", str(tmp_path / "s"), "--model", str(small_folder), "--workers", workers]
    for _ in range(2):  # resuming meets them again
        assert main([*words, "--json"]) == 1
        captured = capsys.readouterr()
        report = json.loads(captured.out)
        assert [Path(f["file"]).name for f in report["failures"]] == list(BAD) and len(report["files"]) == 5
        assert all(name in captured.err for name in BAD)


@pytest.mark.parametrize("verb", ["decode", "analyze", "inspect"])
def test_other_verbs_go_on(image_folder, small_folder, tmp_path, capsys, verb):
    model = ["--model", str(small_folder)]
    assert main(["encode", str(image_folder), "-o", str(tmp_path / "s"), *model]) == 0
    good = (tmp_path / "s" / "cat" / "a.cda").read_bytes()
    (tmp_path / "s" / "bad.cda").write_bytes(good[:-3])
    (tmp_path / "s" / "worse.cda").write_bytes(b"")
    (tmp_path / "s" / "folder.cda").mkdir()
    capsys.readouterr()
    more = ["--bits-map"] if verb == "inspect" else ["-o"]
    assert main([verb, str(tmp_path / "s"), *more, str(tmp_path / "out"), *model, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [Path(f["file"]).name for f in report["failures"]] == ["bad.cda", "worse.cda"] and len(report["files"]) == 4


def test_the_demo_goes_on_and_keeps_photographs_of_one_name_apart(image_folder, small_folder, tmp_path, capsys):
    (image_folder / "bad.png").write_text("no picture")
    (image_folder / "dog" / "a.png").write_bytes((image_folder / "dog" / "d.png").read_bytes())
    inputs = [str(image_folder / name) for name in ("cat/a.png", "bad.png", "dog/a.png", "cat/a.png")]
    words = ["demo", *inputs, "-o", str(tmp_path / "demo"), "--model", str(small_folder), "--json"]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert [row["name"] for row in json.loads(captured.out)["photographs"]] == [
        "a",
        "a-2",
    ] and "bad.png" in captured.err


def test_evaluate_goes_on(spoiled, small_folder, three_tasks, world, tmp_path, capsys):
    words = ["--model", str(small_folder), "--quality", "0.5", "--json", "--no-baselines"]
    assert main(["evaluate", str(spoiled), "--tasks", "reconstruction", *words]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["photographs"] == 5 and [Path(f["file"]).name for f in report["failures"]] == list(BAD)
    assert all(name in captured.err for name in BAD)
    for path in (spoiled / "cat").glob("*.png"):
        path.unlink()
    for path in (spoiled / "dog").glob("*.*g"):
        path.write_text("no picture")
    assert main(["evaluate", str(spoiled), *words]) == 1 and "no photograph of" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_evaluate_goes_on_with_labels(small_folder, world, tmp_path, capsys, task):
    head = {"detection": ["red", "blue"], "segmentation": ["b", "r", "d"]}[task]
    new = cda.load(str(small_folder))
    new.heads[task] = new.new_head(task, classes=head)
    new.save(tmp_path / "model")
    folder = world / "pixels" / ("images" if task == "detection" else "")
    (world / "pixels" / "images" / "3.png").write_bytes(b"no picture")
    (world / "pixels" / "labels" / "0.png").write_bytes(b"no picture")
    count = {"detection": 5, "segmentation": 4}[task]
    more = ["--annotations", str(world / "boxes.json")] if task == "detection" else []
    words = ["evaluate", str(folder), "--tasks", task, *more, "--model", str(tmp_path / "model"), "--json"]
    assert main([*words, "--quality", "0.5"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["photographs"] == count and captured.err.count("3.png") == 1, "once is enough"
    assert ("labels/0.png" in captured.err) == (task == "segmentation")


def test_a_study_goes_on(spoiled, small_folder, tmp_path, capsys):
    text = f"name: s\ntitle: S\nmodel: {small_folder}\nsource: {{path: {spoiled}}}\nreconstructions: [0.5]\n"
    (tmp_path / "s.yaml").write_text(text)
    assert main(["evaluate", str(tmp_path / "s.yaml"), "-o", str(tmp_path / "s"), "perception=[psnr]", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["photographs"] == 5 and all(name in captured.err for name in BAD)


def test_training_a_head_goes_on(spoiled, small_folder, tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(
        f"name: pets\ninit: {small_folder}\nprecision: 32-true\ncalibration: {{source: {spoiled}, every: 1}}\n"
        "stages:\n- name: labels\n  trains: [heads.classification]\n"
        f"  head: {{sources: [{{path: {spoiled}}}], epochs: 1}}\n"
    )
    assert main(["train", str(tmp_path / "r.yaml"), "-o", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert all(name in said for name in BAD)
    assert all(name in said.strip().splitlines()[-1] for name in BAD), "and again at the end"
    assert cda.load(str(tmp_path / "run" / "model")).heads["classification"].classes == ["cat", "dog"]


def test_crops_go_on_and_stay_a_function_of_seed_and_number(spoiled, world):
    sources = [Source(path=str(spoiled))]
    crops = [Crops(sources, 32, 1, 12) for _ in range(2)]
    with collected() as told:
        assert all(crops[0][i].equal(crops[1][i]) for i in range(12))
    assert any(name in text for name in BAD for text in told)
    (world / "classes" / "red" / "0.png").write_text("no picture")
    labeled = [LabeledCrops("classification", [LabeledSource(str(world / "classes"))], 32, 0, 24) for _ in range(2)]
    with collected() as told:
        assert all(labeled[0][i][0].equal(labeled[1][i][0]) for i in range(24))
    assert any("red/0.png" in text for text in told)
    for path in spoiled.rglob("*.*"):
        path.write_text("no picture")
    with pytest.raises(ValueError, match="photographs in a row cannot be read"):
        crops[0][0]


def test_what_is_wrong_with_every_file_is_said_once(image_folder, small_folder, tmp_path, capsys):
    model = ["--model", str(small_folder)]
    assert main(["encode", str(image_folder), "-o", str(tmp_path / "s"), *model]) == 0
    for words in (
        ["analyze", str(tmp_path / "s"), "--tasks", "clasification", *model],
        ["analyze", str(tmp_path / "s"), "--model", "nowhere"],
        ["analyze", str(tmp_path / "s"), "--device", "toaster", *model],
        ["encode", str(image_folder), "--importance", "gaze", *model],
        ["encode", str(image_folder), "--importance", "saliency", "--layers", "global,spatial", *model],
        ["encode", str(image_folder), "--device", "cuda:7", *model],
    ):
        capsys.readouterr()
        assert main(words) == 1
        err = capsys.readouterr().err.strip()
        assert len(err.splitlines()) == 1 and not err.startswith(str(tmp_path)), err


# -- archives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", ""])
def test_archives_read_like_their_folder_compressed_or_not(image_folder, tmp_path, kind):
    path = tmp_path / f"all.tar{'.' if kind else ''}{kind}"
    os.link(image_folder / "cat" / "a.png", image_folder / "cat" / "hard.png")
    os.symlink("../dog/d.png", image_folder / "cat" / "soft.png")
    os.symlink("nowhere.png", image_folder / "cat" / "lost.png")
    with tarfile.open(path, f"w:{kind}") as archive:
        archive.add(image_folder, arcname="top")
    photographs = ImageSet(path)
    assert [Path(name).name for name in photographs.names] == [
        "a.png",
        "b.png",
        "hard.png",
        "soft.png",
        "c.png",
        "d.png",
    ]
    for name in photographs.names:
        original = Image.open(image_folder / Path(name).relative_to("top"))
        assert photographs.named(name).tobytes() == original.tobytes()
    assert "lost.png" in str(photographs.left_out.lines())


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bytes])
def test_damaged_archives_are_told(image_folder, tmp_path, pack, small_folder, capsys):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(image_folder, arcname=".")
    data = pack(buffer.getvalue())
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    assert main(["evaluate", str(tmp_path / "cut.tar.gz"), "--model", str(small_folder)]) == 1
    assert "cut.tar.gz is a damaged tar archive" in capsys.readouterr().err


@pytest.mark.parametrize("pack, suffix", [(gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz")])
def test_archives_with_damage_in_their_middle_are_told(image_folder, tmp_path, pack, suffix):
    rest = io.BytesIO()
    with tarfile.open(fileobj=rest, mode="w") as archive:
        archive.add(image_folder, arcname=".")
        noise = np.random.default_rng(0).bytes(2**21)  # more than a block of any of these
        archive.addfile(member := tarfile.TarInfo("noise"), io.BytesIO(noise))
        member.size = len(noise)
        archive.addfile(member, io.BytesIO(noise))
    data = bytearray(pack(rest.getvalue()))
    data[-len(data) // 4] ^= 0xFF
    path = tmp_path / f"all.tar.{suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"all\.tar\.{suffix} is a damaged tar archive"):
        ImageSet(path)


# -- files left out are named -----------------------------------------------------------------------


def test_what_pillow_and_its_plugins_open_is_read(photograph, tmp_path, small_folder):
    pytest.importorskip("pillow_heif")
    pytest.importorskip("pillow_jxl")
    formats.load_plugins()
    names = {"a.heic": "HEIF", "b.JFIF": "JPEG", "c.jxl": "JXL", "d.mpo": "JPEG", "e.qoi": "QOI", "f.tga": "TGA"}
    for name, kind in names.items():
        (tmp_path / name).write_bytes(saved(photograph, kind))
    assert ImageSet(tmp_path).names == sorted(names)
    assert main(["encode", str(tmp_path), "-o", str(tmp_path / "out"), "--model", str(small_folder)]) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.cda")) == [f"{letter}.cda" for letter in "abcdef"]


def test_every_suffix_that_pillow_opens_is_read_but_what_it_only_knows_by_name():
    known = suffixes()
    assert {".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".gif", ".ppm", ".jp2"} <= known
    assert not {".pdf", ".mpg", ".h5", ".hdf", ".grib", ".txt", ".cda", ".json", ""} & known


def test_what_is_missing_for_a_format_is_said(image_folder, small_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "phone").mkdir()
    for number in range(5):
        (tmp_path / "phone" / f"IMG_{number}.HEIC").write_bytes(b"...")
    (tmp_path / "phone" / "notes.txt").write_text("notes")
    less = frozenset(suffix for suffix in suffixes() if suffix not in formats.PLUGIN_SUFFIXES)
    for room in ("data.images", "photographs.formats"):
        monkeypatch.setattr(f"cdanalysis.{room}.suffixes", lambda: less)
    model = ["--model", str(small_folder)]
    for verb in ("encode", "evaluate"):
        assert main([verb, str(tmp_path / "phone"), *model]) == 1
        err = capsys.readouterr().err
        assert "5: .heic" in err and "pip install pillow-heif" in err and "IMG_0.HEIC" in err and "1: .txt" in err
    (tmp_path / "phone" / "a.png").write_bytes((image_folder / "cat" / "a.png").read_bytes())
    assert main(["encode", str(tmp_path / "phone"), *model, "--strict", "-o", str(tmp_path / "out")]) == 0
    assert "left out 5: .heic" in capsys.readouterr().err
    assert why_not(".jxl").endswith("pip install pillow-jxl-plugin") and "no suffix" in why_not("")


def test_folders_behind_links_are_read_once_each(image_folder, small_folder, tmp_path, capsys):
    place = tmp_path / "place"
    (place / "own").mkdir(parents=True)
    (place / "own" / "a.png").write_bytes((image_folder / "cat" / "a.png").read_bytes())
    (place / "linked").symlink_to(image_folder / "dog")
    (place / "own" / "round").symlink_to(place)
    (place / "again").symlink_to(place / "own")
    (place / "lost.png").symlink_to("nowhere.png")
    (place / ".thumbs").mkdir()
    os.mkfifo(place / "pipe.png")
    assert ImageSet(place).names == ["linked/c.png", "linked/d.png", "lost.png", "own/a.png"]
    words = ["encode", str(place), "-o", str(tmp_path / "out"), "--model", str(small_folder), "--json"]
    assert main(words) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert len(report["files"]) == 3 and [Path(f["file"]).name for f in report["failures"]] == ["lost.png"]
    said = {row["why"]: row["count"] for row in report["left_out"]}
    assert sorted(said.values()) == [1, 1, 2] and "left out 2: links" in captured.err


def test_folders_that_cannot_be_read_are_failures(image_folder, small_folder, tmp_path, monkeypatch, capsys):
    original = os.scandir

    def scandir(path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr("os.scandir", scandir)
    assert len(ImageSet(image_folder)) == 2
    assert main(["encode", str(image_folder), "-o", str(tmp_path / "out"), "--model", str(small_folder)]) == 1
    assert "dog: Permission denied" in capsys.readouterr().err
    left_out = LeftOut()
    assert len(files_below(image_folder, left_out)) == 2 and len(left_out.failures) == 1


def test_a_link_that_leads_back_to_itself_fails_alone(image_folder, small_folder, tmp_path, capsys):
    os.symlink("b", image_folder / "cat" / "a")
    os.symlink("a", image_folder / "cat" / "b")
    (image_folder / "cat" / "own").symlink_to("own.png")
    os.symlink("own.png", image_folder / "cat" / "own.png")
    words = ["encode", str(image_folder), "-o", str(tmp_path / "s"), "--model", str(small_folder), "--workers", "1"]
    assert main(words) == 1
    assert len(list((tmp_path / "s").rglob("*.cda"))) == 4
    assert "own.png" in capsys.readouterr().err


def test_nobody_is_told_of_the_librarys_own_files(image_folder, small_folder, tmp_path, capsys):
    assert main(["encode", str(image_folder), "-o", str(tmp_path / "s"), "--model", str(small_folder)]) == 0
    (tmp_path / "s" / ".other").touch()
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "s")]) == 0
    told = capsys.readouterr().err
    assert LEDGER not in told and ".other" in told


def test_an_empty_name_of_an_output_is_not_the_working_directory(image_folder, small_folder, monkeypatch, capsys):
    monkeypatch.chdir(image_folder)
    before = sorted(image_folder.rglob("*"))
    for inputs in (["cat"], ["cat/a.png"], ["cat/a.png", "cat/b.png"]):
        assert main(["encode", *inputs, "-o", "", "--model", str(small_folder)]) == 1
        assert "empty" in capsys.readouterr().err and sorted(image_folder.rglob("*")) == before


@pytest.mark.parametrize("verb", ["encode", "decode", "analyze", "inspect", "strip", "evaluate"])
def test_an_empty_name_is_not_the_working_directory(verb, image_folder, small_folder, monkeypatch, capsys):
    monkeypatch.chdir(image_folder)
    before = sorted(image_folder.rglob("*"))
    more = {"inspect": [], "strip": ["-o", "small.cda"]}.get(verb, ["--model", str(small_folder)])
    assert main([verb, "", *more]) == 1
    assert "empty" in capsys.readouterr().err and sorted(image_folder.rglob("*")) == before


def test_files_that_differ_in_their_suffix_alone_are_both_kept(photograph, small_folder, tmp_path):
    for name in ("a.jpg", "a.jpeg", "b.jpg", "c/a.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        photograph.save(tmp_path / "in" / name)
    model = ["--model", str(small_folder)]
    assert main(["encode", str(tmp_path / "in"), "-o", str(tmp_path / "s"), *model]) == 0
    names = {p.relative_to(tmp_path / "s").as_posix() for p in (tmp_path / "s").rglob("*.cda")}
    assert names == {"a.jpg.cda", "a.jpeg.cda", "b.cda", "c/a.cda"}
    assert main(["decode", str(tmp_path / "s"), *model]) == 0
    assert {p.name for p in (tmp_path / "s").glob("*.png")} == {
        "a.jpg.decoded.png",
        "a.jpeg.decoded.png",
        "b.decoded.png",
    }


# -- processes --------------------------------------------------------------------------------------


LONG = """
import os, time
from pathlib import Path

def work(number):
    (Path(__file__).parent / f"{os.getpid()}.pid").touch()
    time.sleep(600)

if __name__ == "__main__":
    from cdanalysis.processes import each
    list(each(work, [(number,) for number in range(4)], 2))
"""


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(path.parent.name))
        except (OSError, IndexError):
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent_however_it_ends(tmp_path, how):
    (tmp_path / "long.py").write_text(LONG)
    process = subprocess.Popen([sys.executable, str(tmp_path / "long.py")], stderr=subprocess.DEVNULL)
    while len(pids := list(tmp_path.glob("*.pid"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    workers = {int(path.stem) for path in pids} | set(children(process.pid))  # and the tracker of resources
    process.send_signal(how)
    if how == signal.SIGINT:
        for worker in workers:  # as a terminal does
            os.kill(worker, how)
    process.wait(60)
    deadline = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


# -- sentences --------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space") as caught:
        write_whole(tmp_path / "a.cda", b"data")
    assert sentence(caught.value) == f"No space left on device: {tmp_path / 'a.cda'}"
    assert sentence(OSError(28, "No space left on device")) == "No space left on device"


@pytest.mark.parametrize("error", [TypeError("odd"), KeyError("tasks"), AttributeError("x"), RuntimeError("shapes")])
def test_faults_of_the_library_are_reported_as_such(monkeypatch, capsys, error):
    monkeypatch.setattr("cdanalysis.commands.zoo", lambda _: (_ for _ in ()).throw(error))
    assert main(["zoo", "list"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("cdanalysis zoo: a fault of cdanalysis itself") and "Traceback" not in err
    report = Path(next(word for word in err.split() if "cdanalysis-fault-" in word))
    assert type(error).__name__ in report.read_text() and "Traceback" in report.read_text()
    report.unlink()
    with pytest.raises(type(error)):
        main(["zoo", "list", "--traceback"])


def test_budgets_are_answered_in_the_unit_they_were_asked_in(small, photograph):
    for asked in (0.01, 50.0):
        with pytest.raises(ValueError, match=rf"bits a pixel, not {asked:g}$") as caught:
            small.encode(photograph, bpp=asked)
    low, high = [float(word) for word in str(caught.value).split() if word[0].isdigit()][:2]
    assert 8 * len(small.encode(photograph, bpp=low)) / 4800 <= low
    assert 8 * len(small.encode(photograph, bpp=high)) / 4800 <= high
    first = [(8 * layer.bytes + 1) / 4800 for layer in cda.inspect(small.encode(photograph, 0.5)).layers[:2]]
    with pytest.raises(ValueError, match=r"the detail layer of this photograph can have .* bits a pixel, not 90"):
        small.encode(photograph, bpp=(*first, 90.0))
    with pytest.raises(ValueError, match="bytes, not 9"):
        small.encode(photograph, max_bytes=9)


@pytest.mark.parametrize("kind", [Path, str, bytearray, memoryview])
def test_streams_may_be_given_as_paths(small, photograph, tmp_path, kind):
    data = small.encode(photograph)
    (tmp_path / "a.cda").write_bytes(data)
    (tmp_path / "a.png").write_bytes(saved(photograph, "PNG"))
    stream = kind(tmp_path / "a.cda") if kind in (Path, str) else kind(data)
    assert small.decode(stream).tobytes() == small.decode(data).tobytes()
    assert small.analyze(stream).classification.label == small.analyze(data).classification.label
    assert cda.inspect(stream) == cda.inspect(data) and cda.strip(stream) == cda.strip(data)
    assert small.estimated_bits(stream) == small.estimated_bits(data)
    assert small.to_latents([stream]).equals(small.to_latents([data]))
    assert small.class_logits([stream]).equal(small.class_logits([data]))
    if kind in (Path, str):
        assert small.encode(kind(tmp_path / "a.png")) == data
        for verb in (small.decode, small.analyze, cda.inspect, cda.strip, small.encode):
            with pytest.raises(FileNotFoundError):
                verb(kind(tmp_path / "nowhere"))
    with pytest.raises(cda.StreamError, match="a stream is bytes, or the path"):
        small.decode(3)


def test_words_after_the_options_belong_to_those_before(image_folder, small_folder, tmp_path, capsys):
    a, b = (str(image_folder / "cat" / f"{name}.png") for name in "ab")
    assert main(["encode", a, "-o", str(tmp_path / "s"), "--model", str(small_folder), b]) == 0
    assert len(list((tmp_path / "s").glob("*.cda"))) == 2
    (tmp_path / "r.yaml").write_text("name: r\n")
    assert main(["train", str(tmp_path / "r.yaml"), "name=x", "-o", str(tmp_path / "run"), "nonsense=2"]) == 1
    assert "nonsense" in capsys.readouterr().err
    for words in (["train", "r.yaml", "-o", "x", "b"], ["encode", a, "--nonsense"], ["zoo", "show", "photo", "more"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


def test_a_name_that_ends_as_a_folder_is_one(image_folder, small_folder, tmp_path, capsys):
    photograph, model = str(image_folder / "cat" / "a.png"), ["--model", str(small_folder)]
    assert main(["encode", photograph, "-o", f"{tmp_path}/out.d/", *model]) == 0
    assert (tmp_path / "out.d" / "a.cda").is_file()
    assert main(["inspect", f"{tmp_path}/out.d", "--bits-map", f"{tmp_path}/maps.d/", *model]) == 0
    assert (tmp_path / "maps.d" / "a.bits.png").is_file()
    for line in (["evaluate", str(image_folder)], ["benchmark", "start"]):
        assert main([*line, "-o", f"{tmp_path}/json.d/", *model]) == 1 and "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "PHOTOS", "--annotations", "boxes.json"],
        ["evaluate", "PHOTOS", "--tasks", "segmentation", "--annotations", "boxes.json"],
        ["evaluate", "PHOTOS", "--tasks", "segmentation", "--no-baselines"],
        ["evaluate", "study.yaml", "--annotations", "boxes.json"],
        ["evaluate", "study.yaml", "--quality", "0.5"],
        ["evaluate", "study.yaml", "--tasks", "detection"],
        ["inspect", "PHOTOS", "--model", "photo"],
        ["encode", "PHOTOS", "--layers", "global,spatial", "--importance", "saliency"],
    ],
    ids=" ".join,
)
def test_options_that_would_be_ignored_are_refused(words, image_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text("name: s\ntitle: S\n")
    assert main([str(image_folder) if word == "PHOTOS" else word for word in words]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_encoding_reads_what_pillow_opens():
    assert EncodeWork("photo").reads == suffixes()


def test_pillows_own_limit_of_pixels_holds_nowhere(small_folder, chelsea, tmp_path, monkeypatch):
    """It is lower than this library's; what reads image files opens them by `cdanalysis.photographs.formats.opened`."""
    Image.fromarray(chelsea[:64, :96]).save(tmp_path / "a.png")
    Image.new("L", (96, 64), 255).save(tmp_path / "mask.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    model = ["--model", str(small_folder)]
    assert main(["encode", str(tmp_path / "a.png"), "--importance", str(tmp_path / "mask.png"), *model]) == 0
    decode = ["decode", str(tmp_path), "-o", str(tmp_path / "out"), *model]
    assert main(decode) == 0 and main(decode) == 0  # the second finds what the first made
    assert header_of((tmp_path / "a.png").read_bytes()) == ((96, 64), 1)
    assert class_indices((tmp_path / "mask.png").read_bytes(), "mask.png").shape == (64, 96)
    assert JPEG.decode(JPEG.encode(Image.fromarray(chelsea[:64, :96]), 50)).shape == (64, 96, 3)
    sources = {path.name: path.read_text() for path in Path(cda.__file__).parent.rglob("*.py")}
    opens = {name for name, text in sources.items() if re.search(r"(?<!`)Image\.open\(", text)}
    assert opens == {"formats.py"}


def test_names_are_as_long_as_the_disk_allows(photograph, small_folder, tmp_path):
    name = 83 * "漢"  # 249 bytes of the 255 that a name may have
    photograph.save(tmp_path / f"{name}.png")
    words = ["encode", str(tmp_path / f"{name}.png"), "-o", str(tmp_path / f"{name}.cda"), "--model", str(small_folder)]
    assert main(words) == 0 and (tmp_path / f"{name}.cda").is_file()


def test_who_reads_no_further_ends_a_command_quietly(photograph, small_folder, tmp_path):
    photograph.save(tmp_path / "a.png")
    assert main(["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.cda"), "--model", str(small_folder)]) == 0
    for number in range(300):  # of which more is printed than a pipe holds
        os.link(tmp_path / "a.cda", tmp_path / f"{number}.cda")
    words = f"{sys.executable} -m cdanalysis.cli inspect . --json | head -c 5"
    ran = subprocess.run(["bash", "-c", words], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert len(ran.stdout) == 5 and not ran.stderr.strip()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".heic", ".jxl"])
def test_decoded_pictures_lose_next_to_nothing_in_a_file_that_could(photograph, small, small_folder, tmp_path, suffix):
    stream, picture = tmp_path / "a.cda", tmp_path / f"a{suffix}"
    photograph.save(tmp_path / "a.png")
    assert main(["encode", str(tmp_path / "a.png"), "-o", str(stream), "--model", str(small_folder)]) == 0
    load_plugins()
    if Image.registered_extensions().get(suffix) not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {suffix}")
    assert main(["decode", str(stream), "-o", str(picture), "--model", str(small_folder)]) == 0
    decoded, written = np.asarray(small.decode(stream)), np.asarray(open_image(picture))
    assert psnr(decoded, written) > (1000 if suffix in (".webp", ".jxl") else 40)


@pytest.mark.parametrize("verb", ["encode", "index"])
def test_commands_that_need_a_models_folder_say_so(verb, photograph, tmp_path, capsys):
    photograph.save(tmp_path / "a.png")
    words = [verb, str(tmp_path), "-o", str(tmp_path / "o"), "--model", "compressai:bmshj2018-hyperprior:3"]
    assert main(words) == 1
    assert "is a network of compressai's and has no folder" in capsys.readouterr().err
