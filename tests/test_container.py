"""The container: round trips, checksums, size, and that it needs no network."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdanalysis as cda
from cdanalysis.stream.container import MAX_PIXELS, Layer, Stream, pack, strip, unpack

names = ("semantic", "detail")
payloads = st.lists(st.binary(max_size=300), min_size=1, max_size=2)


def make(datas, width=224, height=160, levels=(60, 120), fingerprint="0a1b2c") -> Stream:
    layers = tuple(Layer(n, q, len(d), d) for n, q, d in zip(names, levels, datas, strict=False))
    return Stream(fingerprint, width, height, layers)


SAMPLE = pack(make([bytes(range(40)), bytes(range(100, 160))]))


@given(payloads, st.integers(1, 10**4), st.integers(1, 10**4), st.tuples(st.integers(0, 120), st.integers(0, 120)))
def test_round_trip(datas, width, height, levels):
    stream = make(datas, width, height, levels)
    assert unpack(pack(stream)) == stream


@given(st.binary(max_size=200))
def test_any_bytes_are_a_stream_or_a_stream_error(data):
    with contextlib.suppress(cda.StreamError):
        unpack(data)


@pytest.mark.parametrize(("side", "length"), [(1, 0), (224, 150), (4000, 90_000), (16_383, 2_000_000)])
def test_container_of_two_layers_takes_at_most_24_bytes(side, length):
    datas = [bytes(min(length, 16_000)), bytes(length)]
    assert len(pack(make(datas, side, side))) - sum(map(len, datas)) <= 24


def test_every_flipped_byte_is_found():
    for position in range(len(SAMPLE)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(SAMPLE)
            damaged[position] ^= flip
            with pytest.raises(cda.StreamError):
                unpack(bytes(damaged))


def test_every_cut_is_found_but_the_one_after_the_base():
    whole = []
    for length in range(len(SAMPLE)):
        try:
            stream = unpack(SAMPLE[:length])
        except cda.StreamError:
            continue
        whole.append(length)
        assert stream.layer("detail") is None
        assert stream.require("semantic").data == bytes(range(40))
        with pytest.raises(cda.StreamError, match="no detail layer"):
            stream.require("detail")
    assert whole == [len(SAMPLE) - 60 - 3]


def test_bytes_after_the_end_are_found():
    with pytest.raises(cda.StreamError, match="after the end"):
        unpack(SAMPLE + b"x")


def test_strip_keeps_the_base_and_makes_a_whole_stream():
    base = strip(SAMPLE)
    assert unpack(base).layers == unpack(SAMPLE).layers[:1]
    assert strip(base) == base
    assert strip(SAMPLE, names) == SAMPLE
    assert strip(SAMPLE[: len(SAMPLE) - 63]) == base


def test_strip_refuses_what_is_not_there():
    with pytest.raises(cda.StreamError, match="no detail layer"):
        strip(strip(SAMPLE), names)
    for layers in ((), ("detail",), ("detail", "semantic"), ("sound",)):
        with pytest.raises(ValueError, match="layers must be"):
            strip(SAMPLE, layers)


def test_layers_of_two_streams_cannot_be_mixed():
    other = pack(make([bytes(40), bytes(range(100, 160))]))
    mixed = SAMPLE[: len(SAMPLE) - 63] + other[-63:]
    assert unpack(other) and mixed[-63:-3] == SAMPLE[-63:-3]
    different_header = pack(make([bytes(range(40)), bytes(range(100, 160))], width=225))
    with pytest.raises(cda.StreamError):
        unpack(SAMPLE[: len(SAMPLE) - 63] + different_header[-63:])


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS + 1, 1), (10**6, 10**6), (1, MAX_PIXELS // 32 + 1)])
def test_huge_claims_are_refused(width, height):
    with pytest.raises(cda.StreamError, match="claims"):
        unpack(pack(make([b"x"], width, height)))


def test_an_empty_size_and_a_level_too_high_are_refused():
    good = bytearray(pack(make([b"x"], 1, 1)))
    for position, value in ((5, 0), (7, 121 << 1)):
        bad = bytearray(good)
        bad[position] = value
        import binascii

        bad[9:11] = binascii.crc_hqx(bytes(bad[:9]), 0xFFFF).to_bytes(2, "big")
        with pytest.raises(cda.StreamError, match="claims"):
            unpack(bytes(bad))


@pytest.mark.parametrize(
    "bad",
    [
        make([b"x"], width=0),
        make([b"x"], fingerprint="0a1b"),
        make([b"x"], levels=(121, 0)),
        Stream("0a1b2c", 1, 1, ()),
        Stream("0a1b2c", 1, 1, (Layer("detail", 0, 0, b""),)),
    ],
)
def test_pack_refuses_what_the_format_cannot_hold(bad):
    with pytest.raises(ValueError, match=r".+"):
        pack(bad)


def test_another_version_and_another_file_are_named():
    newer = bytes([SAMPLE[0], SAMPLE[1] & 0xF0 | 2]) + SAMPLE[2:]
    with pytest.raises(cda.StreamError, match="version 2"):
        unpack(newer)
    for data in (b"", b"\xcd", b"\x89PNG\r\n"):
        with pytest.raises(cda.StreamError, match=r"not a \.cda stream"):
            unpack(data)


def test_inspect_tells_what_is_in_the_stream():
    info = cda.inspect(SAMPLE)
    assert (info.version, info.model, info.fingerprint) == (1, None, "0a1b2c")
    assert (info.width, info.height, info.quality, info.bytes) == (224, 160, 1.0, len(SAMPLE))
    assert [(layer.name, layer.bytes, layer.quality) for layer in info.layers] == [
        ("semantic", 40, 0.5),
        ("detail", 60, 1.0),
    ]
    assert info.bpp == 8 * len(SAMPLE) / (224 * 160)
    assert [layer.name for layer in cda.inspect(SAMPLE[: len(SAMPLE) - 63]).layers] == ["semantic"]


def test_inspect_and_strip_import_no_network_library(tmp_path):
    (tmp_path / "s.cda").write_bytes(SAMPLE)
    code = (
        "import sys, cdanalysis as cda; d = open(sys.argv[1], 'rb').read(); cda.inspect(d); cda.strip(d);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'numpy', 'constriction')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "s.cda")], check=False).returncode == 0
