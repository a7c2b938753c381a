"""The container: round trips, checksums, size, and that it needs no network."""

from __future__ import annotations

import binascii
import contextlib
import itertools
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdanalysis as cda
from cdanalysis.stream.container import MAX_PIXELS, MAX_WORKING, Layer, Stream, pack, strip, unpack
from cdanalysis.structures.latents import LAYERS, PAD, working_size

payloads = st.lists(st.binary(max_size=300), min_size=1, max_size=3)
levels_of = st.tuples(*[st.integers(0, 120)] * 3)
workings = st.integers(1, MAX_WORKING // PAD).map(lambda n: PAD * n)


def make(datas, width=224, height=160, levels=(30, 60, 120), fingerprint="0a1b2c", working=(224, 448, 0), mapped=False):
    parts = zip(LAYERS, levels, datas, working, strict=False)
    layers = tuple(Layer(n, q, len(d), d, w, mapped and n == "detail") for n, q, d, w in parts)
    return Stream(fingerprint, width, height, layers)


PARTS = [bytes(range(40)), bytes(range(100, 160)), bytes(range(50))]
SAMPLE = pack(make(PARTS))
ENDS = list(itertools.accumulate((len(part) + 3 for part in PARTS), initial=len(SAMPLE) - sum(map(len, PARTS)) - 9))[1:]
"""Where the layers of the sample end, with their checks."""


def parsed(data: bytes) -> dict:
    """A stream, read as docs/format.md has it, by nothing of this library."""
    at = 5

    def varint() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if not byte >> 7:
                return value

    width, height, table, more = varint(), varint(), [], 1
    for name in ("global", "spatial", "detail"):
        if more:
            level, low = data[at] >> 1, data[at] & 1
            at += 1
            entry = {"name": name, "level": level, "working": 0 if name == "detail" else 32 * varint()}
            table.append(entry | {"length": varint(), "mapped": bool(low) and name == "detail"})
            more = low
    head = data[:at]
    check = binascii.crc_hqx(head, 0xFFFF)
    assert data[at : at + 2] == check.to_bytes(2, "big")
    at += 2
    for number, entry in enumerate(table):
        payload = entry["data"] = data[at : at + entry.pop("length")]
        at += len(payload) + 3
        crc32 = zlib.crc32(payload, (zlib.crc32(head) + number) % 2**32)
        crc16 = binascii.crc_hqx(payload, (check + number) % 2**16)
        assert data[at - 3 : at] == crc16.to_bytes(2, "big") + bytes([crc32 % 256])
    assert at == len(data)
    magic, version = int.from_bytes(data[:2], "big") >> 4, data[1] & 15
    return {"magic": magic, "version": version, "print": data[2:5].hex(), "size": (width, height), "layers": table}


@given(payloads, st.integers(1, 10**4), st.integers(1, 10**4), levels_of, workings, workings, st.booleans())
def test_round_trip(datas, width, height, levels, shorter, longer, mapped):
    stream = make(datas, width, height, levels, working=(shorter, longer, 0), mapped=mapped)
    data = pack(stream)
    assert unpack(data) == stream
    found = parsed(data)
    assert (found["magic"], found["version"], found["print"], found["size"]) == (0xCDA, 2, "0a1b2c", (width, height))
    kept = ("name", "level", "working", "mapped", "data")
    assert found["layers"] == [{key: getattr(layer, key) for key in kept} for layer in stream.layers]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_stream_or_a_stream_error(data):
    for claimed in (data, b"\xcd\xa2" + data):
        with contextlib.suppress(cda.StreamError):
            unpack(claimed)


def varint_bytes(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))


@given(
    st.tuples(*[st.integers(0, 20_000)] * 3),
    st.integers(1, 3),
    st.integers(1, 16_383),
    st.integers(1, 16_383),
    workings,
)
def test_a_container_is_at_most_three_bytes_larger_than_version_ones(lengths, count, width, height, working):
    """For the same layers: a level and a length of each, and a check."""
    datas = [bytes(length) for length in lengths[:count]]
    taken = len(pack(make(datas, width, height, working=(working, working, 0)))) - sum(map(len, datas))
    before = 2 + 3 + varint_bytes(width) + varint_bytes(height) + 2 + sum(1 + varint_bytes(len(d)) + 3 for d in datas)
    assert taken == before + min(count, 2) <= before + 3


@pytest.mark.parametrize(("lengths", "most"), [((120,), 17), ((120, 1500), 24), ((120, 1500, 90_000), 31)])
def test_containers_of_ordinary_streams_are_small(lengths, most):
    datas = [bytes(length) for length in lengths]
    assert len(pack(make(datas, 6000, 4000))) - sum(lengths) <= most


def test_every_flipped_byte_is_found():
    for position in range(len(SAMPLE)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(SAMPLE)
            damaged[position] ^= flip
            with pytest.raises(cda.StreamError):
                unpack(bytes(damaged))


def test_every_cut_is_found_but_those_after_layers():
    whole = {}
    for length in range(len(SAMPLE)):
        with contextlib.suppress(cda.StreamError):
            whole[length] = unpack(SAMPLE[:length])
    assert list(whole) == ENDS[:-1]
    for count, stream in enumerate(whole.values(), 1):
        assert [stream.require(name).data for name in LAYERS[:count]] == PARTS[:count]
        for name in LAYERS[count:]:
            assert stream.layer(name) is None
            with pytest.raises(cda.StreamError, match=f"no {name} layer"):
                stream.require(name)


def test_bytes_after_the_end_are_found():
    for end in ENDS:
        with pytest.raises(cda.StreamError, match=r"after the end|truncated"):
            unpack(SAMPLE[:end] + b"x")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_strip_keeps_the_first_layers_and_makes_a_whole_stream(count):
    kept = strip(SAMPLE, LAYERS[:count])
    assert kept == pack(make(PARTS[:count]))
    for more in range(count, 4):
        assert (
            strip(SAMPLE[: ENDS[more - 1]], LAYERS[:count])
            == strip(strip(SAMPLE, LAYERS[:more]), LAYERS[:count])
            == kept
        )
    assert strip(SAMPLE) == pack(make(PARTS[:2])), "by default the semantic layers"


def test_strip_refuses_what_is_not_there():
    for count, name in ((1, "spatial"), (2, "detail")):
        for short in (strip(SAMPLE, LAYERS[:count]), SAMPLE[: ENDS[count - 1]]):
            with pytest.raises(cda.StreamError, match=f"no {name} layer"):
                strip(short, LAYERS)
    for layers in ((), ("spatial",), ("spatial", "global"), ("global", "detail"), ("sound",), "global"):
        with pytest.raises(ValueError, match="layers must be"):
            strip(SAMPLE, layers)


def test_layers_of_two_streams_cannot_be_mixed():
    """Neither those of other headers, nor those of another place in the same header."""
    for change in ({"width": 225}, {"levels": (30, 60, 119)}, {"working": (224, 480, 0)}, {"fingerprint": "0a1b2d"}):
        other = pack(make(PARTS, **change))
        assert len(other) == len(SAMPLE)
        for start in (ENDS[0], ENDS[1]):
            with pytest.raises(cda.StreamError, match="checksum of the"):
                unpack(SAMPLE[:start] + other[start:])
    twins = pack(make([PARTS[0], PARTS[0]]))
    end = len(twins) - 43
    with pytest.raises(cda.StreamError, match="checksum of the global layer"):
        unpack(twins[: end - 43] + twins[end:] + twins[end - 43 : end])


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS + 1, 1), (10**6, 10**6), (1, MAX_PIXELS // 32 + 1)])
def test_huge_claims_are_refused(width, height):
    data = pack(make([b"x"], width, height))
    with pytest.raises(cda.StreamError, match=f"claims {width}x{height} pixels"):
        unpack(data)
    with pytest.raises(cda.StreamError, match="claims"):
        unpack(pack(make([b"x"], 12_000, 9_000)), max_pixels=100_000_000)
    assert unpack(data, max_pixels=2**50).width == width
    assert cda.inspect(data).width == width and unpack(cda.strip(data, ["global"]), max_pixels=2**50).height == height


def claiming(position: int, value: int) -> bytes:
    """A stream of a 1x1 photograph with another byte in its header, whose check was made to match."""
    bad = bytearray(pack(make([b"x", b"y"], 1, 1)))
    bad[position] = value
    bad[13:15] = binascii.crc_hqx(bytes(bad[:13]), 0xFFFF).to_bytes(2, "big")
    return bytes(bad)


@pytest.mark.parametrize(
    ("position", "value", "says"),
    [
        (5, 0, "claims 0x1 pixels"),
        (6, 0, "claims 1x0 pixels"),
        (7, 121 << 1 | 1, "level above 120"),
        (10, 127 << 1, "level above 120"),
        (8, 0, "working size"),
        (8, MAX_WORKING // PAD + 1, "working size"),
        (11, 0, "working size"),
    ],
)
def test_headers_that_claim_what_cannot_be_are_refused(position, value, says):
    assert unpack(claiming(5, 1)).width == 1
    with pytest.raises(cda.StreamError, match=says):
        unpack(claiming(position, value))


@pytest.mark.parametrize("long", [b"\x81\x00", b"\xff\xff\xff\xff\xff\x01"])
def test_numbers_that_are_longer_than_need_be_are_refused(long):
    with pytest.raises(cda.StreamError, match="a number in the header is"):
        unpack(SAMPLE[:5] + long + SAMPLE[7:])


@pytest.mark.parametrize(
    "bad",
    [
        make([b"x"], width=0),
        make([b"x"], height=2**31),
        make([b"x"], fingerprint="0a1b"),
        make([b"x"], levels=(121, 0, 0)),
        make([b"x"], working=(0, 0, 0)),
        make([b"x"], working=(250, 0, 0)),
        make([b"x", b"y"], working=(224, MAX_WORKING + PAD, 0)),
        Stream("0a1b2c", 1, 1, ()),
        Stream("0a1b2c", 1, 1, (Layer("detail", 0, 0, b""),)),
        Stream("0a1b2c", 1, 1, (Layer("global", 0, 1, b"x", 224, mapped=True),)),
        Stream("0a1b2c", 1, 1, (Layer("global", 0, 1, None, 224),)),
    ],
)
def test_pack_refuses_what_the_format_cannot_hold(bad):
    with pytest.raises(ValueError, match=r".+"):
        pack(bad)


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (1, "format version 1, which an edition before 0.2 of this library wrote; this one reads version 2"),
        (3, "format version 3, which a newer edition of this library wrote; this one reads version 2"),
    ],
)
def test_another_version_is_refused_by_a_sentence(version, says):
    other = bytes([SAMPLE[0], SAMPLE[1] & 0xF0 | version]) + SAMPLE[2:]
    for verb in (unpack, strip, cda.inspect):
        with pytest.raises(cda.StreamError, match=says):
            verb(other)


def test_another_file_is_named():
    for data in (b"", b"\xcd", b"\x89PNG\r\n"):
        with pytest.raises(cda.StreamError, match=r"not a \.cda stream"):
            unpack(data)


def test_inspect_tells_what_is_in_the_stream():
    info = cda.inspect(pack(make(PARTS, mapped=True)))
    assert (info.version, info.model, info.fingerprint) == (2, None, "0a1b2c")
    assert (info.width, info.height, info.quality, info.bytes) == (224, 160, 1.0, len(SAMPLE))
    assert [(layer.name, layer.bytes, layer.quality, layer.working, layer.mapped) for layer in info.layers] == [
        ("global", 40, 0.25, 224, False),
        ("spatial", 60, 0.5, 448, False),
        ("detail", 50, 1.0, 0, True),
    ]
    assert info.bpp == 8 * len(SAMPLE) / (224 * 160)
    for count in (1, 2):
        cut = cda.inspect(SAMPLE[: ENDS[count - 1]])
        assert [layer.name for layer in cut.layers] == list(LAYERS[:count]) and cut.quality == count / 4


def test_inspect_and_strip_import_no_network_library(tmp_path):
    (tmp_path / "s.cda").write_bytes(SAMPLE)
    code = (
        "import sys, cdanalysis as cda; d = open(sys.argv[1], 'rb').read(); cda.inspect(d); cda.strip(d);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'numpy', 'constriction')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "s.cda")], check=False).returncode == 0


@given(st.integers(1, 20_000), st.integers(1, 20_000), workings, st.sampled_from(["shorter", "longer"]))
def test_working_sizes_are_the_nearest_multiples(height, width, side, which):
    """Beside the rule of docs/format.md, written down in fractions; both are within half a multiple of it."""
    rows, columns = working_size(height, width, **{which: side})
    assert (columns, rows) == working_size(width, height, **{which: side}) or height == width
    small, large = sorted((rows, columns))
    assert (rows <= columns) if height <= width else (rows >= columns)
    assert small % PAD == large % PAD == 0 and small > 0
    ratio = max(height, width) / min(height, width)
    if which == "longer":
        assert large == side and abs(small - max(side / ratio, PAD)) <= PAD / 2
    else:
        assert small == side and large <= 2 * side and abs(large - min(side * ratio, 2 * side)) <= PAD / 2


def test_a_layer_without_bytes_is_a_layer():
    stream = make([b"", b"", b""])
    assert unpack(pack(stream)) == stream and unpack(pack(stream)).layer("detail") is not None
