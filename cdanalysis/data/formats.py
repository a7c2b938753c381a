"""Which image files can be opened here: what Pillow and the plugins that are installed say, and no list of our own."""

from __future__ import annotations

import importlib
import inspect
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from PIL import Image, ImageFile

PLUGINS = {"pillow_heif": "pillow-heif", "pillow_jxl": "pillow-jxl-plugin"}
"""Modules that teach Pillow more formats, and the packages that they are in."""
PLUGIN_SUFFIXES = {
    **dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), "pillow_heif"),
    ".jxl": "pillow_jxl",
}
_MOVIES = {"MPEG"}
"""Formats that Pillow recognizes and cannot read."""
_BY_OTHERS = {"MPO"}
"""Formats that Pillow opens as another one: MPO as JPEG."""


@lru_cache
def suffixes() -> frozenset[str]:
    """Suffixes, in lower case, of the image files that can be opened here."""
    load_plugins()
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if _opens(kind))


def why_not(suffix: str) -> str:
    """Why files of that suffix, which is none of `suffixes`, are not read."""
    if suffix in PLUGIN_SUFFIXES:
        return f"{suffix}, which Pillow can open after pip install {PLUGINS[PLUGIN_SUFFIXES[suffix]]}"
    return f"{suffix or 'no suffix'}, which is no image format that Pillow can open here"


def is_text(name: str) -> bool:
    """Whether a file's name says that nobody takes it for a photograph: what lies beside photographs in data sets."""
    kind = mimetypes.guess_type(name)[0] or ""
    return kind.startswith("text/") or kind == "application/json" or name.endswith((".cda", ".yaml", ".yml", ".jsonl"))


@lru_cache
def load_plugins() -> None:
    """Let the plugins that are installed teach Pillow their formats."""
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
    """Within, Pillow does not judge how many pixels an image may have: who opens it has a bound of their own."""
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
