"""Streams that were written once are read the same for ever."""

from __future__ import annotations

import dataclasses
import json

import pytest
from conftest import ROOT, module_of

import cdanalysis as cda
from cdanalysis import model as model_module
from cdanalysis.codec import derived, layered
from cdanalysis.codec.derived import HASHED, hashed_shape
from cdanalysis.stream.container import VERSION
from cdanalysis.zoo import describe, load

FOLDER = ROOT / "tests" / "golden"
RECORD = json.loads((FOLDER / "golden.json").read_text())
golden = module_of(ROOT / "tools" / "golden.py")


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


def test_what_the_tool_writes_is_read_as_it_recorded(small, small_folder, tmp_path, monkeypatch):
    (tmp_path / "of-another-model.cda").write_bytes(b"old")
    monkeypatch.setattr("sys.argv", ["golden", "--model", str(small_folder), "--output", str(tmp_path)])
    golden.main()
    record = json.loads((tmp_path / "golden.json").read_text())
    assert (record["version"], record["fingerprint"]) == (VERSION, small.fingerprint)
    assert {path.stem for path in tmp_path.glob("*.cda")} == record["streams"].keys() == golden.cases().keys()
    seen = set()
    for name, known in record["streams"].items():
        stream = (tmp_path / f"{name}.cda").read_bytes()
        assert len(stream) == known["bytes"] and golden.hashes(golden.read(small, stream)) == known["latents"]
        assert all(golden.hashes(one) == known["latents"] for one in golden.read(small, stream, times=2))
        seen |= known["latents"].keys()
    assert seen == {"embedding", "spatial", "detail", "hyper", "quality_offsets"}


def test_a_field_added_to_the_codec_leaves_old_streams_readable(small, small_folder, image, tmp_path, monkeypatch):
    """A model saved again by a library that knows one field more has the same fingerprint; one that uses it has not."""
    stream = small.encode(image)
    wider = dataclasses.make_dataclass("CodecConfig", [("added", int, 7)], bases=(layered.CodecConfig,))
    for module in (layered, derived, model_module):
        monkeypatch.setattr(module, "CodecConfig", wider)
    again = load(small_folder)
    assert again.codec.config.added == 7
    again.save(tmp_path / "again")
    assert describe(tmp_path / "again")["codec"]["added"] == 7
    saved = load(tmp_path / "again")
    assert saved.fingerprint == small.fingerprint
    assert saved.decode(stream).tobytes() == small.decode(stream).tobytes()

    again.codec.config.added = 8
    again.save(tmp_path / "other")
    assert load(tmp_path / "other").fingerprint != small.fingerprint
    monkeypatch.undo()
    with pytest.raises(ValueError, match="written by a newer version of this library: it has 'added'"):
        load(tmp_path / "other")


def test_every_field_of_the_codec_is_hashed_unless_it_is_at_its_default():
    """Fields are frozen in ``HASHED``, or have a default and enter as soon as they leave it; but realism, which no
    symbol of a stream depends on."""
    shape = dataclasses.asdict(layered.CodecConfig())
    for field in dataclasses.fields(layered.CodecConfig):
        changed = {**shape, field.name: "another"}
        assert (hashed_shape(changed) == hashed_shape(shape)) == (field.name == "realism"), field.name
    assert {field.name for field in dataclasses.fields(layered.CodecConfig)} >= HASHED
