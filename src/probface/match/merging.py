"""Candidates into a top k: the one order of results, best score first, ties to the lower row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DoubleArray = NDArray[np.float64]
NOBODY = np.iinfo(np.int64).max


def merge_top_k(
    scores: DoubleArray,
    rows: NDArray[np.int64],
    whose: NDArray[np.int64],
    found: DoubleArray,
    found_rows: NDArray[np.int64],
) -> tuple[DoubleArray, NDArray[np.int64]]:
    """The k best of what is held and what was found.

    Args:
        scores: (N, k) held, -inf where there is nothing.
        rows: (N, k) theirs, -1 there.
        whose: (P,) probe, 0 .. N - 1, of each pair found.
        found: (P,) their scores.
        found_rows: (P,) their rows, none of which is held for the same probe.
    """
    count, k = scores.shape
    whose = np.concatenate([np.repeat(np.arange(count), k), whose])
    score, row = np.concatenate([scores.ravel(), found]), np.concatenate([rows.ravel(), found_rows])
    best = np.lexsort((np.where(row < 0, NOBODY, row), -score, whose))
    place = np.arange(len(best)) - np.searchsorted(whose[best], np.arange(count))[whose[best]]
    kept = best[place < k]
    return score[kept].reshape(count, k), row[kept].reshape(count, k)
