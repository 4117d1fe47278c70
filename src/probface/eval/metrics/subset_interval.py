"""Confidence intervals from a protocol's own random subsets of its people: the delete-d jackknife.

A protocol that judges by several random subsets shows how a figure varies with the people drawn. Subsets overlap, so
that their standard deviation is not the standard error of the figure on all people. With r of n = r + d people in each
of T subsets, and s^2 = 1 / (T - 1) * sum over subsets of (figure - mean)^2, the jackknife's estimate of that error is
r / d * s^2 (Shao and Wu, Annals of Statistics 1989): of a mean, which varies by v / n, subsets of the same n people
vary by (1 / r - 1 / n) * v = d / r * v / n, and s^2 estimates that.

The mean over T subsets is not the figure on all people: subsets that are drawn independently leave it apart by s^2 / T.
The two errors are independent, and the interval is of the mean over subsets:

    se^2 = (r / d + 1 / T) * s^2
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from probface.errors import InvalidValue
from probface.eval.metrics.bootstrap import Interval


def subset_interval(figures: NDArray[np.floating], kept: float, left_out: float, confidence: float = 0.95) -> Interval:
    """Mean over subsets, and Student's interval of T - 1 degrees of freedom around it.

    Args:
        figures: (T,) of one figure, finite, T of 2 or more.
        kept: r, how many people are in a subset (the mean, where subsets differ).
        left_out: d, how many are not.
        confidence: of the interval.

    Raises:
        InvalidValue: fewer than two figures, one that is not finite, numbers of people or a confidence out of range.
    """
    if figures.ndim != 1 or len(figures) < 2 or not np.isfinite(figures).all():
        raise InvalidValue(f"figures {figures.tolist()}: need (T,) finite ones, of two subsets or more")
    if not (kept > 0 and left_out > 0 and 0 < confidence < 1):
        raise InvalidValue(
            f"{kept} people kept, {left_out} left out, confidence {confidence}: need some of both, and a confidence "
            "between 0 and 1"
        )
    mean = float(figures.mean())
    error = math.sqrt((kept / left_out + 1 / len(figures)) * float(figures.var(ddof=1)))
    reach = float(stdtrit(len(figures) - 1, (1 + confidence) / 2)) * error
    return Interval(mean, mean - reach, mean + reach, confidence)
