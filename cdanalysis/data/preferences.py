"""Two-alternative forced choices: of two distortions of a photograph, which looks more like it?"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import write_whole

COLUMNS = ("original", "a", "b", "share")


@dataclass(frozen=True)
class Preference:
    """One question and its answers.

    Attributes:
        original, a, b: image files of one size.
        share: of the people asked who found ``a`` more like the original, in [0, 1].
        group: what kind of question it is; figures are given for each.
    """

    original: Path
    a: Path
    b: Path
    share: float
    group: str = ""


def read_preferences(table: str | Path, folder: str | Path) -> list[Preference]:
    """Choices from a CSV file with the columns ``original``, ``a``, ``b``, ``share`` and, if it likes, ``group``.

    Args:
        table: the CSV file.
        folder: what its file names are relative to.

    Raises:
        FileNotFoundError: if the table, or a file that it names, is not there.
        ValueError: if a column is missing, a share is no number in [0, 1], or there is no choice.
    """
    preferences = []
    with open(table, newline="", encoding="utf-8-sig") as file:  # spreadsheets begin it with a byte order mark
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{table} has no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
        for row in reader:
            paths = [Path(folder) / row[name] for name in COLUMNS[:3]]
            for path in paths:
                if not path.is_file():
                    raise FileNotFoundError(f"{table}, line {reader.line_num}: no file {path}")
            share = _share(row["share"], f"{table}, line {reader.line_num}")
            preferences.append(Preference(paths[0], paths[1], paths[2], share, row.get("group") or ""))
    if not preferences:
        raise ValueError(f"{table} holds no choice")
    return preferences


def write_preferences(table: str | Path, folder: str | Path, preferences: Sequence[Preference]) -> None:
    """The table that `read_preferences` reads; file names are relative to ``folder``."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((*COLUMNS, "group"))
    for preference in preferences:
        names = [path.relative_to(folder).as_posix() for path in (preference.original, preference.a, preference.b)]
        writer.writerow((*names, f"{preference.share:g}", preference.group))
    write_whole(table, buffer.getvalue())


def _share(text: str, where: str) -> float:
    try:
        share = float(text)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{where}: the share must be a number in [0, 1], got {text!r}")
    return share
