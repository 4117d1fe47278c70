"""MLS against loops, scipy's normal distribution, and the integral that it stands for."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm, rankdata

from probface.errors import InvalidValue
from probface.score import mls as module
from probface.score.fast_mls import fast_mls_matrix
from probface.score.mls import mls, mls_matrix

Faces = Callable[..., tuple[np.ndarray, np.ndarray]]
Convert = Callable[[np.ndarray], Any]
DIM = 6


def _by_hand(mu_i: np.ndarray, s_i: np.ndarray, mu_j: np.ndarray, s_j: np.ndarray) -> float:
    total, dim = 0.0, len(mu_i)
    for axis in range(dim):
        # One variance is that of the whole vector: each dimension has a D-th of it. The paper drops S_1's log D.
        share = s_i[axis] + s_j[axis] if len(s_i) == dim else (s_i[0] + s_j[0]) / dim
        log = math.log(share) if len(s_i) == dim else math.log(share * dim)
        total -= 0.5 * ((mu_i[axis] - mu_j[axis]) ** 2 / share + log)
    return total


@pytest.mark.parametrize("width", [1, DIM])
def test_paired_and_matrix_by_hand(faces: Faces, array: Convert, width: int) -> None:
    (mu_i, s_i), (mu_j, s_j) = faces(5, DIM, width, 0), faces(7, DIM, width, 1)
    expected = [[_by_hand(mu_i[i], s_i[i], mu_j[j], s_j[j]) for j in range(7)] for i in range(5)]
    i, j = (array(mu_i), array(s_i)), (array(mu_j), array(s_j))
    np.testing.assert_allclose(mls_matrix(*i, *j), expected, rtol=1e-10)
    np.testing.assert_allclose(mls(*i, array(mu_j[:5]), array(s_j[:5])), np.diag(expected), rtol=1e-10)


@pytest.mark.parametrize("width", [1, DIM])
def test_normalised_is_a_log_likelihood(faces: Faces, array: Convert, width: int) -> None:
    (mu_i, s_i), (mu_j, s_j) = faces(5, DIM, width, 0), faces(5, DIM, width, 1)
    share = DIM if width == 1 else 1
    deviation = np.sqrt((s_i + s_j) / share)
    expected = norm.logpdf(mu_i - mu_j, scale=deviation).sum(axis=1)
    arrays = [array(a) for a in (mu_i, s_i, mu_j, s_j)]
    np.testing.assert_allclose(mls(*arrays, normalised=True), expected, rtol=1e-10)
    np.testing.assert_allclose(np.diag(mls_matrix(*arrays, normalised=True)), expected, rtol=1e-10)


def test_the_integral_that_it_stands_for() -> None:
    # The likelihood that both images show one point: p(z | x_i) p(z | x_j) over all z, in each dimension.
    mu_i, s_i, mu_j, s_j = np.array([0.6, 0.8]), np.array([0.3, 0.05]), np.array([1.0, 0.0]), np.array([0.2, 0.4])
    expected = sum(
        math.log(
            quad(
                lambda z, k=k: norm.pdf(z, mu_i[k], math.sqrt(s_i[k])) * norm.pdf(z, mu_j[k], math.sqrt(s_j[k])),
                -10,
                10,
            )[0]
        )
        for k in range(2)
    )
    assert mls(mu_i, s_i, mu_j, s_j, normalised=True) == pytest.approx(expected, rel=1e-8)


def test_one_variance_is_fast_mls_times_half_d(faces: Faces) -> None:
    (mu_i, s_i), (mu_j, s_j) = faces(20, DIM, 1, 0), faces(30, DIM, 1, 1)
    ours, fast = mls_matrix(mu_i, s_i, mu_j, s_j), fast_mls_matrix(mu_i, s_i, mu_j, s_j)
    np.testing.assert_allclose(ours, fast * DIM / 2, rtol=1e-12)
    np.testing.assert_array_equal(rankdata(ours), rankdata(fast))


def test_equal_d_variances_are_one_variance(faces: Faces) -> None:
    (mu_i, s_i), (mu_j, s_j) = faces(5, DIM, 1, 0), faces(5, DIM, 1, 1)
    wide = mls(mu_i, np.repeat(s_i / DIM, DIM, 1), mu_j, np.repeat(s_j / DIM, DIM, 1), normalised=True)
    np.testing.assert_allclose(wide, mls(mu_i, s_i, mu_j, s_j, normalised=True), rtol=1e-10)


@pytest.mark.parametrize("elements", [1, 7 * DIM, 15 * DIM, 1 << 22])
def test_blocks_make_no_difference(
    faces: Faces, array: Convert, monkeypatch: pytest.MonkeyPatch, elements: int
) -> None:
    (mu_i, s_i), (mu_j, s_j) = faces(5, DIM, DIM, 0), faces(7, DIM, DIM, 1)
    whole = mls(mu_i[:, None], s_i[:, None], mu_j[None], s_j[None])
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", elements)
    np.testing.assert_allclose(mls_matrix(*map(array, (mu_i, s_i, mu_j, s_j))), whole, rtol=1e-12)


@pytest.mark.parametrize("width", [1, DIM])
def test_numpy_and_torch_agree_in_single_precision(faces: Faces, width: int) -> None:
    arrays = [*faces(20, DIM, width, 0, np.float32), *faces(30, DIM, width, 1, np.float32)]
    ours, theirs = mls_matrix(*arrays), mls_matrix(*map(torch.from_numpy, arrays))
    assert (ours.dtype, theirs.dtype) == (np.float32, torch.float32)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours, mls_matrix(*(a.astype(np.float64) for a in arrays)), rtol=1e-4, atol=1e-4)


@given(st.integers(0, 50), st.sampled_from([1, DIM]), st.booleans())
def test_symmetry(seed: int, width: int, normalised: bool) -> None:
    rng = np.random.default_rng(seed)
    a, b = [(rng.normal(size=(1, DIM)), np.exp(rng.normal(size=(1, width)))) for _ in range(2)]
    one, other = mls(*a, *b, normalised=normalised), mls(*b, *a, normalised=normalised)
    np.testing.assert_allclose(one, other, rtol=1e-12)


@given(st.integers(0, 50), st.integers(0, DIM - 1))
def test_more_variance_helps_only_where_the_means_are_apart(seed: int, axis: int) -> None:
    # dS/dt_l = ((mu_il - mu_jl)^2 - t_l) / (2 t_l^2)
    rng = np.random.default_rng(seed)
    mu_i, mu_j = rng.normal(size=(2, 1, DIM))
    s_i, s_j = np.exp(rng.normal(size=(2, 1, DIM)))
    step = np.zeros((1, DIM))
    step[0, axis] = 1e-6
    slope = (mls(mu_i, s_i + step, mu_j, s_j) - mls(mu_i, s_i - step, mu_j, s_j))[0] / 2e-6
    t = (s_i + s_j)[0, axis]
    assert slope == pytest.approx(((mu_i - mu_j)[0, axis] ** 2 - t) / (2 * t**2), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("width_i", "width_j"), [(1, DIM), (DIM, 1), (2, 2), (DIM - 1, DIM - 1)])
def test_widths_that_do_not_go_together(faces: Faces, array: Convert, width_i: int, width_j: int) -> None:
    (mu_i, s_i), (mu_j, s_j) = faces(3, DIM, width_i, 0), faces(3, DIM, width_j, 1)
    for score in (mls, mls_matrix):
        with pytest.raises(InvalidValue, match=f"widths {width_i} and {width_j}: both must be 1, or both D = {DIM}"):
            score(*map(array, (mu_i, s_i, mu_j, s_j)))
