"""Exact top k by MLS with D variances (PFE): float32 scores with a bound filter, float64 ones decide.

A float32 score of :func:`probface.match.matrix.mls_scores` is a sum of positive fractions and of logarithms, none of
which cancels within itself, so its error is bounded by a small multiple of the sizes of the two sums:

    |float32 - exact| <= u (64 + D / 8) (distance + sum |log t_l| + D),      u = 2^-24

where the distance is known from the score and the logarithms. Variances so small or large that float32 cannot hold the
fractions are all scored in float64.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from probface.match.index_file import unchecked
from probface.match.matrix import merging, mls_scores, within_float32
from probface.match.merging import merge_top_k
from probface.match.native import Path
from probface.types import Embeddings

PROBES = 64
"""Probes to a block."""
REFERENCES = 4096
"""References to a block."""
RESCORED_NUMBERS = 1 << 23
"""Components of pairs that are scored in float64 at once."""

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
    # The kernel sums logarithms of scaled variances, and the scale is taken out afterwards.
    scaling = math.log(2) * abs(merging(probes, references)[0])
    logs = dim * (np.maximum(np.abs(least), np.abs(most)) + 2 * scaling)
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
            probe, column = _candidates(probes[block], some, alive[part], scores[block], path, threads)
            found = _exact(probes[block], some, probe, column)
            scores[block], rows[block] = merge_top_k(scores[block], rows[block], probe, found, first + column)
            rescored += len(probe)
    return scores, rows, rescored


def _candidates(
    probes: Embeddings,
    references: Embeddings,
    alive: NDArray[np.bool_],
    scores: DoubleArray,
    path: Path,
    threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs that may enter the top k whose scores are held so far."""
    k = scores.shape[1]
    if not within_float32(probes, references):
        probe, column = np.nonzero(np.broadcast_to(alive, (len(probes), len(references))))
        return probe, column
    cheap = mls_scores(probes, references, path=path, threads=threads)
    off = error_bound(cheap, probes, references)
    tau = scores[:, -1]
    if np.count_nonzero(alive) >= k:
        least = np.where(alive, cheap - off, -np.inf)
        tau = np.maximum(tau, np.partition(least, least.shape[1] - k, axis=1)[:, -k])
    probe, column = np.nonzero((cheap + off >= tau[:, None]) & alive)
    return probe, column


def _exact(
    probes: Embeddings, references: Embeddings, probe: NDArray[np.int64], column: NDArray[np.int64]
) -> DoubleArray:
    """(P,) exact scores of pairs, so many at once that they fit into memory."""
    found = np.empty(len(probe))
    size = max(1, RESCORED_NUMBERS // probes.dim)
    for start in range(0, len(probe), size):
        i, j = probe[start : start + size], column[start : start + size]
        one, other = (unchecked(side.mu[at], side.sigma_sq[at]) for side, at in ((probes, i), (references, j)))
        found[start : start + size] = exact_mls(one, other)
    return found
