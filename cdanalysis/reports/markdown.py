"""Tables and facts in Markdown pages, between markers that stay where their authors put them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_whole


def plain_cell(value: Any) -> str:
    """A value as text: four significant digits; a dash for None, and for what is no number.

    Args:
        value: of any type.
    """
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "-"
    return "-" if value is None else str(value)


def table(
    rows: Sequence[Mapping[str, Any]], hidden: Sequence[str] = (), cell: Callable[[Any], str] = plain_cell
) -> str:
    """Rows as a Markdown table.

    Args:
        rows: cells by column; what a row lacks is as None.
        hidden: columns that are left out; there is one for every other key that any row has.
        cell: a value to its text.
    """
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in hidden]
    lines = ["| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
    lines += ["| " + " | ".join(cell(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def fill(path: Path, blocks: Mapping[str, str]) -> None:
    """Put blocks between a page's markers ``<!-- NAME -->`` and ``<!-- /NAME -->``; what is between others stays.

    Args:
        path: of the page.
        blocks: Markdown by name.

    Raises:
        FileNotFoundError: if there is no such page.
        ValueError: if the page has no such markers.
    """
    text = path.read_text()
    for name, block in blocks.items():
        pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)"
        text, found = re.subn(pattern, lambda m, b=block: f"{m[1]}{b}\n{m[2]}", text, flags=re.S)
        if not found:
            raise ValueError(f"{path} has no place for {name!r}: no markers of that name")
    write_whole(path, text)
