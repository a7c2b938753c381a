"""A study as one page that needs nothing else: curves, tables, photographs, and how it was made."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

from ..evaluation.points import Track
from ..evaluation.study import DECODED, LATENTS, StudyConfig, run_study
from ..files import json_text
from ..metrics.image import LEFT_OUT
from .gallery import gallery
from .plots import label, study_figure

PAGE = Path(__file__).with_name("pages") / "report.html"
SAVINGS = "<h2>Bits saved where both reach a share of the uncompressed score</h2>\n"
FACTS = ("command", "hardware", "versions", "codecs")
DIGITS = {"psnr": 2}
"""Behind the point; 4 for other scores."""


def study_report(
    config: StudyConfig, folder: Path, command: str, track: Track = lambda items: items
) -> tuple[dict[str, Any], list[tuple[str, Image.Image]]]:
    """Run a study: see `run_study`, whose errors it raises.

    Returns:
        the report, as JSON holds it, and the photographs that came out worst and best, with captions.
    """
    report, measured = run_study(config, folder, command, track)
    return report, gallery(
        measured.points, measured.scorers, measured.labeled, measured.model, config.task, report["main"]
    )


def report_page(report: dict[str, Any], images: list[tuple[str, Image.Image]]) -> str:
    """The page, as HTML.

    Args:
        report: what `study_report` gave.
        images: of the photographs that came out worst and best, with captions.
    """
    main = report["main"]
    blocks = {
        "title": html.escape(report["config"]["title"]),
        "lead": _lead(report),
        "figure": study_figure(report).decode(),
        "verdict": _verdict(report),
        "points": _table(_point_rows(report)),
        "savings": SAVINGS + _table(_saving_rows(report)) if report["savings"] else "",
        "comparisons": _table(_comparison_rows(report)),
        "costs": _table(_cost_rows(report)),
        "gallery": "".join(_image(caption, image) for caption, image in images) or "<p>None.</p>",
        "facts": html.escape(json_text({key: report[key] for key in FACTS}, indent=1)),
        "main": label(main) if report["savings"] else "quality",
    }
    return Template(PAGE.read_text()).substitute(blocks)


def _lead(report: dict[str, Any]) -> str:
    model = f"model {html.escape(report['config']['model'])} ({report['fingerprint']})"
    text = f"{report['photographs']} photographs of {html.escape(report['data'])}, {model}"
    return f"{text}. Rates are bytes of whole files. Intervals hold 95 % of resamples of the photographs."


def _with_interval(entry: dict[str, Any], digits: int, scale: float = 1.0, unit: str = "", none: str = "") -> str:
    """``0.97 [0.96, 0.98]``; ``none``, by default that curves do not overlap, where there is no figure."""
    if entry["value"] is None:
        return none or "no overlap"
    text = f"{scale * entry['value']:.{digits}f}{unit}"
    if entry["low"] is not None:
        text += f" <small>[{scale * entry['low']:.{digits}f}, {scale * entry['high']:.{digits}f}]</small>"
    return text


def _verdict(report: dict[str, Any]) -> str:
    """Two lists of the same size of type: where this library needs fewer bits, and where it needs more."""
    better: list[str] = []
    worse: list[str] = []
    unsure: list[str] = []
    for row in report["comparisons"]:
        if row["figure"] != "bd_rate_percent":
            continue
        by = f", by {label(row['measure']).split(',')[0]}" if not report["config"]["task"] else ""
        line = f"{row['test']} against {html.escape(row['anchor'])}{by}: {_with_interval(row, 1, unit=' %')} bits"
        sure = row["low"] is not None and row["low"] * row["high"] > 0
        (unsure if not sure else better if row["value"] < 0 else worse).append(line)
    lists = (
        ("Fewer bits at equal score", better),
        ("More bits at equal score", worse),
        ("Undecided, or no overlap", unsure),
    )
    return "".join(
        f"<div><h3>{title}</h3><ul>{''.join(f'<li>{line}</li>' for line in lines) or '<li>nothing</li>'}</ul></div>"
        for title, lines in lists
    )


def _point_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    main, rows = report["main"], []
    times = [
        ("encode_s", "encode, ms"),
        ("decode_s", "decode, ms"),
        *([("read_s", "head, ms")] if report["config"]["task"] else []),
    ]
    for row in report["points"]:
        cells = {"codec": html.escape(row["series"]), "level": "-" if row["level"] is None else str(row["level"])}
        cells["bytes"] = "-" if row["bytes"] is None else f"{row['bytes']:.0f}"
        cells["bpp"] = "-" if row["bpp"] is None else f"{row['bpp']:.3f}"
        cells[label(main)] = _with_interval(row["score"], DIGITS.get(main, 4), none="-")
        for name in ("psnr", "ms_ssim", "lpips"):
            if name != main and any(other.get(name) is not None for other in report["points"]):
                cells[label(name)] = _seen(row, name)
        for name, title in times:
            cells[title] = f"{1000 * row[name]:.1f}"
        rows.append(cells)
    return rows


def _seen(row: dict[str, Any], name: str) -> str:
    """A mean, and of how many photographs it could not be had."""
    text = "-" if row.get(name) is None else f"{row[name]:.4g}"
    return f"{text} <small>without {row[name + LEFT_OUT]}</small>" if name + LEFT_OUT in row else text


def _saving_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    """A row for each pair of curves, a column for each share of the uncompressed score."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row in report["savings"]:
        cells = rows.setdefault(
            (row["test"], row["anchor"]), {"ours": row["test"], "against": html.escape(row["anchor"])}
        )
        cells[f"at {100 * row['share']:g} % of uncompressed"] = _with_interval(row, 1, unit=" %")
    return list(rows.values())


def _comparison_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in report["comparisons"]:
        cells = rows.setdefault(
            (row["test"], row["anchor"], row["measure"]),
            {"ours": row["test"], "against": html.escape(row["anchor"]), "by": label(row["measure"])},
        )
        rate = row["figure"] == "bd_rate_percent"
        title = "BD-rate" if rate else "BD-score (above 0 is better)"
        cells[title] = _with_interval(row, 1 if rate else DIGITS.get(row["measure"], 4), unit=" %" if rate else "")
    return list(rows.values())


def _cost_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"step": name, "million multiply-accumulates": f"{count / 1e6:.0f}"} for name, count in report["macs"].items()
    ]


def _table(rows: list[dict[str, str]]) -> str:
    if not rows:
        return "<p>Nothing to compare with.</p>"
    head = "".join(f"<th>{name}</th>" for name in rows[0])
    lines = []
    for row in rows:
        mark = " class=ours" if row.get("codec") in (LATENTS, DECODED) else ""
        lines.append(f"<tr{mark}>{''.join(f'<td>{cell}</td>' for cell in row.values())}</tr>")
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _image(caption: str, image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    caption = html.escape(caption)
    return (
        f'<figure><img src="data:image/webp;base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )
