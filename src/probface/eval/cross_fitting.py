"""Do thresholds keep their promise? Set on some people, judged on others, so that nobody does both.

The subjects are dealt into K folds. A comparison of folds g and h is decided by the threshold of the comparisons among
the people of all other folds; every comparison is judged once. What comes out is the false-match rate that a user of
the threshold meets, and the true-match rate with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics.bootstrap import Interval, Statistic, Weights, resample
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
    fmrs: Sequence[float],
    *,
    folds: int = 5,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[CrossFitted, ...]:
    """Set and judge thresholds at some false-match rates, on disjoint people.

    Args:
        scores: (P,) finite.
        first: (P,) number of the subject in the first image, 0 .. S - 1.
        second: (P,) of the one in the second; the comparison is genuine where they are the same.
        fmrs: each in (0, 1).
        folds: K, 3 or more.
        resamples: of the intervals.
        seed: of the deal and of the resamples.

    Returns:
        One for each rate.

    Raises:
        InsufficientData: no genuine or no impostor comparison, a threshold would rest on fewer than 10 / FMR impostors,
            or so few people have comparisons of a kind that a resample leaves none of it.
        InvalidValue: shapes differ, a score is not finite, or fewer than three folds or subjects.
    """
    finite_scores(scores, "all")
    if first.shape != scores.shape or second.shape != scores.shape:
        raise InvalidValue(f"{scores.shape} scores of {first.shape} and {second.shape} subjects: need one each")
    subjects = int(max(first.max(), second.max())) + 1
    if not 3 <= folds <= subjects:
        raise InvalidValue(f"{folds} folds of {subjects} subjects: need three folds or more, and a subject in each")
    genuine = first == second
    _check_kinds(genuine)
    fold = np.random.default_rng(seed).permutation(np.arange(subjects) % folds)
    matched = np.zeros((len(fmrs), len(scores)), np.bool_)
    thresholds = []
    for setting, judged in _cells(fold[first], fold[second], folds):
        impostor = scores[setting & ~genuine]
        for fmr in fmrs:
            require_impostors(len(impostor), fmr)
        thresholds.append([threshold_at(impostor, fmr) for fmr in fmrs])
        matched[:, judged] = scores[judged] > np.array(thresholds[-1])[:, None]
    shares = {kind: _Share(first[mask], second[mask], subjects) for kind, mask in ((0, ~genuine), (1, genuine))}

    def rate(row: NDArray[np.bool_], kind: int, mask: NDArray[np.bool_]) -> Interval:
        share = shares[kind].of(row[mask])
        return resample(share, subjects, resamples=resamples, seed=seed).intervals()[0]

    return tuple(
        CrossFitted(
            fmr,
            tuple(cell[number] for cell in thresholds),
            met_fmr=rate(row, 0, ~genuine),
            tmr=rate(row, 1, genuine),
            impostor=int(np.count_nonzero(~genuine)),
            genuine=int(np.count_nonzero(genuine)),
            false_matches=int(np.count_nonzero(row & ~genuine)),
        )
        for number, (fmr, row) in enumerate(zip(fmrs, matched, strict=True))
    )


def _check_kinds(genuine: NDArray[np.bool_]) -> None:
    for kind, count in (("genuine", np.count_nonzero(genuine)), ("impostor", np.count_nonzero(~genuine))):
        if count == 0:
            raise InsufficientData(f"no {kind} comparison among {len(genuine):,}: need both kinds; check the subjects")


def _cells(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], folds: int
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """For each two folds: which comparisons set the threshold, and which are judged by it."""
    for g in range(folds):
        for h in range(g, folds):
            setting = (ours != g) & (ours != h) & (theirs != g) & (theirs != h)
            yield setting, ((ours == g) & (theirs == h)) | ((ours == h) & (theirs == g))


class _Share:
    """Weighted share of comparisons that matched, the decisions as they are.

    Comparisons of the same two people weigh the same: they are counted, not kept one by one.
    """

    def __init__(self, first: Subjects, second: Subjects, subjects: int) -> None:
        low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second).astype(np.int64)
        keys, self._inverse = np.unique(low * subjects + high, return_inverse=True)
        self._low, self._high = keys // subjects, keys % subjects
        self._all = np.bincount(self._inverse, minlength=len(keys))

    def of(self, matched: NDArray[np.bool_]) -> Statistic:
        """The statistic of (P,) decisions; NaN where no comparison has weight."""
        some = np.bincount(self._inverse, matched, minlength=len(self._all))

        def share(weights: Weights) -> NDArray[np.float64]:
            one = weights[self._low]
            weight = np.where(self._low == self._high, one, one * weights[self._high])
            total = np.dot(weight, self._all)
            return np.array([np.dot(weight, some) / total if total else np.nan])

        return share
