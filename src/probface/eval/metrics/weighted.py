"""Statistics of weighted people, for the bootstrap: sorted once, then cheap for every new weighting.

A genuine pair of person ``i`` weighs ``w_i``, a pair of two people ``w_i * w_j``. With all weights 1 each class gives
what its unweighted namesake in ``verification`` and ``risk`` gives; a test holds them to it.

The cost for M impostor pairs: sorting, once; then for each weighting the part of the impostors above the threshold
(about FMR * M of them), since the total of all has a closed form, ``w' C w`` with ``C`` the number of comparisons of
each two people.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics.bootstrap import Weights
from probface.eval.metrics.risk import discard_curve, partial_auc, quality_groups
from probface.eval.metrics.verification import Scores
from probface.score.calibration import finite_scores

People = NDArray[np.integer]


class Impostors:
    """Scores of pairs of different people, sorted, for thresholds at a false-match rate.

    Args:
        scores: (M,) finite.
        first: (M,) number of the one person, 0 .. people - 1.
        second: (M,) number of the other.
        people: S.
    """

    def __init__(self, scores: Scores, first: People, second: People, people: int) -> None:
        order = np.argsort(finite_scores(scores, "impostor"))[::-1]
        first, second = _people(first, scores, people), _people(second, scores, people)
        if (first == second).any():
            raise InvalidValue("impostor pairs: a pair of one and the same person is among them; leave it out")
        self._scores, self._first, self._second = scores[order], first[order], second[order]
        ones = np.ones(len(scores), np.int64)
        self._comparisons = coo_array((ones, (first, second)), shape=(people, people)).tocsr()

    def total(self, weights: Weights) -> int:
        """Weight of all pairs."""
        return int(weights @ (self._comparisons @ weights))

    def thresholds(self, weights: Weights, fmrs: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each rate the smallest score such that the weight strictly above it is at most that share of the total.

        Raises:
            InsufficientData: no pair has weight.
        """
        total = self.total(weights)
        if total == 0:
            raise InsufficientData("a resample without two different people; bring more people")
        allowed = fmrs * total * (1 + 1e-12)
        head = min(len(self._scores), 1000 + int(1.5 * allowed.max() * len(self._scores) / total))
        above = self._above(weights, head)
        while above[-1] <= allowed.max():
            head = min(len(self._scores), 2 * head)
            above = self._above(weights, head)
        return self._scores[np.searchsorted(above, allowed, side="right")].astype(np.float64)

    def _above(self, weights: Weights, head: int) -> NDArray[np.int64]:
        """Cumulated weight of the ``head`` highest scores, each included."""
        return np.cumsum(weights[self._first[:head]] * weights[self._second[:head]])


class TmrAtFmr:
    """TMR at each of several false-match rates.

    Args:
        scores: (G,) genuine, finite.
        person: (G,) number of the person.
        impostors: whom the threshold keeps out.
        fmrs: (K,) rates in [0, 1).
    """

    def __init__(self, scores: Scores, person: People, impostors: Impostors, fmrs: NDArray[np.float64]) -> None:
        order = np.argsort(finite_scores(scores, "genuine"))
        self._scores, self._person = scores[order], _people(person, scores)[order]
        self._impostors, self._fmrs = impostors, np.asarray(fmrs, np.float64)
        if not ((self._fmrs >= 0) & (self._fmrs < 1)).all():
            raise InvalidValue(f"FMR {fmrs}: must be at least 0 and below 1")

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(K,) weighted TMR."""
        upto = np.concatenate([[0], np.cumsum(weights[self._person])])
        thresholds = self._impostors.thresholds(weights, self._fmrs)
        missed = upto[np.searchsorted(self._scores, thresholds, side="right")]
        tmr: NDArray[np.float64] = 1 - missed / _some(upto[-1])
        return tmr


class BestErrorRate:
    """Share of wrong decisions at the threshold that is best for the weights at hand.

    Args:
        scores: (N,) finite.
        first: (N,) number of the person in the first image.
        second: (N,) number of the person in the second; the pair is genuine where they are the same.
    """

    def __init__(self, scores: Scores, first: People, second: People) -> None:
        order = np.argsort(finite_scores(scores, "all"))
        rising = scores[order]
        self._first, self._second = _people(first, scores)[order], _people(second, scores)[order]
        self._genuine = self._first == self._second
        # A threshold is at the last of equal scores, or below all.
        self._places = np.concatenate([[0], np.flatnonzero(rising[1:] != rising[:-1]) + 1, [len(rising)]])

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(1,) weighted errors over the weight of all pairs."""
        one = weights[self._first]
        missed = np.concatenate([[0], np.cumsum(np.where(self._genuine, one, 0))])
        refused = np.concatenate([[0], np.cumsum(np.where(self._genuine, 0, one * weights[self._second]))])
        errors = (missed + refused[-1] - refused)[self._places]
        return np.array([errors.min() / _some(missed[-1] + refused[-1])])


class DiscardCurve:
    """Error versus discard characteristic, its threshold set anew at ``fmr`` for the weights at hand.

    Args:
        scores: (G,) genuine, finite.
        quality: (G,) of the pairs; larger is better.
        person: (G,) number of the person.
        impostors: whom the threshold keeps out.
        fmr: in [0, 1).
        fractions: (F,) shares to discard, in [0, 1).
    """

    def __init__(
        self,
        scores: Scores,
        quality: NDArray[np.number],
        person: People,
        impostors: Impostors,
        fmr: float,
        fractions: NDArray[np.floating],
    ) -> None:
        self._scores, self._person = finite_scores(scores, "genuine"), _people(person, scores)
        self._groups, self._count = quality_groups(quality)
        self._impostors, self._fmr = impostors, np.array([fmr])
        self.fractions = fractions

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(F,) weighted FNMR of the pairs kept."""
        weight = weights[self._person]
        _some(weight.sum())
        missed = self._scores <= self._impostors.thresholds(weights, self._fmr)[0]
        errors = np.bincount(self._groups, weight * missed, minlength=self._count)
        return discard_curve(errors, np.bincount(self._groups, weight, minlength=self._count), self.fractions)


class DiscardAuc:
    """Partial area under a :class:`DiscardCurve`, from 0 to ``upto``."""

    def __init__(self, curve: DiscardCurve, upto: float = 0.30) -> None:
        self._curve, self._upto = curve, upto

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(1,) area."""
        return np.array([partial_auc(self._curve.fractions, self._curve(weights), self._upto)])


def _people(numbers: People, scores: Scores, people: int | None = None) -> NDArray[np.int32]:
    largest = np.iinfo(np.int32).max if people is None else people - 1
    if numbers.shape != scores.shape or numbers.min() < 0 or numbers.max() > largest:
        raise InvalidValue(f"people of shape {numbers.shape}: must be numbers 0..{largest}, one for each score")
    return numbers.astype(np.int32)


def _some(weight: np.integer) -> np.integer:
    if weight == 0:
        raise InsufficientData("a resample without a pair to count; bring more people")
    return weight
