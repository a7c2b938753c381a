"""Figures of what was measured, by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from ..evaluation.experiment_config import PlotConfig
from ..evaluation.study import OURS
from ..metrics.image import PERCEPTION

LABELS = {
    "bpp": "bits per pixel",
    "psnr": "PSNR, dB",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS (lower is better)",
    "lpips_salient": "LPIPS of salient places (lower is better)",
    "lpips_rest": "LPIPS of the rest (lower is better)",
    "fid_squeezenet": "Fréchet distance, SqueezeNet (lower is better)",
    "accuracy": "top-1 of an unmodified classifier",
    "AP": "AP of an unmodified detector",
    "AP50": "AP50 of an unmodified detector",
    "top1": "top-1 among the data's classes",
    "mIoU": "mIoU",
    "head_bpp": "bits per pixel that heads read",
    "head_top1": "top-1 from the stream",
    "head_AP50": "AP50 from the stream",
    "head_mIoU": "mIoU from the stream",
}
TASKS = {"top1": "top-1 accuracy", "AP50": "AP50", "mIoU": "mIoU"}
"""What studies of tasks score."""
STUDY_LABELS = {**TASKS, "psnr": "PSNR, dB", "ms_ssim": "MS-SSIM", "lpips": "LPIPS"}


def label(measure: str) -> str:
    """What studies call a measure; those of other packages by their own names."""
    return STUDY_LABELS.get(measure, measure)


def experiment_figure(report: dict[str, Any], plots: Sequence[PlotConfig]) -> bytes:
    """A PNG with the plots of an experiment side by side; baselines are dashed.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
        ValueError: if a plot names a table that is not there.
    """
    figure = _new_figure(figsize=(5.6 * len(plots), 4.4), layout="constrained")
    for axes, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        if plot.table not in report["tables"]:
            raise ValueError(f"no table {plot.table!r}; there are {', '.join(report['tables'])}")
        _draw(axes, report["tables"][plot.table]["rows"], plot)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def study_figure(report: dict[str, Any]) -> bytes:
    """An SVG with the curves of a study, their intervals, and the score on uncompressed photographs.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    main = report["main"]
    measured = [name for name in PERCEPTION if all(row.get(name) is not None for row in report["points"])]
    others = [name for name in measured if name != main and not report["config"]["task"]]
    width = 9.6 if not others else 4.6 * (1 + len(others))
    figure = _new_figure(figsize=(width, 4.8), layout="constrained")
    panels = figure.subplots(1, 1 + len(others), squeeze=False)[0]
    for axes, name in zip(panels, [main, *others], strict=True):
        _draw_study(axes, report["points"], name, name == main)
    panels[0].legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()[buffer.getvalue().index(b"<svg") :]


def _draw_study(axes: Any, points: list[dict[str, Any]], measure: str, scored: bool) -> None:
    """A study's curves of its score, with intervals, or of another measure."""
    series: dict[str, list[dict[str, Any]]] = {}
    for row in points:
        series.setdefault(row["series"], []).append(row)
    for number, (name, rows) in enumerate(series.items()):
        entries = [row["score"] if scored else {"value": row[measure], "low": None} for row in rows]
        if rows[0]["bpp"] is None:
            axes.axhline(entries[0]["value"], color="0.45", linestyle=":", linewidth=1.2, label=name)
            continue
        order = sorted(range(len(rows)), key=lambda i: rows[i]["bpp"])
        x, entries = [rows[i]["bpp"] for i in order], [entries[i] for i in order]
        ours = name in OURS
        style = {"linewidth": 2.4 if ours else 1.2, "marker": "o" if ours else "s", "markersize": 5 if ours else 3.5}
        axes.plot(x, [e["value"] for e in entries], label=name, color=f"C{number % 10}", **style)
        if all(e["low"] is not None for e in entries):
            low, high = ([e[end] for e in entries] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=f"C{number % 10}", alpha=0.13, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlabel("bits per pixel of the photograph (bytes of the file)")
    axes.set_ylabel(label(measure))
    axes.grid(alpha=0.3, which="both")


def growth_figure(growth: dict[str, list[dict[str, float]]]) -> bytes:
    """An SVG: seconds by the number of photographs and by their size, each beside a line through the last point.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    figure = _new_figure(figsize=(9.6, 4.2), layout="constrained")
    for axes, rows in zip(figure.subplots(1, 2), growth.values(), strict=True):
        unit, *verbs = rows[0]
        x = [row[unit] for row in rows]
        for number, verb in enumerate(verbs):
            y = [row[verb] for row in rows]
            axes.plot(x, y, marker="o", label=verb.removesuffix("_s"), color=f"C{number}")
            axes.plot(x, [y[-1] * each / x[-1] for each in x], color=f"C{number}", linestyle=":", linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel=unit, ylabel="seconds (dotted: linear)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def _new_figure(**settings: Any) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ModuleNotFoundError("figures need: pip install 'cdanalysis[experiments]'") from None
    return Figure(**settings)


def _draw(axes: Any, rows: list[dict[str, Any]], plot: PlotConfig) -> None:
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(plot.x) is not None and plot.y in row:
            curves.setdefault(row["codec"], []).append((row[plot.x], row[plot.y]))
        elif plot.y in row:  # photographs themselves, which have no rate and nothing to be compared with
            axes.axhline(row[plot.y], color="0.45", linestyle=":", linewidth=1.2, label=row["codec"])
    known = {row["codec"]: "variant" in row for row in rows}
    for number, (codec, points) in enumerate(curves.items()):
        x, y = zip(*sorted(points), strict=True)
        style = {"marker": "o", "linestyle": "-"} if known[codec] else {"marker": "s", "linestyle": "--"}
        axes.plot(x, y, label=codec, color=f"C{number % 10}", markersize=5, linewidth=1.4, **style)
    axes.set_xlabel(LABELS.get(plot.x, plot.x))
    axes.set_ylabel(LABELS.get(plot.y, plot.y))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
