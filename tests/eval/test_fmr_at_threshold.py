"""The false-match rate of weighted people at a fixed threshold, against people copied as often as they were drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics.bootstrap import resample
from probface.eval.metrics.weighted import FmrAtThreshold, Impostors

THRESHOLDS = np.array([-1.0, 0.0, 1.5, 99.0])


@settings(deadline=None)
@given(st.integers(0, 50), st.lists(st.integers(0, 3), min_size=5, max_size=5).map(np.array))
def test_weights_are_copies(seed: int, weights: np.ndarray) -> None:
    rng = np.random.default_rng(seed)
    person = np.concatenate([np.arange(4), rng.integers(0, 4, 8)])  # of five people the last has no face
    i, j = np.triu_indices(len(person), 1)
    kept = person[i] != person[j]
    first, second = person[i[kept]], person[j[kept]]
    scores = np.rint(rng.normal(size=len(first)) * 2) / 2  # with ties, and scores at a threshold
    times = weights[first] * weights[second]
    rate = FmrAtThreshold(scores, first, second, np.bincount(person, minlength=5), THRESHOLDS)
    if times.sum() == 0:
        with pytest.raises(InsufficientData, match="bring more people"):
            rate(weights)
        return
    copied = np.repeat(scores, times)
    np.testing.assert_allclose(rate(weights), [(copied > level).mean() for level in THRESHOLDS], atol=1e-12)
    above = scores > THRESHOLDS.min()  # the false matches alone are enough
    few = FmrAtThreshold(scores[above], first[above], second[above], np.bincount(person, minlength=5), THRESHOLDS)
    np.testing.assert_array_equal(few(weights), rate(weights))
    assert Impostors(scores, first, second, 5).total(weights) == len(copied)


def test_one_face_that_resembles_everybody_is_a_doubt_that_pairs_do_not_show() -> None:
    people = 60
    first, second = np.triu_indices(people, 1)
    scores = (first == 0).astype(np.float64)
    rate = FmrAtThreshold(scores, first, second, np.ones(people, np.int64), np.array([0.5]))
    found = resample(rate, people, resamples=400)
    assert found.estimate == pytest.approx([2 / people])
    (interval,) = found.intervals()
    assert interval.low == 0  # that person was not drawn
    assert interval.high > 4 / people


def test_lengths_that_differ() -> None:
    with pytest.raises(InvalidValue, match="must be of one length"):
        FmrAtThreshold(np.zeros(3), np.zeros(2, np.int64), np.ones(3, np.int64), np.ones(2, np.int64), THRESHOLDS)
