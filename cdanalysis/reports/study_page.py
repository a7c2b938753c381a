"""A study as one page that needs nothing else: curves, tables, photographs, and how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from ..evaluation.configs import StudyConfig
from ..evaluation.engine import Track, no_track
from ..evaluation.study import LATENTS, OURS, Study, StudyPoint, run_study
from ..files import json_text
from ..metrics.bjontegaard import LEAST, MOST
from ..metrics.image import LEFT_OUT, LOWER, defined
from ..structures.predictions import Result
from .pages import data_uri, rendered
from .plots import TASKS, label_of, study_figure

FACTS = ("command", "hardware", "versions", "codecs")
DIGITS = {"psnr": 2}
"""Behind the point; 4 for other scores than those of tasks, which are in percent."""
TIMES = {"encode_s": "encode, ms", "decode_s": "decode, ms", "read_s": "head, ms"}

Row = dict[str, Any]


def study_report(
    config: StudyConfig, folder: Path, command: str, track: Track = no_track, device: str = "cpu"
) -> tuple[Row, list[tuple[str, Image.Image]]]:
    """Run a study: see `run_study`, whose arguments it has and whose errors it raises.

    Returns:
        the report, as JSON holds it, and the photographs that came out worst and best, with captions.
    """
    report, study = run_study(config, folder, command, track, device)
    return report, _gallery(study, report["main"])


def _gallery(study: Study, main: str, each: int = 4) -> list[tuple[str, Image.Image]]:
    """Captions and pictures: the ``each`` worst photographs, then the best, at the middle of this library's curve.

    They have on them what the point's head predicts; without a task they are the reconstructions.
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
        row, image = point.point.rows[index], study.images.image(index)
        caption = f"{place}: {study.images.names[index]}, {row['bytes']:,} bytes, {row['bpp']:.3f} bpp"
        caption += f", score {known[index]:.3f}"
        stream = point.codec.encode(image, point.level)
        if study.task:
            found = _predicted(study, point, stream)
            caption, shown = f"{caption}; predicted: {found[study.task].summary()}", found.plot(image)
        else:
            shown = point.model.decode(stream)
        captioned.append((caption, shown))
    return captioned


def _predicted(study: Study, point: StudyPoint, stream: bytes) -> Result:
    """What was scored at a point: the head's prediction from the stream, or its counterpart's from the picture."""
    if point.series == LATENTS:
        return point.model.analyze(stream, (study.task,))
    return point.model.reference.analyze([point.codec.decode(stream)], (study.task,))[0]


def report_page(report: Row, images: list[tuple[str, Image.Image]]) -> str:
    """The page of what `study_report` gave.

    Args:
        report: of the study.
        images: (caption, picture) of the photographs to be shown.

    Returns:
        HTML, with its pictures.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    macs, unit = report["macs"].items(), "million multiply-accumulates"
    tables = {
        "Bits at equal score: below 0 where ours are fewer": pairs_of(report),
        "Every point": points_of(report),
        "Arithmetic for one photograph": [{"step": step, unit: f"{count / 1e6:.0f}"} for step, count in macs],
    }
    refused = [{"codec": series, "why": why} for series, why in report.get("refused", {}).items()]
    return rendered(
        "report.html",
        title=report["config"]["title"],
        report=report,
        main=label_of(report["main"]) if report["config"]["task"] else "quality",
        figure=Markup(study_figure(report).decode()),
        verdict=_verdict(report),
        tables=tables | ({"Not measured": refused} if refused else {}),
        ours=OURS,
        images=[(caption, data_uri(image, quality=82)) for caption, image in images],
        facts=json_text({key: report[key] for key in FACTS}, indent=1),
    )


def with_interval(entry: Row, form: str, unit: str = "", scale: float = 1) -> str:
    """A figure and its interval in words: ``0.97 [0.96, 0.98]``; a dash where there is no figure.

    Args:
        entry: ``value``, ``low`` and ``high``, each of which may be None.
        form: of each number, as `format` takes it.
        unit: behind the figure.
        scale: by which the numbers are multiplied.
    """
    value, *ends = (None if entry[key] is None else f"{scale * entry[key]:{form}}" for key in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value}{unit}" if None in ends else f"{value}{unit} [{ends[0]}, {ends[1]}]"


def bits_of(row: Row) -> str:
    """A difference in bits, ``-31.0 % [-36.1, -25.8]``, or its bound, or why there is neither.

    Args:
        row: of a report's ``comparisons`` or ``rate_differences``.
    """
    if row["value"] is not None:
        return with_interval(row, "+.1f", " %")
    if row.get("bound"):
        return f"{row['bound']['side']} {with_interval(row['bound'], '+.1f', ' %')}"
    if row.get("unreached"):
        return f"not reached by {' or '.join(row['unreached'])}"
    return "not measured so low" if "share" in row else "too few points"


def bound_of(bound: Row) -> str:
    """A bound in words: ``at least 86.0 % fewer bits at any score that both reach``.

    Args:
        bound: ``value``, in percent, and ``side``, ``MOST`` or ``LEAST``.
    """
    fewer = bound["value"] < 0
    side = LEAST if fewer == (bound["side"] == MOST) else MOST
    return f"{side} {abs(bound['value']):.1f} % {'fewer' if fewer else 'more'} bits at any score that both reach"


def _verdict(report: Row) -> dict[str, list[str]]:
    """Where this library needs fewer bits, and where it needs more: lists of the same size of type."""
    titles = ("Fewer bits at equal score", "More bits at equal score", "Undecided")
    verdict: dict[str, list[str]] = {title: [] for title in titles}
    for row in (row for row in report["comparisons"] if row["figure"] == "bd_rate_percent"):
        by = f", by {label_of(row['measure']).split(',')[0]}" if not report["config"]["task"] else ""
        line = f"{row['test']} against {row['anchor']}{by}: {bound_of(row['bound']) if row['bound'] else bits_of(row)}"
        verdict[titles[_decided(row)]].append(line)
    return verdict


def _decided(row: Row) -> int:
    """0 where ours surely needs fewer bits, 1 where it surely needs more, else 2: also where there is no interval."""
    low, high, side = row["low"], row["high"], row["bound"] and row["bound"]["side"]
    if side:  # the difference is at most its upper end, or at least its lower one
        low, high = (None, row["bound"]["high"]) if side == MOST else (row["bound"]["low"], None)
    return 0 if high is not None and high < 0 else 1 if low is not None and low > 0 else 2


def points_of(report: Row) -> list[Row]:
    """Every point, in words: rate, score, other measures, and the time that it took.

    Args:
        report: of the study.

    Returns:
        a row for each point, texts by column.
    """
    main, rows = report["main"], []
    form, unit, scale = (".1f", " %", 100) if main in TASKS else (f".{DIGITS.get(main, 4)}f", "", 1)
    measured = [name for name in report["measures"] if any(row.get(name) is not None for row in report["points"])]
    times = [name for name in TIMES if report["config"]["task"] or name != "read_s"]
    for row in report["points"]:
        cells = {"codec": row["series"], "level": "-" if row["level"] is None else row["level"]}
        for name, digits in (("bytes", ".0f"), ("bpp", ".3f")):
            cells[name] = "-" if row[name] is None else f"{row[name]:{digits}}"
        cells[label_of(main)] = with_interval(row["score"], form, unit, scale)
        for name in (name for name in measured if name != main):
            cells[label_of(name)] = "-" if row.get(name) is None else f"{row[name]:.4g}"
            cells[label_of(name)] += f" (without {row[name + LEFT_OUT]})" if name + LEFT_OUT in row else ""
        rows.append(cells | {TIMES[name]: f"{1000 * row[name]:.1f}" for name in times})
    return rows


def pairs_of(report: Row) -> list[Row]:
    """A line for each pair of curves, and measure, in words: BD-rate, BD-score, and bits at shares of the score.

    Args:
        report: of the study.

    Returns:
        rows, texts by column.
    """
    lines: dict[tuple, Row] = {}
    for row in (*report["comparisons"], *report["rate_differences"]):
        measure = row.get("measure", report["main"])
        pair = {"ours": row["test"], "against": row["anchor"], "by": label_of(measure)}
        line = lines.setdefault(tuple(pair.values()), pair)
        if "share" in row:
            line[f"at {100 * row['share']:g} % of uncompressed"] = bits_of(row)
        elif row["figure"] == "bd_rate_percent":
            line["BD-rate"] = bits_of(row)
        else:
            line["BD-score (above 0 is better)"] = with_interval(row, f"+.{DIGITS.get(measure, 4)}f")
    return list(lines.values())
