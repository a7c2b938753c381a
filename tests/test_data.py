"""Photographs of every kind, from everywhere; crops; labels; cached streams."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdanalysis.data.cached import CachedStreams, cache_streams
from cdanalysis.data.crops import Crops, Source
from cdanalysis.data.images import ImageSet, data_path
from cdanalysis.data.labeled import LabeledSource, contents_digest, open_labeled
from cdanalysis.data.labels import class_index
from cdanalysis.files import run_name, write_whole
from cdanalysis.photographs.read import open_image
from cdanalysis.teachers.imagenet import imagenet_classes


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


@pytest.fixture
def image(chelsea) -> Image.Image:
    return Image.fromarray(chelsea[:60, :80])


def test_exif_rotation_is_applied(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = open_image(saved(image, "JPEG", exif=exif, quality=95))
    assert upright.size == (60, 80)
    turned = np.asarray(image.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(np.asarray(upright).astype(int) - turned).mean() < 6


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    array = np.asarray(open_image(tmp_path / "ramp.png"))
    assert array.shape == (8, 64, 3) and array[0, 0, 0] == 0 and array[0, -1, 0] == 255
    assert np.abs(array[0, :, 0] - np.linspace(0, 255, 64)).max() <= 1


def test_transparency_lies_on_white_and_cmyk_keeps_its_colors(image):
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert (np.asarray(open_image(saved(clear, "PNG"))) == 255).all()
    cmyk = np.asarray(open_image(saved(image.convert("CMYK"), "TIFF"))).astype(int)
    assert np.abs(cmyk - np.asarray(image)).mean() < 3


def test_what_is_no_image_is_said_so(tmp_path, image):
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "cut.jpg").write_bytes(saved(image, "JPEG")[:500])
    for name in ("text.png", "cut.jpg"):
        with pytest.raises(ValueError, match=name):
            open_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="missing"):
        open_image(tmp_path / "missing.png")


def test_a_tar_reads_like_its_folder(image_folder, tmp_path):
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(image_folder, arcname=".")
    folder, archive = ImageSet(image_folder), ImageSet(tmp_path / "all.tar")
    assert len(folder) == len(archive) == 4
    assert [folder.class_of(i) for i in range(4)] == ["cat", "cat", "dog", "dog"]
    for i in range(4):
        assert np.array_equal(folder[i][0], archive[i][0]) and folder[i][1] == archive[i][1]
    assert folder.every(3).names == [folder.names[0], folder.names[3]]


SOURCES = {"": ("classes", ""), "classification": ("classes", ""), "segmentation": ("pixels", "")}
SOURCES["detection"] = ("pixels/images", "boxes.json")


def opened(world: Path, task: str) -> tuple[ImageSet, LabeledSource]:
    path, annotations = SOURCES[task]
    source = LabeledSource(str(world / path), str(world / annotations) if annotations else "")
    return (open_labeled(task, source) if task else ImageSet(source.path)), source


@pytest.mark.parametrize("task", SOURCES)
def test_views_hold_the_photographs_that_were_chosen(world, task):
    whole, _ = opened(world, task)
    for view, chosen in ((whole.every(2), [0, 2, 4]), (whole.chosen([5, 1]), [5, 1])):
        assert view.names == [whole.names[i] for i in chosen] and len(view) == len(chosen)
        for index, i in enumerate(chosen):
            assert view.read(index) == whole.read(i)
            image, target = view[index]
            assert np.array_equal(image, whole.image(i)) and str(target) == str(whole[i][1])
    assert getattr(view, "classes", []) == getattr(whole, "classes", [])
    assert view.every(2).names == [whole.names[5]] and len(whole) == 6
    with pytest.raises(ValueError, match="every must be at least 1"):
        whole.every(0)


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ("", "classes/red/0.png"),
        ("classification", "classes/red/0.png"),
        ("detection", "pixels/images/0.png"),
        ("detection", "boxes.json"),
        ("segmentation", "pixels/images/0.png"),
        ("segmentation", "pixels/labels/0.png"),
        ("segmentation", "pixels/classes.json"),
    ],
)
def test_whatever_figures_depend_on_is_in_the_digest_of_a_set(world, task, path):
    before = contents_digest(*opened(world, task))
    assert contents_digest(*opened(world, task)) == before
    data = (world / path).read_bytes()
    if path.endswith(".json"):
        (world / path).write_bytes(data + b"\n")
    else:
        Image.open(io.BytesIO(data)).point(lambda value: 2 - min(value, 2)).save(world / path)
    assert contents_digest(*opened(world, task)) != before
    (world / path).write_bytes(data)
    assert contents_digest(*opened(world, task)) == before
    images, source = opened(world, task)
    assert contents_digest(images.every(2), source) != before


def test_empty_and_missing_folders_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no images"):
        ImageSet(tmp_path)
    monkeypatch.setenv("CDANALYSIS_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="CDANALYSIS_DATA"):
        data_path("nowhere")
    (tmp_path / "somewhere").mkdir()
    assert data_path("somewhere") == tmp_path / "somewhere"


def test_crops_depend_on_seed_and_number_alone(image_folder):
    sources = [Source(path=str(image_folder), scale=[0.5, 2.0]), Source(path=str(image_folder), folder="cat")]
    crops, again, other = Crops(sources, 32, 1, 9), Crops(sources, 32, 1, 9), Crops(sources, 32, 2, 9)
    forward, backward = [crops[i] for i in range(9)], [again[i] for i in reversed(range(9))][::-1]
    assert all(a.equal(b) for a, b in zip(forward, backward, strict=True))
    assert not all(crops[i].equal(other[i]) for i in range(9))
    assert all(crop.shape == (3, 32, 32) for crop in forward)
    assert Crops([Source(path=str(image_folder))], 200, 0, 1)[0].shape == (3, 200, 200)
    with pytest.raises(ValueError, match="source"):
        Crops([], 32, 0, 1)


def test_folder_names_mean_classes():
    classes = imagenet_classes()
    assert len(classes) == 1000
    assert class_index("n01440764", classes) == 0 == class_index("tench", classes)
    assert class_index("English_springer", classes) == 217 == class_index("n02102040", classes)
    assert class_index("0217", classes) == 217 and class_index("1000", classes) is class_index("7", ["cat"]) is None
    assert class_index("n99999999", classes) is None and class_index("nonsense", classes) is None
    assert class_index("cup", ["cat", "Cup"]) == 1
    assert class_index("sign_symbol", ["sky", "sign_symbol"]) == 1 == class_index("Sign symbol", ["sky", "sign_symbol"])


def test_cached_streams_are_encoded_once(image_folder, tmp_path):
    image_set, calls = ImageSet(image_folder), []

    def encode(images):
        calls.append(len(images))
        return [bytes(image.size) for image in images]

    where = (image_set.names, lambda i: image_set[i][0], tmp_path / "cache")
    cached = cache_streams(*where, encode, batch=3)
    assert calls == [3, 1]
    assert [cached[i] for i in range(4)] == [bytes((96, 64))] * 4
    (cached.folder / cached.names[2]).unlink()
    cache_streams(*where, encode)
    assert calls == [3, 1, 1]
    assert len(CachedStreams(tmp_path / "cache")) == 4
    with pytest.raises(ValueError, match=r"no \.cda files"):
        CachedStreams(image_folder)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    write_whole(path, b"first")

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"second")
    assert path.read_bytes() == b"first" and list(path.parent.iterdir()) == [path]


def test_a_run_has_one_folder_whatever_its_overrides_hold():
    assert run_name("kodak", []) == "kodak"
    assert run_name("kodak", ["source.path=a/b", "every=2"]) == "kodak-source.path=a_b-every=2"
