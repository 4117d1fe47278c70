"""Accuracy, by folds where the protocol has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.errors import InsufficientData
from probface.eval.metrics.bootstrap import Weights
from probface.eval.metrics.verification import kfold_accuracy
from probface.eval.metrics.weighted import BestErrorRate
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import Rate
from probface.eval.verification.trial import Trial

BEST_THRESHOLD = "threshold best for these comparisons"
"""What a row is called whose threshold was chosen on what it judges."""


def accuracy(trial: Trial, options: JudgeOptions) -> Rate:
    """Mean accuracy over folds, each decided by the threshold that is best on the others.

    Its interval is over subjects, with the thresholds as they are. A fold that lacks a kind of comparison takes no
    part, and the note says so. Without two whole folds it is the accuracy at the threshold best for these very
    comparisons, found anew in each resample, and named so.
    """
    folds, whole = trial.comparisons.folds, whole_folds(trial)
    if folds is None or len(whole) < 2:
        rate = BestErrorRate(trial.scores, trial.draws.first, trial.draws.second)
        found = trial.draws.resample(lambda weights: 1 - rate(weights), options)
        note = "" if folds is None else f"fewer than two of the {len(np.unique(folds))} folds have both kinds of pairs"
        return Rate("accuracy", found, by=BEST_THRESHOLD, better="higher", note=note)
    rows = np.flatnonzero(np.isin(folds, whole))
    scores, labels, numbers = trial.scores[rows], trial.comparisons.genuine[rows], folds[rows]
    result = kfold_accuracy(scores, labels, numbers)
    places = np.searchsorted(whole, numbers)
    right = (scores > np.array(result.thresholds, scores.dtype)[places]) == labels
    mean = FoldShare(right, places, trial.draws.first[rows], trial.draws.second[rows])
    note = f"standard error over folds {100 * result.standard_error:.2g} points"
    count = len(np.unique(folds))
    if count > len(whole):
        note += f"; {count - len(whole)} of {count} folds lack a kind of pair and take no part"
    found = trial.draws.resample(mean, options)
    by, genuine = f"mean of {len(whole)} folds", int(np.count_nonzero(labels))
    return Rate("accuracy", found, by=by, better="higher", note=note, genuine=genuine, impostor=len(rows) - genuine)


def whole_folds(trial: Trial) -> NDArray[np.int64]:
    """Numbers of the folds that have both kinds of comparisons, rising; none without folds."""
    folds, genuine = trial.comparisons.folds, trial.comparisons.genuine
    if folds is None:
        return np.empty(0, np.int64)
    return np.intersect1d(folds[genuine], folds[~genuine])


class FoldShare:
    """Mean over folds of the weighted share of right decisions, the decisions as they are.

    Args:
        right: (P,) bool.
        fold: (P,) number of the fold, 0 .. K - 1, each with a comparison.
        first, second: (P,) numbers of the two people; the comparison is genuine where they are the same.
    """

    def __init__(
        self,
        right: NDArray[np.bool_],
        fold: NDArray[np.integer],
        first: NDArray[np.integer],
        second: NDArray[np.integer],
    ) -> None:
        self._right, self._fold, self._first, self._second = right, fold, first, second
        self._genuine = first == second

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(1,) share."""
        one = weights[self._first]
        weight = np.where(self._genuine, one, one * weights[self._second])
        total = np.bincount(self._fold, weight)
        if not total.all():
            raise InsufficientData("a resample leaves a fold empty; bring more people")
        return np.array([np.mean(np.bincount(self._fold, weight * self._right) / total)])
