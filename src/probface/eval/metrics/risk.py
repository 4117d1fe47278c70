"""Does the uncertainty know where the errors are? Reject the doubtful comparisons, and see what is left.

The quality of a pair is the lower of its two images' (ISO/IEC 29794-1); its risk, the larger of the two variances.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.eval.metrics.verification import Scores, best_accuracy


def error_versus_discard(
    genuine_scores: Scores, genuine_quality: NDArray[np.number], threshold: float, fractions: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Error versus discard characteristic (ISO/IEC 29794-1): FNMR after the pairs of lowest quality are set aside.

    Among pairs of equal quality chance decides, and the expected value over chance is returned. Between whole pairs
    the characteristic is joined by straight lines of errors against pairs discarded.

    Args:
        genuine_scores: (G,) finite.
        genuine_quality: (G,) of the pairs; larger is better (of variances, give the negative).
        threshold: match when score > threshold.
        fractions: (F,) shares of the pairs to discard, in [0, 1).

    Returns:
        (F,) FNMR of the pairs that are kept.

    Raises:
        InvalidValue: shapes differ, a value is not finite, or a fraction is outside [0, 1).
    """
    if genuine_quality.shape != genuine_scores.shape or genuine_scores.ndim != 1 or len(genuine_scores) == 0:
        raise InvalidValue(
            f"{genuine_scores.shape} scores with {genuine_quality.shape} qualities: need (G,) of both, G above 0"
        )
    groups, members = quality_groups(genuine_quality)
    missed = genuine_scores <= threshold
    return discard_curve(
        np.bincount(groups, missed, minlength=members), np.bincount(groups, minlength=members), fractions
    )


def quality_groups(quality: NDArray[np.number]) -> tuple[NDArray[np.int64], int]:
    """(G,) number of the group of equal quality that each pair is in, the worst group 0; and how many there are.

    Raises:
        InvalidValue: a quality is not finite.
    """
    if not np.isfinite(quality).all():
        raise InvalidValue("quality: must be finite for every pair; leave out pairs without one")
    levels, groups = np.unique(quality, return_inverse=True)
    return groups.astype(np.int64), len(levels)


def discard_curve(
    errors: NDArray[np.number], pairs: NDArray[np.number], fractions: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The characteristic from (K,) errors and (K,) pairs (or their weights) of K groups, worst quality first.

    Discarding a part of a group by chance takes the same part of its errors away, on average: linear interpolation of
    the cumulated errors is the expected value.

    Raises:
        InvalidValue: a fraction outside [0, 1).
    """
    if not ((fractions >= 0) & (fractions < 1)).all():
        raise InvalidValue(f"discard fractions {fractions}: must be at least 0 and below 1")
    gone_pairs = np.concatenate([[0.0], np.cumsum(pairs, dtype=np.float64)])
    gone_errors = np.concatenate([[0.0], np.cumsum(errors, dtype=np.float64)])
    discarded = fractions * gone_pairs[-1]
    left = np.maximum(gone_errors[-1] - np.interp(discarded, gone_pairs, gone_errors), 0)
    curve: NDArray[np.float64] = left / (gone_pairs[-1] - discarded)
    return curve


def partial_auc(fractions: NDArray[np.floating], fnmr: NDArray[np.floating], upto: float = 0.30) -> float:
    """Area under the characteristic from 0 to ``upto`` by the trapezoid rule; smaller is better.

    Divided by ``upto`` it is the mean FNMR on the way. Where no quality helps, it is ``upto`` times the FNMR.

    Args:
        fractions: (F,) rising, from 0 to ``upto`` or beyond.
        fnmr: (F,).
        upto: in (0, 1).

    Raises:
        InvalidValue: the fractions do not rise from 0 to ``upto``, or shapes differ.
    """
    covers = len(fractions) > 1 and fractions[0] == 0 and fractions[-1] >= upto > 0 and (np.diff(fractions) > 0).all()
    if fractions.shape != fnmr.shape or not covers:
        raise InvalidValue(f"discard fractions {fractions}: must rise from 0 to {upto} or beyond, one for each FNMR")
    x = np.append(fractions[fractions < upto], upto)
    y = np.interp(x, fractions, fnmr)
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def risk_controlled_accuracy(
    scores: Scores, labels: NDArray[np.bool_], risk: NDArray[np.floating], fractions: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The paper's risk-controlled recognition: reject the pairs of largest risk, refit the threshold on the others.

    Of equally risky pairs the later ones go first.

    Args:
        scores: (N,) finite.
        labels: (N,) bool, True for genuine.
        risk: (N,) of the pairs, for example the larger variance.
        fractions: (F,) shares to reject, in [0, 1); whole pairs, rounded down.

    Returns:
        (F,) best accuracy on the pairs that are kept.

    Raises:
        InvalidValue: shapes differ, a value is not finite, or a fraction is outside [0, 1).
    """
    if risk.shape != scores.shape or not np.isfinite(risk).all():
        raise InvalidValue(f"risk of shape {risk.shape}: must be finite, one for each of the scores {scores.shape}")
    if not ((fractions >= 0) & (fractions < 1)).all():
        raise InvalidValue(f"fractions to reject {fractions}: must be at least 0 and below 1")
    order = np.argsort(risk, kind="stable")
    kept = [order[: len(order) - math.floor(fraction * len(order) + 1e-9)] for fraction in fractions]
    return np.array([best_accuracy(scores[rows], labels[rows]).accuracy for rows in kept])
