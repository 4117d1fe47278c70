"""Weighted subjects against searches that are there as often as their subject counts; the delete-d jackknife."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InvalidValue
from probface.eval.metrics.identification import Searches, cmc, fnir_at_fpir
from probface.eval.metrics.subset_interval import subset_interval
from probface.eval.metrics.weighted_search import SearchRates

RANKS, FPIRS = (1, 3), (0.1, 0.34, 0.9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_weights_are_repetitions(seed: int, mated: int, others: int) -> None:
    rng = np.random.default_rng(seed)
    found = Searches(
        np.round(rng.normal(1, 1, mated), 1),  # rounded: ties
        rng.integers(1, 6, mated),
        np.round(rng.normal(0, 1, others), 1),
        6,
    )
    ours, theirs = rng.integers(0, 5, mated), rng.integers(0, 5, others)
    weights = rng.integers(0, 4, 5)
    rates = SearchRates(found, ours, theirs, RANKS, FPIRS)(weights)
    a, b = np.repeat(np.arange(mated), weights[ours]), np.repeat(np.arange(others), weights[theirs])
    if not len(a):
        assert np.isnan(rates).all()
        return
    repeated = Searches(found.mate_score[a], found.mate_rank[a], found.top_score[b], 6)
    np.testing.assert_allclose(rates[:2], cmc(repeated, np.array(RANKS)))
    if len(b):
        expected = [1 - fnir_at_fpir(repeated, fpir, allow_few=True) for fpir in FPIRS]
        np.testing.assert_allclose(rates[2:], expected)
    else:
        assert np.isnan(rates[2:]).all()


def test_interval_by_hand() -> None:
    figures = np.array([0.90, 0.92, 0.94])
    found = subset_interval(figures, kept=20, left_out=5, confidence=0.9)
    assert found.estimate == pytest.approx(0.92)
    reach = scipy.stats.t.ppf(0.95, 2) * 0.02 * math.sqrt(20 / 5 + 1 / 3)
    assert (found.low, found.high) == pytest.approx((0.92 - reach, 0.92 + reach))


@pytest.mark.parametrize("kept", [30, 60, 90])
def test_standard_error_of_a_mean(kept: int) -> None:
    """Of n values the mean has the error s / sqrt(n), whatever the size of the subsets."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=120)
    figures = np.array([values[rng.permutation(120)[:kept]].mean() for _ in range(4000)])
    found = subset_interval(figures, kept, 120 - kept)
    error = (found.high - found.estimate) / scipy.stats.t.ppf(0.975, 3999)
    assert error == pytest.approx(values.std(ddof=1) / math.sqrt(120), rel=0.04)


@pytest.mark.parametrize(("kept", "left_out", "subsets"), [(20, 40, 3), (15, 45, 4), (30, 30, 10)])
def test_few_subsets_cover_as_they_promise(kept: int, left_out: int, subsets: int) -> None:
    """The mean over few subsets is not the figure on all people: the interval must have room for both errors."""
    rng, times = np.random.default_rng(1), 4000
    values = rng.normal(size=(times, kept + left_out))
    drawn = [rng.permuted(values, axis=1)[:, :kept].mean(axis=1) for _ in range(subsets)]
    found = [subset_interval(figures, kept, left_out) for figures in np.stack(drawn, axis=1)]
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert covered == pytest.approx(0.95, abs=0.012)


def test_what_is_refused() -> None:
    two = np.array([0.5, 0.6])
    with pytest.raises(InvalidValue, match="two subsets or more"):
        subset_interval(two[:1], 5, 5)
    with pytest.raises(InvalidValue, match="two subsets or more"):
        subset_interval(np.array([0.5, np.nan]), 5, 5)
    for kept, left_out, confidence in ((0, 5, 0.9), (5, 0, 0.9), (5, 5, 1)):
        with pytest.raises(InvalidValue, match="need some of both"):
            subset_interval(two, kept, left_out, confidence)
