"""From a score to a likelihood ratio, and how well calibrated one is (Bruemmer and du Preez 2006).

The natural-log likelihood ratio of a score s is ``log p(s | same subject) / p(s | different subjects)``; with a prior
P of "same subject" the posterior is ``expit(llr + logit P)``. Genuine and impostor comparisons are weighted by the
prior, not by how many there are: each of G genuine ones by P / G, each of M impostors by (1 - P) / M.

Nothing is drawn by chance or left out: every function uses all comparisons, tens of millions of them, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit

from probface.errors import InvalidValue
from probface.eval.metrics.logistic import Calibration, fit_calibration, prior_logit
from probface.eval.metrics.verification import Scores

Counts = NDArray[np.int64]

__all__ = [
    "Calibration",
    "Reliability",
    "StepCalibration",
    "calibration_loss",
    "cllr",
    "fit_calibration",
    "fit_steps",
    "min_cllr",
    "reliability",
]


@dataclass(frozen=True, slots=True, eq=False)
class StepCalibration:
    """The monotone calibration that fits its own data best: K steps, in the order of rising scores.

    Attributes:
        start: (K,) float64, the lowest score of each step.
        value: (K,) float64, natural-log likelihood ratio, never falling; -inf where the step has no genuine comparison,
            inf where it has no impostor.
        genuine, impostor: (K,) int64, comparisons in the step.
    """

    start: NDArray[np.float64]
    value: NDArray[np.float64]
    genuine: Counts
    impostor: Counts

    def llr(self, scores: Scores) -> NDArray[np.float64]:
        """Natural-log likelihood ratios of scores: of the last step that starts at or below, else of the first."""
        return self.value[np.maximum(np.searchsorted(self.start, scores, side="right") - 1, 0)]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """What was predicted against what came true, in K bins of rising posterior.

    Attributes:
        predicted: (K,) mean posterior of the bin, weighted by the prior.
        observed: (K,) share of genuine comparisons in it, weighted by the prior.
        weight: (K,) of the bins, sum 1; about equal.
        genuine, impostor: (K,) int64, comparisons in the bin.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    weight: NDArray[np.float64]
    genuine: Counts
    impostor: Counts

    @property
    def expected_calibration_error(self) -> float:
        """``sum_k weight_k |predicted_k - observed_k|``, in 0..1."""
        return float(self.weight @ np.abs(self.predicted - self.observed))


def fit_steps(genuine: Scores, impostor: Scores) -> StepCalibration:
    """Calibration by pool adjacent violators (isotonic regression); the best monotone one for every prior.

    It has learnt its own data by heart: use it to measure calibration, and :func:`fit_calibration` for new scores.

    Args:
        genuine: (G,) scores; infinite ones are allowed.
        impostor: (M,) likewise.

    Raises:
        InvalidValue: a kind is missing, or a score is NaN.
    """
    levels, own, other = _by_level(genuine, impostor)
    blocks = isotonic_regression(own / (own + other), weights=(own + other).astype(np.float64)).blocks[:-1]
    own, other = np.add.reduceat(own, blocks), np.add.reduceat(other, blocks)
    with np.errstate(divide="ignore"):
        value = np.log(own * len(impostor) / (other * len(genuine)))  # one rounding: equal shares stay equal
    return StepCalibration(levels[blocks].astype(np.float64), value, own, other)


def cllr(genuine_llr: Scores, impostor_llr: Scores) -> float:
    """Cost of the log likelihood ratio, in bits: 0 is perfect, 1 tells nothing, more misleads.

    ``1 / (2 log 2) (mean log(1 + exp(-llr_genuine)) + mean log(1 + exp(llr_impostor)))``. It is infinite where a wrong
    answer was given with certainty.

    Args:
        genuine_llr: (G,) natural-log likelihood ratios; infinite ones are allowed.
        impostor_llr: (M,) likewise.

    Raises:
        InvalidValue: a kind is missing, or a ratio is NaN.
    """
    genuine, impostor = _not_nan(genuine_llr, "genuine"), _not_nan(impostor_llr, "impostor")
    missed = np.logaddexp(0, -genuine, dtype=np.float64).mean()
    return float((missed + np.logaddexp(0, impostor, dtype=np.float64).mean()) / (2 * math.log(2)))


def min_cllr(genuine: Scores, impostor: Scores) -> float:
    """The least Cllr, in bits, that any monotone calibration of the scores can have: what the order of scores loses.

    Scores or likelihood ratios do alike; they may be infinite.

    Raises:
        InvalidValue: a kind is missing, or a score is NaN.
    """
    steps = fit_steps(genuine, impostor)
    own, other = steps.genuine > 0, steps.impostor > 0
    missed = steps.genuine[own] @ np.logaddexp(0, -steps.value[own]) / len(genuine)
    return float((missed + steps.impostor[other] @ np.logaddexp(0, steps.value[other]) / len(impostor)) / math.log(4))


def calibration_loss(genuine_llr: Scores, impostor_llr: Scores) -> float:
    """Cllr less min Cllr, in bits, at least 0: what is lost by the values, beyond their order.

    Raises:
        InvalidValue: a kind is missing, or a ratio is NaN.
    """
    return max(0.0, cllr(genuine_llr, impostor_llr) - min_cllr(genuine_llr, impostor_llr))


def reliability(genuine_llr: Scores, impostor_llr: Scores, prior: float = 0.5, bins: int = 15) -> Reliability:
    """Reliability diagram at a prior: of what was given a posterior, which share was genuine?

    The bins hold equal weight, which is equal counts where there are as many genuine comparisons as the prior says. (By
    plain counts, millions of impostors would fill every bin but the last.) Equal ratios are never parted, so weights
    differ a little and there may be fewer bins than asked for.

    Args:
        genuine_llr: (G,) natural-log likelihood ratios; infinite ones are allowed.
        impostor_llr: (M,) likewise.
        prior: of "same subject", in (0, 1).
        bins: at least 1.

    Raises:
        InvalidValue: a kind is missing, a ratio is NaN, a prior outside (0, 1), or no bin.
    """
    offset = prior_logit(prior)
    if bins < 1:
        raise InvalidValue(f"{bins} bins: need at least one")
    levels, own, other = _by_level(genuine_llr, impostor_llr)
    hits = own * (prior / len(genuine_llr))
    weight = hits + other * ((1 - prior) / len(impostor_llr))
    # Where the middle of a level's weight falls.
    place = np.minimum((bins * (np.cumsum(weight) - weight / 2)).astype(np.int64), bins - 1)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    total = np.add.reduceat(weight, starts)
    return Reliability(
        predicted=np.add.reduceat(weight * expit(levels.astype(np.float64) + offset), starts) / total,
        observed=np.add.reduceat(hits, starts) / total,
        weight=total / total.sum(),
        genuine=np.add.reduceat(own, starts),
        impostor=np.add.reduceat(other, starts),
    )


def _by_level(genuine: Scores, impostor: Scores) -> tuple[Scores, Counts, Counts]:
    """(K,) distinct scores of both kinds, rising, and how many there are of each kind, (K,) and (K,)."""
    scores = np.concatenate([_not_nan(genuine, "genuine"), _not_nan(impostor, "impostor")])
    order = np.argsort(scores)
    rising, own = scores[order], order < len(genuine)
    starts = np.flatnonzero(np.concatenate([[True], rising[1:] != rising[:-1]]))
    count = np.diff(starts, append=len(rising))
    hits = np.add.reduceat(own, starts, dtype=np.int64)
    return rising[starts], hits, count - hits


def _not_nan(scores: Scores, kind: str) -> Scores:
    if scores.ndim != 1 or len(scores) == 0 or not np.issubdtype(scores.dtype, np.floating):
        raise InvalidValue(
            f"{kind} scores of shape {scores.shape}, {scores.dtype}: must be (N,) of floating point, N above 0"
        )
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise InvalidValue(f"{kind} score {bad[0]} is nan: must be a number; leave out what cannot be scored")
    return scores
