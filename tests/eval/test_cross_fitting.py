from __future__ import annotations

import numpy as np
import pytest

from probface.errors import InsufficientData, InvalidValue
from probface.eval.cross_fitting import cross_fit
from probface.score.calibration import threshold_at


def all_pairs(subjects: int, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every image against every other; genuine pairs score higher."""
    who = np.repeat(np.arange(subjects), images)
    i, j = np.triu_indices(len(who), 1)
    scores = np.random.default_rng(seed).normal(size=len(i)) + 3 * (who[i] == who[j])
    return scores, who[i], who[j]


def test_every_comparison_is_judged_by_a_threshold_of_other_people() -> None:
    """Against a plain loop over comparisons."""
    scores, first, second = all_pairs(18, 3)
    (result,) = cross_fit(scores, first, second, [0.1], folds=3, resamples=2, seed=4)
    fold = np.random.default_rng(4).permutation(np.arange(18) % 3)
    matched = []
    for score, a, b in zip(scores, first, second, strict=True):
        others = ~np.isin(fold[first], (fold[a], fold[b])) & ~np.isin(fold[second], (fold[a], fold[b]))
        setters = scores[others & (first != second)]
        assert not {a, b} & {*first[others], *second[others]}
        matched.append(score > threshold_at(setters, 0.1))
    genuine = first == second
    assert result.met_fmr.estimate == np.mean(np.array(matched)[~genuine])
    assert result.tmr.estimate == np.mean(np.array(matched)[genuine])
    assert (result.genuine, result.impostor) == (54, len(scores) - 54)
    assert result.false_matches == np.count_nonzero(np.array(matched)[~genuine])
    assert len(result.thresholds) == 6


def test_the_rate_met_is_the_rate_asked_where_people_are_alike() -> None:
    (result,) = cross_fit(*all_pairs(90, 4), [0.01], folds=5, resamples=100)
    assert result.met_fmr.low < 0.01 < result.met_fmr.high
    assert result.met_fmr.estimate == pytest.approx(0.01, rel=0.2)


def test_the_interval_weighs_people() -> None:
    """One subject's impostor pairs match always: the interval of the rate is wide, as that person comes or not."""
    scores, first, second = all_pairs(30, 2)
    wolf = (first == 0) | (second == 0)
    scores = np.where(wolf, scores + 20, scores)
    (result,) = cross_fit(scores, first, second, [0.1], folds=3, resamples=100)
    assert result.met_fmr.high - result.met_fmr.low > 0.08


def test_several_rates_are_those_one_by_one() -> None:
    comparisons = all_pairs(40, 3)
    both = cross_fit(*comparisons, [0.1, 0.05], resamples=20)
    assert both == (*cross_fit(*comparisons, [0.1], resamples=20), *cross_fit(*comparisons, [0.05], resamples=20))


def test_too_few_comparisons_are_no_threshold() -> None:
    with pytest.raises(InsufficientData, match="FMR 1e-05"):
        cross_fit(*all_pairs(12, 3), [1e-5])


@pytest.mark.parametrize("folds", [2, 13])
def test_folds_need_people(folds: int) -> None:
    with pytest.raises(InvalidValue, match=f"{folds} folds of 12"):
        cross_fit(*all_pairs(12, 3), [0.1], folds=folds)


def test_a_missing_kind_is_named() -> None:
    scores, first, second = all_pairs(30, 1)
    with pytest.raises(InsufficientData, match="no genuine comparison among 435"):
        cross_fit(scores, first, second, [0.1], folds=3)
    with pytest.raises(InsufficientData, match="no impostor comparison among 435"):
        cross_fit(scores, first, first, [0.1], folds=3)


def test_a_resample_without_a_genuine_comparison_gives_no_interval() -> None:
    scores, first, second = all_pairs(60, 1)
    once = [np.append(values, 0) for values in (scores, first, second)]  # one genuine comparison alone
    with pytest.raises(InsufficientData, match=r"of 50 resamples give 0 / 0"):
        cross_fit(*once, [0.1], folds=3, resamples=50)
