"""Figures of what was measured, by matplotlib; all raise `ModuleNotFoundError` where it is not installed."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any

from ..evaluation.configs import PlotConfig
from ..evaluation.study import OURS

LABELS = {
    "bpp": "bits per pixel",
    "psnr": "PSNR, dB",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS (lower is better)",
    "lpips_salient": "LPIPS of salient places (lower is better)",
    "lpips_rest": "LPIPS of the rest (lower is better)",
    "fid_squeezenet": "Fréchet distance, SqueezeNet (lower is better)",
    "fid_shufflenetv2": "Fréchet distance, ShuffleNetV2 (lower is better)",
    "fid_mobilenetv2": "Fréchet distance, MobileNetV2 (lower is better)",
    "distance_shufflenetv2": "distance in ShuffleNetV2 (lower is better)",
    "distance_mobilenetv2": "distance in MobileNetV2 (lower is better)",
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
Spot = tuple[str, float | None, float | None, float | None, float | None]
"""A curve's name, x (None for photographs themselves, which have no rate), y, and the ends of its interval."""
TASKS = {"top1": "top-1 accuracy", "AP50": "AP50", "mIoU": "mIoU"}
"""What studies of tasks score."""


def label_of(measure: str) -> str:
    """What studies call a measure; those of other packages by their own names.

    Args:
        measure: its name.
    """
    return {**LABELS, **TASKS, "lpips": "LPIPS"}.get(measure, measure)


def experiment_figure(report: dict[str, Any], plots: Sequence[PlotConfig]) -> bytes:
    """A PNG with the plots of an experiment side by side; baselines are dashed.

    Args:
        report: what `run_experiment` gave.
        plots: at least one.

    Raises:
        ValueError: if a plot names a table that is not there.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    figure, panels = _new_figure(len(plots), 5.6, 4.4)
    for axes, plot in zip(panels, plots, strict=True):
        if plot.table not in report["tables"]:
            raise ValueError(f"no table {plot.table!r}; there are {', '.join(report['tables'])}")
        rows = report["tables"][plot.table]["rows"]
        own = {row["codec"] for row in rows if "variant" in row}
        _draw(axes, [(row["codec"], row.get(plot.x), row.get(plot.y), None, None) for row in rows], {}, own)
        axes.set(xlabel=LABELS.get(plot.x, plot.x), ylabel=LABELS.get(plot.y, plot.y))
        axes.legend(fontsize=8, frameon=False)
    return _saved(figure, format="png", dpi=110)


def study_figure(report: dict[str, Any]) -> bytes:
    """An SVG with the curves of a study, their intervals, and the score on uncompressed photographs.

    Args:
        report: what `run_study` gave.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    main, rows = report["main"], report["points"]
    measured = [name for name in report["measures"] if all(row.get(name) is not None for row in rows)]
    others = [name for name in measured if name != main and not report["config"]["task"]]
    figure, panels = _new_figure(1 + len(others), 4.6 if others else 9.6, 4.8)
    for axes, name in zip(panels, [main, *others], strict=True):
        scores = [row["score"] if name == main else {"value": row[name]} for row in rows]
        ends = [[score.get(key) for key in ("value", "low", "high")] for score in scores]
        spots = [(row["series"], row["bpp"], *own) for row, own in zip(rows, ends, strict=True)]
        _draw(axes, spots, {"linewidth": 2.4, "markersize": 5}, OURS)
        axes.set(xscale="log", xlabel="bits per pixel of the photograph (bytes of the file)", ylabel=label_of(name))
    panels[0].legend(fontsize=8, frameon=False)
    svg = _saved(figure, format="svg")
    return svg[svg.index(b"<svg") :]


def growth_figure(growth: dict[str, list[dict[str, float]]]) -> bytes:
    """An SVG: seconds by the number of photographs and by their size, each beside a line through the last point.

    Args:
        growth: two lists of rows; the first column of a row is the unit, the others are seconds of each verb.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    figure, panels = _new_figure(2, 4.8, 4.2)
    for axes, rows in zip(panels, growth.values(), strict=True):
        unit, *verbs = rows[0]
        x = [row[unit] for row in rows]
        for number, verb in enumerate(verbs):
            y = [row[verb] for row in rows]
            axes.plot(x, y, marker="o", label=verb.removesuffix("_s"), color=f"C{number}")
            axes.plot(x, [y[-1] * each / x[-1] for each in x], color=f"C{number}", linestyle=":", linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel=unit, ylabel="seconds (dotted: linear)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    return _saved(figure, format="svg")


def _new_figure(panels: int, width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ModuleNotFoundError("figures need: pip install 'cdanalysis[experiments]'") from None
    figure = Figure(figsize=(width * panels, height), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _saved(figure: Any, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **settings)
    return buffer.getvalue()


def _draw(axes: Any, spots: Iterable[Spot], own: dict[str, float], ours: Collection[str]) -> None:
    """Curves with their intervals, ours with circles and in the style ``own``; what has no x is a line across."""
    curves: dict[str, list[tuple]] = {}
    for name, x, y, *ends in spots:
        if y is not None and x is None:
            axes.axhline(y, color="0.45", linestyle=":", linewidth=1.2, label=name)
        elif x is not None:
            curves.setdefault(name, []).append((x, float("nan") if y is None else y, *ends))
    for number, (name, found) in enumerate(curves.items()):
        xs, ys, lows, highs = zip(*sorted(found, key=itemgetter(0)), strict=True)
        style = {"marker": "o", **own} if name in ours else {"marker": "s", "linestyle": "--", "linewidth": 1.2}
        axes.plot(xs, ys, label=name, color=f"C{number % 10}", **{"markersize": 4, **style})
        if None not in lows:
            axes.fill_between(xs, lows, highs, color=f"C{number % 10}", alpha=0.13, linewidth=0)
    axes.grid(alpha=0.3, which="both")
