"""Contact sheets of what was found. Here alone pictures are decoded."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageOps

from ..faults import sentence
from ..reports.contact_sheet import Titled, sheet
from ..reports.pages import data_uri, rendered
from ..structures.drawing import canvas_of
from ..structures.predictions import SURE
from .search import Match

if TYPE_CHECKING:
    from ..model import Model

COLUMNS, CELL = 5, (256, 192)
"""Pictures in a row of a sheet, and the room of each in pixels."""
SHOWN = 360
"""Longer side of a page's pictures in pixels."""
TITLE = 32
"""Letters above a picture of a sheet."""
LETTER = 6
"""Pixels of a letter's width where there is no picture."""


def match_sheet(
    model: Model, matches: Sequence[Match], track: Callable[[Iterable], Iterable] = lambda items: items
) -> Image.Image:
    """The photographs that were found, decoded, with their scores and labels.

    Args:
        model: that wrote the streams.
        matches: at least one.
        track: wraps the matches to show progress.

    Returns:
        an RGB image, five photographs to a row. Where a stream has no picture, or cannot be read any more, a gray
        rectangle says so.

    Raises:
        ValueError: if there are no matches.
    """
    if not matches:
        raise ValueError("nothing was found, so there is no sheet to draw")
    cells: list[Titled] = []
    for match in track(matches):
        shown = ImageOps.contain(_picture(model, match, CELL), CELL)
        cell = Image.new("RGB", CELL, "white")
        cell.paste(shown, ((CELL[0] - shown.width) // 2, (CELL[1] - shown.height) // 2))
        title = f"{match.score:.2f}  {_label(match)}"
        cells.append((title if len(title) <= TITLE else f"{title[: TITLE - 1]}…", cell))
    columns = min(COLUMNS, len(cells))
    cells += [("", Image.new("RGB", CELL, "white"))] * (-len(cells) % columns)
    return sheet([cells[start : start + columns] for start in range(0, len(cells), columns)])


def match_page(
    model: Model,
    matches: Sequence[Match],
    about: str,
    query: Image.Image | None = None,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> str:
    """The same as a page of HTML, in one file.

    Args:
        model: that wrote the streams.
        matches: may be none.
        about: what was looked for, and where.
        query: the photograph that was searched by, to be shown first.
        track: wraps the matches to show progress.

    Returns:
        the page's text, with its pictures.
    """
    cards: list[dict[str, Any]] = []
    for rank, match in enumerate(track(matches), 1):
        picture = ImageOps.contain(_picture(model, match, (SHOWN, SHOWN)), (SHOWN, SHOWN))
        found = sorted({name for name, score, _ in match.objects if score >= SURE})
        card = {"rank": rank, "score": match.score, "label": _label(match), "objects": ", ".join(found)}
        card |= {"file": match.file, "name": Path(match.file).name, "picture": data_uri(picture, 85)}
        cards.append({**card, "size": picture.size, "width": match.width, "height": match.height})
    shown = None if query is None else ImageOps.contain(query.convert("RGB"), (SHOWN, SHOWN))
    asked = None if shown is None else {"picture": data_uri(shown, 85), "size": shown.size}
    return rendered("archive.html", title="Found in the archive", about=about, query=asked, cards=cards)


def query_picture(model: Model, query: str | Path) -> Image.Image | None:
    """The photograph of a query: of its file, or decoded from its stream; None of a stream without a picture.

    Args:
        model: that wrote the stream.
        query: path of a photograph or a stream.

    Returns:
        an RGB image, or None, for any stream that cannot be decoded.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `open_image`, for a photograph.
    """
    from ..photographs.read import open_image

    if Path(query).suffix.lower() != ".cda":
        return open_image(query, model.max_pixels)
    try:
        return model.decode(query)
    except ValueError:
        return None


def _picture(model: Model, match: Match, room: tuple[int, int]) -> Image.Image:
    try:
        return model.decode(Path(match.file).read_bytes())  # of bytes an error says what it is, and no path before it
    except (OSError, ValueError, MemoryError) as error:  # no detail layer, or a file that is gone, changed or damaged
        canvas = ImageOps.contain(canvas_of(None, (match.height, match.width)), room)
        why = textwrap.wrap(sentence(error), max(1, (canvas.width - 16) // LETTER))
        ImageDraw.Draw(canvas).text((8, 8), "\n".join(why), fill="white")
        return canvas


def _label(match: Match) -> str:
    return match.labels[0][0].split(",")[0] if match.labels else Path(match.file).stem
