"""Curves: what arithmetic says, what an independent implementation says, and silence where nobody can say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.interpolate import PchipInterpolator

from cdanalysis.metrics.bjontegaard import (
    LEAST,
    MOST,
    Curve,
    bd_rate,
    bd_score,
    comparisons,
    interval,
    rate_at,
    rate_bound,
    rate_difference,
    rate_differences,
    resamples,
    side_of,
)

RATES = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
SCORES = np.array([0.60, 0.72, 0.85, 0.93, 0.97])


@given(factor=st.floats(0.2, 5.0))
def test_a_shifted_curve_has_the_bd_rate_of_its_shift(factor):
    assert bd_rate(Curve(RATES, SCORES), Curve(factor * RATES, SCORES)) == pytest.approx(100 * (factor - 1), abs=1e-6)


@given(shift=st.floats(-0.05, 0.05))
def test_a_lifted_curve_has_the_bd_score_of_its_lift(shift):
    assert bd_score(Curve(RATES, SCORES), Curve(RATES, SCORES + shift)) == pytest.approx(shift, abs=1e-9)


def test_bd_rate_agrees_with_scipy():
    other = Curve([0.15, 0.3, 0.5, 1.1], [0.63, 0.80, 0.88, 0.95])
    low, high = 0.63, 0.95
    means = [
        PchipInterpolator(c.scores, np.log10(c.rates)).integrate(low, high) / (high - low)
        for c in (Curve(RATES, SCORES), other)
    ]
    assert bd_rate(Curve(RATES, SCORES), other) == pytest.approx(100 * (10 ** (means[1] - means[0]) - 1), rel=1e-9)


def test_bd_rate_of_published_test_points():
    """The example of JCT-VC's spreadsheet as many implementations ship it; piecewise cubic."""
    anchor = Curve(
        [40433.8848, 23153.9040, 13283.7168, 7614.6864], [37.58361452, 35.31275330, 33.16543858, 31.15829899]
    )
    test = Curve([40370.12, 7587.00, 2390.00, 1017.10], [37.5760, 31.1552, 29.1, 27.9])
    means, low, high = [], max(anchor.scores[0], test.scores[0]), min(anchor.scores[-1], test.scores[-1])
    for curve in (anchor, test):
        x = np.linspace(low, high, 200_001)
        means.append(trapezoid(PchipInterpolator(curve.scores, np.log10(curve.rates))(x), x) / (high - low))
    assert bd_rate(anchor, test) == pytest.approx(100 * (10 ** (means[1] - means[0]) - 1), abs=1e-4)


def test_curves_that_share_nothing_have_no_difference():
    low, high = Curve(RATES, SCORES), Curve(RATES, SCORES + 0.5)
    assert bd_rate(low, high) is None and bd_score(low, high) is not None
    assert bd_score(low, Curve(100 * RATES, SCORES)) is None
    assert bd_rate(low, Curve(RATES[:2], SCORES[:2])) is None  # two points are no curve
    assert bd_rate(low, Curve(RATES, np.full(5, 0.8))) is None  # nor are five of one height


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 1)), min_size=1, max_size=12))
def test_a_frontier_ascends_and_nothing_beats_it(points):
    curve = Curve(*map(np.array, zip(*points, strict=True)))
    front = curve.frontier()
    assert (np.diff(front.rates) > 0).all() and (np.diff(front.scores) > 0).all()
    for rate, score in points:
        assert (front.scores[front.rates <= rate].max() >= score) and rate >= front.rates[0]


def test_rates_at_a_score_lie_between_points():
    curve = Curve(RATES, SCORES)
    assert rate_at(curve, 0.72) == pytest.approx(0.2)
    assert rate_at(curve, 0.66) == pytest.approx(np.sqrt(0.1 * 0.2))
    assert rate_at(curve, 0.59) is None and rate_at(curve, 0.98) is None
    assert rate_difference(curve, Curve(RATES / 4, SCORES), 0.9) == pytest.approx(-75.0)
    assert rate_difference(curve, Curve(RATES / 4, SCORES - 0.2), 0.9) is None


@pytest.mark.parametrize(("rates", "scores"), [([1, 2], [1]), ([0, 1], [1, 2]), ([1, np.nan], [1, 2]), ([[1]], [[1]])])
def test_curves_that_are_none_are_refused(rates, scores):
    with pytest.raises(ValueError, match="a curve"):
        Curve(np.array(rates), np.array(scores))


def test_the_bootstrap_covers_the_mean_as_often_as_it_says():
    """Of a hundred samples from a known distribution, about 95 intervals hold its mean."""
    rng, held = np.random.default_rng(1), 0
    for trial in range(100):
        sample = rng.normal(0.7, 0.2, 60)
        found = interval(sample[resamples(60, 300, trial)].mean(1).tolist())
        assert found.value == pytest.approx(sample.mean())
        held += found.low <= 0.7 <= found.high
    assert 87 <= held <= 100


def test_the_bootstrap_moves_the_interval_of_a_biased_figure():
    """The largest of a sample falls short of the largest of all, in every resample; an interval around it does not."""
    rng = np.random.default_rng(0)
    draws = [5.0 - each for each in rng.exponential(1.0, 400)]
    plain, moved = interval([5.0, *draws]), interval([5.0, *draws], biased=True)
    assert plain.low < plain.high < 5.0 and moved.low < 5.0 < moved.high
    assert moved.high - moved.low == pytest.approx(plain.high - plain.low)
    assert np.mean([plain.low, plain.high]) - np.mean(draws) == pytest.approx(np.mean([moved.low, moved.high]) - 5.0)
    assert interval([0.01, *np.linspace(0.0, 0.2, 50)], biased=True).low == 0.0
    assert interval([-0.01, *np.linspace(-0.2, 0.0, 50)], biased=True).low == pytest.approx(-0.105, abs=1e-3)


def test_the_bootstrap_says_when_it_cannot_say():
    assert interval([1.0]).low is None and interval([None, 1.0]).value is None
    often_absent = interval([1.0] + [1.0, 1.0, None] * 40)
    assert often_absent.value == 1.0 and often_absent.low is None and often_absent.found == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no photographs"):
        resamples(0, 10)


def test_resamples_begin_with_all():
    drawn = resamples(5, 3)
    assert drawn.shape == (4, 5) and drawn[0].tolist() == [0, 1, 2, 3, 4]
    assert (drawn >= 0).all() and (drawn < 5).all() and (resamples(5, 3) == drawn).all()


ascending = st.lists(st.floats(0.001, 1), min_size=6, max_size=12, unique=True).map(sorted)


@given(ascending, ascending, ascending, ascending, st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_a_bound_holds_for_all_that_was_not_measured(rates, scores, others, theirs, cut, start, ours_above):
    """Of two whole curves parts are measured that share no score: at every score that both curves reach, and the lower
    one was measured at, the difference in bits keeps to the bound."""
    lower, upper = (Curve(x[:n], y[:n]) for x, y in ((rates, scores), (others, theirs)) for n in [min(len(x), len(y))])
    below = Curve(lower.rates[:cut], lower.scores[:cut])
    above = Curve(upper.rates[start:], upper.scores[start:]) if start < len(upper.rates) else upper
    if above.scores[0] < below.scores[-1]:
        assert side_of(above, below) is None or below.scores[0] >= above.scores[-1]
        return
    whole, measured = ((lower, upper), (below, above)) if ours_above else ((upper, lower), (above, below))
    bound, side = rate_bound(*measured), side_of(*measured)
    assert side == (MOST if ours_above else LEAST)
    for score in below.scores:
        if (found := rate_difference(*whole, float(score))) is not None:
            assert found <= bound + 1e-6 if side == MOST else found >= bound - 1e-6


@given(st.floats(0.05, 20), st.floats(0, 0.2))
def test_fewer_bits_are_below_zero_everywhere(factor, lift):
    """BD-rates, differences at a score and bounds have one sign: that of the change in bits."""
    ours, theirs = Curve(factor * RATES, SCORES), Curve(RATES, SCORES)
    curves = {"ours": [ours], "theirs": [theirs]}
    row, _ = comparisons(curves, ["ours"])
    (at,) = rate_differences(curves, ["ours"], np.array([1.0]), [0.9])
    assert row["value"] == pytest.approx(100 * (factor - 1), abs=1e-6) == at["value"]
    assert row["bound"] is None and at["unreached"] == []
    apart = {"ours": [Curve(factor * RATES, SCORES + 1 + lift)], "theirs": [theirs]}
    row, _ = comparisons(apart, ["ours"])
    assert row["value"] is None and row["bound"]["side"] == MOST
    assert row["bound"]["value"] == pytest.approx(100 * (factor - 1), abs=1e-6)
    row, _ = comparisons({"ours": apart["theirs"], "theirs": apart["ours"]}, ["ours"])
    assert row["bound"]["side"] == LEAST and row["bound"]["value"] == pytest.approx(100 * (1 / factor - 1), abs=1e-6)


def test_bounds_have_intervals_and_who_falls_short_is_named():
    lifted = [Curve(RATES / 10 * scale, SCORES + 0.5) for scale in (1.0, 0.9, 1.1, 1.0)]
    curves = {"ours": lifted, "theirs": [Curve(RATES, SCORES)] * 4}
    (row, _) = comparisons(curves, ["ours"])
    assert (
        row["bound"]["value"] == pytest.approx(-90) and -91 <= row["bound"]["low"] < -90 < row["bound"]["high"] <= -89
    )
    reference = np.full(4, 1.0)
    (high, low) = rate_differences(curves, ["ours"], reference, [1.1, 0.7])
    assert high["value"] is None and high["unreached"] == ["theirs"]
    assert low["value"] is None and low["unreached"] == [], "ours was not measured so low"
    few, _ = comparisons({"ours": [Curve(RATES[:2], SCORES[:2])], "theirs": [Curve(RATES, SCORES)]}, ["ours"])
    assert few["value"] is None and few["bound"] is None, "two points are no curve, and the scores are shared"
