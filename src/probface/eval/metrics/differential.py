"""How far the error rates of groups are apart: the largest ratio, and the highest over the geometric mean.

The largest ratio is 1 or more by construction, and above 1 by chance alone: the two groups are chosen for being
extreme, the more so the more groups there are and the fewer errors each has.

- ``ratio`` is the main figure. Its interval keeps the two groups that the data chose, in every resample. It may reach
  below 1, and then there is no sign of a difference. One that does not is weaker evidence than it seems: it knows
  nothing of the choice, so of many equal groups two are found apart more often than ``confidence`` says.
- ``ratio_anew`` chooses the two anew in each resample. The resample adds its own chance to that of the data, so the
  bias of the choice counts twice, and the interval cannot reach below 1. It shows how large the ratio of another
  sample of people might come out, not how large the true one is.
- ``over_mean``, the highest rate over the geometric mean of all (NIST IR 8429), leans less on the lowest group, whose
  rate has the fewest errors. Its interval keeps the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.eval.metrics.bootstrap import Interval, Resampled


@dataclass(frozen=True, slots=True)
class Differential:
    """How far groups are apart; infinite where the lowest has no error.

    Attributes:
        highest, lowest: the groups with the largest and the smallest rate.
        ratio: rate of ``highest`` over that of ``lowest``.
        ratio_anew: the same estimate; its interval is that of the largest over the smallest rate of each resample.
        over_mean: rate of ``highest`` over the geometric mean of all groups, ``highest`` included.
    """

    highest: str
    lowest: str
    ratio: Interval
    ratio_anew: Interval
    over_mean: Interval


def differential(groups: Sequence[str], rates: Resampled, confidence: float = 0.95) -> Differential:
    """Compare the rates of groups. Of equal rates, the first is the highest and the last the lowest.

    Args:
        groups: K labels, at least two.
        rates: K figures, none undefined.
        confidence: of the intervals.

    Raises:
        InvalidValue: fewer than two groups, or another number of rates.
        InsufficientData: a rate is undefined (0 / 0) in a resample.
    """
    if len(groups) < 2 or rates.estimate.shape != (len(groups),):
        raise InvalidValue(f"{len(groups)} groups, {rates.estimate.shape} rates: need two or more, and a rate of each")
    highest = int(np.argmax(rates.estimate))
    lowest = len(groups) - 1 - int(np.argmin(rates.estimate[::-1]))

    def figures(of: NDArray[np.float64]) -> NDArray[np.float64]:
        high, low = of[:, highest], of[:, lowest]
        with np.errstate(divide="ignore"):
            mean = np.exp(np.log(of).mean(axis=1))
        return np.stack([_over(high, low), _over(of.max(axis=1), of.min(axis=1)), _over(high, mean)], axis=1)

    found = Resampled(figures(rates.estimate[None])[0], figures(rates.values), rates.draws)
    ratio, anew, over_mean = found.intervals(confidence)
    return Differential(groups[highest], groups[lowest], ratio, anew, over_mean)


def _over(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """``a / b``; 1 where both are 0, for then they do not differ."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((a == 0) & (b == 0), 1.0, a / b)
