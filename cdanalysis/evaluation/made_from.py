"""Measurements that go on where they were stopped, unless they would go on with something else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from ..files import json_text, json_value, write_whole
from ..notices import notice
from ..outputs import file_digest
from ..zoo import COUNTERPARTS, TEACHERS, WEIGHTS, find

MADE_FROM = "made_from.json"


def model_digests(model: str) -> list[str]:
    """Digests of all of a model's weights, its teachers' and counterparts' among them."""
    folder = find(model)
    return [file_digest(folder / name) for name in (WEIGHTS, TEACHERS, COUNTERPARTS) if (folder / name).is_file()]


def begin_from(folder: Path, parts: Sequence[str], made_from: dict[str, Any]) -> None:
    """Put aside, under another name, what was measured from something else; and record what is measured from now on.

    Args:
        parts: folders in ``folder`` that hold what was measured; the first also holds the record.
        made_from: plain data of all that measurements depend on.
    """
    path, now = folder / parts[0] / MADE_FROM, json_value(json_text(made_from))
    before = json_value(path.read_text()) if path.is_file() else {}
    if before == now:
        return
    changed = ", ".join(key for key in now if key in before and before[key] != now[key]) or "unknown settings"
    for part in parts:
        if (folder / part).is_dir():
            aside = next(p for number in count(1) if not (p := folder / f"{part}-before-{number}").exists())
            (folder / part).rename(aside)
            notice(f"{part} was measured with other {changed}; it is in {aside} now, and measured again")
    write_whole(path, json_text(now, indent=1) + "\n")
