"""Exact top k by MLS with D variances (PFE): float32 scores with a bound filter, float64 ones decide.

A float32 score of :func:`probface.match.matrix.mls_scores` is a sum of positive fractions and of logarithms, none of
which cancels within itself, so its error is bounded by a small multiple of the sizes of the two sums:

    |float32 - exact| <= u (64 + D / 8) (distance + sum |log t_l| + D),      u = 2^-24

where the distance is known from the score and the logarithms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.match.index_file import unchecked
from probface.match.matrix import mls_scores
from probface.match.native import Path
from probface.types import Embeddings

PROBES = 64
"""Probes to a block."""
REFERENCES = 4096
"""References to a block."""

DoubleArray = NDArray[np.float64]


def exact_mls(probes: Embeddings, references: Embeddings) -> DoubleArray:
    """(N,) float64 MLS of paired rows: the definition that decides."""
    t = probes.sigma_sq.astype(np.float64) + references.sigma_sq.astype(np.float64)
    apart = probes.mu.astype(np.float64) - references.mu.astype(np.float64)
    scores: DoubleArray = -0.5 * (apart**2 / t + np.log(t)).sum(axis=1)
    return scores


def error_bound(scores: NDArray[np.float32], probes: Embeddings, references: Embeddings) -> DoubleArray:
    """(N, M) how far the float32 scores may be from the exact ones."""
    least = np.log(probes.sigma_sq.astype(np.float64).min(axis=1)[:, None] + references.sigma_sq.min(axis=1)[None, :])
    most = np.log(probes.sigma_sq.astype(np.float64).max(axis=1)[:, None] + references.sigma_sq.max(axis=1)[None, :])
    dim = probes.dim
    logs = dim * np.maximum(np.abs(least), np.abs(most))
    distance = np.maximum(0.0, -2.0 * scores.astype(np.float64) - dim * least)
    bound: DoubleArray = 2.0**-24 * (64 + dim / 8) * (distance + logs + dim)
    return bound


def search(
    probes: Embeddings, references: Embeddings, order: NDArray[np.int64], k: int, *, path: Path, threads: int
) -> tuple[DoubleArray, NDArray[np.int64], int]:
    """Exact top k; ``order`` tells by -1 which rows are erased. Returns scores, rows, and how many were rescored."""
    alive = np.zeros(len(references), bool)
    alive[order[order >= 0]] = True
    scores, rows = np.full((len(probes), k), -np.inf), np.full((len(probes), k), -1, np.int64)
    rescored = 0
    for start in range(0, len(probes), PROBES):
        block = slice(start, start + PROBES)
        for first in range(0, len(references), REFERENCES):
            part = slice(first, first + REFERENCES)
            some = unchecked(references.mu[part], references.sigma_sq[part])  # erased rows are 0
            rescored += _merge(probes[block], some, first, alive[part], scores[block], rows[block], path, threads)
    return scores, rows, rescored


def _merge(
    probes: Embeddings,
    references: Embeddings,
    first: int,
    alive: NDArray[np.bool_],
    scores: DoubleArray,
    rows: NDArray[np.int64],
    path: Path,
    threads: int,
) -> int:
    """Merge one block of references into the top k of a block of probes, in place."""
    k = scores.shape[1]
    cheap = mls_scores(probes, references, path=path, threads=threads)
    off = error_bound(cheap, probes, references)
    least = np.where(alive, cheap - off, -np.inf)
    tau = scores[:, -1]
    if np.count_nonzero(alive) >= k:
        tau = np.maximum(tau, np.partition(least, least.shape[1] - k, axis=1)[:, -k])
    probe, column = np.nonzero((cheap + off >= tau[:, None]) & alive)
    found = exact_mls(probes[probe], references[column])
    whose = np.concatenate([np.repeat(np.arange(len(probes)), k), probe])
    score = np.concatenate([scores.ravel(), found])
    row = np.concatenate([rows.ravel(), first + column])
    best = np.lexsort((np.where(row < 0, np.iinfo(np.int64).max, row), -score, whose))
    place = np.arange(len(best)) - np.searchsorted(whose[best], np.arange(len(probes)))[whose[best]]
    kept = best[place < k]
    scores[:], rows[:] = score[kept].reshape(-1, k), row[kept].reshape(-1, k)
    return len(probe)
