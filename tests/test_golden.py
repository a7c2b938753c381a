"""Streams that were written once are read the same for ever, and written the same again."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

import cdanalysis as cda
from cdanalysis.codec import derived, layered
from cdanalysis.codec.derived import HASHED, hashed_shape
from cdanalysis.stream.container import VERSION
from cdanalysis.zoo import describe, load, save_model

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "golden"
RECORD = json.loads((FOLDER / "golden.json").read_text())
spec = importlib.util.spec_from_file_location("golden", ROOT / "tools" / "golden.py")
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)


def test_the_record_is_of_this_format_and_model(photo):
    assert RECORD["version"] == VERSION
    assert RECORD["fingerprint"] == photo.fingerprint, "a new model: write new golden streams with tools/golden.py"
    assert {path.stem for path in FOLDER.glob("*.cda")} == RECORD["streams"].keys() == golden.cases().keys()


@pytest.mark.parametrize("name", RECORD["streams"])
def test_golden_streams_are_read_as_recorded(photo, name):
    stream = (FOLDER / f"{name}.cda").read_bytes()
    assert len(stream) == RECORD["streams"][name]["bytes"]
    assert golden.hashes(golden.read(photo, stream)) == RECORD["streams"][name]["latents"]
    assert cda.inspect(stream).fingerprint == RECORD["fingerprint"]


@pytest.mark.parametrize("name", RECORD["streams"])
def test_golden_streams_are_written_the_same_again(photo, name):
    assert photo.encode(**golden.cases()[name]) == (FOLDER / f"{name}.cda").read_bytes()


def test_a_field_added_to_the_codec_leaves_old_streams_readable(photo, tmp_path, monkeypatch):
    """A model saved again by a library that knows one field more has the same fingerprint; one that uses it has not."""
    stream = (FOLDER / "both-layers.cda").read_bytes()
    wider = dataclasses.make_dataclass("CodecConfig", [("added", int, 7)], bases=(layered.CodecConfig,))
    for module in (layered, derived):
        monkeypatch.setattr(module, "CodecConfig", wider)
    again = load("photo")
    assert again.codec.config.added == 7
    save_model(again, tmp_path / "again")
    assert describe(tmp_path / "again")["codec"]["added"] == 7
    saved = load(tmp_path / "again")
    assert saved.fingerprint == photo.fingerprint == "0e3ea2"
    assert saved.decode(stream).tobytes() == photo.decode(stream).tobytes()

    again.codec.config.added = 8
    save_model(again, tmp_path / "other")
    assert load(tmp_path / "other").fingerprint != photo.fingerprint
    monkeypatch.undo()
    with pytest.raises(ValueError, match="written by a newer version of this library: it has 'added'"):
        load(tmp_path / "other")


def test_every_field_of_the_codec_is_hashed_unless_it_is_at_its_default():
    """Fields are frozen in zoo.HASHED, or have a default and enter as soon as they leave it."""
    shape = dataclasses.asdict(layered.CodecConfig())
    for field in dataclasses.fields(layered.CodecConfig):
        changed = {**shape, field.name: "another"}
        assert hashed_shape(changed) != hashed_shape(shape), field.name
    assert {field.name for field in dataclasses.fields(layered.CodecConfig)} >= HASHED
