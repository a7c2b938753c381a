"""Pillow's plugin for streams: what Pillow's users expect of a format, and nothing else changed by it."""

from __future__ import annotations

import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from conftest import new_small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, UnidentifiedImageError

import cdanalysis as cda
from cdanalysis.batch import DecodeWork, EncodeWork
from cdanalysis.data.images import ImageSet
from cdanalysis.integrations import pillow, register_pillow
from cdanalysis.photographs.formats import suffixes
from cdanalysis.photographs.read import open_image
from cdanalysis.stream.container import Layer, Stream, pack


@pytest.fixture(scope="module")
def plugin(small):
    """The plugin with the small model; afterwards Pillow is what it was."""
    Image.init()
    tables = (Image.OPEN, Image.SAVE, Image.EXTENSION, Image.MIME)
    before, ids, models = [dict(table) for table in tables], list(Image.ID), pillow._models
    pillow._models = pillow._Models()
    suffixes.cache_clear()
    register_pillow(small)
    yield small
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)
    Image.ID[:] = ids
    pillow._models = models
    suffixes.cache_clear()


@pytest.fixture(scope="module")
def stream(plugin, chelsea) -> bytes:
    return plugin.encode(chelsea[100:175, 150:251], quality=0.5)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_photograph_is_saved_and_opened(plugin, image, tmp_path):
    photograph, path = Image.fromarray(image), tmp_path / "x.cda"
    photograph.save(path, quality=0.7)
    assert path.read_bytes() == plugin.encode(photograph, quality=0.7)
    with Image.open(path) as again:
        assert (again.format, again.mode, again.size) == ("CDA", "RGB", photograph.size)
        assert np.array_equal(np.asarray(again), np.asarray(plugin.decode(path)))
    assert Image.registered_extensions()[".cda"] == "CDA" and again.get_format_mimetype() == "image/x-cda"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": (0.2, 0.3, 0.9)},
        {"layers": ("global", "spatial")},
        {"importance": [(10, 10, 30, 30)]},
        {"spatial_size": 64},
    ],
    ids=str,
)
def test_save_takes_what_encode_takes(plugin, image, options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="CDA", **options)
    assert buffer.getvalue() == plugin.encode(image, **options)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_images_of_other_modes_are_saved_as_encode_reads_them(plugin, image, mode):
    photograph, buffer = Image.fromarray(image).convert(mode), io.BytesIO()
    photograph.save(buffer, format="CDA", layers=("global",))
    assert buffer.getvalue() == plugin.encode(photograph, layers=("global",))


@pytest.mark.parametrize("options", [{"quality": 75}, {"layers": ("detail",)}, {"quality": 0.5, "max_bytes": 99}])
def test_options_that_cannot_be_leave_no_file(plugin, image, tmp_path, options):
    with pytest.raises(ValueError, match=r"quality|layers"):
        Image.fromarray(image).save(tmp_path / "x.cda", **options)
    assert not (tmp_path / "x.cda").exists()


def test_opening_reads_the_header_alone(stream, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be decoded")

    monkeypatch.setattr(pillow._models, "reader", refuse)
    header = stream[: pillow.LONGEST_HEADER]
    image = opened(header)
    assert image.size == (101, 75) and image.info["layers"] == ("global", "spatial", "detail")
    assert image.info["quality"] == (0.5, 0.5, 0.5) and image.info["fingerprint"] == cda.inspect(stream).fingerprint
    opened(stream).verify()


def test_an_opened_stream_is_an_image_like_others(stream, tmp_path):
    image = opened(stream)
    pixels = np.asarray(image)
    assert image.load() is not None and np.array_equal(np.asarray(image), pixels)
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(image))), pixels)
    assert np.array_equal(np.asarray(opened(stream).copy()), pixels)
    opened(stream).resize((20, 10)).save(tmp_path / "small.png")
    assert opened(stream).crop((0, 0, 9, 9)).size == (9, 9)


def test_files_are_closed(stream, tmp_path):
    path = tmp_path / "x.cda"
    path.write_bytes(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        image = Image.open(path)
        file = image.fp
        image.load()
        assert file.closed
        with Image.open(path) as unread:
            file = unread.fp
        assert file.closed


@pytest.mark.parametrize("part", [slice(None, -1), slice(None, 60)], ids=["the last byte", "the layers"])
def test_a_stream_that_is_cut_is_truncated(stream, part):
    for use in (lambda image: image.load(), lambda image: image.verify()):
        with pytest.raises(OSError, match="truncated"):
            use(opened(stream[part]))


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_streams_raise_what_pillow_raises(stream, data):
    damaged = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other format versions
        try:
            opened(damaged).load()
        except (OSError, Image.DecompressionBombError):
            return
    assert stream.startswith(damaged), "what was damaged was read"


def test_another_format_version_is_unidentified_and_says_why(stream):
    with pytest.warns(UserWarning, match="format version 1"), pytest.raises(UnidentifiedImageError):
        opened(bytes([stream[0], stream[1] & 0xF0 | 1]) + stream[2:])


def claiming(width: int, height: int, fingerprint: str = "0e3ea2") -> bytes:
    sizes = {"global": 64, "spatial": 96, "detail": 0}
    parts = tuple(Layer(name, 60, 3, b"abc", size) for name, size in sizes.items())
    return pack(Stream(fingerprint, width, height, parts))


def test_huge_claims_are_bounded(plugin, monkeypatch):
    with pytest.raises(Image.DecompressionBombError):
        opened(claiming(2**30, 2**30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for size in ((2**30, 2**30), (1, 2**27)):  # a column is worked on as one of 32 pixels
        for use in (lambda image: image.verify(), lambda image: image.load()):
            with pytest.raises(OSError, match="claims"):
                use(opened(claiming(*size, plugin.fingerprint)))


def test_a_stream_of_an_unknown_model_says_whose_it_is():
    with pytest.raises(OSError, match="fingerprint 0e3ea2, which does not ship"):
        opened(claiming(64, 64)).load()


def test_a_stream_without_detail_layer_has_a_size_and_no_pixels(plugin, stream):
    image = opened(cda.strip(stream))
    assert image.size == (101, 75) and image.info["layers"] == ("global", "spatial")
    image.verify()
    with pytest.raises(OSError, match="no detail layer"):
        opened(cda.strip(stream)).load()


def test_previews_where_they_are_wanted(plugin, image):
    fused = new_small_model(seed=3)
    fused.codec.set_fused(True)
    fused.eval().requires_grad_(False)
    base = fused.encode(image, layers=("global", "spatial"))
    try:
        register_pillow(fused, preview=True)
        assert np.array_equal(np.asarray(opened(base)), np.asarray(fused.decode(base, preview=True)))
    finally:
        register_pillow(plugin)
    assert np.asarray(opened(fused.encode(image))).shape == image.shape, "models that were registered before still read"
    with pytest.raises(OSError, match="no detail layer"):
        opened(base).load()


def test_realism_where_a_model_has_it(plugin, image):
    realistic = new_small_model(seed=3)
    realistic.codec.set_realism(1)
    torch.nn.init.normal_(realistic.codec.synthesis.realism.out[0].weight, std=0.05)
    realistic.eval().requires_grad_(False)
    try:
        register_pillow(realistic, realism=1.0)
        for model, realism in ((realistic, 1.0), (plugin, 0.0)):
            stream = model.encode(image)
            wanted = np.asarray(model.decode(stream, realism=realism))
            assert np.array_equal(np.asarray(opened(stream)), wanted)
    finally:
        register_pillow(plugin)


def test_other_formats_are_opened_as_before(plugin, image):
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format=kind)
        assert opened(buffer.getvalue()).format == kind
    for data in (b"", b"\xcd", b"\xcd\xa2", b"nothing that Pillow knows"):
        with pytest.raises(UnidentifiedImageError):
            opened(data)


def test_streams_do_not_become_photographs(plugin, stream, image_folder, tmp_path, recwarn):
    """What reads every format that Pillow knows reads no streams, however they are called and whoever registered."""
    assert ".cda" not in suffixes() and ".cda" not in EncodeWork("photo").reads
    (image_folder / "cat" / "a.cda").write_bytes(stream)
    (image_folder / "z.cda").write_bytes(stream)
    images = ImageSet(image_folder)
    assert len(images) == 4 and not [name for name in images.names if name.endswith(".cda")]
    assert not recwarn.list, "streams beside photographs are nothing to warn of"
    disguised = tmp_path / "x.png"
    disguised.write_bytes(stream)
    for source in (image_folder / "z.cda", disguised, stream):
        with pytest.raises(ValueError, match="not an image file"):
            open_image(source)
    with pytest.raises(ValueError, match=r"unknown image type '\.cda'"):
        DecodeWork("photo")(str(image_folder / "z.cda"), str(tmp_path / "y.cda"), None)


def test_registering_twice_changes_nothing(plugin, stream):
    before = (list(Image.ID), dict(Image.EXTENSION))
    register_pillow(plugin)
    assert (list(Image.ID), dict(Image.EXTENSION)) == before
    assert isinstance(opened(stream), ImageFile.ImageFile)


def test_registering_loads_no_model(plugin, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("no model is needed yet")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(pillow, "load", refuse)
            register_pillow("photo")
    finally:
        register_pillow(plugin)
