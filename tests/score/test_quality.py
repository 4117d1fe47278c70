import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.contract import QualityScale
from probface.errors import InvalidValue
from probface.score.quality import fit_scale, quality

SCALE = QualityScale(math.log(0.1), math.log(10.0))


def test_linear_in_the_logarithm() -> None:
    sigma_sq = np.array([[1e-6], [0.1], [1.0], [10**0.5], [10.0], [1e6]], np.float32)
    assert quality(sigma_sq, SCALE).tolist() == [100, 100, 50, 25, 0, 0]
    assert quality(sigma_sq, SCALE).dtype == np.int64
    assert quality(sigma_sq[:0], SCALE).shape == (0,)


def test_d_variances_count_as_their_sum() -> None:
    wide = np.full((3, 4), 0.25, np.float32) * np.array([[0.1], [1.0], [10.0]], np.float32)
    assert quality(wide, SCALE).tolist() == quality(wide.sum(axis=1, keepdims=True), SCALE).tolist() == [100, 50, 0]


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50))
def test_whole_in_range_and_never_rising(values: list[float]) -> None:
    rising = np.sort(np.array(values))[:, None]
    found = quality(rising, SCALE)
    assert (np.diff(found) <= 0).all()
    for value, one in zip(rising[:, 0], found, strict=True):
        share = (math.log(10) - math.log(value)) / (math.log(10) - math.log(0.1))
        assert abs(one - 100 * min(max(share, 0), 1)) <= 0.5 + 1e-9


def test_fit_scale() -> None:
    rng = np.random.default_rng(0)
    clean, extreme = rng.lognormal(-1, 0.3, (4001, 1)), rng.lognormal(1, 0.5, (3001, 1))
    scale = fit_scale(clean, extreme)
    assert scale.log_sigma_sq_best == pytest.approx(np.log(np.sort(clean[:, 0])[200]))
    assert scale.log_sigma_sq_worst == pytest.approx(np.log(np.sort(extreme[:, 0])[2850]))
    assert np.mean(quality(clean, scale) == 100) >= 0.05
    assert np.mean(quality(extreme, scale) == 0) >= 0.05
    assert np.median(quality(clean, scale)) > np.median(quality(extreme, scale))


def test_bad_values() -> None:
    one = np.ones((2, 1))
    for bad in (np.zeros((1, 1)), -one, one * np.nan, one * np.inf, np.array([[1.0, 0.0]])):
        with pytest.raises(InvalidValue, match=r"sigma_sq row 0 is .*: must be positive and finite"):
            quality(bad, SCALE)
    for shape in ((3,), (3, 0), (1, 2, 3)):
        with pytest.raises(InvalidValue, match="must be"):
            quality(np.ones(shape), SCALE)
    with pytest.raises(InvalidValue, match=r"clean sigma_sq of shape \(0, 1\): .* N at least 1"):
        fit_scale(np.ones((0, 1)), one)
    with pytest.raises(InvalidValue, match="the extreme ones must have the larger variance"):
        fit_scale(one, one)
