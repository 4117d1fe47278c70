"""Quality 0..100 of a face image from its variance, in the manner of ISO/IEC 29794-1: an integer, 100 is best.

quality = 100 * clip( (log s_worst - log sigma^2) / (log s_worst - log s_best), 0, 1 ), rounded
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.contract import QualityScale
from probface.errors import InvalidValue

BEST_PERCENTILE = 5.0
"""Of the clean images: the best twentieth of them has quality 100."""
WORST_PERCENTILE = 95.0
"""Of the extreme ones: the worst twentieth of them has quality 0."""


def quality(sigma_sq: NDArray[np.floating], scale: QualityScale) -> NDArray[np.int64]:
    """Quality of N faces; it never rises with the variance.

    Args:
        sigma_sq: (N, 1), the variance of the whole vector, or (N, D), whose sum over the row it is; positive.
        scale: the anchors, from the model contract.

    Returns:
        (N,) whole numbers, 0..100.

    Raises:
        InvalidValue: ``sigma_sq`` is not (N, 1) or (N, D), or not positive and finite.
    """
    log_sigma_sq = _log_whole(sigma_sq, "sigma_sq")
    share = (scale.log_sigma_sq_worst - log_sigma_sq) / (scale.log_sigma_sq_worst - scale.log_sigma_sq_best)
    return np.rint(100 * np.clip(share, 0, 1)).astype(np.int64)


def fit_scale(clean_sigma_sq: NDArray[np.floating], extreme_sigma_sq: NDArray[np.floating]) -> QualityScale:
    """Set the anchors of :func:`quality` on a development set.

    Quality 100 begins at the 5th percentile of the clean images' log variance, quality 0 at the 95th of the extremely
    degraded ones'.

    Args:
        clean_sigma_sq: (N, 1) or (N, D) variances of images as they are.
        extreme_sigma_sq: (M, 1) or (M, D) of hardly recognisable ones (:data:`probface.face.degrade.EXTREME`).

    Raises:
        InvalidValue: one is empty or not positive and finite, or the extreme images are not the more uncertain ones.
    """
    best = float(np.percentile(_log_whole(clean_sigma_sq, "clean sigma_sq", least=1), BEST_PERCENTILE))
    worst = float(np.percentile(_log_whole(extreme_sigma_sq, "extreme sigma_sq", least=1), WORST_PERCENTILE))
    if not best < worst:
        raise InvalidValue(
            f"log sigma^2 {best:.4g} of clean and {worst:.4g} of extreme images: the extreme ones must have the larger "
            "variance; check that the two are not mixed up and that the head is trained"
        )
    return QualityScale(best, worst)


def _log_whole(sigma_sq: NDArray[np.floating], name: str, least: int = 0) -> NDArray[np.float64]:
    """(N,) logarithm of the variance of the whole vector."""
    if sigma_sq.ndim != 2 or sigma_sq.shape[1] == 0 or len(sigma_sq) < least:
        raise InvalidValue(f"{name} of shape {sigma_sq.shape}: must be (N, 1) or (N, D), N at least {least}")
    whole = sigma_sq.sum(axis=1, dtype=np.float64)
    bad = np.flatnonzero(~((sigma_sq > 0).all(axis=1) & np.isfinite(whole)))
    if len(bad):
        raise InvalidValue(f"{name} row {bad[0]} is {sigma_sq[bad[0]]}: must be positive and finite")
    log_whole: NDArray[np.float64] = np.log(whole)
    return log_whole
