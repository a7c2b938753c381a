"""Files: whole or not at all, under names that tell, all of a folder's; JSON and CSV that every program can read."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

HIDDEN = "hidden"
"""Why a file is not worked on that a system hides."""
LEDGER, LOCK = ".cdanalysis.jsonl", ".lock"
"""What a folder of results was made from, and what keeps two commands from writing one archive."""
OWN = {LEDGER, LOCK}
"""Hidden files of this library's own, of which nobody is told."""
SHOWN = 3
"""So many names stand for a kind of file in a sentence."""


def write_whole(path: str | Path, data: bytes | str, ready: Callable[[], None] = lambda: None) -> None:
    """Write a file under a temporary name beside it, then rename, so that no partial file is ever seen.

    Args:
        path: of the file; its folder is made where it does not exist.
        data: its bytes, or its text, which becomes UTF-8.
        ready: called when the bytes are written, before they get their name; what it raises keeps the file from being
            made.

    Raises:
        OSError: with ``path`` as its file, whatever step of writing failed; where the folder cannot be made, or written
            to, as `make_folder`.
    """
    path = Path(path)
    short = path.name.encode(errors="ignore")[:100].decode(errors="ignore")  # names have a limit in bytes
    part = path.with_name(f".{short}.{secrets.token_hex(4)}")
    make_folder(path.parent)
    try:
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


def make_folder(folder: str | Path) -> None:
    """Make a folder, and those above it, where they are not there.

    Args:
        folder: its path.

    Raises:
        OSError: if it cannot be made, or written to; a file in its place or above is named.
    """
    check_folder(folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(folder)) from None


def check_folder(folder: str | Path) -> None:
    """Refuse a folder that cannot be, or be written to: to know it before hours of work.

    Args:
        folder: its path; it need not be there.

    Raises:
        PermissionError: if it, or the first one above it that is there, cannot be written to.
        NotADirectoryError: if a file, or a broken link, is in its place or above.
    """
    for place in (Path(folder), *Path(folder).parents):
        if os.path.isdir(place):
            if not os.access(place, os.W_OK):
                raise PermissionError(errno.EACCES, "the folder cannot be written to", str(place))
            return
        if os.path.lexists(place):
            raise NotADirectoryError(errno.ENOTDIR, "a file or a broken link is where a folder must be", str(place))


def read_tensors(path: str | Path) -> Any:
    """What ``torch.save`` wrote: plain data and tensors, on the CPU.

    Args:
        path: of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds something else.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of zip files, pickles and tensors; they share no base class
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a seek to before a cut file's start
            raise
        kind = type(error).__name__  # its words are about security, and how to do without
        raise ValueError(
            f"{path} is damaged, or no file of torch's with tensors and plain data alone ({kind})"
        ) from None


def key_of(*parts: Any) -> str:
    """Ten hexadecimal digits of plain data: what is kept of a measurement is kept under all that it depends on.

    Args:
        *parts: what JSON can hold; of all else the text counts. The order of keys does not.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:10]


def run_name(name: str, overrides: Sequence[str]) -> str:
    """What a run's folder is called: one name, whatever the values of its overrides hold.

    Args:
        name: of what is run.
        overrides: ``key=value`` words.
    """
    return "-".join([name, *overrides]).replace(os.sep, "_")


def json_text(value: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """Plain data as JSON (RFC 8259), in which NaN and infinite numbers are null: it has no words for them.

    Args:
        value: plain data.
        indent: spaces a level; None for one line.
        sort_keys: whether keys are sorted.

    Raises:
        TypeError: for what JSON cannot hold.
    """
    return json.dumps(_finite(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def json_value(text: str | bytes) -> Any:
    """What JSON says; the NaN and Infinity that Python's own writer puts into it are None.

    Args:
        text: the JSON.

    Raises:
        ValueError: if it is not JSON.
    """
    return json.loads(text, parse_constant=lambda name: None)


def csv_text(lines: Iterable[dict[str, Any]], columns: Iterable[str] = ()) -> str:
    """Lines as CSV, with a line of column names first.

    Args:
        lines: cells by column; what a line lacks is empty.
        columns: which, in their order; others are left out. By default all that any line has.
    """
    lines, buffer = list(lines), io.StringIO()
    columns = list(columns) or list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
        """Note a file.

        Args:
            why: the reason, as a part of a sentence.
            path: of the file.
        """
        self.kinds.setdefault(why, []).append(str(path))

    def lines(self, matters: Callable[[str], bool] = lambda path: True) -> list[str]:
        """A line for each reason: how many files that matter, why, and the first names.

        Args:
            matters: whether a path does; by default all.
        """
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


def is_hidden(name: str) -> bool:
    """Whether a name in an archive is one that `files_below` leaves out: one of its parts begins with a dot.

    Args:
        name: with slashes between its parts.
    """
    return any(part.startswith(".") and part not in (".", "..") for part in PurePosixPath(name).parts)


def files_below(folder: str | Path, left_out: LeftOut) -> list[Path]:
    """All files of a folder and the folders in it, sorted, those behind links included; each folder is read once.

    Hidden files and folders are left out, and so is what is no file. A link that leads nowhere is among the files: who
    opens it is told.

    Args:
        folder: its path. Errors, as where it does not exist, are among the ``failures`` of ``left_out``.
        left_out: is told what is left out, and why.
    """
    found: list[Path] = []
    links: list[Path] = []
    folders, seen = [Path(folder)], set()
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
        for entry in (entry for entry in entries if entry.name not in OWN):
            path = place / entry.name
            if entry.name.startswith("."):
                left_out.add(HIDDEN, path)
            elif _is_folder(entry):
                (links if entry.is_symlink() else folders).append(path)
            elif entry.is_symlink() or entry.is_file():
                found.append(path)
            else:
                left_out.add("no files, but devices or pipes", path)
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # of a link that leads back to itself
        return False
