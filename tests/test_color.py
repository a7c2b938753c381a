"""Photographs mean what their files say: which value is white, and which colors the numbers are."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from cdanalysis.notices import InputWarning, collected, notice, shown
from cdanalysis.photographs.color import ADOBE_GAMMA, ADOBE_RGB, SRGB, matrix_profile
from cdanalysis.photographs.read import open_image, to_gray, to_pixels, to_rgb
from cdanalysis.roi.importance import importance_map

DISPLAY_P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
SPACES = {"Adobe RGB": (ADOBE_RGB, ADOBE_GAMMA), "Display P3": (DISPLAY_P3, None), "linear": (SRGB, 1.0)}
KINDS = {"JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def to_linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def from_linear(values: np.ndarray) -> np.ndarray:
    values = values.clip(0, 1)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def to_xyz(places) -> np.ndarray:
    xy = np.array(places).reshape(4, 2)
    xyz = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(1)) / xy[:, 1]], 1)
    return xyz[1:].T * np.linalg.solve(xyz[1:].T, xyz[0])


def true_srgb(array: np.ndarray, places, gamma) -> np.ndarray:
    """By the definitions of the spaces, which all have the white of sRGB, without any profile."""
    linear = to_linear(array / 255) if gamma is None else (array / 255) ** gamma
    linear = linear @ to_xyz(places).T @ np.linalg.inv(to_xyz(SRGB)).T
    return 255 * from_linear(linear)


def same(image: Image.Image, truth: np.ndarray, tolerance: float) -> bool:
    return bool(np.abs(np.asarray(image).astype(float) - truth).max() <= tolerance)


@pytest.fixture
def colors(chelsea) -> np.ndarray:
    """Colors of a photograph, moved towards gray so that no space need clip them: (40, 60, 3)."""
    return (96 + 0.6 * (chelsea[60:100, 100:160].astype(float) - 96)).round().astype(np.uint8)


# -- profiles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", KINDS)
def test_colors_are_those_that_the_profile_says(colors, space, kind):
    places, gamma = SPACES[space]
    data = saved(Image.fromarray(colors), kind, icc_profile=matrix_profile(places, gamma), **KINDS[kind])
    plain = np.asarray(open_image(saved(Image.fromarray(colors), kind, **KINDS[kind])))
    truth = true_srgb(plain.astype(float), places, gamma)
    assert np.abs(truth - plain).max() > 6, "the test would not see a profile that is ignored"
    assert same(open_image(data), truth, 2)


def test_photographs_whose_profile_is_srgb_stay_as_they_are(chelsea):
    for profile in (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), matrix_profile(SRGB, None)):
        data = saved(Image.fromarray(chelsea), "PNG", icc_profile=profile)
        assert np.array_equal(np.asarray(open_image(data)), chelsea)


@given(hnp.arrays(np.uint8, (4, 4, 3)), st.sampled_from(sorted(SPACES)))
def test_any_colors_are_converted(array, space):
    """Also those out of gamut, which are cut; within a level or two of what the definitions say."""
    places, gamma = SPACES[space]
    image = Image.fromarray(array)
    image.info["icc_profile"] = matrix_profile(places, gamma)
    assert same(to_rgb(image), true_srgb(array.astype(float), places, gamma), 3)


def test_alpha_palettes_and_rotation_stay_with_their_colors(colors):
    profile, (places, gamma) = matrix_profile(DISPLAY_P3, None), SPACES["Display P3"]
    truth = true_srgb(colors.astype(float), places, gamma)
    clear = Image.fromarray(colors).convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    assert (np.asarray(open_image(saved(clear, "PNG", icc_profile=profile))) == 255).all()
    clear.putalpha(255)
    assert same(open_image(saved(clear, "PNG", icc_profile=profile)), truth, 2)
    few = Image.fromarray(colors).quantize(200)
    truth = true_srgb(np.asarray(few.convert("RGB")).astype(float), places, gamma)
    assert same(open_image(saved(few, "PNG", icc_profile=profile)), truth, 2)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = open_image(saved(Image.fromarray(colors), "PNG", icc_profile=profile, exif=exif))
    truth = true_srgb(colors.astype(float), places, gamma)
    assert turned.size == (40, 60) and same(turned, np.rot90(truth, -1), 2)


@pytest.mark.parametrize("kind", ["ICC", "gray", "EXIF", "PNG", "turned"])
def test_what_was_applied_is_not_applied_again(colors, kind, tmp_path):
    """An opened photograph is an image like any other: it may be encoded, opened again, or saved."""
    image, exif = Image.fromarray(colors), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = {
        "ICC": lambda: saved(image, "PNG", icc_profile=matrix_profile(ADOBE_RGB, ADOBE_GAMMA)),
        "gray": lambda: saved(image.convert("L"), "PNG", icc_profile=gray_profile(1.0)),
        "EXIF": lambda: saved(image, "JPEG", exif=adobe_mark(0xFFFF, "R03"), quality=95),
        "PNG": lambda: png_with(image, gAMA=numbers(1.0)),
        "turned": lambda: saved(image, "JPEG", exif=exif, quality=95),
    }[kind]()
    found = open_image(data)
    found.save(tmp_path / "again.png")
    for again in (to_rgb(found), open_image(tmp_path / "again.png")):
        assert np.array_equal(np.asarray(again), np.asarray(found))
    assert np.array_equal(to_pixels(found).permute(1, 2, 0).numpy(), np.asarray(found))
    with Image.open(io.BytesIO(data)) as opened:  # and what a user opened is worth the same
        assert np.array_equal(to_pixels(opened).permute(1, 2, 0).numpy(), np.asarray(found))
        assert opened.info.get("icc_profile") or kind not in ("ICC", "gray"), "the user's own image stays as it is"


def adobe_mark(space: int, index: str | None) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = space
    if index:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: index}
    return exif


@pytest.mark.parametrize(
    ("space", "index", "adobe"),
    [(0xFFFF, "R03", True), (2, None, True), (0xFFFF, None, False), (1, "R98", False), (1, None, False)],
)
def test_cameras_mark_adobe_rgb_in_exif(colors, space, index, adobe):
    data = saved(Image.fromarray(colors), "JPEG", exif=adobe_mark(space, index), **KINDS["JPEG"])
    plain = np.asarray(open_image(saved(Image.fromarray(colors), "JPEG", **KINDS["JPEG"]))).astype(float)
    assert same(open_image(data), true_srgb(plain, ADOBE_RGB, ADOBE_GAMMA) if adobe else plain, 2)


def png_with(image: Image.Image, **chunks: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    from zlib import crc32

    data, more = saved(image, "PNG"), b""
    for name, value in chunks.items():
        body = name.encode() + value
        more += struct.pack(">I", len(value)) + body + struct.pack(">I", crc32(body))
    return data[:33] + more + data[33:]


def numbers(*values: float) -> bytes:
    return struct.pack(f">{len(values)}I", *(round(100000 * value) for value in values))


@pytest.mark.parametrize(
    ("chunks", "means"),
    [
        ({"gAMA": numbers(1.0)}, (SRGB, 1.0)),
        ({"gAMA": numbers(0.55)}, (SRGB, 1 / 0.55)),
        ({"gAMA": numbers(0.45455), "cHRM": numbers(*DISPLAY_P3)}, (DISPLAY_P3, None)),
        ({"gAMA": numbers(0.45455), "cHRM": numbers(*SRGB)}, None),
        ({"gAMA": numbers(1.0), "sRGB": b"\0"}, None),
        ({"gAMA": numbers(1.0), "cHRM": numbers(*[0.0] * 8)}, None),
        ({"gAMA": numbers(1.0), "cHRM": numbers(0.3, 0.3, *[0.2, 0.2] * 3)}, None),
    ],
)
def test_png_says_colors_without_a_profile(colors, chunks, means):
    truth = colors.astype(float) if means is None else true_srgb(colors.astype(float), *means)
    assert same(open_image(png_with(Image.fromarray(colors), **chunks)), truth, 2)


def profile_of(space: bytes, pcs: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, data, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">III", start + len(data), 0, 0x02400000) + kind + space + pcs + bytes(12) + b"acsp" + bytes(28)
    return head + struct.pack(">3i", 63190, 65536, 54061) + bytes(48) + table + data


def gray_profile(gamma: float) -> bytes:
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    return profile_of(b"GRAY", b"XYZ ", b"mntr", {b"wtpt": white, b"kTRC": curve})


def cmyk_profile() -> bytes:
    """Inks without hue: lightness falls with black alone; a table of 16 corners, which is interpolated."""
    matrix = struct.pack(">9i", *[65536, 0, 0, 0, 65536, 0, 0, 0, 65536])
    straight = bytes(range(256))
    corners = b"".join(bytes([0 if corner & 1 else 255, 128, 128]) for corner in range(16))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * straight + corners + 3 * straight
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    return profile_of(b"CMYK", b"Lab ", b"prtr", {b"wtpt": white, b"A2B0": table})


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_gray_profiles_are_read(mode):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(ramp).convert(mode)
    found = open_image(saved(image, "PNG", icc_profile=gray_profile(1.0)))
    assert same(found, 255 * from_linear(ramp / 255)[..., None], 2)


def test_a_gray_photograph_may_keep_the_profile_of_its_colors():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = open_image(saved(Image.fromarray(ramp), "PNG", icc_profile=matrix_profile(SRGB, 1.0)))
    assert same(found, 255 * from_linear(ramp / 255)[..., None], 2)


def test_cmyk_profiles_are_read():
    """Cyan is the absence of red to Pillow, and no color at all to this profile; its black is as dark as it says."""
    cyan, half = Image.new("CMYK", (8, 8), (255, 0, 0, 0)), Image.new("CMYK", (8, 8), (0, 0, 0, 128))
    plain = np.asarray(open_image(saved(cyan, "TIFF")))
    assert plain[0, 0].tolist() == [0, 255, 255]
    found = np.asarray(open_image(saved(cyan, "TIFF", icc_profile=cmyk_profile())))
    assert found.min() >= 250
    gray = np.asarray(open_image(saved(half, "TIFF", icc_profile=cmyk_profile())))[0, 0]
    lightness = 100 * (1 - 128 / 255)
    assert np.abs(gray - 255 * from_linear(np.array(((lightness + 16) / 116) ** 3))).max() <= 4


DAMAGED = {
    "junk": lambda: b"junk" * 100,
    "cut": lambda: matrix_profile(DISPLAY_P3, None)[:200],
    "tiny": lambda: b"x",
    "of CMYK": cmyk_profile,
    "of gray": lambda: gray_profile(2.2),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_profiles_that_cannot_be_used_are_told(colors, tmp_path, damage):
    path = tmp_path / "photograph.png"
    path.write_bytes(saved(Image.fromarray(colors), "PNG", icc_profile=DAMAGED[damage]()))
    with pytest.warns(InputWarning, match=r"photograph\.png: its color profile cannot be used"):
        found = open_image(path)
    assert np.array_equal(np.asarray(found), colors)


@given(st.binary(min_size=1, max_size=300), st.integers(0, 480), st.sampled_from(["RGB", "L", "CMYK", "RGBA", "P"]))
def test_no_profile_stops_a_photograph(noise, place, mode):
    for profile in (noise, matrix_profile(DISPLAY_P3, None)[:place] + noise):
        image = Image.new(mode, (3, 2))
        image.info["icc_profile"] = profile
        with collected():
            assert to_rgb(image).mode == "RGB"


# -- depth ---------------------------------------------------------------------------------------


def tiff(array: np.ndarray, **tags) -> bytes:
    found = TiffImagePlugin.ImageFileDirectory_v2()
    names = {"photometric": 262}
    for name, value in tags.items():
        found[names[name]] = value
    return saved(Image.fromarray(array), "TIFF", tiffinfo=found)


def pgm(array: np.ndarray, most: int) -> bytes:
    return f"P5\n{array.shape[1]} {array.shape[0]}\n{most}\n".encode() + array.astype(">u2").tobytes()


@given(hnp.arrays(np.uint16, (5, 7), elements=st.integers(0, 65535)), st.sampled_from(["PNG", "TIFF", "PGM"]))
def test_sixteen_bits_are_scaled_by_their_depth_whatever_they_hold(array, kind):
    data = pgm(array, 65535) if kind == "PGM" else saved(Image.fromarray(array), kind)
    assert same(open_image(data), array[..., None] / 257.0, 0.5)


@pytest.mark.parametrize("most", [255, 256, 1023, 4095, 65535])
def test_a_dark_photograph_of_sixteen_bits_stays_dark(most):
    array = np.linspace(0, most, 64).astype(np.uint16).reshape(8, 8)
    for data in (saved(Image.fromarray(array), "PNG"), tiff(array)):
        assert np.asarray(open_image(data)).max() == round(most / 257)
    if most > 255:
        assert np.asarray(open_image(pgm(array, most))).max() == 255


def test_twelve_bits_are_twelve():
    """The file says 12 bits a sample: two samples in three bytes."""
    samples = np.array([0, 2048, 4095, 819], np.uint16)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in samples.reshape(2, 2).tolist() * 1)
    tags = [(256, 4, 4), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 1)]
    tags.append((279, 4, len(packed)))
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<HH" if kind == 3 else "<I", *([value, 0][: 3 - kind // 2]))
        for tag, kind, value in tags
    )
    data = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + entries + bytes(4)
    found = np.asarray(open_image(data))[0, :, 0]
    assert np.abs(found - samples / 4095 * 255).max() <= 0.5


def test_white_may_be_zero():
    array = np.array([[0, 1000, 65535]], np.uint16)
    assert np.asarray(open_image(tiff(array, photometric=0)))[0, :, 0].tolist() == [255, 251, 0]
    eight = (array >> 8).astype(np.uint8)  # these Pillow turns round itself, when it writes and when it reads
    assert np.asarray(open_image(tiff(eight, photometric=0)))[0, :, 0].tolist() == [0, 3, 255]


def test_a_value_of_sixteen_bits_may_be_transparent():
    array = np.array([[0, 1000, 1001]], np.uint16)
    data = png_with(Image.fromarray(array), tRNS=struct.pack(">H", 1000))
    assert np.asarray(open_image(data))[0, :, 0].tolist() == [0, 255, 4]


@given(hnp.arrays(np.float32, (4, 5), elements=st.floats(0, 1, width=32)))
def test_floats_from_0_to_1_are_from_black_to_white(array):
    assert same(open_image(saved(Image.fromarray(array), "TIFF")), 255 * array[..., None].astype(float), 0.5001)


UNCLEAR = {
    "floats up to 255": np.linspace(0, 255, 16, dtype=np.float32).reshape(4, 4),
    "floats below 0": np.full((4, 4), -0.1, np.float32),
    "no numbers": np.full((4, 4), np.nan, np.float32),
    "infinite": np.full((4, 4), np.inf, np.float32),
    "32-bit integers": np.arange(16, dtype=np.int32).reshape(4, 4),
    "signed integers": np.arange(-8, 8, dtype=np.int32).reshape(4, 4) * 1000,
}


@pytest.mark.parametrize("what", UNCLEAR)
def test_numbers_whose_white_nobody_says_are_refused(tmp_path, what):
    path = tmp_path / "depth.tif"
    path.write_bytes(saved(Image.fromarray(UNCLEAR[what]), "TIFF"))
    with pytest.raises(ValueError, match=r"depth\.tif cannot be read: .*which value is white; save it"):
        open_image(path)
    with pytest.raises(ValueError, match="which value is white"):
        to_rgb(Image.fromarray(UNCLEAR[what]))


def test_masks_of_importance_have_their_depth_too(tmp_path):
    """16 bits were cut at 255, which made nearly everything important; floats at 1, which made nothing so."""
    photograph, ramp = np.zeros((3, 8, 8), np.uint8), np.linspace(0, 1, 64).reshape(8, 8)
    import torch

    masks = {
        "16.png": Image.fromarray((65535 * ramp).astype(np.uint16)),
        "f.tif": Image.fromarray(ramp.astype(np.float32)),
        "8.png": Image.fromarray((255 * ramp).round().astype(np.uint8)),
    }
    for name, mask in masks.items():
        mask.save(tmp_path / name)
        for given_as in (mask, tmp_path / name):
            assert np.abs(importance_map(given_as, torch.from_numpy(photograph)) - ramp).max() < 0.01, name
    Image.fromarray(np.full((8, 8), 70000, np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=r"the mask .*deep\.tif cannot be read"):
        importance_map(tmp_path / "deep.tif", torch.from_numpy(photograph))
    assert to_gray(Image.new("1", (2, 2), 1)).getpixel((0, 0)) == 255


# -- several pictures, and notices -------------------------------------------------------------------


def test_of_several_pictures_the_first_is_read_and_that_is_told(tmp_path, chelsea):
    first, second = Image.fromarray(chelsea[:60, :80]), Image.fromarray(255 - chelsea[:60, :80])
    for kind, name in (("TIFF", "pages.tif"), ("GIF", "moving.gif"), ("PNG", "moving.png"), ("WEBP", "moving.webp")):
        first.save(tmp_path / name, kind, save_all=True, append_images=[second, first])
        with pytest.warns(InputWarning, match=f"{name} has 3 frames, of which the first was read"):
            found = np.asarray(open_image(tmp_path / name)).astype(int)
        assert np.abs(found - np.asarray(first)).mean() < 12, kind
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second], exif=exif, quality=95)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a phone's second picture is a map or a preview: nothing is lost
        found = open_image(tmp_path / "phone.jpg")
    assert found.size == (60, 80)
    assert np.abs(np.asarray(found).astype(int) - np.rot90(np.asarray(first), -1)).mean() < 6


def test_notices_are_collected_once_and_other_warnings_go_on():
    with pytest.warns(UserWarning, match="something else"), collected() as texts:
        for _ in range(3):
            notice("a.jpg is odd")
        warnings.warn("something else", stacklevel=1)
    assert texts == ["a.jpg is odd"]


@pytest.mark.parametrize("filters", ["default", "always", "ignore", "error"])
def test_notices_are_shown_once_whatever_the_filters_are_and_become(filters):
    said = []
    with pytest.warns(UserWarning, match="something else"), warnings.catch_warnings():
        warnings.simplefilter(filters)
        with shown(said.append):
            for number in range(4):
                with warnings.catch_warnings():  # which makes Python forget what it has shown
                    notice(f"{'ab'[number % 2]}.jpg is odd")
        warnings.simplefilter("always")
        with shown(said.append):
            warnings.warn("something else", stacklevel=1)
    assert said == ["a.jpg is odd", "b.jpg is odd"]


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_colors_lie_on_white_like_others(mode):
    plain = Image.new({"La": "LA", "RGBa": "RGBA"}[mode], (2, 2), (200, 128) if mode == "La" else (200, 200, 200, 128))
    assert np.abs(np.asarray(to_rgb(plain.convert(mode))).astype(int) - np.asarray(to_rgb(plain))).max() <= 2
    assert to_gray(plain.convert(mode)).mode == "L"
