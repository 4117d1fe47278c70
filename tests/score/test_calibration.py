import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest

from probface.errors import InsufficientData, InvalidValue
from probface.score.calibration import rate_upper_bound, require_impostors, threshold_at, threshold_at_fmr

# Few different values, so that most lists have ties.
tied = st.lists(st.integers(-4, 4), min_size=1, max_size=60).map(lambda v: np.array(v, np.float32) / 4)


@given(tied, st.integers(0, 100))
def test_threshold_is_the_smallest_score_that_keeps_the_rate(scores: np.ndarray, percent: int) -> None:
    fmr = min(percent, 99) / 100
    allowed = [s for s in scores if 100 * np.sum(scores > s) <= min(percent, 99) * len(scores)]
    assert threshold_at(scores, fmr) == min(allowed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threshold_on_many_scores(dtype: type) -> None:
    scores = np.random.default_rng(0).normal(size=100_000).astype(dtype)
    for fmr in (1e-1, 1e-2, 1e-3, 1e-4, 3e-4):
        threshold = threshold_at(scores, fmr)
        assert np.sum(scores > threshold) == round(fmr * len(scores))
        assert np.sum(scores >= threshold) == round(fmr * len(scores)) + 1


def test_rates_that_are_no_binary_fractions() -> None:
    # 0.07 * 100 is 7.000000000000001 and 0.29 * 100 is 28.999999999999996 in floating point.
    scores = np.arange(100.0)
    for percent in range(100):
        assert np.sum(scores > threshold_at(scores, percent / 100)) == percent


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_bound_is_exact(events: int, more: int, confidence: float) -> None:
    trials = events + more
    if trials == 0:
        return
    bound = rate_upper_bound(events, trials, confidence)
    interval = binomtest(events, trials, alternative="less").proportion_ci(confidence, method="exact")
    assert bound == pytest.approx(interval.high, rel=1e-9)
    if more:
        assert bound == pytest.approx(beta.ppf(confidence, events + 1, more), rel=1e-9)
        assert binom.cdf(events, trials, bound) == pytest.approx(1 - confidence, rel=1e-6)
    else:
        assert bound == 1


def test_threshold_at_fmr_says_what_it_was_measured_on() -> None:
    scores = np.random.default_rng(1).normal(size=20_000).astype(np.float32)
    measured = threshold_at_fmr(scores, 1e-3, metric="fastmls", data="held-out")
    assert (measured.metric, measured.fmr, measured.data) == ("fastmls", 1e-3, "held-out")
    assert (measured.impostor_pairs, measured.false_matches) == (20_000, 20)
    assert measured.threshold == np.sort(scores)[-21]
    assert measured.fmr_upper == pytest.approx(beta.ppf(0.95, 21, 19_980))
    assert measured.fmr_upper > measured.fmr
    wider = threshold_at_fmr(scores, 1e-3, metric="fastmls", data="held-out", confidence=0.99)
    assert wider.fmr_upper > measured.fmr_upper


def test_ties_at_the_threshold_count_as_no_match() -> None:
    scores = np.repeat(np.array([0.0, 1.0]), [900, 100])
    measured = threshold_at_fmr(scores, 0.05, metric="cosine", data="x")
    assert (measured.threshold, measured.false_matches) == (1.0, 0)


@pytest.mark.parametrize(
    ("count", "fmr", "message"),
    [
        (
            5000,
            1e-5,
            "FMR 1e-05 needs at least 1,000,000 impostor comparisons, found 5,000; ask for 0.002 or above, "
            "or bring more people",
        ),
        (
            3000,
            1e-3,
            "FMR 0.001 needs at least 10,000 impostor comparisons, found 3,000; ask for 0.0034 or above, "
            "or bring more people",
        ),
        (9, 0.5, "FMR 0.5 needs at least 20 impostor comparisons, found 9; bring more people"),
        (0, 0.3, "FMR 0.3 needs at least 34 impostor comparisons, found 0; bring more people"),
    ],
)
def test_too_few_impostors(count: int, fmr: float, message: str) -> None:
    with pytest.raises(InsufficientData) as caught:
        threshold_at_fmr(np.zeros(count), fmr, metric="cosine", data="x")
    assert str(caught.value) == message


@given(st.integers(1, 10**9), st.floats(1e-9, 0.9))
def test_what_is_asked_for_instead_is_enough(count: int, fmr: float) -> None:
    try:
        require_impostors(count, fmr)
    except InsufficientData as error:
        words = str(error).split()
        require_impostors(int(words[words.index("least") + 1].replace(",", "")), fmr)
        if "ask" in words:
            rate = float(words[words.index("ask") + 2])
            require_impostors(count, rate)
            assert rate <= 1.2 * 10 / count
    else:
        assert count * fmr >= 10 * (1 - 1e-6)


def test_exactly_enough() -> None:
    for exponent in range(1, 8):
        require_impostors(10 ** (exponent + 1), 10.0**-exponent)
        with pytest.raises(InsufficientData):
            require_impostors(10 ** (exponent + 1) - 1, 10.0**-exponent)


def test_bad_values() -> None:
    good = np.zeros(100)
    with pytest.raises(InvalidValue, match="impostor score 3 is nan: must be finite"):
        threshold_at(np.array([0.0, 1.0, 2.0, np.nan, np.inf]), 0.5)
    with pytest.raises(InvalidValue, match=r"impostor scores of shape \(0,\)"):
        threshold_at(np.zeros(0), 0.5)
    with pytest.raises(InvalidValue, match="int64"):
        threshold_at(np.zeros(3, np.int64), 0.5)  # type: ignore[arg-type]
    for fmr in (-0.1, 1.0, math.nan):
        with pytest.raises(InvalidValue, match="must be at least 0 and below 1"):
            threshold_at(good, fmr)
    for fmr in (0.0, 1.0, math.nan):
        with pytest.raises(InvalidValue, match="must be between 0 and 1"):
            threshold_at_fmr(good, fmr, metric="cosine", data="x")
    with pytest.raises(InvalidValue, match=r"confidence 1\.0"):
        rate_upper_bound(1, 2, 1.0)
    for events, trials in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(InvalidValue, match=f"{events} events in {trials} trials"):
            rate_upper_bound(events, trials)
