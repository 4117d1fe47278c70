"""Calibration against scikit-learn; Cllr and bins against plain sums; certain steps worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics import logistic
from probface.eval.metrics.likelihood_ratio import (
    Calibration,
    calibration_loss,
    cllr,
    fit_calibration,
    fit_steps,
    min_cllr,
    reliability,
)

tied = st.lists(st.integers(-4, 4), min_size=1, max_size=40).map(lambda v: np.array(v, np.float32) / 4)
priors = st.sampled_from([0.5, 0.1, 0.001, 0.9])


def _normal(genuine: int, impostor: int, apart: float = 2.0, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(apart, 1, genuine).astype(dtype), rng.normal(0, 1, impostor).astype(dtype)


def _together(genuine: np.ndarray, impostor: np.ndarray, prior: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, truth and weights (1 in all) of both kinds."""
    counts = [len(genuine), len(impostor)]
    weight = np.repeat([prior / counts[0], (1 - prior) / counts[1]], counts)
    return np.concatenate([genuine, impostor]).astype(np.float64), np.repeat([1, 0], counts), weight


@pytest.mark.parametrize("prior", [0.5, 0.01, 0.99])
@pytest.mark.parametrize(("genuine", "impostor", "apart"), [(300, 3000, 2.0), (2000, 300, 0.5), (3000, 100_000, 5.0)])
def test_calibration_is_scikit_learns(genuine: int, impostor: int, apart: float, prior: float) -> None:
    own, other = _normal(genuine, impostor, apart)
    scores, truth, weight = _together(own, other, prior)
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-14, max_iter=500)
    model.fit(scores[:, None], truth, sample_weight=weight * len(scores))
    found = fit_calibration(own, other, prior)
    assert found.slope == pytest.approx(model.coef_[0, 0], rel=1e-10)
    assert found.intercept == pytest.approx(model.intercept_[0] - logit(prior), rel=1e-10)


@given(st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=30), st.integers(1, 20), priors)
@settings(deadline=None)
def test_calibration_is_where_the_gradient_is_0(values: list[float], split: int, prior: float) -> None:
    scores = np.array(values, np.float32)
    split = min(split, len(scores) - 1)
    genuine, impostor = scores[:split], scores[split:]
    # Two that overlap at the ends keep the fit moderate, and with it the rounding of this check.
    genuine, impostor = np.append(genuine, np.float32([-6, 6])), np.append(impostor, np.float32([-7, 5]))
    try:
        found = fit_calibration(genuine, impostor, prior)
    except InvalidValue as error:  # genuine scores happen to be the lower ones
        assume("change the sign" not in str(error))
        raise
    scores64, truth, weight = _together(genuine, impostor, prior)
    residual = weight * (truth - expit(found.slope * scores64 + found.intercept + logit(prior)))
    assert abs(residual.sum()) < 1e-12
    assert abs(residual @ scores64) < 1e-11


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0.0), (1e4, 0.0), (1.0, 1000.0), (-1.0, 0.0)])
def test_calibration_does_not_depend_on_the_scale_of_scores(scale: float, offset: float) -> None:
    genuine, impostor = _normal(500, 5000)
    if scale < 0:
        with pytest.raises(InvalidValue, match="the slope must be above 0"):
            fit_calibration(-genuine, -impostor)
        return
    plain = fit_calibration(genuine, impostor)
    moved = fit_calibration(scale * genuine + offset, scale * impostor + offset)
    np.testing.assert_allclose(moved.llr(scale * genuine + offset), plain.llr(genuine), atol=1e-9)


def test_one_pass_or_several(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, impostor = _normal(50, 1000, dtype=np.float32)
    whole = fit_calibration(genuine, impostor)
    monkeypatch.setattr(logistic, "_CHUNK", 7)
    parts = fit_calibration(genuine, impostor)
    assert (parts.slope, parts.intercept) == pytest.approx((whole.slope, whole.intercept), rel=1e-12)


def test_hardly_overlapping_scores_settle() -> None:
    # A Newton step from far away overshoots here: the slope is several hundred times the first step's.
    genuine = np.concatenate([np.linspace(1, 50, 200), [-1e-3]])
    impostor = np.concatenate([np.linspace(-50, -1, 200), [1e-3]])
    found = fit_calibration(genuine, impostor)

    def loss(at: np.ndarray) -> float:
        return float(
            np.logaddexp(0, -at[0] * genuine - at[1]).mean() + np.logaddexp(0, at[0] * impostor + at[1]).mean()
        )

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-16, "maxiter": 10_000})
    assert loss(np.array([found.slope, found.intercept])) <= best.fun + 1e-14
    assert found.slope == pytest.approx(best.x[0], rel=1e-5)
    assert found.intercept == pytest.approx(0, abs=1e-9)


def test_what_cannot_be_calibrated() -> None:
    low, high = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    with pytest.raises(InsufficientData, match="lowest genuine score 1, highest impostor score 1"):
        fit_calibration(high, low)
    with pytest.raises(InvalidValue, match="change the sign"):
        fit_calibration(low, high)
    with pytest.raises(InvalidValue, match="change the sign"):
        fit_calibration(low[:1], low[:1])  # one and the same score for all
    with pytest.raises(InvalidValue, match="prior 1: must be between 0 and 1"):
        fit_calibration(high, low, 1)
    with pytest.raises(InvalidValue, match="impostor score 0 is inf"):
        fit_calibration(high, low + np.inf)
    for slope, intercept in ((0.0, 1.0), (-1.0, 0.0), (np.nan, 0.0), (np.inf, 0.0), (1.0, np.inf)):
        with pytest.raises(InvalidValue, match="the slope must be above 0, both finite"):
            Calibration(slope, intercept)
    assert Calibration(2.0, -1.0).llr(np.array([[0.0, 1.0]], np.float32)).tolist() == [[-1, 1]]


@given(tied, tied)
def test_steps_are_scikit_learns(genuine: np.ndarray, impostor: np.ndarray) -> None:
    steps = fit_steps(genuine, impostor)
    # At the data's own prior the posterior of the steps is the isotonic regression of the truth.
    scores, truth, _ = _together(genuine, impostor, 0.5)
    expected = IsotonicRegression().fit(scores, truth).predict(scores)
    ratio = steps.llr(np.concatenate([genuine, impostor]))
    np.testing.assert_allclose(expit(ratio + math.log(len(genuine) / len(impostor))), expected, atol=1e-12)
    assert (steps.genuine.sum(), steps.impostor.sum()) == (len(genuine), len(impostor))
    assert (np.diff(steps.start) > 0).all()
    assert (steps.value[1:] >= steps.value[:-1]).all()


def test_steps_by_hand() -> None:
    # Rising: impostor, {genuine, impostor}, impostor, genuine, genuine. The middle three pool: 1 of 2 against 2 of 3.
    genuine, impostor = np.array([2.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0])
    steps = fit_steps(genuine, impostor)
    assert steps.start.tolist() == [1, 2, 4]
    assert (steps.genuine.tolist(), steps.impostor.tolist()) == ([0, 1, 2], [1, 2, 0])
    assert steps.value.tolist() == [-np.inf, math.log(1 / 2), np.inf]
    half = math.log(0.5)
    assert steps.llr(np.array([0.0, 1.9, 3.9, 4.0, 9.0])).tolist() == pytest.approx(
        [-np.inf, -np.inf, half, np.inf, np.inf]
    )
    # log2(1 + 1 / LR) = log2 3 for one genuine of three; log2(1 + LR) = log2 1.5 for two impostors of three.
    assert min_cllr(genuine, impostor) == pytest.approx((math.log2(3) / 3 + 2 / 3 * math.log2(1.5)) / 2, abs=1e-15)
    # The ratios of the steps themselves, infinite ones among them, are perfectly calibrated.
    own, other = steps.llr(genuine), steps.llr(impostor)
    assert cllr(own, other) == pytest.approx(min_cllr(genuine, impostor), abs=1e-15)
    assert calibration_loss(own, other) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("genuine", "impostor", "expected"),
    [
        ([0.0, 0.0], [0.0], 1.0),
        ([np.inf], [-np.inf], 0.0),
        ([-np.inf, 5.0], [0.0], np.inf),
        ([5.0], [0.0, np.inf], np.inf),
        ([math.log(3)], [-math.log(3)], math.log2(4 / 3)),
        ([1000.0], [1000.0], 500 / math.log(2)),
    ],
)
def test_cllr_by_hand(genuine: list[float], impostor: list[float], expected: float) -> None:
    for dtype in (np.float64, np.float32):
        found = cllr(np.array(genuine, dtype), np.array(impostor, dtype))
        assert found == pytest.approx(expected, rel=1e-12 if dtype is np.float64 else 1e-6)


@given(tied, tied)
def test_min_cllr_is_the_least(genuine: np.ndarray, impostor: np.ndarray) -> None:
    least = min_cllr(genuine, impostor)
    steps = fit_steps(genuine, impostor)
    assert least == pytest.approx(cllr(steps.llr(genuine), steps.llr(impostor)), abs=1e-12)
    assert 0 <= least <= 1 + 1e-12
    assert 0 <= calibration_loss(steps.llr(genuine), steps.llr(impostor)) < 1e-12
    for slope, intercept in ((1, 0), (0.1, 0.0), (3.0, -1.0)):
        own, other = slope * genuine.astype(np.float64) + intercept, slope * impostor.astype(np.float64) + intercept
        assert cllr(own, other) >= least - 1e-12
        assert calibration_loss(own, other) == pytest.approx(cllr(own, other) - least, abs=1e-12)
    # Only the order counts, and each kind as a whole: copies change nothing.
    assert min_cllr(np.exp(genuine), np.exp(impostor)) == pytest.approx(least, abs=1e-12)
    assert min_cllr(genuine, np.tile(impostor, 3)) == pytest.approx(least, abs=1e-12)
    assert min_cllr(genuine, genuine) == pytest.approx(1, abs=1e-12)


def test_calibration_repairs_what_is_wrong() -> None:
    # Two unit normals, 2 apart, have the ratio 2 s - 2.
    genuine, impostor = _normal(20_000, 200_000)
    found = fit_calibration(genuine, impostor)
    assert (found.slope, found.intercept) == pytest.approx((2, -2), abs=0.05)
    assert calibration_loss(found.llr(genuine), found.llr(impostor)) < 2e-3
    assert calibration_loss(3 * found.llr(genuine), 3 * found.llr(impostor)) > 0.1
    assert calibration_loss(found.llr(genuine) + 2, found.llr(impostor) + 2) > 0.1


@given(tied, tied, priors, st.integers(1, 8))
def test_reliability_against_sums(genuine: np.ndarray, impostor: np.ndarray, prior: float, bins: int) -> None:
    found = reliability(genuine, impostor, prior, bins)
    scores, truth, weight = _together(genuine, impostor, prior)
    posterior = expit(scores + logit(prior))
    # By hand: the bin of a ratio is where the middle of the weight at it falls.
    members: dict[int, list[np.ndarray]] = {}
    for level in np.unique(scores):
        middle = weight[scores < level].sum() + weight[scores == level].sum() / 2
        assume(abs(bins * middle - round(bins * middle)) > 1e-9)
        members.setdefault(int(bins * middle), []).append(np.flatnonzero(scores == level))
    rows = [np.concatenate(levels) for levels in members.values()]
    assert found.genuine.tolist() == [int(truth[r].sum()) for r in rows]
    assert found.impostor.tolist() == [int((1 - truth[r]).sum()) for r in rows]
    np.testing.assert_allclose(found.weight, [weight[r].sum() for r in rows], atol=1e-12)
    np.testing.assert_allclose(found.predicted, [np.average(posterior[r], weights=weight[r]) for r in rows], atol=1e-12)
    np.testing.assert_allclose(found.observed, [np.average(truth[r], weights=weight[r]) for r in rows], atol=1e-12)
    error = sum(weight[r].sum() * abs(np.average(posterior[r] - truth[r], weights=weight[r])) for r in rows)
    assert found.expected_calibration_error == pytest.approx(error, abs=1e-12)


def test_reliability_of_what_is_right_and_what_is_not() -> None:
    genuine, impostor = _normal(20_000, 200_000)
    own, other = 2 * genuine - 2, 2 * impostor - 2
    for prior in (0.5, 0.01):
        assert reliability(own, other, prior).expected_calibration_error < 0.01
    assert reliability(own + 2, other + 2).expected_calibration_error > 0.1
    equal = reliability(genuine, impostor[:20_000], bins=10)
    assert (equal.genuine + equal.impostor).tolist() == [4000] * 10


def test_reliability_of_certain_ratios() -> None:
    own, other = np.array([np.inf, 0.0]), np.array([-np.inf, 0.0])
    found = reliability(own, other, bins=3)
    assert found.predicted.tolist() == found.observed.tolist() == [0, 0.5, 1]
    assert found.expected_calibration_error == 0


def test_bad_values() -> None:
    one = np.ones(1)
    for kinds in ((one * np.nan, one), (one, one * np.nan)):
        for measure in (cllr, min_cllr, fit_steps, reliability, calibration_loss):
            with pytest.raises(InvalidValue, match="score 0 is nan"):
                measure(*kinds)
    for wrong in (one[:0], one[None], one.astype(np.int64)):
        with pytest.raises(InvalidValue, match="genuine scores of shape"):
            cllr(wrong, one)
    with pytest.raises(InvalidValue, match="0 bins"):
        reliability(one, one, bins=0)
    with pytest.raises(InvalidValue, match="prior 0"):
        reliability(one, one, 0)
