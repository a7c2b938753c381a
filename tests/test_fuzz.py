"""Hostile input: whatever happens to a stream, it is read or refused with a sentence, and quickly."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from conftest import ROOT, module_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cdanalysis import StreamError
from cdanalysis.stream import container
from cdanalysis.stream.container import Layer, Stream, pack, unpack

mutations = module_of(ROOT / "tools" / "fuzz" / "mutations.py")


class Drawn:
    """Hypothesis as a source of numbers."""

    def __init__(self, draw):
        self.draw = draw

    def integers(self, low: int, high: int) -> int:
        return self.draw.draw(st.integers(low, high - 1))


@pytest.fixture(scope="module")
def streams(small, chelsea) -> list[bytes]:
    return mutations.streams_of(small, [chelsea[:64, 100:196], chelsea[100:133, 200:241]])


@pytest.fixture(autouse=True)
def as_before(small, monkeypatch):
    """Other tests share the model."""
    monkeypatch.setattr(small, "max_pixels", small.max_pixels)


@settings(max_examples=60)
@given(st.data())
def test_damage_is_never_read(small, streams, data):
    original, other = (data.draw(st.sampled_from(streams)) for _ in range(2))
    damaged = mutations.mutated(Drawn(data), original, other)
    verdict = mutations.examine(small, damaged)
    assert verdict.refused or any(stream.startswith(damaged) for stream in streams)  # a cut after a layer is no damage


@settings(max_examples=60)
@given(st.data())
def test_damage_with_mended_checksums_is_read_or_refused(small, streams, data):
    original, other = (data.draw(st.sampled_from(streams)) for _ in range(2))
    case = mutations.repaired(mutations.mutated(Drawn(data), original, other))
    verdict = mutations.examine(small, case)
    assert isinstance(verdict.refused, str)
    assert verdict.seconds < 20 * mutations.SECONDS  # what a busy machine needs; tools/fuzz/run.py holds it to one


def test_a_model_accepts_no_more_pixels_than_it_is_told_to(small, streams, monkeypatch):
    monkeypatch.setattr(small, "max_pixels", 64 * 96)
    small.analyze(streams[0])
    monkeypatch.setattr(small, "max_pixels", 64 * 96 - 1)
    for verb in (small.analyze, small.decode):
        with pytest.raises(StreamError, match="claims 96x64 pixels; at most 6143, padded, are accepted"):
            verb(streams[0])


@pytest.mark.parametrize("field", ["width", "height", "level", "working", "length", "more"])
def test_every_field_of_the_header_can_be_forged(small, streams, field):
    """With checksums that fit: what the symbols do not match is refused, and nothing else happens."""
    stream = unpack(streams[0])
    forged, layer = [], stream.layers[1]
    for value in (1, 2, 32, 64, 96, 128, 500, 1024):
        if field in ("width", "height"):
            forged.append(replace(stream, **{field: value}))
        else:
            changed = {
                "level": {"level": min(value, 120)},
                "working": {"working": -(-value // 32) * 32},
                "length": {"data": (layer.data * 9)[:value]},
                "more": {},
            }[field]
            kept = stream.layers[: 1 if field == "more" else 3]
            forged.append(replace(stream, layers=tuple(replace(x, **changed) if x is layer else x for x in kept)))
    for case in map(pack, forged):
        verdict = mutations.examine(small, case)
        assert field != "more" or not verdict.refused
        assert verdict.seconds < 20 * mutations.SECONDS


def test_mended_checksums_fit(small, streams):
    """What is mended gets past the container: the damage is for the entropy decoder to find."""
    rng, past = random.Random(0), 0
    for stream in streams:
        assert mutations.repaired(stream) == stream
        damaged = bytearray(stream)
        damaged[-4] ^= 1 + rng.randrange(255)
        with pytest.raises(StreamError, match="checksum"):
            unpack(bytes(damaged))
        past += unpack(mutations.repaired(bytes(damaged))) is not None
    assert past == len(streams)


def test_a_header_that_fits_its_checksum_by_chance_is_found_out():
    """Fingerprints whose headers have the same CRC-16: the layers' other polynomial tells nearly all of them apart."""
    data = pack(Stream("000000", 40, 30, (Layer("global", 3, 5, b"abcde", 224),)))
    end = len(data) - 5 - container.CHECK_BYTES - 2
    same, read = [], 0
    for number in range(1, 2**20):
        forged = data[:2] + number.to_bytes(3, "big") + data[5:]
        if container._header_check(forged[:end]) == container._header_check(data[:end]):
            same.append(forged)
    for forged in same:
        try:
            unpack(forged)
            read += 1
        except StreamError as error:
            assert "global" in str(error)
    assert len(same) >= 10 and read <= 1
