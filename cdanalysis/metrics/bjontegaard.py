"""Rate-accuracy curves: Bjontegaard deltas, differences in bits at equal scores, and bootstrap intervals.

All differences in bits are in percent of the other curve's bits, and below 0 where fewer are needed. Nothing here
extrapolates: where two curves do not overlap, the result is None, or a bound that holds by what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def rate_difference(anchor: Curve, test: Curve, score: float) -> float | None:
    """The difference in bits of one curve from another at equal score.

    Args:
        anchor: the curve to compare with.
        test: the curve to compare.
        score: to reach.

    Returns:
        percent of the anchor's bits, below 0 where ``test`` needs fewer; None if one of the curves does not reach the
        score.

    >>> anchor = Curve([0.1, 0.2, 0.4], [0.5, 0.6, 0.7])
    >>> round(rate_difference(anchor, Curve(anchor.rates / 4, anchor.scores), 0.65), 6)
    -75.0
    """
    before, after = rate_at(anchor, score), rate_at(test, score)
    return None if before is None or after is None else 100 * (after / before - 1)


MOST, LEAST = "at most", "at least"


def side_of(anchor: Curve, test: Curve) -> str | None:
    """On which side of the difference in bits a bound lies, where one curve lies wholly above the other.

    Args:
        anchor: the curve to compare with.
        test: the curve to compare.

    Returns:
        ``MOST`` where ``test`` scores higher at all of its rates than ``anchor`` at any, ``LEAST`` where it scores
        lower; None where they share scores.
    """
    ours, theirs = test.frontier().scores, anchor.frontier().scores
    return MOST if ours[0] >= theirs[-1] else LEAST if ours[-1] <= theirs[0] else None


def rate_bound(anchor: Curve, test: Curve) -> float | None:
    """A bound of the difference in bits at any score that both curves reach, where one lies wholly above the other.

    The upper one reaches the scores of the lower one with no more bits than its lowest rate has, and the lower one
    needs at least its lowest rate for any of them.

    Args:
        anchor: the curve to compare with.
        test: the curve to compare.

    Returns:
        percent of the anchor's bits: the difference is at most that, or at least, as `side_of` says; None where the
        curves share scores.

    >>> ours, theirs = Curve([0.01, 0.02], [0.8, 0.9]), Curve([0.1, 0.2], [0.5, 0.7])
    >>> round(rate_bound(theirs, ours), 6), side_of(theirs, ours)
    (-90.0, 'at most')
    >>> round(rate_bound(ours, theirs), 6), side_of(ours, theirs)
    (900.0, 'at least')
    """
    return None if side_of(anchor, test) is None else 100 * float(test.rates[0] / anchor.rates[0] - 1)


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
Pairs = Sequence[tuple[Curve | None, Curve | None]]
"""Two such curves: (anchor, test)."""


def comparisons(curves: Curves, ours: Sequence[str]) -> list[dict[str, Any]]:
    """BD-rate (below 0 is better) and BD-score (above 0 is better) of some curves against all others.

    Args:
        curves: all curves, with their resamples.
        ours: names of the curves to compare with each of the others.

    Returns:
        a row for each pair and figure: "test", "anchor", "figure", and the fields of `Interval`. Where one curve lies
        wholly above the other there is no BD-rate, and its row has a "bound": the fields of `Interval`, in percent, and
        the "side", ``MOST`` or ``LEAST``, of the difference in bits at any score that both reach; else None.
    """
    rows = []
    for test, anchor in _pairs(curves, ours):
        pairs = list(zip(curves[anchor], curves[test], strict=True))
        row = {"test": test, "anchor": anchor, "figure": "bd_rate_percent", **_difference(bd_rate, pairs)}
        rows += [row | {"bound": None if row["value"] is not None else _bound(pairs)}]
        rows += [{"test": test, "anchor": anchor, "figure": "bd_score", **_difference(bd_score, pairs)}]
    return rows


def _difference(figure: Callable[[Curve, Curve], float | None], pairs: Pairs) -> dict[str, Any]:
    return asdict(interval([figure(a, b) if a and b else None for a, b in pairs]))


def _bound(pairs: Pairs) -> dict[str, Any] | None:
    """The bound, and its interval by the resamples on which the curves lie as on all photographs."""
    anchor, test = pairs[0]
    side = side_of(anchor, test) if anchor and test else None
    if side is None:
        return None
    values = [rate_bound(a, b) if a and b and side_of(a, b) == side else None for a, b in pairs]
    return {"side": side, **asdict(interval(values))}


def rate_differences(
    curves: Curves, ours: Sequence[str], reference: np.ndarray, shares: Sequence[float]
) -> list[dict[str, Any]]:
    """Differences in bits of some curves from all others, where both reach a given fraction of a reference score.

    Args:
        curves: all curves, with their resamples.
        ours: names of the curves to compare with each of the others.
        reference: the score, such as that on uncompressed photographs: on all of them, then on each resample.
        shares: fractions of the reference score.

    Returns:
        a row for each pair and fraction: "test", "anchor", "share", the fields of `Interval`, in percent and below 0
        where fewer bits are needed; and "unreached", the names of those of the pair that score less everywhere.
    """
    rows = []
    for test, anchor in _pairs(curves, ours):
        for share in shares:
            pairs = zip(curves[anchor], curves[test], share * reference, strict=True)
            values = [rate_difference(a, b, float(wanted)) if a and b else None for a, b, wanted in pairs]
            whole = {name: curve for name in (test, anchor) if (curve := curves[name][0])}
            below = [name for name, curve in whole.items() if curve.scores.max() < share * reference[0]]
            rows.append(
                {"test": test, "anchor": anchor, "share": share, **asdict(interval(values)), "unreached": below}
            )
    return rows


def _pairs(curves: Curves, ours: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(one of ours, any other)."""
    return ((test, anchor) for test in ours if test in curves for anchor in curves if anchor != test)
