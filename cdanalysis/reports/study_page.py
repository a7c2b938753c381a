"""A study as one page that needs nothing else: curves, tables, photographs, and how it was made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from ..evaluation.configs import StudyConfig
from ..evaluation.engine import Track, no_track
from ..evaluation.study import OURS, Study, run_study
from ..files import json_text
from ..metrics.image import LEFT_OUT, LOWER, defined
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
    return report, _gallery(study, report["main"])


def _gallery(study: Study, main: str, each: int = 4) -> list[tuple[str, Image.Image]]:
    """Captions and pictures: the ``each`` worst photographs, then the best, at the middle of this library's curve.

    They have the head's prediction from their streams drawn on them; without a task they are the reconstructions.
    """
    curves = [[point for point in study.points if point.series == name] for name in OURS]
    own = curves[0] or curves[1]
    if not own:
        return []
    point = own[len(own) // 2]
    scores = {index: point.score(index, main) for index in point.point.rows}
    known = {index: score for index, score in scores.items() if defined(score) is not None}
    order = sorted(known, key=lambda index: ((-1 if main in LOWER else 1) * known[index], index))
    chosen = [("worst", i) for i in order[:each]] + [("best", i) for i in order[each:][-each:][::-1]]
    captioned = []
    for place, index in chosen:
        row, name = point.point.rows[index], study.images.names[index]
        rate = f"{row['bytes']:,} bytes, {row['bpp']:.3f} bpp"
        image, task = study.images.image(index), study.task
        stream = point.codec.encode(image, point.level)
        shown = study.model.analyze(stream, (task,)).plot(image) if task else study.model.decode(stream)
        captioned.append((f"{place}: {name}, {rate}, score {known[index]:.3f}", shown))
    return captioned


def report_page(report: Row, images: list[tuple[str, Image.Image]]) -> str:
    """The page, as HTML, of what `study_report` gave."""
    saved = "Bits saved where both reach a share of the uncompressed score"
    macs, unit = report["macs"].items(), "million multiply-accumulates"
    tables = {saved: _paired(report["savings"], _saved)} if report["savings"] else {}
    tables["Every point"] = [_point(row, report) for row in report["points"]]
    tables["Bjøntegaard differences"] = _paired(report["comparisons"], _difference)
    tables["Arithmetic for one photograph"] = [{"step": step, unit: f"{count / 1e6:.0f}"} for step, count in macs]
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
    titles = ("Fewer bits at equal score", "More bits at equal score", "Undecided, or no overlap")
    verdict: dict[str, list[str]] = {title: [] for title in titles}
    for row in (row for row in report["comparisons"] if row["figure"] == "bd_rate_percent"):
        by = f", by {label_of(row['measure']).split(',')[0]}" if not report["config"]["task"] else ""
        sure = row["low"] is not None and row["low"] * row["high"] > 0
        line = Markup("{} against {}{}: {} bits").format(row["test"], row["anchor"], by, _with_interval(row, 1, " %"))
        verdict[titles[2 if not sure else 0 if row["value"] < 0 else 1]].append(line)
    return verdict


def _point(row: Row, report: Row) -> Row:
    main = report["main"]
    cells = {"codec": row["series"], "level": "-" if row["level"] is None else row["level"]}
    for name, form in (("bytes", ".0f"), ("bpp", ".3f")):
        cells[name] = "-" if row[name] is None else f"{row[name]:{form}}"
    cells[label_of(main)] = _with_interval(row["score"], DIGITS.get(main, 4), none="-")
    for name in report["measures"]:
        if name != main and any(other.get(name) is not None for other in report["points"]):
            mean = "-" if row.get(name) is None else f"{row[name]:.4g}"
            without = f" <small>without {row[name + LEFT_OUT]}</small>" if name + LEFT_OUT in row else ""
            cells[label_of(name)] = Markup(mean + without)
    times = [name for name in TIMES if report["config"]["task"] or name != "read_s"]
    return cells | {TIMES[name]: f"{1000 * row[name]:.1f}" for name in times}


def _paired(rows: list[Row], cell: Callable[[Row], Row]) -> list[Row]:
    """A line for each pair of curves, and measure; a column for each figure that compares them."""
    lines: dict[tuple, Row] = {}
    for row in rows:
        pair = {"ours": row["test"], "against": row["anchor"]}
        lines.setdefault((*pair.values(), row.get("measure")), pair).update(cell(row))
    return list(lines.values())


def _saved(row: Row) -> Row:
    return {f"at {100 * row['share']:g} % of uncompressed": _with_interval(row, 1, " %")}


def _difference(row: Row) -> Row:
    by = {"by": label_of(row["measure"])}
    if row["figure"] == "bd_rate_percent":
        return by | {"BD-rate": _with_interval(row, 1, " %")}
    return by | {"BD-score (above 0 is better)": _with_interval(row, DIGITS.get(row["measure"], 4))}
