"""Confidence intervals by resampling people, not pairs.

The pairs of one person rise and fall together, so pairs drawn singly would claim far too much certainty. A resample
draws as many people as there are, with replacement: person ``i`` comes ``w_i`` times (multinomial). A genuine pair of
person ``i`` then counts ``w_i`` times and a pair of two people ``w_i * w_j`` times; two copies of one person are never
taken for two people. Statistics take these counts as weights (:mod:`probface.eval.metrics.weighted`), so nothing is
copied, and two statistics that saw the same resamples can be compared: their difference and ratio have intervals, too.

The intervals err on the safe side. What single pairs of two people bring by chance, beside what the two people have in
common with their other pairs, counts threefold, since the variance of w_i w_j is about 3 and not 1 (Owen, The
pigeonhole bootstrap, Annals of Applied Statistics 2007). Where that chance dominates, with few pairs a person as in
LFW's lists or at a very low FMR, an interval is up to sqrt(3) = 1.7 times too wide; where the people dominate, it is
right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from probface.errors import InsufficientData, InvalidValue

Weights: TypeAlias = NDArray[np.int64]
"""(S,) how often each person was drawn."""

Statistic: TypeAlias = Callable[[Weights], NDArray[np.float64]]
"""Weights -> (K,) figures; with ones, the figures on the people as they are."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its percentile interval: ``confidence`` of the resamples lie within [low, high]."""

    estimate: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """K figures on the people as they are, and on each resample.

    Attributes:
        estimate: (K,).
        values: (R, K).
        draws: (number of people, seed): alike for two that saw the same resamples.
    """

    estimate: NDArray[np.float64]
    values: NDArray[np.float64]
    draws: tuple[int, int]

    def intervals(self, confidence: float = 0.95) -> tuple[Interval, ...]:
        """The percentile interval of each figure; its ends are values that occurred, the outer ones where in doubt.

        Raises:
            InvalidValue: a confidence outside (0, 1).
            InsufficientData: a figure is undefined (0 / 0) in a resample.
        """
        if not 0 < confidence < 1:
            raise InvalidValue(f"confidence {confidence}: must be between 0 and 1")
        undefined = int(np.isnan(self.values).any(axis=1).sum())
        if undefined:
            raise InsufficientData(
                f"{undefined} of {len(self.values)} resamples give 0 / 0; bring more people or ask for a larger rate"
            )
        low = np.percentile(self.values, 50 * (1 - confidence), axis=0, method="lower")
        high = np.percentile(self.values, 50 * (1 + confidence), axis=0, method="higher")
        return tuple(
            Interval(float(e), float(a), float(b), confidence) for e, a, b in zip(self.estimate, low, high, strict=True)
        )


def resample(statistic: Statistic, people: int, *, resamples: int = 200, seed: int = 0) -> Resampled:
    """Evaluate a statistic on the people as they are and on resamples of them.

    The cost is that of ``resamples + 1`` calls of the statistic. The same people and seed give the same resamples.

    Args:
        statistic: of (S,) weights.
        people: S, how many there are.
        resamples: R; 200 serve for a 95 % interval, 1000 or more for figures that are published.
        seed: of the draws.

    Raises:
        InvalidValue: fewer than two people, or no resample.
        InsufficientData: raised by the statistic where a resample leaves nothing to count.
    """
    if people < 2 or resamples < 1:
        raise InvalidValue(f"{people} people, {resamples} resamples: need at least two people and one resample")
    rng = np.random.default_rng(seed)
    even = np.full(people, 1 / people)
    estimate = np.atleast_1d(statistic(np.ones(people, np.int64)))
    values = np.stack([np.atleast_1d(statistic(rng.multinomial(people, even))) for _ in range(resamples)])
    return Resampled(estimate, values, (people, seed))


def difference(a: Resampled, b: Resampled) -> Resampled:
    """``a - b``, figure by figure and resample by resample.

    Raises:
        InvalidValue: the two did not see the same resamples.
    """
    _paired(a, b)
    return Resampled(a.estimate - b.estimate, a.values - b.values, a.draws)


def ratio(a: Resampled, b: Resampled) -> Resampled:
    """``a / b``, figure by figure and resample by resample; infinite where only ``b`` is 0.

    Raises:
        InvalidValue: the two did not see the same resamples.
    """
    _paired(a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Resampled(a.estimate / b.estimate, a.values / b.values, a.draws)


def _paired(a: Resampled, b: Resampled) -> None:
    if a.draws != b.draws or a.values.shape != b.values.shape:
        raise InvalidValue(
            f"resamples of {a.draws[0]} people (seed {a.draws[1]}, {a.values.shape}) and of {b.draws[0]} "
            f"(seed {b.draws[1]}, {b.values.shape}): only figures on the same resamples can be compared"
        )
