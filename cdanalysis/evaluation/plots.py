"""Figures of what was measured, by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .experiment import PlotConfig

LABELS = {
    "bpp": "bits per pixel",
    "psnr": "PSNR, dB",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS (lower is better)",
    "fid_squeezenet": "Fréchet distance, SqueezeNet (lower is better)",
    "accuracy": "top-1 of an unmodified classifier",
    "AP": "AP of an unmodified detector",
    "AP50": "AP50 of an unmodified detector",
    "head_top1": "top-1 from the stream",
    "head_AP50": "AP50 from the stream",
    "head_mIoU": "mIoU from the stream",
}


def experiment_figure(report: dict[str, Any], plots: Sequence[PlotConfig]) -> bytes:
    """A PNG with the plots of an experiment side by side; baselines are dashed.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
        ValueError: if a plot names a table that is not there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ModuleNotFoundError("figures need: pip install 'cdanalysis[experiments]'") from None
    figure = Figure(figsize=(5.6 * len(plots), 4.4), layout="constrained")
    for axes, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        if plot.table not in report["tables"]:
            raise ValueError(f"no table {plot.table!r}; there are {', '.join(report['tables'])}")
        _draw(axes, report["tables"][plot.table]["rows"], plot)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw(axes: Any, rows: list[dict[str, Any]], plot: PlotConfig) -> None:
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if plot.x in row and plot.y in row:
            curves.setdefault(row["codec"], []).append((row[plot.x], row[plot.y]))
    known = {row["codec"]: "variant" in row for row in rows}
    for number, (codec, points) in enumerate(curves.items()):
        x, y = zip(*sorted(points), strict=True)
        style = {"marker": "o", "linestyle": "-"} if known[codec] else {"marker": "s", "linestyle": "--"}
        axes.plot(x, y, label=codec, color=f"C{number % 10}", markersize=5, linewidth=1.4, **style)
    axes.set_xlabel(LABELS.get(plot.x, plot.x))
    axes.set_ylabel(LABELS.get(plot.y, plot.y))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
