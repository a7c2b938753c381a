"""Which files may be written, and what each was made from.

Every folder that results are written to has a ledger, a hidden file with a line of JSON for every result: its name,
size and digest, and what it was made from. A file that is not in the ledger, or has changed since, is not this
library's to overwrite; and whether a result is still what a command would make is a question to the ledger.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from .files import LEDGER, LeftOut, files_below, json_text, json_value, write_whole

BESIDE = "made from what lies beside it"
"""Why a result is no photograph to work on."""


@dataclass(frozen=True)
class FileState:
    """By what a file is known again: size and times, which are quick to look at, else the digest of its bytes.

    Attributes:
        size: in bytes.
        mtime_ns: when its bytes were changed, in nanoseconds.
        ctime_ns: when it was changed in any way, in nanoseconds.
        digest: of its bytes, see `file_digest`.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str

    @classmethod
    def of(cls, path: str | Path) -> FileState:
        """The state of a file as it is now.

        Args:
            path: of the file, which is read.

        Raises:
            OSError: if it cannot be read.
        """
        status = os.stat(path)
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, file_digest(path))

    def holds(self, path: str | Path) -> bool:
        """Whether a file has still, or again, the same bytes. Nobody can set ``ctime``: equal times need no look.

        Args:
            path: of the file.

        Returns:
            False also where it cannot be read.
        """
        try:
            status = os.stat(path)
            if status.st_size != self.size:
                return False
            return (status.st_mtime_ns, status.st_ctime_ns) == (self.mtime_ns, self.ctime_ns) or (
                file_digest(path) == self.digest
            )
        except OSError:
            return False


def file_digest(path: str | Path) -> str:
    """16 bytes of BLAKE2b of a file, in hexadecimal.

    Args:
        path: of the file.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.blake2b(digest_size=16)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def settings_digest(settings: Any) -> str:
    """8 bytes of BLAKE2b of plain data, in hexadecimal.

    Args:
        settings: what JSON can hold; the order of keys does not count.
    """
    return hashlib.blake2b(json_text(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Origin:
    """What a result was made from.

    Attributes:
        settings: `settings_digest` of all that it depends on beside its source.
        source: absolute path of the file; empty where it was made from no single one.
        state: of the source when it was read.
    """

    settings: str = ""
    source: str = ""
    state: FileState | None = None

    @classmethod
    def of(cls, source: str | Path, settings: str) -> Origin:
        """The origin of a result that is made from one file, as it is now.

        Args:
            source: path of the file, which is read.
            settings: `settings_digest` of all else.

        Raises:
            OSError: if the file cannot be read.
        """
        return cls(settings, os.path.abspath(source), FileState.of(source))


@dataclass(frozen=True)
class Entry:
    """A ledger's line: a result as it was written, and its origin.

    Attributes:
        size: in bytes.
        digest: of its bytes, see `file_digest`.
        origin: what it was made from.
    """

    size: int
    digest: str
    origin: Origin

    def holds(self, path: Path) -> bool:
        """Whether the file is as it was written.

        Args:
            path: of the file.

        Returns:
            False also where it cannot be read.
        """
        try:
            return path.stat().st_size == self.size and file_digest(path) == self.digest
        except OSError:
            return False


def write_result(path: str | Path, data: bytes | str, origin: Origin | None = None) -> None:
    """Write a file whole or not at all, and enter it into its folder's ledger, just before it gets its name.

    Args:
        path: of the file; its folder is made where it does not exist, and what has the name is replaced.
        data: its bytes, or its text.
        origin: what it was made from; by default nothing in particular.

    Raises:
        OSError: if it cannot be written, as `write_whole`.
    """
    path, data = Path(path), data.encode() if isinstance(data, str) else data
    origin = origin or Origin()
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    state = astuple(origin.state) if origin.state else None
    line = json_text([path.name, len(data), digest, origin.settings, origin.source, state])

    def enter() -> None:
        entry = f"\n{line}\n".encode()  # a line that a crash cut off does not spoil this one
        ledger = os.open(path.parent / LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(ledger, entry) < len(entry):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent / LEDGER))
        finally:
            os.close(ledger)

    write_whole(path, data, enter)


class Ledgers:
    """The ledgers of folders, each read when it is first asked for."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[str]]] = {}
        self._found: dict[Path, tuple[Entry | None, bool]] = {}

    def find(self, path: str | Path) -> tuple[Entry | None, bool]:
        """What was written under a name. The answer is kept: what happens to the file later is not seen.

        Args:
            path: of the file, as it was or would be written.

        Returns:
            the entry, None where nothing was written under that name; and whether the file is still as it was written.
        """
        path = Path(path)
        if path not in self._found:
            entries = [_parsed(line)[1] for line in reversed(self._folder(path.parent).get(path.name, []))]
            held = next((entry for entry in entries if entry.holds(path)), None)  # a crash leaves the one before
            self._found[path] = (held or (entries[0] if entries else None), held is not None)
        return self._found[path]

    def _folder(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._folders:
            lines: dict[str, list[str]] = {}
            try:
                text = (folder / LEDGER).read_text(errors="replace")
            except OSError:
                text = ""
            for line in text.splitlines():
                try:
                    lines.setdefault(_parsed(line)[0], []).append(line)
                except (ValueError, TypeError):  # cut off by a crash, or somebody else's
                    continue
            self._folders[folder] = lines
        return self._folders[folder]


def _parsed(line: str) -> tuple[str, Entry]:
    """The name, and what a line says of it. Raises ValueError or TypeError for a line that is none of a ledger's."""
    fields = json_value(line)
    if not isinstance(fields, list) or len(fields) != 6 or not isinstance(fields[1], int):
        raise ValueError("not six fields")
    name, size, digest, settings, source, state = fields
    if not all(isinstance(field, str) for field in (name, digest, settings, source)):
        raise ValueError("fields of other kinds")
    return name, Entry(size, digest, Origin(settings, source, FileState(*state) if state else None))


def other_source(path: str | Path, source: str | Path, ledgers: Ledgers) -> str:
    """What a result that is there was made from, if not from ``source``.

    Args:
        path: of the result.
        source: path of what it would be made from now.
        ledgers: to look into.

    Returns:
        the path of the other source, or "something else"; empty where there is no result, where it was made from
        ``source``, or from a file of the same bytes.
    """
    entry, _ = ledgers.find(path) if os.path.lexists(path) else (None, False)
    if entry is None or entry.origin.source == os.path.abspath(source):
        return ""
    if entry.origin.state is not None and entry.origin.state.holds(source):
        return ""
    return entry.origin.source or "something else"


def made_beside(files: Sequence[Path]) -> set[Path]:
    """Those of the files that this library made from others of them: results that lie beside their sources.

    Args:
        files: paths of all files that are worked on.
    """
    ledgers, there = Ledgers(), {os.path.abspath(file) for file in files}
    found = set()
    for file in files:
        entry, unchanged = ledgers.find(file)
        if entry is not None and unchanged and entry.origin.source in there:
            found.add(file)
    return found


class Inputs:
    """The files that a command reads, and so never writes, whatever they are called.

    Args:
        paths: of the files; those that are not there do not count.
    """

    def __init__(self, paths: Iterable[str | Path]):
        self._known = {mark for path in paths if (mark := _mark(path))}

    def __contains__(self, path: str | Path) -> bool:
        return _mark(path) in self._known


def refusal(path: str | Path, inputs: Inputs, ledgers: Ledgers, overwrite: bool = False) -> str:
    """Why a file must not be written; empty where it may.

    Args:
        path: of the file.
        inputs: of the command.
        ledgers: to look into.
        overwrite: whether files may be replaced that are no unchanged results of this library.

    Returns:
        a sentence for the user, or "".
    """
    path = Path(path)
    if not os.path.lexists(path):
        return ""
    if path in inputs:
        return f"{path} is read by this command, and an input is never overwritten; write elsewhere, with -o"
    if not path.is_file() and not path.is_symlink():
        return f"{path} is a folder, or no file at all"
    if overwrite:
        return ""
    entry, unchanged = ledgers.find(path)
    if entry is None:
        return f"{path} is there already, and not as a result of cdanalysis; --overwrite replaces it"
    if not unchanged:
        return f"{path} has changed since it was written; --overwrite replaces it"
    return ""


def check_outputs(
    paths: Sequence[str | Path],
    inputs: Sequence[str | Path] = (),
    overwrite: bool = False,
    sources: Mapping[Path, str | Path] | None = None,
) -> None:
    """Refuse, before anything is done, to write over what is not this library's, or was made from another file.

    Args:
        paths: of all files that will be written.
        inputs: paths of all files that are read.
        overwrite: whether anything but inputs may be written over.
        sources: of those of the paths that are made from one file.

    Raises:
        ValueError: if one of ``paths`` is one of ``inputs``, or is there and no file; or, unless ``overwrite``, if it
            is there and no unchanged result of this library, or one of another source.
    """
    known, ledgers, sources = Inputs(inputs), Ledgers(), sources or {}
    for path in paths:
        if why := refusal(path, known, ledgers, overwrite):
            raise ValueError(why)
        source = None if overwrite else sources.get(Path(path))
        if source is not None and (other := other_source(path, source, ledgers)):
            raise ValueError(f"{path} was made from {other}; --overwrite replaces it")


def read_below(folder: str | Path) -> list[Path]:
    """The files of a folder that a command may read: all but the results of this library.

    Args:
        folder: its path; hidden files, and what cannot be looked at, are left out.

    Returns:
        sorted paths.
    """
    ledgers = Ledgers()
    return [path for path in files_below(folder, LeftOut()) if not ledgers.find(path)[1]]


def changes(note: Path, made_from: dict[str, Any]) -> list[str] | None:
    """What of all that measurements depend on is not as a note says of them.

    Args:
        note: path of the note, JSON.
        made_from: what they depend on now, plain data by name.

    Returns:
        the names whose values differ, or that the note lacks; None where there is no note.

    Raises:
        ValueError: if the note is not JSON.
    """
    if not note.is_file():
        return None
    before, now = json_value(note.read_text()), json_value(json_text(made_from))
    return [key for key in now if key not in before or before[key] != now[key]]


def _mark(path: str | Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
