"""Affine calibration of a score to a natural-log likelihood ratio, by prior-weighted logistic regression."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics.verification import Scores
from probface.score.calibration import finite_scores

_CHUNK = 1 << 20
_MOST_STEPS = 100
_SETTLED = 1e-24
"""Newton's decrement, about twice what is still to be gained; the loss itself is of order 1."""

_Derivatives = NDArray[np.float64]
"""(6,): a function of (slope, intercept), its two first and its second derivatives (ss, si, ii)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """``llr = slope * score + intercept``: never falls with the score.

    Attributes:
        slope: above 0, finite.
        intercept: finite.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (0 < self.slope < math.inf and math.isfinite(self.intercept)):
            raise InvalidValue(
                f"calibration of slope {self.slope:g}, intercept {self.intercept:g}: the slope must be above 0, both "
                "finite; if genuine scores are the lower ones, change the sign"
            )

    def llr(self, scores: Scores) -> NDArray[np.float64]:
        """Natural-log likelihood ratios of scores, of the same shape."""
        ratios: NDArray[np.float64] = self.slope * scores.astype(np.float64) + self.intercept
        return ratios


def fit_calibration(genuine: Scores, impostor: Scores, prior: float = 0.5) -> Calibration:
    """Fit a :class:`Calibration` (Bruemmer et al. 2007), without a penalty.

    Minimises ``P / G sum log(1 + exp(-(a s + b + logit P))) + (1 - P) / M sum log(1 + exp(a s + b + logit P))`` by
    Newton's method on all scores, a part of them at a time: about ten passes, however many scores there are.

    Args:
        genuine: (G,) finite scores.
        impostor: (M,) finite scores.
        prior: P, in (0, 1); the fit is closest where ``llr`` is about ``-logit P``.

    Raises:
        InsufficientData: no impostor score is above a genuine one, so that no finite slope is best.
        InvalidValue: a kind is missing, a score is not finite, a prior outside (0, 1), or genuine scores are not the
            higher ones.
    """
    offset = prior_logit(prior)
    finite_scores(genuine, "genuine")
    finite_scores(impostor, "impostor")
    if genuine.max() <= impostor.min():
        raise InvalidValue(
            f"highest genuine score {genuine.max():g}, lowest impostor score {impostor.min():g}: genuine ones must "
            "be the higher; change the sign"
        )
    if genuine.min() >= impostor.max():
        raise InsufficientData(
            f"lowest genuine score {genuine.min():g}, highest impostor score {impostor.max():g}: some impostor must be "
            "above a genuine one; bring more, or harder, comparisons"
        )
    means = genuine.mean(dtype=np.float64), impostor.mean(dtype=np.float64)
    spread = genuine.std(dtype=np.float64), impostor.std(dtype=np.float64)
    centre, scale = float(np.mean(means)), math.hypot(*spread, means[0] - means[1])

    def derivatives(at: NDArray[np.float64]) -> _Derivatives:
        own = _mean_derivatives(genuine, 1, at[0], at[1] + offset, centre, scale)
        return prior * own + (1 - prior) * _mean_derivatives(impostor, -1, at[0], at[1] + offset, centre, scale)

    slope, intercept = _newton(derivatives)
    return Calibration(slope / scale, intercept - slope * centre / scale)


def prior_logit(prior: float) -> float:
    """``log(P / (1 - P))``.

    Raises:
        InvalidValue: a prior outside (0, 1).
    """
    if not 0 < prior < 1:
        raise InvalidValue(f"prior {prior}: must be between 0 and 1")
    return math.log(prior) - math.log1p(-prior)


def _mean_derivatives(
    scores: Scores, sign: int, slope: float, intercept: float, centre: float, scale: float
) -> _Derivatives:
    """Of the mean of ``log(1 + exp(-sign (slope s + intercept)))``; s counts from ``centre`` in units of ``scale``."""
    total = np.zeros(6)
    for start in range(0, len(scores), _CHUNK):
        s = (scores[start : start + _CHUNK].astype(np.float64) - centre) / scale
        margin = sign * (slope * s + intercept)
        wrong = expit(-margin)
        curvature = wrong * expit(margin)
        bent = curvature * s
        total += [
            np.logaddexp(0, -margin).sum(),
            -sign * (wrong @ s),
            -sign * wrong.sum(),
            bent @ s,
            bent.sum(),
            curvature.sum(),
        ]
    return total / len(scores)


def _newton(derivatives: Callable[[NDArray[np.float64]], _Derivatives]) -> tuple[float, float]:
    """The minimum of a strictly convex function, from (0, 0); steps are halved until they lead down."""
    at = np.zeros(2)
    here = derivatives(at)
    for _ in range(_MOST_STEPS):
        gradient = here[1:3]
        step = np.linalg.solve(here[[3, 4, 4, 5]].reshape(2, 2), gradient)
        decrement = float(gradient @ step)
        if decrement <= _SETTLED:
            break
        there = derivatives(at - step)
        # A rounding of the loss must not turn the last steps down.
        while there[0] > here[0] - decrement / 4 + 1e-14:
            step, decrement = step / 2, decrement / 2
            there = derivatives(at - step)
        at, here = at - step, there
    return float(at[0]), float(at[1])
