"""Tar archives as if they were folders: any member can be read at any time."""

from __future__ import annotations

import atexit
import bz2
import gzip
import lzma
import os
import posixpath
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""Decompressors by the first bytes of the files that they read."""


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive: plain, or compressed by gzip, bzip2 or xz.

    Args:
        path: any path; one that does not exist is no archive.
    """
    try:
        return path.is_file() and tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):  # compressed, and damaged
        return path.name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


class Archive:
    """Random access to the files of a tar archive, and to its links to them.

    A compressed archive is first decompressed to a temporary file, which is deleted when the process ends.

    Args:
        path: the archive.

    Attributes:
        names: of its files.
        lost: members that cannot be read: links that lead out of the archive, devices.

    Raises:
        ValueError: if it is damaged or truncated, even where some of its files could be read.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            status = path.stat()
            plain = _plain(path, status.st_mtime_ns, status.st_size)
            with tarfile.open(plain, "r:") as archive:
                members = list(archive)
            self._places = {m.name: (m.offset_data, m.size) for m in members if m.isfile() and not m.issparse()}
            self.lost = [m.name for m in members if not (m.isdir() or m.name in self._places or self._follow(m))]
            end = max((start + size for start, size in self._places.values()), default=0)
            if plain.stat().st_size < end:
                raise EOFError("it is truncated")
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # bz2 and gzip raise some without a number
                raise
            raise ValueError(f"{path} is a damaged tar archive: {error}") from None

    def _follow(self, link: tarfile.TarInfo) -> bool:
        """Enter a link as what it leads to, if that is a file of the archive; links to links are not followed."""
        beside = posixpath.join(posixpath.dirname(link.name), link.linkname)
        place = self._places.get(link.linkname if link.islnk() else posixpath.normpath(beside))
        if place is not None:
            self._places[link.name] = place
        return place is not None

    @property
    def names(self) -> list[str]:
        """Names of the files, and of links to them."""
        return list(self._places)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Args:
            name: one of ``names``.

        Raises:
            KeyError: if the archive has no such file.
        """
        status = self.path.stat()
        start, size = self._places[name]
        with open(_plain(self.path, status.st_mtime_ns, status.st_size), "rb") as file:
            file.seek(start)
            return file.read(size)


@cache
def _plain(path: Path, mtime_ns: int, size: int) -> Path:
    """The archive without its compression; where that takes a copy, it goes with this process."""
    with open(path, "rb") as file:
        head = file.read(6)
    opener = next((opener for magic, opener in OPENERS.items() if head.startswith(magic)), None)
    if opener is None:
        return path
    handle, name = tempfile.mkstemp(prefix="cdanalysis-", suffix=".tar")
    atexit.register(lambda: Path(name).unlink(missing_ok=True))
    with opener(path, "rb") as source, os.fdopen(handle, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return Path(name)
