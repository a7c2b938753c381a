"""What a person at the command line sees: tables on standard output, progress and messages on standard error."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import track as rich_track
from rich.table import Table

_errors = Console(stderr=True)


class _Told(logging.Handler):
    """Warnings of the library as lines on standard error, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self.said:
            self.said.add(text)
            say(text)


def tell_warnings() -> None:
    """Show the library's warnings to the user of a command."""
    logger = logging.getLogger(__package__)
    for handler in [h for h in logger.handlers if isinstance(h, _Told)]:
        logger.removeHandler(handler)
    logger.addHandler(_Told())


def say(text: str) -> None:
    """A message, as it is."""
    _errors.print(text, highlight=False, markup=False, soft_wrap=True)


def track(items: Iterable, total: int | None = None) -> Iterable:
    """The items, with a progress bar."""
    return rich_track(items, console=_errors, description="", transient=True, total=total)


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Rows as a table, numbers to the right; what is nested is left out."""
    columns = [key for key in rows[0] if not isinstance(rows[0][key], (dict, list))] if rows else []
    table = Table(title=title or None)
    for column in columns:
        number = any(isinstance(row.get(column), (int, float)) for row in rows)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
