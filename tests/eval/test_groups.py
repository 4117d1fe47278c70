"""Rates of groups against loops over copied comparisons; who is left out; how far chance alone goes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InvalidValue
from probface.eval.metrics.bootstrap import Interval, Resampled, resample
from probface.eval.metrics.differential import differential
from probface.eval.metrics.groups import GroupRates, cross_fmr, group_fmr, group_fnmr


class _Case:
    """All pairs of images of subjects with labels A, B, C and none; ``rates``: share of matches within each group."""

    def __init__(self, seed: int, rates: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2), each: int = 15, images: int = 2):
        rng = np.random.default_rng(seed)
        self.group = np.repeat(np.arange(len(rates)), each)
        names = ("A", "B", "C", "", "D", "E", "F", "G")
        self.labels = [names[g] or (None if n % 2 else "") for n, g in enumerate(self.group)]
        subject = np.repeat(np.arange(len(self.group)), images)
        i, j = np.triu_indices(len(subject), 1)
        apart = subject[i] != subject[j]
        swap = rng.random(apart.sum()) < 0.5
        first, second = subject[i][apart], subject[j][apart]
        self.first, self.second = np.where(swap, second, first), np.where(swap, first, second)
        within = self.group[self.first] == self.group[self.second]
        share = np.where(within, np.array(rates)[self.group[self.first]], 0.02)
        self.impostor = rng.random(len(share)) < share
        self.scores = np.where(self.impostor, 1.0, 0.0)  # the threshold is 0: a score equal to it is no match
        self.subject = rng.integers(0, len(self.group), 40 * len(self.group))
        self.genuine = np.where(rng.random(len(self.subject)) < np.array(rates)[self.group[self.subject]], 0.0, 1.0)

    def fmr(self, **options: int) -> GroupRates:
        return group_fmr(self.scores, self.first, self.second, self.labels, 0.0, **options)

    def fnmr(self, **options: int) -> GroupRates:
        return group_fnmr(self.genuine, self.subject, self.labels, 0.0, **options)


def test_counts_by_loops() -> None:
    case = _Case(0)
    fmr, fnmr = case.fmr(resamples=20), case.fnmr(resamples=20)
    assert fmr.overall == case.impostor.mean()
    assert fnmr.overall == (case.genuine == 0).mean()
    assert [rate.group for rate in fmr.groups] == ["A", "B", "C"]
    for number, (one, other) in enumerate(zip(fmr.groups, fnmr.groups, strict=True)):
        inside = [
            bool(match)
            for match, i, j in zip(case.impostor, case.first, case.second, strict=True)
            if case.group[i] == case.group[j] == number
        ]
        own = [score <= 0 for score, i in zip(case.genuine, case.subject, strict=True) if case.group[i] == number]
        assert (one.comparisons, one.errors, one.subjects) == (len(inside), sum(inside), 15)
        assert (other.comparisons, other.errors, other.subjects) == (len(own), sum(own), 15)
        assert one.rate is not None
        assert other.rate is not None
        assert one.rate.estimate == sum(inside) / len(inside)
        assert other.rate.estimate == sum(own) / len(own)
        assert one.note == other.note == ""
    assert fmr.unlabelled == fnmr.unlabelled == 15
    assert fmr.left_out == sum(
        case.group[i] == 3 or case.group[j] == 3 for i, j in zip(case.first, case.second, strict=True)
    )
    assert fnmr.left_out == sum(case.group[i] == 3 for i in case.subject)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_intervals_are_those_of_copied_subjects(seed: int) -> None:
    case = _Case(seed, each=12, images=1)
    fmr, fnmr = case.fmr(resamples=25, seed=seed), case.fnmr(resamples=25, seed=seed)

    def copied(weights: np.ndarray) -> np.ndarray:
        rows = np.repeat(np.arange(len(case.first)), weights[case.first] * weights[case.second])
        own = np.repeat(np.arange(len(case.subject)), weights[case.subject])
        rates = []
        for number in range(3):
            inside = rows[(case.group[case.first[rows]] == number) & (case.group[case.second[rows]] == number)]
            rates.append(case.impostor[inside].mean())
        rates += [(case.genuine[own[case.group[case.subject[own]] == number]] == 0).mean() for number in range(3)]
        return np.array(rates)

    expected = resample(copied, len(case.group), resamples=25, seed=seed).intervals()
    for rate, interval in zip((*fmr.groups, *fnmr.groups), expected, strict=True):
        if rate.rate is None:  # fewer than ten errors expected
            assert rate.comparisons * fmr.overall < 10
            continue
        found = rate.rate
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
        assert found.estimate == pytest.approx(interval.estimate, abs=1e-12)


def test_a_true_difference_is_found() -> None:
    case = _Case(1, (0.3, 0.1, 0.2), each=30)
    for found in (case.fmr(resamples=200), case.fnmr(resamples=200)):
        between = found.differential
        assert between is not None
        assert (between.highest, between.lowest) == ("A", "B")
        rates = [group.rate.estimate for group in found.groups if group.rate]
        assert between.ratio.estimate == between.ratio_anew.estimate == rates[0] / rates[1]
        assert between.over_mean.estimate == pytest.approx(rates[0] / np.prod(rates) ** (1 / 3), rel=1e-12)
        assert 1.5 < between.ratio.low < between.ratio.estimate < between.ratio.high
    assert case.fmr(resamples=50, seed=3) == case.fmr(resamples=50, seed=3)


def _chosen(seed: int, groups: int) -> tuple[Interval, Interval]:
    """Ratios of groups that are all alike."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(4, 0.25, (groups, 25))
    found = differential(
        [str(group) for group in range(groups)],
        resample(
            lambda w: (values * w.reshape(groups, 25)).sum(1) / w.reshape(groups, 25).sum(1), 25 * groups, resamples=200
        ),
    )
    return found.ratio, found.ratio_anew


def test_what_chance_alone_does() -> None:
    # As documented: two equal groups are mostly not found apart, but choosing anew shifts the interval up, above 1.
    pairs = [_chosen(seed, 2) for seed in range(40)]
    assert np.mean([ratio.low <= 1 for ratio, _ in pairs]) > 0.8
    assert all(anew.low >= 1 for _, anew in pairs)
    assert all(anew.low >= ratio.low and anew.high >= ratio.high for ratio, anew in pairs)
    # Of many equal groups the chosen two look further apart.
    many = [_chosen(seed, 12) for seed in range(10)]
    assert np.mean([ratio.estimate for ratio, _ in many]) > np.mean([ratio.estimate for ratio, _ in pairs])
    assert np.mean([ratio.low <= 1 for ratio, _ in many]) < np.mean([ratio.low <= 1 for ratio, _ in pairs])


def test_groups_that_the_data_cannot_tell() -> None:
    # Subjects 0..19 are A, 20..39 B, 40..44 C (many comparisons), 45..59 D (one comparison each).
    labels = ["A"] * 20 + ["B"] * 20 + ["C"] * 5 + ["D"] * 15
    subject = np.concatenate([np.repeat(np.arange(40), 10), np.repeat(np.arange(40, 45), 100), np.arange(45, 60)])
    genuine = np.where(np.arange(len(subject)) % 10 == 0, 0.0, 1.0)
    found = group_fnmr(genuine, subject, labels, 0.0, resamples=50)
    a, b, c, d = found.groups
    assert a.rate is not None
    assert b.rate is not None
    assert c.rate is d.rate is None
    assert c.note == "insufficient data: 5 subjects, 10 are needed"
    assert d.note.startswith("insufficient data: 1.5")
    assert (c.comparisons, c.errors) == (500, 50)
    assert found.differential is not None
    assert {found.differential.highest, found.differential.lowest} == {"A", "B"}


def test_a_group_that_hangs_on_one_subject() -> None:
    # All comparisons within B are with subject 20, whom a third of the resamples lack.
    i, j = np.triu_indices(20, 1)
    first, second = np.concatenate([i, np.full(19, 20)]), np.concatenate([j, np.arange(21, 40)])
    scores = np.ones(len(first))
    found = group_fmr(scores, first, second, ["A"] * 20 + ["B"] * 20, 0.0, resamples=50)
    assert found.groups[0].rate is not None
    assert found.groups[1].note == "insufficient data: resamples without a comparison; more subjects are needed"
    assert found.differential is None


def test_a_group_without_errors() -> None:
    labels, subject = ["A"] * 20 + ["B"] * 20, np.repeat(np.arange(40), 10)
    genuine = np.where((subject < 20) & (np.arange(400) % 4 == 0), 0.0, 1.0)
    between = group_fnmr(genuine, subject, labels, 0.0, resamples=50).differential
    assert between is not None
    assert (between.highest, between.lowest) == ("A", "B")
    for figure in (between.ratio, between.ratio_anew, between.over_mean):
        assert (figure.estimate, figure.low, figure.high) == (np.inf, np.inf, np.inf)


def test_one_group_or_none() -> None:
    case = _Case(2, (0.2,))
    found = case.fmr(resamples=20)
    assert [group.group for group in found.groups] == ["A"]
    assert found.groups[0].rate is not None
    assert found.differential is None
    nobody = group_fmr(case.scores, case.first, case.second, [""] * 15, 0.0, resamples=20)
    assert (nobody.groups, nobody.differential, nobody.unlabelled) == ((), None, 15)
    assert nobody.left_out == len(case.scores)
    assert cross_fmr(case.scores, case.first, case.second, [None] * 15, 0.0).fmr.shape == (0, 0)


def test_cross_fmr_by_loops() -> None:
    case = _Case(4, each=10)
    found = cross_fmr(case.scores, case.first, case.second, case.labels, 0.0)
    assert found.groups == ("A", "B", "C")
    compared, wrong = np.zeros((4, 4), int), np.zeros((4, 4), int)
    for match, i, j in zip(case.impostor, case.first, case.second, strict=True):
        for cell in {(case.group[i], case.group[j]), (case.group[j], case.group[i])}:
            compared[cell] += 1
            wrong[cell] += match
    assert (found.comparisons == compared[:3, :3]).all()
    assert (found.false_matches == wrong[:3, :3]).all()
    enough = compared[:3, :3] * case.impostor.mean() >= 10
    assert enough.any()
    np.testing.assert_array_equal(found.fmr, np.where(enough, wrong[:3, :3] / compared[:3, :3], np.nan))
    inside = case.fmr(resamples=5).groups
    assert np.diag(found.false_matches).tolist() == [group.errors for group in inside]


def test_cells_without_enough_comparisons() -> None:
    first, second = np.array([0] * 100 + [0, 2]), np.array([1] * 100 + [2, 3])
    found = cross_fmr(np.ones(102), first, second, ["A", "A", "B", "B"], 0.0)
    assert found.comparisons.tolist() == [[100, 1], [1, 1]]
    np.testing.assert_array_equal(found.fmr, [[1, np.nan], [np.nan, np.nan]])


def test_equal_rates_and_none_at_all() -> None:
    rates = Resampled(np.full(3, 0.5), np.array([[0.0, 0.2, 0.0], [0.5, 0.5, 0.5]]), (30, 0))
    found = differential(["A", "B", "C"], rates)
    assert (found.highest, found.lowest) == ("A", "C")
    assert (found.ratio.low, found.ratio.high) == (1, 1)  # 0 / 0: they do not differ
    assert (found.ratio_anew.low, found.ratio_anew.high) == (1, np.inf)


def test_bad_values() -> None:
    scores, first, second = np.arange(3.0), np.array([0, 0, 1]), np.array([1, 2, 2])
    for rates in (group_fmr, cross_fmr):
        with pytest.raises(InvalidValue, match="one subject with itself"):
            rates(scores, first, first, ["A"] * 3, 0.0)
        with pytest.raises(InvalidValue, match=r"numbers 0\.\.1, as there are labels"):
            rates(scores, first, second, ["A"] * 2, 0.0)
        with pytest.raises(InvalidValue, match=r"subjects of shape \(2,\)"):
            rates(scores, first[:2], second, ["A"] * 3, 0.0)
        with pytest.raises(InvalidValue, match="impostor score 0 is nan"):
            rates(scores * np.nan, first, second, ["A"] * 3, 0.0)
    with pytest.raises(InvalidValue, match="genuine score 0 is inf"):
        group_fnmr(scores + np.inf, first, ["A"] * 3, 0.0)
    with pytest.raises(InvalidValue, match=r"numbers 0\.\.0"):
        group_fnmr(scores, first, ["A"], 0.0)
    with pytest.raises(InvalidValue, match="1 groups"):
        differential(["A"], Resampled(np.ones(1), np.ones((2, 1)), (2, 0)))
