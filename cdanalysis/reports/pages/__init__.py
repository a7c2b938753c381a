"""HTML pages in one file each.

`rendered` fills the templates beside this module; `data_uri` embeds pictures, whose bytes `file_of` makes.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

__all__ = ["data_uri", "file_of", "rendered"]


def rendered(name: str, **values: Any) -> str:
    """The page of that name, as HTML; text among ``values`` is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(name).render(values)


def file_of(image: Image.Image, kind: str, **settings: Any) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def data_uri(image: Image.Image, quality: int) -> str:
    """A picture as WebP inside a page."""
    data = file_of(image.convert("RGB"), "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(data).decode()
