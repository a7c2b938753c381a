"""Cached latents: a data set encoded once, from whose bytes alone heads are trained."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from PIL import Image

from ..files import LeftOut, files_below, write_whole
from ..notices import notice

LONGEST = 200
"""Bytes of a name; file systems take 255, and names of temporary files are longer."""


def content_key(image: Image.Image) -> str:
    """The key of a photograph in a cache: 16 hexadecimal digits of SHA-256 over mode, size and pixels.

    Args:
        image: the photograph; the name of its file does not count.

    >>> len(content_key(Image.new("RGB", (8, 8))))
    16
    """
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()[:16]


def cache_streams(
    names: Sequence[str],
    image: Callable[[int], Image.Image],
    folder: str | Path,
    encode: Callable[[Sequence[Image.Image]], list[bytes]],
    track: Callable[[Iterable], Iterable] = lambda items: items,
    batch: int = 32,
    keys: Sequence[str] | None = None,
    whole: Callable[[bytes], bool] = bool,
) -> CachedStreams:
    """Encode every photograph to ``folder/NAME-KEY.cda``, where KEY is its `content_key`; existing files are kept.

    A photograph that has changed under the same name gets a new stream.

    Args:
        names: of the photographs; may hold slashes.
        image: reads the photograph of an index into ``names``.
        folder: where the streams are kept. Use one folder per model and quality: settings are not part of the names.
        encode: encodes a batch of photographs into streams.
        track: wraps an iterable to show progress.
        batch: photographs per call of ``encode``.
        keys: `content_key` of each photograph, if they are known already.
        whole: whether an existing stream is complete; one that a crash or a full disk cut short is encoded again.

    Returns:
        the streams, in the order of ``names``.
    """
    folder = Path(folder)
    if keys is None:
        keys = [content_key(image(i)) for i in range(len(names))]
    files = [_short(f"{name}-{key}.cda") for name, key in zip(names, keys, strict=True)]
    # One file may stand for several photographs that are the same.
    missing = list({file: i for i, file in enumerate(files) if not _is_there(folder / file, whole)}.values())
    for start in track(range(0, len(missing), batch)):
        indices = missing[start : start + batch]
        for index, stream in zip(indices, encode([image(i) for i in indices]), strict=True):
            write_whole(folder / files[index], stream)
    return CachedStreams(folder, files)


def _short(name: str) -> str:
    """A path whose parts a file system takes: of those that are too long, the end, which tells streams apart."""
    parts = [(part, os.fsencode(part)) for part in name.split("/")]
    return "/".join(p if len(b) <= LONGEST else b[-LONGEST:].decode(errors="replace") for p, b in parts)


def _is_there(path: Path, whole: Callable[[bytes], bool]) -> bool:
    try:
        return whole(path.read_bytes())
    except OSError:
        return False


def stream_files(streams: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """The paths of streams.

    Args:
        streams: a folder, whose ``.cda`` files, those in its folders included and hidden ones not, are sorted by their
            names; or one path; or several, which stay in their order.

    Raises:
        FileNotFoundError: if the folder does not exist, or its name is empty.
        ValueError: if it has no streams, or the list is empty or holds what is no path.
    """
    if not isinstance(streams, (str, os.PathLike)):
        paths = list(streams)
        if wrong := next((path for path in paths if not isinstance(path, (str, os.PathLike))), None):
            raise ValueError(f"streams are given by a folder or a list of paths, got {type(wrong).__name__} in a list")
        if not paths:
            raise ValueError("the list of streams is empty")
        return [Path(path) for path in paths]
    folder = Path(streams)
    if streams == "":  # as a path it would be the working directory
        raise FileNotFoundError("the name of the folder of streams is empty")
    if not folder.is_dir():
        if not folder.exists():
            raise FileNotFoundError(f"no such file or folder: {folder}")
        return [folder]
    left_out = LeftOut()
    files = [path for path in files_below(folder, left_out) if path.suffix.lower() == ".cda"]
    for failure in left_out.failures:
        notice(f"{failure['file']}: {failure['error']}")
    if not files:
        raise ValueError(f"no .cda files in {folder}")
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


class CachedStreams:
    """Streams in a folder, in the order of ``names``.

    Indexing reads the bytes of a stream.

    Args:
        folder: folder of the streams.
        names: paths relative to it; by default all ``.cda`` files below it, sorted.

    Raises:
        ValueError: if there are no streams.
    """

    def __init__(self, folder: str | Path, names: Sequence[str] | None = None):
        self.folder = Path(folder)
        if names is None:
            names = [path.relative_to(self.folder).as_posix() for path in stream_files(self.folder)]
        if not names:
            raise ValueError(f"no .cda files in {folder}")
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> bytes:
        return (self.folder / self.names[index]).read_bytes()
