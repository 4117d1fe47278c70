"""How genuine and impostor scores are spread, over bins that both share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.eval.metrics.verification import Scores

LOWEST_IMPOSTORS = 1e-3
"""This share of the impostors, far below all that matters, goes into the first bin."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreShares:
    """Shares of the scores in B bins of equal width; scores beyond the ends are in the outer bins.

    Attributes:
        edges: (B + 1,) rising.
        genuine, impostor: (B,) each sums to 1, or to 0 where there is no such score.
    """

    edges: NDArray[np.float64]
    genuine: NDArray[np.float64]
    impostor: NDArray[np.float64]


def score_shares(genuine: Scores, impostor: Scores, bins: int) -> ScoreShares:
    """Count (G,) genuine and (M,) impostor scores, M above 0, in ``bins``."""
    low = min(float(np.quantile(impostor, LOWEST_IMPOSTORS)), float(np.min(genuine, initial=np.inf)))
    high = max(float(np.max(scores, initial=-np.inf)) for scores in (genuine, impostor))
    edges = np.linspace(low, max(high, low + 1e-9), bins + 1)  # one score for all still has a histogram

    def shares(scores: Scores) -> NDArray[np.float64]:
        counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
        share: NDArray[np.float64] = counts / max(1, len(scores))
        return share

    return ScoreShares(edges, shares(genuine), shares(impostor))
