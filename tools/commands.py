"""Write docs/commands.md: every command of the command line with its arguments and options.

python tools/commands.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from cdanalysis.cli import parser
from cdanalysis.reports.markdown import fill

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
COMMON = ("json", "traceback", "model", "device", "workers", "runner", "strict", "overwrite", "max_pixels")
"""Options that most commands have, and that are described once, where they mean the same."""


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands, by name."""
    return next(a.choices for a in parser()._actions if isinstance(a, argparse._SubParsersAction))  # type: ignore[return-value]


def row(action: argparse.Action) -> str:
    """A line of a table: what to write, and what it means."""
    value = action.metavar or (" ".join(action.choices) if action.choices else action.dest.upper())
    words = " / ".join(f"`{word}`" for word in action.option_strings) or f"`{action.metavar or action.dest}`"
    if not action.option_strings and action.choices:
        words = " / ".join(f"`{word}`" for word in action.choices)
    if action.option_strings and action.nargs != 0:
        words += f" {value}{' ...' if action.nargs in ('+', '*') else ''}"
    return f"| {words} | {(action.help or '').replace('%%', '%').replace('|', chr(92) + '|')} |"


def rows(actions: list[argparse.Action]) -> str:
    """A table of options."""
    return "\n".join(["| | |", "| --- | --- |", *map(row, actions)])


def sections() -> Iterator[str]:
    """The page, command by command; what many share at the end."""
    shared: dict[str, argparse.Action] = {}
    for name, command in commands().items():
        actions = [a for a in command._actions if a.dest != "help"]
        options = [a for a in actions if a.option_strings]
        common = [a for a in options if a.dest in COMMON and shared.setdefault(a.dest, a).help == a.help]
        own = [a for a in actions if a not in common]
        names = ", ".join(f"`--{a.dest.replace('_', '-')}`" for a in common)
        what = command.description or ""
        yield f"## cdanalysis {name}\n\n{what[:1].upper()}{what[1:]}."
        if own:
            yield rows(own)
        yield f"Also {names}: see [below](#what-many-commands-have)."
    yield f"## What many commands have\n\n{rows(list(shared.values()))}"


def text() -> str:
    """What stands between the page's markers."""
    return "\n\n".join(sections())


if __name__ == "__main__":
    fill(PAGE, {"commands": text()})
