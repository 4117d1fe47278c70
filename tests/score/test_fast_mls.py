"""Eq. 5 against a loop in plain Python, and what the paper says of it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probface.errors import InvalidValue
from probface.score.fast_mls import distance_term, fast_mls, fast_mls_matrix, fast_mls_of_cosine

Faces = Callable[..., tuple[np.ndarray, np.ndarray]]
Convert = Callable[[np.ndarray], Any]

cosines = st.floats(-1, 1)
variances = st.floats(1e-6, 1e3)


def _by_hand(mu_i: np.ndarray, sigma_sq_i: float, mu_j: np.ndarray, sigma_sq_j: float) -> float:
    t = float(sigma_sq_i) + float(sigma_sq_j)
    squared_distance = math.fsum((float(x) - float(y)) ** 2 for x, y in zip(mu_i, mu_j, strict=True))
    return -squared_distance / t - math.log(t)


def test_paired_and_matrix_by_hand(faces: Faces, array: Convert) -> None:
    (mu_i, s_i), (mu_j, s_j) = faces(5, 8, 1, 0), faces(7, 8, 1, 1)
    expected = [[_by_hand(mu_i[i], s_i[i, 0], mu_j[j], s_j[j, 0]) for j in range(7)] for i in range(5)]
    i, j = (array(mu_i), array(s_i)), (array(mu_j), array(s_j))
    np.testing.assert_allclose(fast_mls_matrix(*i, *j), expected, atol=1e-10)
    np.testing.assert_allclose(fast_mls(*i, array(mu_j[:5]), array(s_j[:5])), np.diag(expected), atol=1e-10)
    broadcast = fast_mls(array(mu_i[:, None]), array(s_i[:, None]), array(mu_j[None]), array(s_j[None]))
    np.testing.assert_allclose(broadcast, expected, atol=1e-10)


def test_numpy_and_torch_agree_in_single_precision(faces: Faces) -> None:
    (mu_i, s_i), (mu_j, s_j) = faces(30, 128, 1, 0, np.float32), faces(40, 128, 1, 1, np.float32)
    ours = fast_mls_matrix(mu_i, s_i, mu_j, s_j)
    tensors = [torch.from_numpy(a) for a in (mu_i, s_i, mu_j, s_j)]
    theirs = fast_mls_matrix(*tensors)
    assert (ours.dtype, theirs.dtype) == (np.float32, torch.float32)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)
    exact = [[_by_hand(mu_i[i], s_i[i, 0], mu_j[j], s_j[j, 0]) for j in range(40)] for i in range(30)]
    np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-4)


@given(cosines, variances, variances, st.integers(0, 5))
def test_symmetry(cos: float, s_i: float, s_j: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(2, 4))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    a, b = (mu[:1], np.array([[s_i]])), (mu[1:], np.array([[s_j]]))
    np.testing.assert_array_equal(fast_mls(*a, *b), fast_mls(*b, *a))


@given(cosines, variances)
def test_uncertainty_lowers_the_score_only_of_near_pairs(cos: float, t: float) -> None:
    # dS/dt = (d - t) / t^2: the score falls with t where the distance is below t, and rises where it is above.
    distance = 2 - 2 * cos
    if abs(distance - t) < 1e-3 * t:
        return
    step = 1e-5 * t
    slope = float(
        fast_mls_of_cosine(np.float64(cos), np.float64(t + step))
        - fast_mls_of_cosine(np.float64(cos), np.float64(t - step))
    ) / (2 * step)
    assert math.copysign(1, slope) == math.copysign(1, distance - t)
    assert slope == pytest.approx((distance - t) / t**2, rel=1e-3, abs=1e-9 / t)


@given(cosines, cosines, variances)
def test_rises_with_the_cosine_up_to_minus_log_t(low: float, high: float, t: float) -> None:
    low, high = sorted((low, high))
    scores = fast_mls_of_cosine(np.array([low, high, 1.0]), np.array([t, t, t]))
    assert (np.diff(scores) >= 0).all()
    assert scores[2] == pytest.approx(-math.log(t))


@given(st.lists(cosines, min_size=2, max_size=10), variances)
def test_with_equal_variances_it_ranks_as_cosine_does(values: list[float], t: float) -> None:
    cos = np.sort(np.array(values))
    assert (np.diff(fast_mls_of_cosine(cos, np.full(len(cos), t))) >= 0).all()


def test_the_example_of_the_formulas() -> None:
    scores = fast_mls_of_cosine(np.zeros(2), np.array([0.4, 2.0]))
    np.testing.assert_allclose(scores, [-4.08, -1.69], atol=5e-3)
    np.testing.assert_allclose(distance_term(np.zeros(2), np.array([0.4, 2.0])), [5, 1])


def test_d_variances_are_refused(faces: Faces, array: Convert) -> None:
    mu, one = map(array, faces(3, 8, 1, 0))
    wide = array(faces(3, 8, 8, 0)[1])
    for score in (fast_mls, fast_mls_matrix):
        for pair in ((wide, one), (one, wide), (wide, wide)):
            with pytest.raises(InvalidValue, match=r"sigma_sq of shape \(3, 8\): .* score D variances with mls"):
                score(mu, pair[0], mu, pair[1])
