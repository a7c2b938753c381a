"""Files: whole or not at all, under names that tell, and of JSON that every program can read."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_whole(path: str | Path, data: bytes | str) -> None:
    """Write a file under a temporary name beside it, then rename, so that no partial file is ever seen."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def run_name(name: str, overrides: Sequence[str]) -> str:
    """What a run's folder is called: one name, whatever the values of its overrides hold."""
    return "-".join([name, *overrides]).replace(os.sep, "_")


def json_text(value: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """Plain data as JSON (RFC 8259), in which NaN and infinite numbers are null: it has no words for them."""
    return json.dumps(_finite(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def json_value(text: str | bytes) -> Any:
    """What JSON says; the NaN and Infinity that Python's own writer puts into it are None.

    Raises:
        ValueError: if it is not JSON.
    """
    return json.loads(text, parse_constant=lambda name: None)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
