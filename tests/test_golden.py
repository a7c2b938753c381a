"""Streams that were written once are read the same for ever, and written the same again."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import cdanalysis as cda
from cdanalysis.stream.container import VERSION

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
