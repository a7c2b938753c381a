"""Which image files can be opened: those that Pillow and its installed plugins register."""

from __future__ import annotations

import importlib
import inspect
import io
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageFile

PLUGINS = {"pillow_heif": "pillow-heif", "pillow_jxl": "pillow-jxl-plugin"}
"""Pillow's plugins: modules, and the packages that contain them."""
PLUGIN_SUFFIXES = {
    **dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), "pillow_heif"),
    ".jxl": "pillow_jxl",
}
STREAM_FORMAT = "CDA"
"""Pillow's name of this library's streams, where a program registered them: no photographs, wherever they lie."""
_MOVIES = {"MPEG"}
"""Formats that Pillow recognizes and cannot read."""
_BY_OTHERS = {"MPO"}
"""Formats that Pillow opens as another one: MPO as JPEG."""


@lru_cache
def suffixes() -> frozenset[str]:
    """Suffixes, in lower case, of the image files that can be opened.

    >>> {".jpg", ".png", ".webp"} <= suffixes()
    True
    """
    load_plugins()
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in known if kind != STREAM_FORMAT and _opens(kind))


def photographs() -> list[str]:
    """Pillow's names of the formats of photographs: of all that are registered, but streams."""
    load_plugins()
    return [kind for kind in Image.ID if kind != STREAM_FORMAT]


def why_not(suffix: str) -> str:
    """Why files of a suffix are not read.

    Args:
        suffix: in lower case, none of `suffixes`; empty for files without one.

    >>> why_not(".txt")
    '.txt, which is not an image format that Pillow can open'
    """
    if suffix in PLUGIN_SUFFIXES:
        return f"{suffix}, which Pillow can open after pip install {PLUGINS[PLUGIN_SUFFIXES[suffix]]}"
    return f"{suffix or 'no suffix'}, which is not an image format that Pillow can open"


def is_text(name: str) -> bool:
    """Whether a file name is that of a text, table, annotation or stream file, as data sets have beside photographs.

    Args:
        name: of the file, with its suffix.

    >>> is_text("labels.csv"), is_text("a.cda"), is_text("photograph.heic")
    (True, True, False)
    """
    kind = mimetypes.guess_type(name)[0] or ""
    return kind.startswith("text/") or kind == "application/json" or name.endswith((".cda", ".yaml", ".yml", ".jsonl"))


@lru_cache
def load_plugins() -> None:
    """Register the installed plugins with Pillow."""
    Image.init()
    for name in PLUGINS:
        try:
            module = importlib.import_module(name)
        except Exception:  # one that is not here, or was built for another Pillow
            continue
        if hasattr(module, "register_heif_opener"):
            module.register_heif_opener()


def _opens(kind: str) -> bool:
    if kind in _MOVIES or kind not in Image.OPEN:
        return kind in _BY_OTHERS
    factory = Image.OPEN[kind][0]
    return not (inspect.isclass(factory) and issubclass(factory, ImageFile.StubImageFile))


_lock, _inside, _bound = threading.Lock(), 0, None


@contextmanager
def unbounded() -> Iterator[None]:
    """Within the block, Pillow's limit on pixels, a lower one, is off; the caller checks its own."""
    global _inside, _bound
    with _lock:
        if _inside == 0:
            _bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                Image.MAX_IMAGE_PIXELS = _bound


@contextmanager
def opened(file: str | Path | IO[bytes], formats: list[str] | None = None) -> Iterator[ImageFile.ImageFile]:
    """An image file, open within the block, whatever its size: see `unbounded`.

    Args:
        file: its path, or what reads its bytes.
        formats: Pillow's names of those it may have; by default all.

    Raises:
        OSError: if it is none of these, or cannot be read; decoders raise other errors, too.
    """
    with unbounded(), Image.open(file, formats=formats) as image:
        yield image


BEST: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "MPO": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "HEIF": {"quality": 95, "chroma": 444},
    "JXL": {"lossless": True},
}
"""By Pillow's names of formats that lose by default, but need not, how they are written so that nobody sees a loss."""


def file_of(image: Image.Image, kind: str, **settings: Any) -> bytes:
    """The bytes of an image's file.

    Args:
        image: of a mode that the format has.
        kind: Pillow's name of the format.
        settings: as `PIL.Image.Image.save` takes them.

    Raises:
        ValueError: if Pillow has no such format; also `OSError` for what the format cannot hold.
    """
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()
