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
        total = self._some_total(weights)
        allowed = fmrs * total * (1 + 1e-12)
        scores, above = self._head(weights, total, float(allowed.max()))
        return scores[np.searchsorted(above, allowed, side="right")].astype(np.float64)

    def rank(self, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many pairs score strictly above each threshold."""
        above: NDArray[np.int64] = len(self._scores) - np.searchsorted(self._scores[::-1], thresholds, side="right")
        return above

    def shares(self, weights: Weights, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """FMR at thresholds that stay: the share of the weight that the so many highest scores of :meth:`rank` have.

        Raises:
            InsufficientData: no pair has weight.
        """
        above = np.concatenate([[0], self._above(weights, int(ranks.max()))])
        shares: NDArray[np.float64] = above[ranks] / self._some_total(weights)
        return shares

    def highest(self, weights: Weights, share: float) -> tuple[Scores, NDArray[np.float64]]:
        """The highest scores, falling, and the share of the weight that each has above it, itself included.

        So many that their share exceeds ``share``, or all of them.

        Raises:
            InsufficientData: no pair has weight.
        """
        total = self._some_total(weights)
        scores, above = self._head(weights, total, share * total)
        return scores, above / total

    def __len__(self) -> int:
        return len(self._scores)

    def _some_total(self, weights: Weights) -> int:
        total = self.total(weights)
        if total == 0:
            raise InsufficientData("a resample without two different people; bring more people")
        return total

    def _head(self, weights: Weights, total: int, weight: float) -> tuple[Scores, NDArray[np.int64]]:
        """The highest scores until their cumulated weight exceeds ``weight``, or all; and that weight."""
        count = min(len(self._scores), 1000 + int(1.5 * weight * len(self._scores) / total))
        above = self._above(weights, count)
        while above[-1] <= weight and count < len(self._scores):
            count = min(len(self._scores), 2 * count)
            above = self._above(weights, count)
        return self._scores[:count], above

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


class EqualErrorRate:
    """EER: where FMR = FNMR on the ROC, its points joined by straight lines.

    Args:
        scores: (G,) genuine, finite.
        person: (G,) number of the person.
        impostors: the other kind.
    """

    def __init__(self, scores: Scores, person: People, impostors: Impostors) -> None:
        order = np.argsort(finite_scores(scores, "genuine"))[::-1]
        self._scores, self._person = scores[order], _people(person, scores)[order]
        self._impostors = impostors
        self._share = 0.01  # of the impostors, to look at first; the next rate will be near the last one

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(1,) weighted EER."""
        genuine = np.concatenate([[0], np.cumsum(weights[self._person])])
        tmr = genuine / _some(genuine[-1])
        while True:
            scores, above = self._impostors.highest(weights, self._share)
            fmr = np.concatenate([[0.0], above])
            values = np.unique(np.concatenate([self._scores, scores]))[::-1]
            if len(scores) < len(self._impostors):
                values = values[values > scores[-1]]  # below, impostors are missing
            matched = [len(s) - np.searchsorted(s[::-1], values, side="left") for s in (self._scores, scores)]
            x, y = np.append(0.0, fmr[matched[1]]), np.append(0.0, tmr[matched[0]])
            excess = x + y - 1  # FMR - FNMR, from -1, rising with every point
            if excess[-1] >= 0:
                after = int(np.argmax(excess >= 0))
                part = -excess[after - 1] / (excess[after] - excess[after - 1])
                return np.array([x[after - 1] + part * (x[after] - x[after - 1])])
            self._share *= 2


class FmrAtThreshold:
    """FMR at each of several fixed thresholds, where every two faces of different people were compared once.

    Only the false matches are held, added up for each two people; the number of all comparisons has a closed form,
    ``sum_(i < j) w_i n_i w_j n_j`` with ``n_i`` the faces of person ``i``.

    Args:
        scores: (M,) of impostor pairs: all those above the lowest threshold; others do no harm.
        first: (M,) number of the one person, 0 .. S - 1.
        second: (M,) number of the other.
        faces: (S,) how many faces each person has.
        thresholds: (K,).
    """

    def __init__(
        self,
        scores: Scores,
        first: People,
        second: People,
        faces: NDArray[np.integer],
        thresholds: NDArray[np.floating],
    ) -> None:
        people = len(faces)
        if scores.shape != first.shape or first.shape != second.shape or not (faces >= 0).all():
            raise InvalidValue(f"{scores.shape} scores, {first.shape} and {second.shape} people: must be of one length")
        self._faces = faces.astype(np.int64)
        self._false = [
            coo_array(
                (np.ones(int(above.sum()), np.int64), (first[above], second[above])), shape=(people, people)
            ).tocsr()
            for above in (scores > threshold for threshold in thresholds)
        ]

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(K,) weighted FMR."""
        images = weights * self._faces
        total = (int(images.sum()) ** 2 - int(images @ images)) // 2
        _some(np.int64(total))
        return np.array([int(weights @ (false @ weights)) / total for false in self._false])


class BestErrorRate:
    """Share of wrong decisions at the threshold that is best for the weights at hand.

    A threshold below which impostors outweigh all genuine pairs is worse than one above everything: only so many of the
    highest scores are looked at.

    Args:
        scores: (N,) finite.
        first: (N,) number of the person in the first image.
        second: (N,) number of the person in the second; the pair is genuine where they are the same.
    """

    def __init__(self, scores: Scores, first: People, second: People) -> None:
        order = np.argsort(finite_scores(scores, "all"))[::-1]
        falling = scores[order]
        first, second = _people(first, scores), _people(second, scores)
        same = first == second
        self._person = first[same]
        people = int(max(first.max(), second.max())) + 1
        ones = np.ones(len(scores) - len(self._person), np.int64)
        self._comparisons = coo_array((ones, (first[~same], second[~same])), shape=(people, people)).tocsr()
        self._first, self._second, self._genuine = first[order], second[order], same[order]
        # A threshold is above all, or below the last of equal scores.
        closing = np.flatnonzero(falling[1:] != falling[:-1]) + 1
        self._places = np.concatenate([[0], closing, [len(falling)]])

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(1,) weighted errors over the weight of all pairs.

        Raises:
            InsufficientData: no genuine pair has weight, or no impostor pair: one kind alone is decided without errors.
        """
        genuine = int(_some(weights[self._person].sum()))
        known = weights[: self._comparisons.shape[0]]
        total = genuine + int(_some(known @ (self._comparisons @ known)))
        head, count = min(len(self._genuine), 1000 + 2 * len(self._person)), len(self._genuine)
        errors, refused = self._errors(weights, genuine, head)
        while refused < genuine and head < count:
            head = min(count, 2 * head)
            errors, refused = self._errors(weights, genuine, head)
        return np.array([errors / total])

    def _errors(self, weights: Weights, genuine: int, head: int) -> tuple[int, int]:
        """The fewest errors of thresholds among the ``head`` highest scores, and the impostors' weight in them."""
        one = weights[self._first[:head]]
        same = self._genuine[:head]
        # Each genuine pair that matches is an error less, each impostor an error more.
        change = np.where(same, -one, one * weights[self._second[:head]])
        errors = genuine + np.concatenate([[0], np.cumsum(change)])
        places = self._places[: np.searchsorted(self._places, head, side="right")]
        refused = change[~same].sum()
        return int(errors[places].min()), int(refused)


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
