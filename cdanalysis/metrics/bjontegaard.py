"""Rate-accuracy curves: what they have in common, how far apart they are, and how sure that is.

Nothing here extrapolates: where two curves do not overlap, there is no figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

LEAST_POINTS = 3
"""Fewer points than this are no curve."""


@dataclass(frozen=True)
class Curve:
    """Rates in bits per pixel, ascending, and the score at each; a higher score is better.

    Raises:
        ValueError: if there are not as many scores as rates, or a rate is not positive, or a number is not finite.
    """

    rates: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        rates, scores = (np.asarray(values, np.float64) for values in (self.rates, self.scores))
        if rates.ndim != 1 or rates.shape != scores.shape:
            raise ValueError(f"a curve needs as many scores as rates, got {rates.shape} and {scores.shape}")
        if not (np.isfinite(rates).all() and np.isfinite(scores).all() and (rates > 0).all()):
            raise ValueError("a curve's rates are positive, and all its numbers finite")
        order = np.lexsort((-scores, rates))
        object.__setattr__(self, "rates", rates[order])
        object.__setattr__(self, "scores", scores[order])

    def frontier(self) -> Curve:
        """Without the points that another one beats with fewer bits: rates and scores both ascend strictly.

        Accuracy on a finite set is not monotone in the rate; nobody would choose the points that are left out.
        """
        best = np.maximum.accumulate(np.concatenate([[-np.inf], self.scores[:-1]]))
        keep = self.scores > best
        return Curve(self.rates[keep], self.scores[keep])


def bd_rate(anchor: Curve, test: Curve) -> float | None:
    """Bjontegaard's delta rate: mean difference in bits at equal score, in percent; below 0 where ``test`` needs fewer.

    Piecewise cubic (PCHIP) on both frontiers, over the scores that both reach, by the package ``bjontegaard``
    (Bjontegaard, VCEG-M33, 2001). None where they share no scores, or one has fewer than ``LEAST_POINTS`` points.
    """
    a, b = anchor.frontier(), test.frontier()
    return None if _apart(a, b, a.scores, b.scores) else _package("bd_rate", a, b)


def bd_score(anchor: Curve, test: Curve) -> float | None:
    """Bjontegaard's delta score: mean difference in score at equal rate; above 0 where ``test`` is better.

    As `bd_rate`, over the rates that both have.
    """
    a, b = anchor.frontier(), test.frontier()
    return None if _apart(a, b, a.rates, b.rates) else _package("bd_psnr", a, b)


def _apart(a: Curve, b: Curve, first: np.ndarray, second: np.ndarray) -> bool:
    few = min(len(a.rates), len(b.rates)) < LEAST_POINTS
    return few or max(first[0], second[0]) >= min(first[-1], second[-1])


def _package(name: str, a: Curve, b: Curve) -> float | None:
    import bjontegaard

    function = getattr(bjontegaard, name)
    value = float(function(a.rates, a.scores, b.rates, b.scores, "pchip", require_matching_points=False, min_overlap=0))
    return value if np.isfinite(value) else None


def rate_at(curve: Curve, score: float) -> float | None:
    """Bits a pixel that the frontier takes for a score, linear in the rate's logarithm; None outside of it."""
    front = curve.frontier()
    if not len(front.rates) or not front.scores[0] <= score <= front.scores[-1]:
        return None
    return float(np.exp(np.interp(score, front.scores, np.log(front.rates))))


def saving(anchor: Curve, test: Curve, score: float) -> float | None:
    """Share of the anchor's bits, in percent, that ``test`` saves at a score; None where one does not reach it."""
    before, after = rate_at(anchor, score), rate_at(test, score)
    return None if before is None or after is None else 100 * (1 - after / before)


@dataclass(frozen=True)
class Interval:
    """A figure with the range that holds it; a share ``found`` of the draws gave the figure at all."""

    value: float | None
    low: float | None
    high: float | None
    found: float = 1.0


def resamples(images: int, draws: int, seed: int = 0) -> np.ndarray:
    """Numbers of photographs: all of them, then ``draws`` rows drawn with replacement; (1 + draws, photographs).

    Raises:
        ValueError: if there are no photographs.
    """
    if images < 1:
        raise ValueError("there are no photographs to resample")
    rng = np.random.default_rng(seed)
    return np.concatenate([np.arange(images)[None], rng.integers(images, size=(draws, images))])


def interval(values: Sequence[float | None], level: float = 0.95, biased: bool = False) -> Interval:
    """The bootstrap's percentile interval (Efron, 1979) of a figure.

    It is absent where fewer than nine in ten resamples give the figure, or there are none.

    Args:
        values: the figure on all photographs, then on each resample of them; None where it cannot be had.
        level: share of the resamples that the interval holds.
        biased: whether resampling itself raises or lowers the figure. The interval is then moved by the difference
            between its mean over the resamples and its value (Efron and Tibshirani, "An introduction to the
            bootstrap", 1993, chapter 10); a figure that is not negative has no negative end.
    """
    value, drawn = values[0], values[1:]
    known = [d for d in drawn if d is not None]
    found = len(known) / len(drawn) if drawn else 0.0
    if value is None or found < 0.9:
        return Interval(value, None, None, found)
    ends = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    if biased:
        ends = np.maximum(ends + value - np.mean(known), 0.0 if value >= 0 else -np.inf)
    return Interval(value, float(ends[0]), float(ends[1]), found)


Curves = dict[str, list[Curve | None]]
"""By name the curve on all photographs, then on each resample of them; None where it cannot be had."""


def comparisons(curves: Curves, ours: Sequence[str]) -> list[dict[str, Any]]:
    """BD-rate and BD-score (above 0 is better) of each of ``ours`` against every other curve, with their intervals."""
    rows = []
    for test, anchor in _pairs(curves, ours):
        for title, figure in (("bd_rate_percent", bd_rate), ("bd_score", bd_score)):
            pairs = zip(curves[anchor], curves[test], strict=True)
            values = [figure(a, b) if a and b else None for a, b in pairs]
            rows.append({"test": test, "anchor": anchor, "figure": title, **asdict(interval(values))})
    return rows


def savings(
    curves: Curves, ours: Sequence[str], reference: np.ndarray, shares: Sequence[float]
) -> list[dict[str, Any]]:
    """Bits saved, in percent, where both curves reach the same share of a score.

    Args:
        reference: the score, on all photographs, then on each resample.
    """
    rows = []
    for test, anchor in _pairs(curves, ours):
        for share in shares:
            pairs = zip(curves[anchor], curves[test], share * reference, strict=True)
            values = [saving(a, b, float(wanted)) if a and b else None for a, b, wanted in pairs]
            rows.append({"test": test, "anchor": anchor, "share": share, **asdict(interval(values))})
    return rows


def _pairs(curves: Curves, ours: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(one of ours, any other)."""
    return ((test, anchor) for test in ours if test in curves for anchor in curves if anchor != test)
