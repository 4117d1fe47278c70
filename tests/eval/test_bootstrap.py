"""The weighted statistics against real resamples: people copied as often as they were drawn."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics.bootstrap import Interval, difference, ratio, resample
from probface.eval.metrics.risk import error_versus_discard, partial_auc
from probface.eval.metrics.verification import best_accuracy, tmr_at_fmr
from probface.eval.metrics.weighted import BestErrorRate, DiscardAuc, DiscardCurve, Impostors, TmrAtFmr

FMRS = np.array([0.3, 0.05, 0.0])
FRACTIONS = np.linspace(0, 0.3, 7)


@dataclass
class _People:
    """All pairs of a few people with a few images each; scores on a coarse grid, so that there are ties."""

    people: int
    scores: np.ndarray
    quality: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def make(cls, people: int, images: int, seed: int, levels: int = 12) -> "_People":
        rng = np.random.default_rng(seed)
        person = np.concatenate([np.arange(people), rng.integers(0, people, images - people)])
        i, j = np.triu_indices(images, 1)
        same = person[i] == person[j]
        scores = (np.rint(levels * (rng.normal(size=len(i)) + 1.5 * same)) / levels).astype(np.float32)
        return cls(people, scores, rng.integers(0, 5, len(i)), person[i], person[j])

    @property
    def same(self) -> np.ndarray:
        return self.first == self.second

    @property
    def impostors(self) -> Impostors:
        rows = ~self.same
        return Impostors(self.scores[rows], self.first[rows], self.second[rows], self.people)

    def copied(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Genuine scores, their quality, impostor scores and theirs, each pair repeated by its weight."""
        times = np.where(self.same, weights[self.first], weights[self.first] * weights[self.second])
        rows = np.repeat(np.arange(len(times)), times)
        genuine, impostor = rows[self.same[rows]], rows[~self.same[rows]]
        return self.scores[genuine], self.quality[genuine], self.scores[impostor], self.quality[impostor]


weightings = st.lists(st.integers(0, 3), min_size=6, max_size=6).map(np.array)


@settings(deadline=None)
@given(st.integers(0, 20), weightings)
def test_weights_are_copies(seed: int, weights: np.ndarray) -> None:
    case = _People.make(6, 14, seed)
    genuine, quality, impostor, _ = case.copied(weights)
    same, impostors = case.same, case.impostors
    tmr = TmrAtFmr(case.scores[same], case.first[same], impostors, FMRS)
    curve = DiscardCurve(case.scores[same], case.quality[same], case.first[same], impostors, 0.1, FRACTIONS)
    if len(impostor) == 0 or len(genuine) == 0:
        with pytest.raises(InsufficientData, match="bring more people"):
            tmr(weights)
        return
    expected = [tmr_at_fmr(genuine, impostor, fmr, allow_few=True) for fmr in FMRS]
    np.testing.assert_allclose(tmr(weights), expected, atol=1e-12)

    threshold = impostors.thresholds(weights, np.array([0.1]))[0]
    np.testing.assert_allclose(curve(weights), error_versus_discard(genuine, quality, threshold, FRACTIONS), atol=1e-12)
    assert DiscardAuc(curve)(weights) == [partial_auc(FRACTIONS, curve(weights))]

    scores, labels = np.concatenate([genuine, impostor]), np.repeat([True, False], [len(genuine), len(impostor)])
    rate = BestErrorRate(case.scores, case.first, case.second)(weights)
    np.testing.assert_allclose(rate, [best_accuracy(scores, labels).errors / len(scores)], atol=1e-12)


def test_total_weight_and_long_tails() -> None:
    case = _People.make(60, 150, 1, levels=10_000)
    rng = np.random.default_rng(2)
    rows = ~case.same
    for weights in (*rng.multinomial(60, np.full(60, 1 / 60), 20), np.where(np.arange(60) < 3, 20, 0)):
        _, _, impostor, _ = case.copied(weights)
        assert case.impostors.total(weights) == len(impostor)
        for fmr in (0.9, 0.5, 0.01):
            found = case.impostors.thresholds(weights, np.array([fmr]))[0]
            # By hand, on the copies.
            falling = np.sort(impostor)[::-1]
            assert found == falling[int(np.floor(fmr * len(falling) + 1e-9))]
    assert case.impostors.total(np.ones(60, np.int64)) == rows.sum()


def test_the_head_grows_until_it_reaches_the_threshold() -> None:
    # The highest scores are of people who were not drawn; the first guess at the head has no weight at all.
    people, count = 400, 79_800
    first, second = np.triu_indices(people, 1)
    weights = np.where(np.arange(people) < 200, 0, 2)
    scores = np.where(first < 200, 1000.0, 0.0) + np.random.default_rng(0).normal(size=count)
    found = Impostors(scores, first, second, people).thresholds(weights, np.array([1e-2, 1e-3]))
    drawn = np.sort(scores[(first >= 200)])[::-1]
    assert found.tolist() == [drawn[len(drawn) // 100], drawn[len(drawn) // 1000]]


def test_resamples_are_multinomial_and_repeat() -> None:
    seen: list[np.ndarray] = []

    def statistic(weights: np.ndarray) -> np.ndarray:
        seen.append(weights)
        return np.array([weights[0], weights.max()], np.float64)

    found = resample(statistic, 50, resamples=400, seed=7)
    assert found.values.shape == (400, 2)
    assert found.estimate.tolist() == [1, 1]
    assert {int(weights.sum()) for weights in seen} == {50}
    assert abs(np.mean(found.values[:, 0]) - 1) < 0.2
    again = resample(lambda weights: np.array([weights[0], weights.max()], np.float64), 50, resamples=400, seed=7)
    assert (again.values == found.values).all()
    other = resample(lambda weights: np.array([weights[0], weights.max()], np.float64), 50, resamples=400, seed=8)
    assert (other.values != found.values).any()


def test_intervals_of_a_mean_agree_with_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = resample(lambda weights: np.array([weights @ values / weights.sum()]), 400, resamples=2000)
    (interval,) = found.intervals()
    error = values.std() / np.sqrt(400)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_people_make_wider_intervals_than_pairs() -> None:
    # Thirty pairs of each person rise and fall together: the interval must be that of forty people, not 1200 pairs.
    rng = np.random.default_rng(0)
    level = rng.normal(size=40)
    person = np.repeat(np.arange(40), 30)
    scores = level[person]
    found = resample(
        lambda weights: np.array([np.average(scores, weights=weights[person])]), 40, resamples=1000
    ).intervals()[0]
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * level.std() / np.sqrt(40), rel=0.15)


def test_differences_and_ratios_are_paired() -> None:
    values = np.random.default_rng(0).normal(5, 1, 100)
    one = resample(lambda weights: np.array([weights @ values]), 100)
    double = resample(lambda weights: np.array([2 * weights @ values]), 100)
    assert difference(double, one).intervals() == one.intervals()
    (interval,) = ratio(double, one).intervals(0.9)
    assert (interval.low, interval.high) == pytest.approx((2.0, 2.0))
    assert interval == Interval(interval.estimate, interval.low, interval.high, 0.9)
    for other in (
        resample(lambda weights: np.array([weights @ values]), 100, seed=1),
        resample(lambda weights: np.array([weights @ values]), 100, resamples=100),
    ):
        with pytest.raises(InvalidValue, match="only figures on the same resamples"):
            difference(one, other)


def _one(weights: np.ndarray) -> np.ndarray:
    return np.ones(1)


def test_ratios_by_zero() -> None:
    a = resample(_one, 10)
    b = resample(lambda weights: np.array([float(weights[0] > 0)]), 10)
    (interval,) = ratio(a, b).intervals()
    assert (interval.low, interval.high) == (1.0, np.inf)
    with pytest.raises(InsufficientData, match="of 200 resamples give 0 / 0"):
        ratio(b, b).intervals()


def test_bad_values() -> None:
    scores, first, second = np.arange(3.0), np.array([0, 0, 1]), np.array([1, 2, 2])
    with pytest.raises(InvalidValue, match="one and the same person"):
        Impostors(scores, first, first, 3)
    with pytest.raises(InvalidValue, match=r"numbers 0\.\.1, one for each score"):
        Impostors(scores, first, second, 2)
    with pytest.raises(InvalidValue, match=r"people of shape \(2,\)"):
        Impostors(scores, first[:2], second, 3)
    with pytest.raises(InvalidValue, match="score 0 is nan"):
        Impostors(scores * np.nan, first, second, 3)
    with pytest.raises(InvalidValue, match="FMR"):
        TmrAtFmr(scores, first, Impostors(scores, first, second, 3), np.array([1.0]))
    for people, resamples in ((1, 10), (10, 0)):
        with pytest.raises(InvalidValue, match="at least two people and one resample"):
            resample(_one, people, resamples=resamples)
    with pytest.raises(InvalidValue, match="confidence 0"):
        resample(_one, 10).intervals(0)
