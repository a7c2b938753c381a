"""Folders of photographs on all cores: this library's commands, their start included, and Pillow's AVIF."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..codecs.pillow import AVIF
from ..data.samples import jpegs
from ..photographs.read import open_image
from ..processes import cores, each
from ..stream.container import strip
from ..structures.latents import LAYERS
from .memory import run_python
from .speed import LARGER, QUALITY, timed

PHOTOGRAPHS = 96
AVIF_LEVEL = 40
"""About as many bits a pixel as ours take at ``QUALITY``."""


def folder_speed(model: str, photographs: int = PHOTOGRAPHS) -> dict[str, Any]:
    """Photographs, and megapixels, a second of ``cdanalysis encode``, ``analyze`` and ``decode``, and of Pillow's AVIF.

    With them the mean bytes of a photograph's files.

    Args:
        model: name or folder.
        photographs: JPEG files of 640 x 480 in the folder.
    """
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / kind for kind in ("photographs", "streams", "decoded", "avif", "png")]
        source, streams, decoded, avif, png = folders
        for folder in (source, avif, png):
            folder.mkdir()
        for number, data in enumerate(jpegs(photographs, LARGER)):
            (source / f"{number}.jpg").write_bytes(data)
        quality, run = ",".join(map(str, QUALITY)), partial(run_python, "-m", "cdanalysis.cli")
        ways = {
            "encode": lambda: run("encode", source, "-o", streams, "--quality", quality, "--model", model),
            "analyze": lambda: run("analyze", streams, "--model", model, "--json"),
            "decode": lambda: run("decode", streams, "-o", decoded, "--model", model),
            "Pillow, to AVIF": lambda: _all(_to_avif, source, avif),
            "Pillow, from AVIF": lambda: _all(_to_png, avif, png),
        }
        seconds = {what: timed(work) for what, work in ways.items() if "AVIF" not in what or AVIF.available()}
        files = [path.read_bytes() for path in streams.rglob("*.cda")]
        sizes = {"JPEG": [path.stat().st_size for path in source.iterdir()], "stream": [*map(len, files)]}
    size = photographs * LARGER[0] * LARGER[1] / 1e6
    rows = [
        {"what": what, "seconds": spent, "photographs_per_s": photographs / spent, "megapixels_per_s": size / spent}
        for what, spent in seconds.items()
    ]
    sizes |= {"semantic layers": [len(strip(data)) for data in files]}
    sizes |= {"global layer": [len(strip(data, LAYERS[:1])) for data in files]}
    mean = {f"{what}_bytes": sum(own) / len(own) for what, own in sizes.items()}
    return {"rows": rows, "photographs": photographs, "cores": cores(), **mean}


def _all(work: Any, source: Path, target: Path) -> None:
    """Work on every file of a folder, on all cores."""
    jobs: Sequence[tuple] = [(path, target) for path in sorted(source.iterdir())]
    for _ in each(work, jobs, cores()):
        pass


def _to_avif(source: Path, target: Path) -> None:
    (target / f"{source.stem}.avif").write_bytes(AVIF.encode(open_image(source), AVIF_LEVEL))


def _to_png(source: Path, target: Path) -> None:
    open_image(source).save(target / f"{source.stem}.png")
