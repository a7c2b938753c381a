"""Files: whole or not at all, under names that tell, and of JSON that every program can read."""

from __future__ import annotations

import hashlib
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


def read_tensors(path: str | Path) -> Any:
    """What ``torch.save`` wrote: plain data and tensors, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds something else.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of zip files, pickles and tensors; they share no base class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is damaged, or no file of torch's: {reason}") from None


def key_of(*parts: Any) -> str:
    """Ten hexadecimal digits of plain data: what is kept of a measurement is kept under all that it depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:10]


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
