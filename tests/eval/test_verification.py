"""Every figure against scikit-learn or a loop over all thresholds; scores with many ties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import det_curve, roc_curve

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics.verification import (
    best_accuracy,
    det,
    eer,
    kfold_accuracy,
    roc,
    threshold_at,
    tmr_at_fmr,
)
from probface.score import calibration

tied = st.lists(st.integers(-4, 4), min_size=1, max_size=40).map(lambda v: np.array(v, np.float32) / 4)
labelled = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=40).map(
    lambda v: (np.array([s for s, _ in v], np.float32), np.array([g for _, g in v]))
)


def _normal(dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(2, 1, 3000).astype(dtype), rng.normal(0, 1, 20_000).astype(dtype)


def _sklearn(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, truth = np.concatenate([genuine, impostor]), np.repeat([1, 0], [len(genuine), len(impostor)])
    return roc_curve(truth, scores, drop_intermediate=False)


@given(tied, tied)
def test_roc_is_scikit_learns(genuine: np.ndarray, impostor: np.ndarray) -> None:
    curve = roc(genuine, impostor)
    fpr, tpr, _ = _sklearn(genuine, impostor)
    np.testing.assert_allclose(curve.fmr, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.tmr, tpr, atol=1e-12)


@given(tied, tied)
def test_roc_thresholds_keep_the_rule(genuine: np.ndarray, impostor: np.ndarray) -> None:
    curve = roc(genuine, impostor)
    for threshold, fmr, tmr in zip(curve.threshold, curve.fmr, curve.tmr, strict=True):
        assert fmr == np.mean(impostor > threshold)
        assert tmr == np.mean(genuine > threshold)
    assert (np.diff(curve.threshold) < 0).all()


@given(tied, tied)
def test_det_at_every_threshold(genuine: np.ndarray, impostor: np.ndarray) -> None:
    curve = det(genuine, impostor)
    assert (curve.threshold == roc(genuine, impostor).threshold).all()
    for threshold, fmr, fnmr in zip(curve.threshold, curve.fmr, curve.fnmr, strict=True):
        assert fmr == np.mean(impostor > threshold)
        assert fnmr == np.mean(genuine <= threshold)


def test_det_is_scikit_learns() -> None:
    genuine, impostor = _normal()
    curve = det(genuine, impostor)
    truth = np.repeat([1, 0], [len(genuine), len(impostor)])
    fpr, fnr, _ = det_curve(truth, np.concatenate([genuine, impostor]), drop_intermediate=False)
    theirs = set(zip(fpr.tolist(), fnr.tolist(), strict=True))
    assert theirs <= set(zip(curve.fmr.tolist(), curve.fnmr.tolist(), strict=True))
    # Theirs leaves out where one of the rates is 0 or 1 and only the other changes.
    assert len(theirs) >= ((curve.fmr > 0) & (curve.fmr < 1) & (curve.fnmr > 0) & (curve.fnmr < 1)).sum() > 1000


@given(tied, tied, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]))
def test_tmr_at_fmr_against_every_threshold(genuine: np.ndarray, impostor: np.ndarray, fmr: float) -> None:
    allowed = [s for s in impostor if np.mean(impostor > s) <= fmr]
    expected = max(np.mean(genuine > s) for s in allowed)
    assert tmr_at_fmr(genuine, impostor, fmr, allow_few=True) == expected


def test_tmr_at_fmr_against_scikit_learn() -> None:
    genuine, impostor = _normal()
    fpr, tpr, _ = _sklearn(genuine, impostor)
    for fmr in (1e-1, 1e-2, 1e-3):
        assert tmr_at_fmr(genuine, impostor, fmr) >= tpr[fpr <= fmr].max() - 1e-12
        # The rule's threshold is an impostor's score, the curve's may be a genuine one just below: no more than that.
        assert tmr_at_fmr(genuine, impostor, fmr) <= tpr[fpr <= fmr].max() + 1e-12


def test_too_few_impostors() -> None:
    genuine, impostor = np.ones(3), np.arange(500.0)
    with pytest.raises(InsufficientData, match=r"FMR 0\.001 needs at least 10,000 .* found 500; ask for 0\.02"):
        tmr_at_fmr(genuine, impostor, 1e-3)
    assert tmr_at_fmr(genuine, impostor, 1e-3, allow_few=True) == 0
    assert tmr_at_fmr(genuine + 600, impostor, 0.02) == 1


def test_the_rule_stands_once() -> None:
    assert threshold_at is calibration.threshold_at


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eer(dtype: type) -> None:
    genuine, impostor = _normal(dtype)
    fpr, tpr, _ = _sklearn(genuine, impostor)
    expected = brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1, xtol=1e-12)
    assert eer(genuine, impostor) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("genuine", "impostor", "expected"),
    [([2.0], [1.0], 0.0), ([1.0], [2.0], 1.0), ([1.0], [1.0], 0.5), ([0.0, 1.0], [0.0, 1.0], 0.5)],
)
def test_eer_at_the_extremes(genuine: list[float], impostor: list[float], expected: float) -> None:
    assert eer(np.array(genuine), np.array(impostor)) == expected


@given(labelled)
def test_best_accuracy_against_every_threshold(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    best = best_accuracy(scores, labels)
    everything = [float(scores.min()) - 1, *map(float, scores)]
    fewest = min(int(np.sum((scores > t) != labels)) for t in everything)
    assert best.errors == fewest == np.sum((scores > best.threshold) != labels)
    assert best.accuracy == 1 - fewest / len(scores)


def test_best_threshold_lies_between_neighbours() -> None:
    best = best_accuracy(np.array([0.0, 1.0, 3.0, 4.0]), np.array([False, False, True, True]))
    assert (best.threshold, best.errors) == (2.0, 0)


def test_of_equally_good_thresholds_the_middle_one() -> None:
    # Two errors with the threshold at 2.5, 4.5 or 6.5, three elsewhere.
    scores, labels = np.arange(2.0, 8.0), np.array([False, True] * 3)
    best = best_accuracy(scores, labels)
    assert (best.threshold, best.errors) == (4.5, 2)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30, -1.0])
@pytest.mark.parametrize("odd", [False, True])  # halfway rounds to the even one of the two
def test_best_threshold_between_adjacent_floats(scale: float, odd: bool) -> None:
    low = np.nextafter(np.float32(scale), np.float32(np.inf)) if odd else np.float32(scale)
    high = np.nextafter(low, np.float32(np.inf))
    scores, labels = np.array([low, high]), np.array([False, True])
    best = best_accuracy(scores, labels)
    assert best.errors == 0
    assert ((scores > best.threshold) == labels).all()


def test_kfold_by_hand() -> None:
    rng = np.random.default_rng(3)
    labels, folds = rng.random(600) < 0.5, rng.integers(1, 11, 600)
    scores = rng.normal(labels * 1.5, 1).astype(np.float32)
    found = kfold_accuracy(scores, labels, folds)
    accuracies = []
    for fold in range(1, 11):
        others, own = folds != fold, folds == fold
        candidates = np.sort(scores[others])
        errors = [int(np.sum((scores[others] > t) != labels[others])) for t in candidates]
        threshold = found.thresholds[fold - 1]
        assert np.sum((scores[others] > threshold) != labels[others]) == min(errors)
        accuracies.append(np.mean((scores[own] > threshold) == labels[own]))
    assert found.per_fold == pytest.approx(accuracies)
    assert found.mean == pytest.approx(np.mean(accuracies))
    assert found.standard_error == pytest.approx(np.std(accuracies, ddof=1) / np.sqrt(10))


def test_bad_values() -> None:
    scores, labels = np.arange(4.0), np.array([True, False, True, False])
    with pytest.raises(InvalidValue, match="labels of shape"):
        best_accuracy(scores, labels[:3])
    with pytest.raises(InvalidValue, match="must be bool"):
        best_accuracy(scores, labels.astype(np.int64))
    with pytest.raises(InvalidValue, match="score 1 is nan"):
        best_accuracy(np.array([0, np.nan, 1, 2]), labels)
    with pytest.raises(InvalidValue, match="genuine scores of shape"):
        roc(scores[:0], scores)
    with pytest.raises(InvalidValue, match="impostor scores of shape"):
        eer(scores, scores[:0])
    with pytest.raises(InvalidValue, match="1 different"):
        kfold_accuracy(scores, labels, np.ones(4, np.int64))
