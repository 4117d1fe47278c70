"""Do thresholds keep their promise? Set on some people, judged on others, so that nobody does both.

The subjects are dealt into K folds. A comparison of folds g and h is decided by the threshold of the comparisons among
the people of all other folds; every comparison is judged once. What comes out is the false-match rate that a user of
the threshold meets, and the true-match rate with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.eval.metrics.bootstrap import Interval, Weights, resample
from probface.score.calibration import finite_scores, require_impostors, threshold_at

Subjects = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """What thresholds for one rate did on people who had no part in them.

    Attributes:
        fmr: the rate asked for.
        thresholds: of the cells (g, h), g <= h, in order.
        met_fmr: the rate that was met, all cells together. Its interval is over subjects, the thresholds as they are.
        tmr: the true-match rate, likewise.
        impostor, genuine: how many comparisons were judged.
        false_matches: how many impostors matched.
    """

    fmr: float
    thresholds: tuple[float, ...]
    met_fmr: Interval
    tmr: Interval
    impostor: int
    genuine: int
    false_matches: int


def cross_fit(
    scores: NDArray[np.floating],
    first: Subjects,
    second: Subjects,
    fmr: float,
    *,
    folds: int = 5,
    resamples: int = 200,
    seed: int = 0,
) -> CrossFitted:
    """Set and judge thresholds at one false-match rate, on disjoint people.

    Args:
        scores: (P,) finite.
        first: (P,) number of the subject in the first image, 0 .. S - 1.
        second: (P,) of the one in the second; the comparison is genuine where they are the same.
        fmr: in (0, 1).
        folds: K, 3 or more.
        resamples: of the intervals.
        seed: of the deal and of the resamples.

    Raises:
        InsufficientData: a threshold would rest on fewer than 10 / FMR impostors.
        InvalidValue: shapes differ, a score is not finite, or fewer than three folds or subjects.
    """
    finite_scores(scores, "all")
    subjects = int(max(first.max(), second.max())) + 1
    if first.shape != scores.shape or second.shape != scores.shape:
        raise InvalidValue(f"{scores.shape} scores of {first.shape} and {second.shape} subjects: need one each")
    if not 3 <= folds <= subjects:
        raise InvalidValue(f"{folds} folds of {subjects} subjects: need three folds or more, and a subject in each")
    genuine = first == second
    fold = np.random.default_rng(seed).permutation(np.arange(subjects) % folds)
    ours, theirs = fold[first], fold[second]
    matched = np.zeros(scores.shape, np.bool_)
    thresholds = []
    for g, h in _cells(folds):
        setting = ~genuine & (ours != g) & (ours != h) & (theirs != g) & (theirs != h)
        impostor = scores[setting]
        require_impostors(len(impostor), fmr)
        thresholds.append(threshold_at(impostor, fmr))
        judged = ((ours == g) & (theirs == h)) | ((ours == h) & (theirs == g))
        matched[judged] = scores[judged] > thresholds[-1]

    def rate(kind: NDArray[np.bool_]) -> Interval:
        share = _Share(matched[kind], first[kind], second[kind], subjects)
        return resample(share, subjects, resamples=resamples, seed=seed).intervals()[0]

    false_matches = int(np.count_nonzero(matched & ~genuine))
    genuine_count = int(genuine.sum())
    return CrossFitted(
        fmr,
        tuple(thresholds),
        rate(~genuine),
        rate(genuine),
        len(scores) - genuine_count,
        genuine_count,
        false_matches,
    )


def _cells(folds: int) -> Iterator[tuple[int, int]]:
    return ((g, h) for g in range(folds) for h in range(g, folds))


class _Share:
    """Weighted share of the comparisons that matched, the decisions as they are."""

    def __init__(self, matched: NDArray[np.bool_], first: Subjects, second: Subjects, subjects: int) -> None:
        low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second).astype(np.int64)
        # Comparisons of the same two people weigh the same: counted, not kept one by one.
        keys, inverse = np.unique(low * subjects + high, return_inverse=True)
        self._all = np.bincount(inverse, minlength=len(keys))
        self._matched = np.bincount(inverse, matched, minlength=len(keys))
        self._low, self._high = keys // subjects, keys % subjects

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        one = weights[self._low]
        weight = np.where(self._low == self._high, one, one * weights[self._high])
        return np.array([np.dot(weight, self._matched) / np.dot(weight, self._all)])
