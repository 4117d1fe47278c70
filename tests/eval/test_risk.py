import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc

from probface.errors import InvalidValue
from probface.eval.metrics.risk import error_versus_discard, partial_auc, risk_controlled_accuracy
from probface.eval.metrics.verification import best_accuracy

pairs = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 3)), min_size=1, max_size=7).map(
    lambda v: (np.array([s for s, _ in v]), np.array([q for _, q in v]))
)


@given(pairs)
def test_expected_value_over_every_order_of_ties(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, quality = case
    count = len(scores)
    # All orders in which the worst go first: ties in every arrangement, each as likely.
    orders = [order for order in itertools.permutations(range(count)) if (np.diff(quality[list(order)]) >= 0).all()]
    expected = [np.mean([np.mean(scores[list(order[k:])] <= 0.5) for order in orders]) for k in range(count)]
    found = error_versus_discard(scores, quality, 0.5, np.arange(count) / count)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_without_ties_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    scores, quality = rng.normal(1, 1, 1000), rng.permutation(1000)
    fractions = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.999])
    order = np.argsort(quality)
    expected = [np.mean(scores[order[round(f * 1000) :]] <= 0.3) for f in fractions]
    np.testing.assert_allclose(error_versus_discard(scores, quality, 0.3, fractions), expected, atol=1e-12)


def test_constant_quality_changes_nothing_and_an_oracle_leaves_no_error() -> None:
    scores = np.repeat([0.0, 1.0], [100, 900])
    fractions = np.linspace(0, 0.3, 31)
    flat = error_versus_discard(scores, np.zeros(1000), 0.5, fractions)
    np.testing.assert_allclose(flat, 0.1, atol=1e-12)
    assert partial_auc(fractions, flat) == pytest.approx(0.03)
    oracle = error_versus_discard(scores, scores, 0.5, fractions)
    np.testing.assert_allclose(oracle, np.maximum(0.1 - fractions, 0) / (1 - fractions), atol=1e-12)
    assert partial_auc(fractions, oracle) < partial_auc(fractions, flat)


def test_a_score_at_the_threshold_is_an_error() -> None:
    assert error_versus_discard(np.array([0.5]), np.array([1]), 0.5, np.array([0.0])) == [1.0]


@given(st.lists(st.floats(0, 1), min_size=4, max_size=20), st.floats(0.05, 1))
def test_partial_auc(values: list[float], upto: float) -> None:
    fractions, fnmr = np.linspace(0, 1, len(values)), np.array(values)
    inside = fractions < upto
    x, y = np.append(fractions[inside], upto), np.append(fnmr[inside], np.interp(upto, fractions, fnmr))
    assert partial_auc(fractions, fnmr, upto) == pytest.approx(auc(x, y), abs=1e-12)


def test_risk_controlled_accuracy() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(500) < 0.5
    risk = rng.random(500)
    scores = rng.normal(labels * 3.0, 0.3 + 3 * risk)
    fractions = np.array([0, 0.1, 0.25, 0.5])
    found = risk_controlled_accuracy(scores, labels, risk, fractions)
    for fraction, accuracy in zip(fractions, found, strict=True):
        kept = risk <= np.sort(risk)[round(500 * (1 - fraction)) - 1]
        assert kept.sum() == round(500 * (1 - fraction))
        candidates = [-np.inf, *scores[kept]]
        assert accuracy == pytest.approx(max(np.mean((scores[kept] > t) == labels[kept]) for t in candidates))
    assert found[0] == best_accuracy(scores, labels).accuracy
    assert found[-1] > found[0]


def test_bad_values() -> None:
    one = np.ones(3)
    with pytest.raises(InvalidValue, match="need"):
        error_versus_discard(one, one[:2], 0.5, np.zeros(1))
    with pytest.raises(InvalidValue, match="G above 0"):
        error_versus_discard(one[:0], one[:0], 0.5, np.zeros(1))
    with pytest.raises(InvalidValue, match="quality: must be finite"):
        error_versus_discard(one, one * np.nan, 0.5, np.zeros(1))
    with pytest.raises(InvalidValue, match="risk of shape"):
        risk_controlled_accuracy(one, one > 0, one * np.nan, np.zeros(1))
    for fractions in (np.array([1.0]), np.array([-0.1]), np.array([np.nan])):
        with pytest.raises(InvalidValue, match="at least 0 and below 1"):
            error_versus_discard(one, one, 0.5, fractions)
        with pytest.raises(InvalidValue, match="at least 0 and below 1"):
            risk_controlled_accuracy(one, one > 0, one, fractions)
    for fractions in (np.array([0, 0.2]), np.array([0.1, 0.4]), np.array([0.0, 0.0, 0.4]), np.array([0.0])):
        with pytest.raises(InvalidValue, match=r"must rise from 0 to 0\.3"):
            partial_auc(fractions, np.ones(len(fractions)))
    with pytest.raises(InvalidValue, match="must rise"):
        partial_auc(np.array([0, 0.5]), one)
