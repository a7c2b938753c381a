"""HTML pages in one file each: `rendered` fills the templates here; `data_uri` holds pictures."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ...photographs.formats import file_of

__all__ = ["data_uri", "rendered"]


def rendered(name: str, **values: Any) -> str:
    """A page, as HTML.

    Args:
        name: of a template in this folder.
        **values: what it is filled with; text among them is escaped.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(name).render(values)


def data_uri(image: Image.Image, quality: int) -> str:
    """A picture as WebP inside a page.

    Args:
        image: of any mode.
        quality: WebP's, 0 to 100.
    """
    data = file_of(image.convert("RGB"), "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(data).decode()
