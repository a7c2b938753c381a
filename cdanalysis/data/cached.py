"""Cached latents: a data set encoded once, from whose bytes alone heads are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from PIL import Image

from ..files import write_whole


def cache_streams(
    names: Sequence[str],
    image: Callable[[int], Image.Image],
    folder: str | Path,
    encode: Callable[[Sequence[Image.Image]], list[bytes]],
    track: Callable[[Iterable], Iterable] = lambda items: items,
    batch: int = 32,
) -> CachedStreams:
    """Encode every photograph to ``folder/<its name>.cda``; those already there are left as they are.

    Args:
        names: of the photographs; may hold slashes.
        image: the number of a photograph to that photograph.
        encode: a batch of photographs to their streams.
    """
    folder = Path(folder)
    missing = [i for i, name in enumerate(names) if not (folder / f"{name}.cda").is_file()]
    for start in track(range(0, len(missing), batch)):
        indices = missing[start : start + batch]
        for index, stream in zip(indices, encode([image(i) for i in indices]), strict=True):
            write_whole(folder / f"{names[index]}.cda", stream)
    return CachedStreams(folder, [f"{name}.cda" for name in names])


class CachedStreams:
    """Streams in a folder, in the order of ``names``.

    Args:
        folder: where they lie.
        names: paths below it; by default all ``.cda`` files, sorted.

    Raises:
        ValueError: if there is none.
    """

    def __init__(self, folder: str | Path, names: Sequence[str] | None = None):
        self.folder = Path(folder)
        if names is None:
            names = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*.cda"))
        if not names:
            raise ValueError(f"no streams in {folder}")
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> bytes:
        return (self.folder / self.names[index]).read_bytes()
