"""What a person at the command line sees: tables on standard output, progress and messages on standard error."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import track as rich_track
from rich.table import Table
from rich.text import Text

from .reports.markdown import plain_cell

_errors = Console(stderr=True)


def any_name() -> None:
    """Let messages and tables hold names that the terminal's encoding has no characters for: these are escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """A message, as it is."""
    _errors.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)


def track(items: Iterable, total: int | None = None) -> Iterable:
    """The items, with a progress bar."""
    return rich_track(items, console=_errors, description="", transient=True, total=total)


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Rows as a table, numbers to the right; what is nested is left out."""
    nested = {key for row in rows for key in row if isinstance(row[key], (dict, list))}
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in nested]
    table = Table(title=Text(title) if title else None)
    for column in columns:
        number = any(isinstance(row.get(column), (int, float)) for row in rows)
        table.add_column(Text(column), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain_cell(row.get(column))) for column in columns))  # a name may look like rich's markup
    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)
