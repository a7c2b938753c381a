"""Rate-accuracy curves: Bjontegaard deltas, savings at equal scores, and bootstrap intervals.

Nothing here extrapolates: where two curves do not overlap, the result is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

LEAST_POINTS = 3
"""Minimum number of points of a frontier for Bjontegaard deltas."""


@dataclass(frozen=True)
class Curve:
    """A rate-accuracy curve, sorted by rate.

    Args:
        rates: (N,) bits per pixel, above 0.
        scores: (N,); higher is better.

    Raises:
        ValueError: if rates and scores differ in number, a rate is not above 0, or a number is not finite.
    """

    rates: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        rates, scores = (np.asarray(values, np.float64) for values in (self.rates, self.scores))
        if rates.ndim != 1 or rates.shape != scores.shape:
            raise ValueError(f"a curve needs as many scores as rates, got {rates.shape} and {scores.shape}")
        if not (np.isfinite(rates).all() and np.isfinite(scores).all() and (rates > 0).all()):
            raise ValueError("a curve must have finite scores, and finite rates above 0")
        order = np.lexsort((-scores, rates))
        object.__setattr__(self, "rates", rates[order])
        object.__setattr__(self, "scores", scores[order])

    def frontier(self) -> Curve:
        """The Pareto frontier: points that no other beats with fewer bits; rates and scores ascend strictly.

        Accuracy on a finite set is not monotonic in the rate; nobody would choose the points that are left out.

        >>> Curve([0.1, 0.2, 0.3], [0.8, 0.7, 0.9]).frontier().rates.tolist()
        [0.1, 0.3]
        """
        best = np.maximum.accumulate(np.concatenate([[-np.inf], self.scores[:-1]]))
        keep = self.scores > best
        return Curve(self.rates[keep], self.scores[keep])


def bd_rate(anchor: Curve, test: Curve) -> float | None:
    """Bjontegaard delta rate (Bjontegaard, VCEG-M33, 2001), by the package ``bjontegaard``.

    Piecewise cubic (PCHIP) interpolation of both frontiers, over the scores that both reach.

    Args:
        anchor: the curve to compare with.
        test: the curve to compare.

    Returns:
        the mean difference in bits at equal score, in percent; below 0 where ``test`` needs fewer. None where the
        curves share no scores, or a frontier has fewer than ``LEAST_POINTS`` points.

    >>> anchor = Curve([0.1, 0.2, 0.4, 0.8], [0.5, 0.6, 0.7, 0.8])
    >>> round(bd_rate(anchor, Curve(anchor.rates / 2, anchor.scores)), 6)
    -50.0
    >>> bd_rate(anchor, Curve([0.1, 0.2, 0.4], [0.1, 0.2, 0.3])) is None
    True
    """
    a, b = anchor.frontier(), test.frontier()
    return None if _apart(a, b, a.scores, b.scores) else _package("bd_rate", a, b)


def bd_score(anchor: Curve, test: Curve) -> float | None:
    """Bjontegaard delta score (BD-PSNR if the score is PSNR), like `bd_rate`, over the rates that both curves have.

    Args:
        anchor: the curve to compare with.
        test: the curve to compare.

    Returns:
        the mean difference in score at equal rate, in the score's unit; above 0 where ``test`` is better. None as in
        `bd_rate`.
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
    """The rate at which a curve's frontier reaches a score, interpolated linearly in the logarithm of the rate.

    Args:
        curve: rates and scores.
        score: to reach.

    Returns:
        bits per pixel, or None if the score is outside the frontier's range.

    >>> rate_at(Curve([0.1, 0.4], [0.5, 0.7]), 0.6)
    0.2
    """
    front = curve.frontier()
    if not len(front.rates) or not front.scores[0] <= score <= front.scores[-1]:
        return None
    return float(np.exp(np.interp(score, front.scores, np.log(front.rates))))


def saving(anchor: Curve, test: Curve, score: float) -> float | None:
    """Bits that one curve saves relative to another at equal score.

    Args:
        anchor: the curve to compare with.
        test: the curve to compare.
        score: to reach.

    Returns:
        percent of the anchor's bits, or None if one of the curves does not reach the score.

    >>> anchor = Curve([0.1, 0.2, 0.4], [0.5, 0.6, 0.7])
    >>> round(saving(anchor, Curve(anchor.rates / 4, anchor.scores), 0.65), 6)
    75.0
    """
    before, after = rate_at(anchor, score), rate_at(test, score)
    return None if before is None or after is None else 100 * (1 - after / before)


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval.

    Attributes:
        value: on all photographs; None if undefined.
        low: lower end; None if there is no interval.
        high: upper end; None if there is no interval.
        found: fraction of the resamples on which the value is defined, in [0, 1].
    """

    value: float | None
    low: float | None
    high: float | None
    found: float = 1.0


def resamples(images: int, draws: int, seed: int = 0) -> np.ndarray:
    """Bootstrap resamples of photographs.

    Args:
        images: number of photographs.
        draws: number of resamples.
        seed: of the generator.

    Returns:
        indices (1 + draws, images): all photographs once, then rows drawn with replacement.

    Raises:
        ValueError: if there are no photographs.
    """
    if images < 1:
        raise ValueError("there are no photographs to resample")
    rng = np.random.default_rng(seed)
    return np.concatenate([np.arange(images)[None], rng.integers(images, size=(draws, images))])


def interval(values: Sequence[float | None], level: float = 0.95, biased: bool = False) -> Interval:
    """Bootstrap percentile interval (Efron, 1979).

    There is no interval if the value is defined on fewer than nine in ten resamples.

    Args:
        values: the value on all photographs, then on each resample; None where undefined.
        level: confidence level, in (0, 1).
        biased: whether resampling itself biases the value. The interval is then corrected by the difference between
            the mean over the resamples and the value (Efron and Tibshirani, "An introduction to the bootstrap", 1993,
            chapter 10); for a value of at least 0 it does not go below 0.

    >>> ends = interval([0.5, *np.linspace(0, 1, 101)])
    >>> round(ends.low, 3), round(ends.high, 3)
    (0.025, 0.975)
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
"""For each name the curve on all photographs, then on each resample of them; None where undefined."""


def comparisons(curves: Curves, ours: Sequence[str]) -> list[dict[str, Any]]:
    """BD-rate (below 0 is better) and BD-score (above 0 is better) of some curves against all others.

    Args:
        curves: all curves, with their resamples.
        ours: names of the curves to compare with each of the others.

    Returns:
        a row for each pair and figure: "test", "anchor", "figure", and the fields of `Interval`.
    """
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
    """Bits saved by some curves against all others, where both reach a given fraction of a reference score.

    Args:
        curves: all curves, with their resamples.
        ours: names of the curves to compare with each of the others.
        reference: the score, such as that on uncompressed photographs: on all of them, then on each resample.
        shares: fractions of the reference score.

    Returns:
        a row for each pair and fraction: "test", "anchor", "share", and the fields of `Interval`, in percent.
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
