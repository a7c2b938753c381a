"""Two-alternative forced choice (2AFC): which of two distorted images is more similar to the original?"""

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
    """One comparison and its outcome.

    Attributes:
        original, a, b: image files of the same size.
        share: fraction of people who found ``a`` more similar to the original, in [0, 1].
        group: kind of distortion; results are reported per group.
    """

    original: Path
    a: Path
    b: Path
    share: float
    group: str = ""


def read_preferences(table: str | Path, folder: str | Path) -> list[Preference]:
    """Read preferences from a CSV file with columns ``original``, ``a``, ``b``, ``share``, and optionally ``group``.

    Args:
        table: the CSV file.
        folder: that its file names are relative to.

    Raises:
        FileNotFoundError: if the table, or a file that it names, does not exist.
        ValueError: if a column is missing, a share is not a number in [0, 1], or the table has no rows.
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
                    raise FileNotFoundError(f"{table}, line {reader.line_num}: no such file: {path}")
            share = _share(row["share"], f"{table}, line {reader.line_num}")
            preferences.append(Preference(paths[0], paths[1], paths[2], share, row.get("group") or ""))
    if not preferences:
        raise ValueError(f"{table} has no rows")
    return preferences


def write_preferences(table: str | Path, folder: str | Path, preferences: Sequence[Preference]) -> None:
    """Write a table that `read_preferences` reads.

    Args:
        table: the CSV file to write.
        folder: that file names are made relative to.
        preferences: the rows.

    Raises:
        ValueError: if an image file is not below ``folder``.
    """
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
