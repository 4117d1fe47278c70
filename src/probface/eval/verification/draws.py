"""What the resamples of an interval draw: people, or comparisons where nobody is in two of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InsufficientData
from probface.eval.comparisons import Comparisons
from probface.eval.metrics.bootstrap import Resampled, Statistic, Weights, resample
from probface.eval.verification.options import JudgeOptions

Numbers = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """The two people of each of P comparisons, as numbers to draw.

    A comparison of two people weighs the product of how often each was drawn, so that all that they share is drawn with
    them. Where nobody is in two comparisons nothing is shared, and comparisons are drawn one by one: then each has a
    number of its own, and an impostor comparison's second number is one more, which always weighs 1.

    Attributes:
        first, second: (P,) int32, equal where the comparison is genuine.
        units: how many are drawn.
        single: whether comparisons are drawn, not people.
    """

    first: Numbers
    second: Numbers
    units: int
    single: bool

    @classmethod
    def of(cls, comparisons: Comparisons) -> Draws:
        """Number those who are in the comparisons.

        Raises:
            DataError: a label contradicts the subjects.
        """
        numbers = comparisons.subject_numbers
        used = np.zeros(numbers.max() + 1, np.bool_)
        for rows in (comparisons.first, comparisons.second):
            used[numbers[rows]] = True
        compact = (np.cumsum(used) - 1)[numbers].astype(np.int32)
        first, second = compact[comparisons.first], compact[comparisons.second]
        _check_labels(comparisons, first == second)
        units = int(used.sum())
        impostor = ~comparisons.genuine
        times = np.bincount(first, minlength=units) + np.bincount(second[impostor], minlength=units)
        if times.max() > 1:
            return cls(first, second, units, single=False)
        count = len(comparisons)
        own = np.arange(count, dtype=np.int32)
        return cls(own, np.where(impostor, np.int32(count), own), count, single=True)

    @property
    def people(self) -> int:
        """How many numbers there are, for the statistics."""
        return self.units + self.single

    @property
    def everyone(self) -> Weights:
        """Each once."""
        return np.ones(self.people, np.int64)

    def resample(self, statistic: Statistic, options: JudgeOptions) -> Resampled:
        """A statistic of (people,) weights on everyone and on resamples; NaN where a resample leaves nothing to count.

        Raises:
            InsufficientData: there is nothing to count at all.
        """
        estimate = statistic(self.everyone)
        if self.units < 2:
            return Resampled(estimate, np.full((1, len(estimate)), np.nan), (self.units, options.seed))

        def forgiving(weights: Weights) -> NDArray[np.float64]:
            try:
                return statistic(np.append(weights, 1) if self.single else weights)
            except InsufficientData:
                return np.full(len(estimate), np.nan)

        return resample(forgiving, self.units, resamples=options.resamples, seed=options.seed)

    def halves(self, seed: int) -> NDArray[np.int8]:
        """(P,) which half of the people, 0 or 1, a comparison is of; -1 where it is between the two halves."""
        half = np.random.default_rng(seed).permutation(np.arange(self.units) % 2).astype(np.int8)
        ours = half[self.first]
        theirs = ours if self.single else half[self.second]
        return np.where(ours == theirs, ours, np.int8(-1))


def _check_labels(comparisons: Comparisons, same: NDArray[np.bool_]) -> None:
    wrong = np.flatnonzero(same != comparisons.genuine)
    if not len(wrong):
        return
    pair = wrong[0]
    said, are = ("one subject", "two") if comparisons.genuine[pair] else ("two subjects", "one")
    names = (comparisons.names[comparisons.first[pair]], comparisons.names[comparisons.second[pair]])
    raise DataError(
        f"pair {names[0]!r} and {names[1]!r}: labelled as of {said}, and its subjects are {are} ({len(wrong)} such "
        "pairs); correct the labels or the subjects"
    )
