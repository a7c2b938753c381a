"""The files of an archive: a folder with ``index.json``, and parts of vectors and of lines.

``docs/archive.md`` specifies them. A part is two files that never change: ``part-KEY.safetensors`` with vectors and
what filters read, and ``part-KEY.jsonl`` with a line for each stream. ``index.json`` names the parts of the archive and
is replaced in one step, after the files that it names are there: whoever reads it finds a whole archive, and what a
stopped run had put into parts is there when the next one begins.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files import LOCK, check_folder, json_text, json_value, make_folder, write_whole
from .vectors import quantized

MANIFEST, VERSION = "index.json", 1
PLAIN = ("model", "fingerprint", "settings", "classes", "wants_faiss")
"""What of the manifest is in ``index.json`` as it is here."""
PART_ROWS = 32_768
"""Rows of a full part: some 40 MB."""
READ_ROWS = 8_192
"""Rows of a part that are read at a time."""
NO_LABEL = -1
LEAST = 0.2
"""Objects below this score are not kept."""


@dataclass(frozen=True)
class Part:
    """A part: the key in the names of its files, its number of rows, and the bytes of both files (vectors, lines)."""

    key: str
    rows: int
    bytes: tuple[int, int]

    @property
    def vectors(self) -> str:
        """Name of the file of vectors and of what filters read."""
        return f"part-{self.key}.safetensors"

    @property
    def lines(self) -> str:
        """Name of the file of lines."""
        return f"part-{self.key}.jsonl"


@dataclass(frozen=True)
class Manifest:
    """What ``index.json`` says.

    Attributes:
        model: zoo name or folder of the model whose streams these are.
        fingerprint: of its codec.
        settings: digest of all that rows depend on beside their streams.
        tasks: whose predictions rows hold, of "classification" and "detection".
        classes: for each of the tasks the names of its classes.
        center: the codec's center, see `vectors`.
        parts: in the order of their rows.
        faiss: name of the file of FAISS's index, and the keys of the parts that it is of; empty if there is none.
        wants_faiss: whether it is made whenever the archive has changed.
    """

    model: str
    fingerprint: str
    settings: str
    tasks: tuple[str, ...]
    classes: dict[str, list[str]]
    center: tuple[float, ...]
    parts: tuple[Part, ...] = ()
    faiss: tuple[str, ...] = ()
    wants_faiss: bool = False


@dataclass(frozen=True)
class Row:
    """A stream of an archive.

    Attributes:
        file: its path, as `Store.stored` gives it.
        state: of the file when it was read: size, times and digest, the fields of `outputs.FileState`.
        vector: (E,) float: the direction of its embedding, see `vectors.directions`.
        width: of the photograph in pixels.
        height: of the photograph in pixels.
        labels: the most probable (number of the class, probability), the first one first; empty where they were not
            asked for.
        objects: (number of the class, score, (x, y, width, height) in pixels), the surest first.
    """

    file: str
    state: tuple[int, int, int, str]
    vector: np.ndarray
    width: int
    height: int
    labels: list[tuple[int, float]] = field(default_factory=list)
    objects: list[tuple[int, float, tuple[float, ...]]] = field(default_factory=list)

    def line(self) -> str:
        """All but the vector, as JSON."""
        return json_text({name: value for name, value in vars(self).items() if name != "vector"})


class Store:
    """The folder of an archive.

    Args:
        folder: of the archive.

    Attributes:
        manifest: what it holds.

    Raises:
        FileNotFoundError: if there is no such archive.
        ValueError: if it is none of this library's, or is damaged.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder)
        while (lacking := self._lacking()) is not None:
            now = _read_manifest(self.folder)
            if now == self.manifest:  # else a command has replaced parts since it was read
                raise ValueError(f"{lacking} is damaged or missing: index the streams again, with --overwrite")
            self.manifest = now

    def _lacking(self) -> Path | None:
        """A file that the manifest names, and that is not there as a whole."""
        for part in self.manifest.parts:
            for name, size in zip((part.vectors, part.lines), part.bytes, strict=True):
                path = self.folder / name
                if not path.is_file() or path.stat().st_size != size:
                    return path
        return None

    @classmethod
    def new(cls, folder: str | Path, manifest: Manifest) -> Store:
        """Make an archive without rows, in place of one that is there.

        Args:
            folder: of the archive; made where it does not exist.
            manifest: what it will hold, without parts.

        Raises:
            ValueError: if the folder is there, and not an archive.
            OSError: if the folder cannot be written to.
        """
        check_place(folder)
        store = cls.__new__(cls)
        store.folder, store.manifest = Path(folder), manifest
        store._commit(manifest)
        return store

    def __len__(self) -> int:
        return sum(part.rows for part in self.manifest.parts)

    # -- reading -----------------------------------------------------------------------------

    def blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """All vectors in order, from files that are mapped, not loaded.

        Returns:
            an iterator over (number of the first row, int8 (n, E), float32 scales (n,)); n is at most ``READ_ROWS``.

        Raises:
            ValueError: while iterating, if a part is damaged, or was replaced since the archive was opened.
        """
        first = 0
        for part in self.manifest.parts:
            with self._opened(part) as tensors:
                rows, scales = tensors.get_slice("vectors"), tensors.get_tensor("scales")
                for start in range(0, part.rows, READ_ROWS):
                    inside = slice(start, min(start + READ_ROWS, part.rows))
                    yield first + start, rows[inside], scales[inside]
            first += part.rows

    def column(self, name: str) -> np.ndarray:
        """A column of all rows.

        Args:
            name: of a tensor of the parts, see ``docs/archive.md``.

        Returns:
            (N,) in the order of the rows; for "object_classes" and "object_scores" (M,), those of the first row first,
            of which "objects" gives each row's number. Empty, and float64, where the archive has no parts.

        Raises:
            ValueError: if a part is damaged, was replaced since the archive was opened, or has no such column.
        """
        columns = []
        for part in self.manifest.parts:
            with self._opened(part) as tensors:
                columns.append(tensors.get_tensor(name))
        return np.concatenate(columns) if columns else np.empty(0)

    def lines(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The lines of some rows, as they were written, with paths that can be opened.

        Args:
            numbers: of rows, 0 to N - 1; one may come several times.

        Returns:
            for each number what `Row.line` wrote, in the order of the numbers.

        Raises:
            KeyError: for a number that no row has.
            ValueError: if a part is damaged, or was replaced since the archive was opened.
        """
        found: dict[int, dict[str, Any]] = {}
        first = 0
        for part in self.manifest.parts:
            inside = sorted({int(n) for n in numbers if first <= n < first + part.rows})
            if inside:
                with self._opened(part) as tensors:
                    ends = tensors.get_tensor("ends")
                with self._still_there(), open(self.folder / part.lines, "rb") as file:
                    for number in inside:
                        file.seek(int(ends[number - first - 1]) if number > first else 0)
                        found[number] = self._parsed(file.readline())
            first += part.rows
        return [found[int(number)] for number in numbers]

    def all_lines(self) -> Iterator[dict[str, Any]]:
        """The lines of all rows, in order, as `lines` gives them.

        Raises:
            ValueError: while iterating, if a part is damaged, or was replaced since the archive was opened.
        """
        for part in self.manifest.parts:
            with self._still_there(), open(self.folder / part.lines, "rb") as file:
                for line in file:
                    yield self._parsed(line)

    def stored(self, path: str | Path) -> str:
        """A path as rows have it: relative where it lies below the folder that the archive lies in, else absolute.

        Args:
            path: of a stream; a relative one is of the working directory.
        """
        place, home = Path(os.path.abspath(path)), Path(os.path.abspath(self.folder.parent))
        return place.relative_to(home).as_posix() if place.is_relative_to(home) else str(place)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            row = json_value(line)
            row["file"] = os.path.normpath(os.path.join(self.folder.parent, row["file"]))
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{self.folder} is damaged: index the streams again, with --overwrite") from None
        return row

    @contextlib.contextmanager
    def _opened(self, part: Part) -> Iterator[Any]:
        from safetensors import SafetensorError, safe_open

        path = self.folder / part.vectors
        try:
            with self._still_there(), safe_open(path, "numpy") as tensors:
                yield tensors
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}): index the streams again, with --overwrite") from None

    @contextlib.contextmanager
    def _still_there(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise ValueError(f"{self.folder} has changed since it was opened: open it again") from None

    # -- writing -----------------------------------------------------------------------------

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows, as a part of their own; nothing happens where there are none.

        Args:
            rows: of streams that the archive does not have; they are numbered after those that are there.

        Raises:
            OSError: if the folder cannot be written to.
        """
        if rows:
            self._commit(replace(self.manifest, parts=(*self.manifest.parts, self._write(_columns(rows)))))

    def drop(self, numbers: Iterable[int]) -> None:
        """Leave out some rows. Parts without any of them stay as they are; rows that follow are renumbered.

        Args:
            numbers: of the rows.

        Raises:
            ValueError: if a part that must be written anew is damaged.
            OSError: if the folder cannot be written to.
        """
        gone, parts, first = set(numbers), [], 0
        for part in self.manifest.parts:
            keep = [n for n in range(part.rows) if first + n not in gone]
            first += part.rows
            if len(keep) == part.rows:
                parts.append(part)
            elif keep:
                parts.append(self._write(_Columns.read(self, part).taken(keep)))
        if gone:
            self._commit(replace(self.manifest, parts=tuple(parts)))

    def merge(self) -> None:
        """Put all rows of parts that are not full into full ones, sorted by file, where there are several such parts.

        Raises:
            ValueError: if one of the parts is damaged.
            OSError: if the folder cannot be written to.
        """
        small = [part for part in self.manifest.parts if part.rows < PART_ROWS]
        if len(small) < 2:
            return
        full = [part for part in self.manifest.parts if part.rows >= PART_ROWS]
        together = _Columns.joined([_Columns.read(self, part) for part in small])
        names = [self._parsed(line)["file"] for line in together.lines]
        order = sorted(range(len(names)), key=names.__getitem__)
        groups = [order[start : start + PART_ROWS] for start in range(0, len(order), PART_ROWS)]
        new = [self._write(together.taken(group)) for group in groups]
        self._commit(replace(self.manifest, parts=(*full, *new)))

    def want_faiss(self) -> None:
        """Note that FAISS's index is to be made whenever the archive has changed, also by a run that goes on."""
        if not self.manifest.wants_faiss:
            self._commit(replace(self.manifest, wants_faiss=True))

    def set_faiss(self, name: str) -> None:
        """Enter a file of FAISS's, which was made of the parts as they are now.

        Args:
            name: of the file, which lies in the archive's folder.

        Raises:
            OSError: if the folder cannot be written to.
        """
        self._commit(replace(self.manifest, faiss=(name, *(part.key for part in self.manifest.parts))))

    def _write(self, columns: _Columns) -> Part:
        from safetensors.numpy import save

        lines = b"".join(columns.lines)
        tensors = {"ends": np.cumsum([len(line) for line in columns.lines], dtype=np.int64), **columns.tensors}
        data = save(tensors)
        key = hashlib.blake2b(data + lines, digest_size=6).hexdigest()
        part = Part(key, len(columns.lines), (len(data), len(lines)))
        write_whole(self.folder / part.lines, lines)
        write_whole(self.folder / part.vectors, data)
        return part

    def _commit(self, manifest: Manifest) -> None:
        """Replace the manifest, and remove what it no longer names."""
        keys = tuple(part.key for part in manifest.parts)
        if manifest.faiss[1:] != keys:
            manifest = replace(manifest, faiss=())
        make_folder(self.folder)
        about = {"format": "cdanalysis archive", "version": VERSION, **asdict(manifest)}
        write_whole(self.folder / MANIFEST, json_text(about, indent=1) + "\n")
        self.manifest = manifest
        named = {name for part in manifest.parts for name in (part.vectors, part.lines)} | set(manifest.faiss[:1])
        for pattern in ("part-*.safetensors", "part-*.jsonl", "vectors-*.faiss"):
            for path in self.folder.glob(pattern):
                if path.name not in named:
                    path.unlink(missing_ok=True)


def check_place(folder: str | Path) -> None:
    """Refuse to write an archive to what is there, and is none.

    Args:
        folder: of the archive; it need not be there. Hidden files in it do not count.

    Raises:
        ValueError: if a file is there, or a folder with something in it that is no archive of this library.
        OSError: if the folder above it cannot be written to, or made.
    """
    folder = Path(folder)
    check_folder(folder.parent)
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        _read_manifest(folder, told="is there already, and no archive; write to another place, with -o")
    elif os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{folder} is a file; an archive is a folder: write to another place, with -o")


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep a second command from writing to the same archive at the same time; where the system has locks of files.

    Args:
        folder: of the archive; made where it does not exist.

    Raises:
        ValueError: if one is writing to it.
        OSError: if the folder cannot be written to.
    """
    make_folder(folder)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(Path(folder) / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"another command is writing to {folder}: wait for it to end") from None
        yield


@dataclass
class _Columns:
    """Rows as they lie in a part: lines of JSON, and tensors (``objects`` counts what each row has of the last two)."""

    lines: list[bytes]
    tensors: dict[str, np.ndarray]

    @classmethod
    def read(cls, store: Store, part: Part) -> _Columns:
        with store._opened(part) as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys() if name != "ends"}  # noqa: SIM118
        lines = (store.folder / part.lines).read_bytes().splitlines(keepends=True)
        if len(lines) != part.rows:
            raise ValueError(f"{store.folder / part.lines} is damaged: index the streams again, with --overwrite")
        return cls(lines, tensors)

    @classmethod
    def joined(cls, several: Sequence[_Columns]) -> _Columns:
        lines = [line for each in several for line in each.lines]
        names = several[0].tensors
        return cls(lines, {name: np.concatenate([each.tensors[name] for each in several]) for name in names})

    def taken(self, numbers: Sequence[int]) -> _Columns:
        lines, counts = [self.lines[n] for n in numbers], self.tensors["objects"]
        ends = np.cumsum(counts)
        ranges = [np.arange(ends[n] - counts[n], ends[n]) for n in numbers]
        inside = np.concatenate(ranges) if ranges else np.empty(0, np.int64)
        objects = {name: self.tensors[name][inside] for name in ("object_classes", "object_scores")}
        rows = np.asarray(numbers, np.int64)
        return _Columns(lines, {n: objects[n] if n in objects else t[rows] for n, t in self.tensors.items()})


def _columns(rows: Sequence[Row]) -> _Columns:
    vectors, scales = quantized(np.stack([row.vector for row in rows]))
    found = [each for row in rows for each in row.objects]
    tensors = {
        "vectors": vectors,
        "scales": scales,
        "labels": np.array([row.labels[0][0] if row.labels else NO_LABEL for row in rows], np.int32),
        "label_scores": np.array([row.labels[0][1] if row.labels else 0 for row in rows], np.float32),
        "objects": np.array([len(row.objects) for row in rows], np.int64),
        "object_classes": np.array([number for number, *_ in found], np.int32),
        "object_scores": np.array([score for _, score, _ in found], np.float32),
    }
    return _Columns([f"{row.line()}\n".encode() for row in rows], tensors)


def _read_manifest(
    folder: Path, told: str = "is no archive of cdanalysis: make one with `cdanalysis index`"
) -> Manifest:
    path = folder / MANIFEST
    if not folder.exists():
        raise FileNotFoundError(f"no archive {folder}: make one with `cdanalysis index`")
    try:
        about: Mapping[str, Any] = json_value(path.read_text())
        ours = about["format"] == "cdanalysis archive"
        version = about["version"]
    except (OSError, ValueError, KeyError, TypeError):
        ours, version = False, 0
    if not ours:
        raise ValueError(f"{folder} {told}")
    if version != VERSION:
        raise ValueError(f"{folder} was written by another version of this library: index the streams again elsewhere")
    try:
        plain: dict[str, Any] = {name: about[name] for name in PLAIN}
        lists: dict[str, Any] = {name: tuple(about[name]) for name in ("tasks", "center", "faiss")}
        parts = tuple(Part(each["key"], each["rows"], tuple(each["bytes"])) for each in about["parts"])
        return Manifest(**plain, **lists, parts=parts)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove the folder, and index the streams again") from None
