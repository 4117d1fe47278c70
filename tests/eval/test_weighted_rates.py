"""EER, FMR at fixed thresholds and the lowest error rate, weighted: against real copies of people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InsufficientData
from probface.eval.metrics.verification import best_accuracy, eer
from probface.eval.metrics.weighted import BestErrorRate, EqualErrorRate, Impostors


@dataclass
class _Pairs:
    """All pairs of images of people, their scores with ties."""

    scores: np.ndarray
    first: np.ndarray
    second: np.ndarray
    people: int

    @classmethod
    def make(cls, people: int, images: int, seed: int, levels: int, apart: float) -> _Pairs:
        rng = np.random.default_rng(seed)
        person = np.concatenate([np.arange(people), rng.integers(0, people, images - people)])
        i, j = np.triu_indices(images, 1)
        scores = rng.normal(size=len(i)) + apart * (person[i] == person[j])
        return cls((np.rint(levels * scores) / levels).astype(np.float32), person[i], person[j], people)

    @property
    def same(self) -> np.ndarray:
        return self.first == self.second

    @property
    def impostors(self) -> Impostors:
        no = ~self.same
        return Impostors(self.scores[no], self.first[no], self.second[no], self.people)

    @property
    def eer(self) -> EqualErrorRate:
        return EqualErrorRate(self.scores[self.same], self.first[self.same], self.impostors)

    def copied(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Genuine and impostor scores, each pair repeated by its weight."""
        times = np.where(self.same, weights[self.first], weights[self.first] * weights[self.second])
        return np.repeat(self.scores[self.same], times[self.same]), np.repeat(
            self.scores[~self.same], times[~self.same]
        )


@settings(deadline=None)
@given(
    st.integers(0, 30),
    st.lists(st.integers(0, 3), min_size=6, max_size=6).map(np.array),
    st.sampled_from([-1.0, 0.0, 1.0, 3.0]),
)
def test_weights_are_copies(seed: int, weights: np.ndarray, apart: float) -> None:
    case = _Pairs.make(6, 14, seed, 8, apart)
    genuine, impostor = case.copied(weights)
    thresholds = np.array([-2.0, 0.125, 0.13, 9.0])
    impostors = case.impostors
    ranks = impostors.rank(thresholds)
    assert ranks.tolist() == [np.sum(case.scores[~case.same] > threshold) for threshold in thresholds]
    if len(genuine) == 0 or len(impostor) == 0:
        with pytest.raises(InsufficientData, match="bring more people"):
            case.eer(weights)
        with pytest.raises(InsufficientData, match="bring more people"):
            BestErrorRate(case.scores, case.first, case.second)(weights)
        return
    assert case.eer(weights)[0] == pytest.approx(eer(genuine, impostor), abs=1e-12)
    np.testing.assert_allclose(
        impostors.shares(weights, ranks), [np.mean(impostor > threshold) for threshold in thresholds], atol=1e-12
    )


@pytest.mark.parametrize("apart", [-2.0, 0.0, 2.0, 5.0])
def test_the_head_grows_as_far_as_it_must(apart: float) -> None:
    # Far more impostors than the first look takes; where genuine scores are low, all of them have to be seen.
    case = _Pairs.make(40, 200, 1, 10_000, apart)
    statistic, lowest = case.eer, BestErrorRate(case.scores, case.first, case.second)
    rng = np.random.default_rng(2)
    for weights in (np.ones(40, np.int64), *rng.multinomial(40, np.full(40, 1 / 40), 5)):
        genuine, impostor = case.copied(weights)
        assert statistic(weights)[0] == pytest.approx(eer(genuine, impostor), abs=1e-12)
        labels = np.repeat([True, False], [len(genuine), len(impostor)])
        best = best_accuracy(np.concatenate([genuine, impostor]), labels)
        assert lowest(weights)[0] == pytest.approx(best.errors / len(labels), abs=1e-12)


def test_the_lowest_error_rate_where_impostors_without_weight_lead() -> None:
    # The first look sees only impostors of people who were not drawn, and must go on.
    people = 120
    first, second = np.triu_indices(people, 1)
    scores = np.where(first < 60, 9.0, 0.0) + np.random.default_rng(0).normal(size=len(first))
    genuine = np.array([1.0, 5.0])
    rate = BestErrorRate(np.concatenate([scores, genuine]), np.append(first, [60, 61]), np.append(second, [60, 61]))
    weights = np.where(np.arange(people) < 60, 0, 1)
    drawn = scores[first >= 60]
    labels = np.repeat([False, True], [len(drawn), 2])
    best = best_accuracy(np.concatenate([drawn, genuine]), labels)
    assert rate(weights)[0] == pytest.approx(best.errors / len(labels), abs=1e-12)


@pytest.mark.parametrize("weights", [[0, 1, 1], [2, 0, 0], [0, 0, 0]])
def test_one_kind_alone_has_no_lowest_error_rate(weights: list[int]) -> None:
    """One threshold decides it without errors: that is no figure."""
    first, second = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2])
    rate = BestErrorRate(np.array([0.9, 0.3, 0.2, 0.1]), first, second)
    assert rate(np.ones(3, np.int64))[0] == 0
    with pytest.raises(InsufficientData, match="a resample without a pair to count"):
        rate(np.array(weights))
