"""Error rates of one-to-one comparison (ISO/IEC 19795-1), by one rule: match when score > threshold.

FMR is the share of impostor comparisons that match, FNMR of genuine ones that do not, TMR = 1 - FNMR. Ties are exact:
equal scores are always decided alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.score.calibration import finite_scores, require_impostors, threshold_at

Scores = NDArray[np.floating]

__all__ = [
    "Accuracy",
    "Det",
    "FoldAccuracy",
    "Roc",
    "best_accuracy",
    "det",
    "eer",
    "kfold_accuracy",
    "roc",
    "threshold_at",
    "tmr_at_fmr",
]


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """All operating points, from the strictest.

    Attributes:
        threshold: (K,) float64, every distinct score, falling, and -inf.
        fmr: (K,) float64, from 0 to 1, never falling.
        tmr: (K,) float64, from 0 to 1, never falling.
    """

    threshold: NDArray[np.float64]
    fmr: NDArray[np.float64]
    tmr: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Det:
    """Detection error trade-off: both error rates at all operating points, from the strictest.

    Attributes:
        threshold: (K,) float64, every distinct score, falling, and -inf.
        fmr: (K,) float64, from 0 to 1, never falling.
        fnmr: (K,) float64, from 1 to 0, never rising.
    """

    threshold: NDArray[np.float64]
    fmr: NDArray[np.float64]
    fnmr: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The best that one threshold can do: ``errors`` wrong decisions, the share ``accuracy`` right."""

    accuracy: float
    threshold: float
    errors: int


@dataclass(frozen=True, slots=True)
class FoldAccuracy:
    """Accuracy over folds: its mean, the standard error of the mean, and what each fold gave (in order of number)."""

    mean: float
    standard_error: float
    per_fold: tuple[float, ...]
    thresholds: tuple[float, ...]


def roc(genuine: Scores, impostor: Scores) -> Roc:
    """The receiver operating characteristic of (G,) genuine and (M,) impostor scores.

    Raises:
        InvalidValue: a kind is missing, or a score is not finite.
    """
    threshold, true_matches, false_matches = _matches(genuine, impostor)
    return Roc(threshold, fmr=false_matches / len(impostor), tmr=true_matches / len(genuine))


def det(genuine: Scores, impostor: Scores) -> Det:
    """The detection error trade-off of (G,) genuine and (M,) impostor scores: FNMR from counts, so exact when small.

    Raises:
        InvalidValue: a kind is missing, or a score is not finite.
    """
    threshold, true_matches, false_matches = _matches(genuine, impostor)
    return Det(threshold, fmr=false_matches / len(impostor), fnmr=(len(genuine) - true_matches) / len(genuine))


def tmr_at_fmr(genuine: Scores, impostor: Scores, fmr: float, *, allow_few: bool = False) -> float:
    """Share of (G,) genuine scores above the threshold that lets at most ``fmr`` of the (M,) impostors match.

    Args:
        genuine: finite scores.
        impostor: finite scores.
        fmr: in (0, 1).
        allow_few: answer even where there are fewer than 10 / FMR impostors.

    Raises:
        InsufficientData: fewer than 10 / FMR impostors.
        InvalidValue: a kind is missing, a score is not finite, or a rate outside [0, 1).
    """
    if not allow_few:
        require_impostors(len(impostor), fmr)
    return float(np.mean(finite_scores(genuine, "genuine") > threshold_at(impostor, fmr)))


def eer(genuine: Scores, impostor: Scores) -> float:
    """Equal error rate: where FMR = FNMR on the ROC, its points joined by straight lines.

    Raises:
        InvalidValue: a kind is missing, or a score is not finite.
    """
    curve = roc(genuine, impostor)
    excess = curve.fmr + curve.tmr - 1  # FMR - FNMR: from -1 to 1, rising with every point
    after = int(np.argmax(excess >= 0))
    step = excess[after] - excess[after - 1]
    share = -excess[after - 1] / step
    return float(curve.fmr[after - 1] + share * (curve.fmr[after] - curve.fmr[after - 1]))


def best_accuracy(scores: Scores, labels: NDArray[np.bool_]) -> Accuracy:
    """The threshold with the fewest errors.

    It lies halfway between the two scores that it parts; where several gaps are equally good, the middle one is taken.

    Args:
        scores: (N,) finite.
        labels: (N,) bool, True for genuine.

    Raises:
        InvalidValue: shapes differ, no scores, or a score is not finite.
    """
    genuine, impostor = _split(scores, labels)
    genuine, impostor = np.sort(genuine), np.sort(impostor)
    # To go below a genuine score can pay, to go below an impostor's cannot: these are all the thresholds to try,
    # each just below ``above``; and one above everything.
    above, misses = np.unique(genuine, return_index=True)
    errors = np.append(misses + len(impostor) - np.searchsorted(impostor, above, side="left"), len(genuine))
    best = np.flatnonzero(errors == errors.min())
    chosen = int(best[len(best) // 2])
    fewest = int(errors[chosen])
    threshold = _just_below(float(above[chosen]), genuine, impostor) if chosen < len(above) else scores.max()
    return Accuracy(1 - fewest / len(scores), float(threshold), fewest)


def kfold_accuracy(scores: Scores, labels: NDArray[np.bool_], folds: NDArray[np.integer]) -> FoldAccuracy:
    """LFW's protocol: each fold is decided by the threshold that is best on all the others.

    Args:
        scores: (N,) finite.
        labels: (N,) bool, True for genuine.
        folds: (N,) number of the fold that each comparison is in.

    Raises:
        InvalidValue: fewer than two folds, shapes differ, or a score is not finite.
    """
    numbers = np.unique(folds)
    if len(numbers) < 2 or folds.shape != scores.shape:
        raise InvalidValue(f"folds of shape {folds.shape}, {len(numbers)} different: need two or more, one a score")
    accuracies, thresholds = [], []
    for number in numbers:
        held_out = folds == number
        threshold = best_accuracy(scores[~held_out], labels[~held_out]).threshold
        thresholds.append(threshold)
        accuracies.append(float(np.mean((scores[held_out] > threshold) == labels[held_out])))
    error = float(np.std(accuracies, ddof=1) / np.sqrt(len(numbers)))
    return FoldAccuracy(float(np.mean(accuracies)), error, tuple(accuracies), tuple(thresholds))


def _matches(genuine: Scores, impostor: Scores) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """(K,) thresholds, every distinct score, falling, and -inf; how many of each kind are above, (K,) and (K,)."""
    scores = np.concatenate([finite_scores(impostor, "impostor"), finite_scores(genuine, "genuine")])
    order = np.argsort(scores)[::-1]
    falling = scores[order]
    # The last of equal scores closes a group: all of them are above the next threshold.
    closing = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    false_matches = np.concatenate([[0], np.cumsum(order < len(impostor))[closing]])
    matched = np.concatenate([[0], closing + 1])
    return np.append(falling[closing].astype(np.float64), -np.inf), matched - false_matches, false_matches


def _split(scores: Scores, labels: NDArray[np.bool_]) -> tuple[Scores, Scores]:
    if labels.shape != scores.shape or labels.dtype != np.bool_:
        raise InvalidValue(
            f"labels of shape {labels.shape}, {labels.dtype}: must be bool, one for each of the scores {scores.shape}"
        )
    finite_scores(scores, "all")
    return scores[labels], scores[~labels]


def _just_below(above: float, *rising: Scores) -> float:
    """Halfway from ``above`` to the next lower score in any of the sorted arrays, and surely below ``above``.

    Surely also after rounding to the scores' own type, in which they will be compared.
    """
    kind = rising[0].dtype.type
    ranks = [int(np.searchsorted(scores, above, side="left")) for scores in rising]
    lower = [float(scores[rank - 1]) for scores, rank in zip(rising, ranks, strict=True) if rank > 0]
    if not lower:
        return float(np.nextafter(kind(above), kind(-np.inf)))
    low = max(lower)
    middle = float(kind(low + (above - low) / 2))
    return middle if low <= middle < above else low
