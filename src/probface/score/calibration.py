"""Decision thresholds at a stated false-match rate, with a confidence bound, or a refusal.

    threshold(f) = the smallest impostor score s with share(impostor > s) <= f;    match when score > threshold

The rule stands here once; evaluation imports it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from probface.contract import Threshold
from probface.errors import InsufficientData, InvalidValue
from probface.types import Metric

EXPECTED_FALSE_MATCHES = 10
"""A rate is measured where at least so many false matches are expected: 10 / FMR impostor comparisons."""


def threshold_at(impostor_scores: NDArray[np.floating], fmr: float) -> float:
    """The smallest impostor score such that the share of impostors strictly above it is at most ``fmr``.

    Tied scores stand or fall together: the share at the threshold may be well below ``fmr``, never above. How many
    scores there are is the caller's concern, see :func:`require_impostors`. Takes linear time.

    Args:
        impostor_scores: (N,) finite scores, in any order.
        fmr: in [0, 1).

    Raises:
        InvalidValue: no scores, a score that is not finite, or a rate outside [0, 1).
    """
    scores = finite_scores(impostor_scores, "impostor")
    if not 0 <= fmr < 1:
        raise InvalidValue(f"FMR {fmr}: must be at least 0 and below 1")
    rank = len(scores) - 1 - allowed_false_matches(len(scores), fmr)
    return float(np.partition(scores, rank)[rank])


def allowed_false_matches(count: int, fmr: float) -> int:
    """How many of ``count`` impostors may match at a rate: the whole number at or below ``fmr * count``.

    A product that rounding left just below a whole number counts as that number: 0.29 of 100 are 29.
    """
    return math.floor(fmr * count + 1e-9)


def measurable(count: int, rate: float) -> bool:
    """Whether ``count`` trials are enough to measure a rate: 10 events or more are expected at it."""
    return count * rate >= EXPECTED_FALSE_MATCHES * (1 - 1e-9)


def trials_needed(rate: float) -> float:
    """The fewest trials that measure a rate: 10 / rate, a whole number; infinitely many for 0."""
    return math.ceil(EXPECTED_FALSE_MATCHES / rate - 1e-3) if rate > 0 else math.inf


def rounded_up(rate: float) -> float:
    """A rate above 0 as it is offered to a user, up to two digits: one rounded down would be refused in its turn."""
    scale = 10.0 ** (1 - math.floor(math.log10(rate)))
    return math.ceil(rate * scale - 1e-9) / scale


def require_impostors(count: int, fmr: float) -> None:
    """Refuse a rate that ``count`` comparisons cannot measure.

    Raises:
        InsufficientData: fewer than 10 / FMR; the message says which rate can be had.
    """
    if measurable(count, fmr):
        return
    needed = trials_needed(fmr)
    lowest = rounded_up(EXPECTED_FALSE_MATCHES / max(count, 1))
    mend = f"ask for {lowest:g} or above, or bring more people" if lowest < 1 else "bring more people"
    raise InsufficientData(f"FMR {fmr:g} needs at least {needed:,} impostor comparisons, found {count:,}; {mend}")


def rate_upper_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """Upper end of the exact one-sided interval of Clopper and Pearson (1934) for ``events`` out of ``trials``.

    The rate at which so few events would be seen with probability ``1 - confidence``: the ``confidence`` quantile of
    the distribution Beta(events + 1, trials - events).

    Raises:
        InvalidValue: not 0 <= events <= trials with trials above 0, or a confidence outside (0, 1).
    """
    if not (0 <= events <= trials and trials > 0):
        raise InvalidValue(f"{events} events in {trials} trials: need 0 <= events <= trials, and a trial")
    if not 0 < confidence < 1:
        raise InvalidValue(f"confidence {confidence}: must be between 0 and 1")
    return 1.0 if events == trials else float(betaincinv(events + 1, trials - events, confidence))


def threshold_at_fmr(
    impostor_scores: NDArray[np.floating], fmr: float, *, metric: Metric, data: str, confidence: float = 0.95
) -> Threshold:
    """Measure a decision threshold.

    The bound ``fmr_upper`` is exact for independent comparisons. All pairs of N people are not independent: one face
    that everybody resembles makes many false matches at once, so the true uncertainty is larger, as if there were fewer
    comparisons (towards N / 2 where people, not pairs, decide). Read the bound as the least doubt, not all of it;
    :func:`probface.eval.calibrate.calibrate` resamples people and raises it to what they show. It speaks of the rate at
    this threshold, not of having chosen the threshold on the same scores.

    Args:
        impostor_scores: (N,) scores of comparisons between different people.
        fmr: the false-match rate, in (0, 1).
        metric: the score that these are.
        data: name of the set of comparisons, a key of ``ModelContract.data``.
        confidence: of the one-sided bound.

    Raises:
        InsufficientData: fewer than 10 / FMR comparisons.
        InvalidValue: a score that is not finite, or a rate or confidence outside (0, 1).
    """
    if not 0 < fmr < 1:
        raise InvalidValue(f"FMR {fmr}: must be between 0 and 1")
    require_impostors(len(impostor_scores), fmr)
    threshold = threshold_at(impostor_scores, fmr)
    false_matches = int(np.count_nonzero(impostor_scores > threshold))
    upper = rate_upper_bound(false_matches, len(impostor_scores), confidence)
    return Threshold(metric, fmr, threshold, upper, len(impostor_scores), false_matches, data)


def finite_scores(scores: NDArray[np.floating], kind: str) -> NDArray[np.floating]:
    """The scores as they are, if they are a non-empty row of finite numbers.

    Raises:
        InvalidValue: they are not.
    """
    if scores.ndim != 1 or len(scores) == 0 or not np.issubdtype(scores.dtype, np.floating):
        raise InvalidValue(
            f"{kind} scores of shape {scores.shape}, {scores.dtype}: must be (N,) of floating point, N above 0"
        )
    finite = np.isfinite(scores)
    if not finite.all():
        row = int(np.argmin(finite))
        raise InvalidValue(f"{kind} score {row} is {scores[row]}: must be finite; leave out what cannot be scored")
    return scores
