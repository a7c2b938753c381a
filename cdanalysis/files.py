"""Files: whole or not at all, under names that tell, and all of a folder's, whatever stands in the way."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = 3
"""So many names stand for a kind of file in a sentence."""


def write_whole(path: str | Path, data: bytes | str, ready: Callable[[], None] = lambda: None) -> None:
    """Write a file under a temporary name beside it, then rename, so that no partial file is ever seen.

    Args:
        ready: called when the bytes are on the disk, before they get their name.

    Raises:
        OSError: with ``path`` as its file, whatever step failed.
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        ready()
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


def run_name(name: str, overrides: Sequence[str]) -> str:
    """What a run's folder is called: one name, whatever the values of its overrides hold."""
    return "-".join([name, *overrides]).replace(os.sep, "_")


@dataclass
class LeftOut:
    """What of a folder is not worked on, and why.

    Attributes:
        kinds: for each reason the paths.
        failures: what could not even be looked at, as ``{"file", "error"}``.
    """

    kinds: dict[str, list[str]] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)

    def add(self, why: str, path: str | Path) -> None:
        self.kinds.setdefault(why, []).append(str(path))

    def lines(self, matters: Callable[[str], bool] = lambda path: True) -> list[str]:
        """A line for each reason: how many files that matter, why, and the first names."""
        lines = []
        for why, every in self.kinds.items():
            paths = [path for path in every if matters(path)]
            if not paths:
                continue
            names = ", ".join(Path(path).name for path in paths[:SHOWN])
            more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
            lines.append(f"left out {len(paths)}: {why} ({names}{more})")
        return lines

    def to_list(self) -> list[dict[str, Any]]:
        """The same as plain data."""
        return [{"why": why, "count": len(paths), "files": paths} for why, paths in self.kinds.items()]


def files_below(folder: str | Path, left_out: LeftOut) -> list[Path]:
    """All files of a folder and the folders in it, sorted, those behind links included; each folder is read once.

    Hidden files and folders are left out, and so is what is no file. A link that leads nowhere is among the files: who
    opens it is told.
    """
    found: list[Path] = []
    folders, links, seen = [Path(folder)], [], set()
    while folders or links:  # a folder is read under its own name where it has one here, else by a link
        place = folders.pop() if folders else links.pop(0)
        try:
            status = place.stat()
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            left_out.failures.append({"file": str(place), "error": error.strerror or str(error)})
            continue
        if (status.st_dev, status.st_ino) in seen:
            left_out.add("links to folders that were read already", place)
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = place / entry.name
            if entry.name.startswith("."):
                left_out.add("hidden", path)
            elif entry.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            elif entry.is_file() or entry.is_symlink():
                found.append(path)
            else:
                left_out.add("no files, but devices or pipes", path)
    return sorted(found)
