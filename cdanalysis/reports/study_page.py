"""A study as one page that needs nothing else: curves, tables, photographs, and how it was made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from ..evaluation.configs import StudyConfig
from ..evaluation.engine import Track, no_track
from ..evaluation.study import OURS, run_study
from ..files import json_text
from ..metrics.image import LEFT_OUT
from .gallery import gallery
from .pages import data_uri, rendered
from .plots import label_of, study_figure

FACTS = ("command", "hardware", "versions", "codecs")
DIGITS = {"psnr": 2}
"""Behind the point; 4 for other scores."""
TIMES = {"encode_s": "encode, ms", "decode_s": "decode, ms", "read_s": "head, ms"}

Row = dict[str, Any]


def study_report(
    config: StudyConfig, folder: Path, command: str, track: Track = no_track, device: str = "cpu"
) -> tuple[Row, list[tuple[str, Image.Image]]]:
    """Run a study: see `run_study`, whose errors it raises.

    Returns:
        the report, as JSON holds it, and the photographs that came out worst and best, with captions.
    """
    report, study = run_study(config, folder, command, track, device)
    return report, gallery(study, report["main"])


def report_page(report: Row, images: list[tuple[str, Image.Image]]) -> str:
    """The page, as HTML, of what `study_report` gave."""
    tables = {"Every point": [_point(row, report) for row in report["points"]]}
    if report["savings"]:
        tables = {
            "Bits saved where both reach a share of the uncompressed score": _paired(report["savings"], _saved)
        } | tables
    tables["Bjøntegaard differences"] = _paired(report["comparisons"], _difference)
    macs = {step: f"{count / 1e6:.0f}" for step, count in report["macs"].items()}
    tables["Arithmetic for one photograph"] = [
        {"step": step, "million multiply-accumulates": count} for step, count in macs.items()
    ]
    return rendered(
        "report.html",
        title=report["config"]["title"],
        report=report,
        main=label_of(report["main"]) if report["savings"] else "quality",
        figure=Markup(study_figure(report).decode()),
        verdict=_verdict(report),
        tables=tables,
        ours=OURS,
        images=[(caption, data_uri(image, quality=82)) for caption, image in images],
        facts=json_text({key: report[key] for key in FACTS}, indent=1),
    )


def _with_interval(entry: Row, digits: int, unit: str = "", none: str = "no overlap") -> str:
    """``0.97 [0.96, 0.98]``; ``none`` where there is no figure."""
    if entry["value"] is None:
        return none
    text = f"{entry['value']:.{digits}f}{unit}"
    if entry["low"] is None:
        return text
    return Markup(f"{text} <small>[{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]</small>")


def _verdict(report: Row) -> dict[str, list[str]]:
    """Where this library needs fewer bits, and where it needs more: lists of the same size of type."""
    lists: tuple[list[str], list[str], list[str]] = ([], [], [])
    better, worse, unsure = lists
    for row in (row for row in report["comparisons"] if row["figure"] == "bd_rate_percent"):
        by = f", by {label_of(row['measure']).split(',')[0]}" if not report["config"]["task"] else ""
        sure = row["low"] is not None and row["low"] * row["high"] > 0
        line = Markup("{} against {}{}: {} bits").format(row["test"], row["anchor"], by, _with_interval(row, 1, " %"))
        (unsure if not sure else better if row["value"] < 0 else worse).append(line)
    titles = ("Fewer bits at equal score", "More bits at equal score", "Undecided, or no overlap")
    return dict(zip(titles, lists, strict=True))


def _point(row: Row, report: Row) -> Row:
    main = report["main"]
    cells = {"codec": row["series"], "level": "-" if row["level"] is None else row["level"]}
    cells |= {
        name: "-" if row[name] is None else f"{row[name]:{form}}" for name, form in (("bytes", ".0f"), ("bpp", ".3f"))
    }
    cells[label_of(main)] = _with_interval(row["score"], DIGITS.get(main, 4), none="-")
    for name in report["measures"]:
        if name != main and any(other.get(name) is not None for other in report["points"]):
            cells[label_of(name)] = _mean(row, name)
    times = [name for name in TIMES if report["config"]["task"] or name != "read_s"]
    return cells | {TIMES[name]: f"{1000 * row[name]:.1f}" for name in times}


def _mean(row: Row, name: str) -> str:
    """A mean, and of how many photographs it could not be had."""
    text = "-" if row.get(name) is None else f"{row[name]:.4g}"
    return Markup(f"{text} <small>without {row[name + LEFT_OUT]}</small>") if name + LEFT_OUT in row else text


def _paired(rows: list[Row], cell: Callable[[Row], Row]) -> list[Row]:
    """A line for each pair of curves, and measure; a column for each figure that compares them."""
    lines: dict[tuple, Row] = {}
    for row in rows:
        line = lines.setdefault(
            (row["test"], row["anchor"], row.get("measure")), {"ours": row["test"], "against": row["anchor"]}
        )
        line |= cell(row)
    return list(lines.values())


def _saved(row: Row) -> Row:
    return {f"at {100 * row['share']:g} % of uncompressed": _with_interval(row, 1, " %")}


def _difference(row: Row) -> Row:
    by = {"by": label_of(row["measure"])}
    if row["figure"] == "bd_rate_percent":
        return by | {"BD-rate": _with_interval(row, 1, " %")}
    return by | {"BD-score (above 0 is better)": _with_interval(row, DIGITS.get(row["measure"], 4))}
