"""What is said of what went wrong: a sentence to act on, or, of what nobody foresaw, where the report of it lies."""

from __future__ import annotations

import sys
import tempfile
import traceback
from importlib import import_module, metadata
from typing import Any


class WorkerDied(RuntimeError):
    """A process that worked for this one is no more."""


FORESEEN = (ValueError, OSError, ImportError, MemoryError, WorkerDied)
"""What this library raises, or lets through, for input and machines that are not what they must be."""
_REPORTS: dict[tuple[str, str], str] = {}


def sentence(error: BaseException) -> str:
    """What to tell the user of an error.

    One that was not foreseen is a fault of the library; the sentence says so, and where its traceback was written.
    """
    if out_of_memory(error):
        return f"there is not enough memory ({_first_line(error)})"
    if not isinstance(error, FORESEEN):
        return unforeseen(error)
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{error.strerror}: {' and '.join(names)}" if names else error.strerror
    return str(error).strip() or type(error).__name__


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def named_line(error: BaseException) -> str:
    """An error's kind and what it says, on one line: for errors that only their kind explains."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran short, in Python, in torch, or on a device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(w in str(error) for w in ("out of memory", "can't allocate memory"))
    )


def optional(name: str, extra: str, title: str = "") -> Any:
    """A package that only an extra of this library brings.

    Args:
        name: to import it by.
        extra: that brings it.
        title: what people call it; by default its name.

    Raises:
        ModuleNotFoundError: if it is not installed; the message says how to.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        told = f"{title or name} is not installed: pip install 'cdanalysis[{extra}]'"
        raise ModuleNotFoundError(told, name=name) from None


def unforeseen(error: BaseException) -> str:
    """A sentence about a fault of the library; writes its traceback to a file, once for each place it comes from."""
    trace = "".join(traceback.format_exception(error))
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return (
        f"a fault of cdanalysis itself, {type(error).__name__}: {_first_line(error)}. Please report it with the file "
        f"{_report(type(error).__name__, place, trace)} and, if you may, with what it failed on"
    )


def _report(kind: str, place: str, trace: str) -> str:
    """Where the report of a fault is; it is written once."""
    if (kind, place) not in _REPORTS:
        lines = [f"cdanalysis {_version()}, Python {sys.version}, {sys.platform}", f"command: {sys.argv}", trace]
        with tempfile.NamedTemporaryFile("w", prefix="cdanalysis-fault-", suffix=".txt", delete=False) as file:
            file.write("\n".join(lines))
        _REPORTS[kind, place] = file.name
    return _REPORTS[kind, place]


def _version() -> str:
    try:
        return metadata.version("cdanalysis")
    except metadata.PackageNotFoundError:
        return "from a checkout"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
