"""Files: whole or not at all, and under names that tell."""

from __future__ import annotations

import hashlib
import json
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


def key_of(*parts: Any) -> str:
    """Ten hexadecimal digits of plain data: what is kept of a measurement is kept under all that it depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:10]


def run_name(name: str, overrides: Sequence[str]) -> str:
    """What a run's folder is called: one name, whatever the values of its overrides hold."""
    return "-".join([name, *overrides]).replace(os.sep, "_")
