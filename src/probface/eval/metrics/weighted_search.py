"""Rates of one-to-many search as functions of how often each of the probes' subjects counts, for resamples.

With every weight 1 they are those of :mod:`probface.eval.metrics.identification`. The gallery stays as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.eval.metrics.bootstrap import Weights
from probface.eval.metrics.identification import Searches


class SearchRates:
    """Rank rates, then TPIR (1 - FNIR) at false-positive identification rates.

    Args:
        searches: of mated and non-mated probes.
        mated_subjects: (P,) number of the subject of each mated probe, 0 .. S - 1.
        other_subjects: (Q,) of each non-mated probe.
        ranks: of the rank rates, each 1 or more.
        fpirs: in (0, 1), each its own threshold, found anew for each weighting; the mate must be first.
    """

    def __init__(
        self,
        searches: Searches,
        mated_subjects: NDArray[np.integer],
        other_subjects: NDArray[np.integer],
        ranks: tuple[int, ...],
        fpirs: tuple[float, ...],
    ) -> None:
        order = np.argsort(searches.top_score)
        self._tops, self._others = searches.top_score[order], other_subjects[order]
        self._mated, self._fpirs = mated_subjects, fpirs
        self._within = searches.mate_rank <= np.array(ranks)[:, None]  # (R, P)
        self._first = np.where(searches.mate_rank == 1, searches.mate_score, -np.inf)

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(R + F,) rates of weighted subjects; NaN where nothing is left to count."""
        mated, others = weights[self._mated], weights[self._others]
        total = float(mated.sum())
        if total == 0:
            return np.full(len(self._within) + len(self._fpirs), np.nan)
        hits = [np.nan if np.isnan(at) else (self._first > at) @ mated for at in self._thresholds(others)]
        rates: NDArray[np.float64] = np.concatenate([self._within @ mated, hits]) / total
        return rates

    def _thresholds(self, weights: Weights) -> list[float]:
        """The smallest best score of weight that a share of at most FPIR is above."""
        counted = weights > 0
        if not counted.any():
            return [np.nan] * len(self._fpirs)
        tops, above = self._tops[counted], np.cumsum(weights[counted][::-1])[::-1]
        # Equal scores are above or not together: what is above a score is what begins after its last.
        after = np.append(above, 0)[np.searchsorted(tops, tops, side="right")]
        return [float(tops[np.argmax(after <= fpir * above[0] + 1e-9)]) for fpir in self._fpirs]
