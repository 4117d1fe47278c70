"""Whole matrices of scores at the price of a matrix product, and in blocks where they do not fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from probface.errors import InvalidValue
from probface.match.native import Path, choose_path, kernel, thread_count
from probface.score.by_metric import score_matrix as formula_matrix
from probface.score.mls import mls_matrix
from probface.types import METRICS, Embeddings, FloatArray, Metric

LARGEST_LOG = 60.0
"""Sums of variances between 2^-60 and 2^60 are the kernel's; others are scored in float64."""
PORTABLE_ROWS = 1024
"""Rows that numpy holds the terms of at once."""


def score_matrix(
    a: Embeddings,
    b: Embeddings,
    metric: Metric = "fastmls",
    *,
    out: FloatArray | None = None,
    path: str = "auto",
    threads: int = 0,
) -> FloatArray:
    """Scores of every one of N faces with every one of M.

    Args:
        a: N faces.
        b: M faces, as wide.
        metric: ``fastmls``, ``mls`` (one variance or D) or ``cosine``.
        out: (N, M) float32, C-contiguous, to write into; made if not given.
        path: name of the code to run, ``auto`` for the best.
        threads: of the compiled code; 0 for all cores. Cosines are numpy's matrix product, which has its own.

    Returns:
        (N, M) float32; equal to :mod:`probface.score` up to float32 rounding, for sums of two ``sigma_sq`` from 1e-37
        to 1e37.

    Raises:
        InvalidValue: an unknown metric, widths that differ, FastMLS for D variances, or an ``out`` of another form.
    """
    chosen, count = choose_path(path), thread_count(threads)
    _check(a, b, metric)
    out = _ready(out, (len(a), len(b)))
    if metric == "mls" and a.sigma_sq.shape[1] > 1:
        return mls_scores(a, b, path=chosen, threads=count, out=out)
    compiled = kernel() if chosen.native else None
    if metric == "cosine":
        np.matmul(a.mu, b.mu.T, out=out)
    elif compiled is None:
        for start in range(0, len(a), PORTABLE_ROWS):
            rows = slice(start, start + PORTABLE_ROWS)
            out[rows] = formula_matrix(a[rows], b, "fastmls")
    elif out.size > 0:
        sides = [np.ascontiguousarray(array) for side in (a, b) for array in (side.mu, side.sigma_sq[:, 0])]
        compiled.fast_mls_matrix(chosen.name, *sides, out, count)
    if metric == "mls":
        out *= np.float32(a.dim / 2)
    return out


def score_blocks(
    a: Embeddings, b: Embeddings, metric: Metric = "fastmls", *, rows: int = 1024, path: str = "auto", threads: int = 0
) -> Iterator[tuple[slice, FloatArray]]:
    """The matrix of :func:`score_matrix` in blocks of rows, for a matrix that does not fit into memory.

    Yields:
        (which rows, their (n, M) scores); the array is used again for the next block.
    """
    if rows < 1:
        raise InvalidValue(f"rows {rows}: must be 1 or more")
    buffer = np.empty((min(rows, len(a)), len(b)), np.float32)
    for start in range(0, len(a), rows):
        part = a[start : start + rows]
        yield (
            slice(start, start + len(part)),
            score_matrix(part, b, metric, out=buffer[: len(part)], path=path, threads=threads),
        )


def mls_scores(a: Embeddings, b: Embeddings, *, path: Path, threads: int, out: FloatArray | None = None) -> FloatArray:
    """(N, M) float32 MLS for D variances; the compiled code merges the fractions of 8 dimensions into one."""
    out = _ready(out, (len(a), len(b)))
    if out.size == 0:
        return out
    compiled = kernel() if path.native else None
    if compiled is None or not within_float32(a, b):
        kind = np.float32 if within_float32(a, b) else np.float64
        sides = (array.astype(kind) for array in (a.mu, a.sigma_sq, b.mu, b.sigma_sq))
        with np.errstate(over="ignore"):  # a score beyond float32 becomes -inf
            out[:] = mls_matrix(*sides)
        return out
    shift, merge = merging(a, b)
    # t and squared distances times 2^-shift leave the fractions as they are, and keep products of t in range.
    scale, root = np.float32(2.0**-shift), np.float32(2.0 ** (-shift / 2))
    scaled = (
        np.ascontiguousarray(array) for array in (a.mu * root, a.sigma_sq * scale, b.mu * root, b.sigma_sq * scale)
    )
    compiled.mls_matrix(path.name, *scaled, merge, out, threads)
    out -= np.float32(0.5 * a.dim * shift * math.log(2))
    return out


def within_float32(a: Embeddings, b: Embeddings) -> bool:
    """Whether float32 holds the fractions and logarithms of all pairs with room to spare."""
    low, high = _logs_of_t(a, b)
    return low > -LARGEST_LOG and high < LARGEST_LOG


def _logs_of_t(a: Embeddings, b: Embeddings) -> tuple[float, float]:
    """log2 of the least and the largest sum of two variances of one dimension."""
    low = math.log2(float(a.sigma_sq.min()) + float(b.sigma_sq.min()))
    return low, math.log2(float(a.sigma_sq.max()) + float(b.sigma_sq.max()))


def merging(a: Embeddings, b: Embeddings) -> tuple[int, int]:
    """By which power of 4 to divide the variances, and over how many dimensions fractions stay within float32."""
    low, high = _logs_of_t(a, b)
    shift = 2 * round((low + high) / 4)
    low, high = low - shift, high - shift
    above = max(2.0 - shift, high) + 1  # log2 of the largest squared distance (4), as large as t or larger
    for merge in (8, 4, 2):
        if merge * low > -120 and (merge - 1) * high + above + math.log2(merge) < 120:
            return shift, merge
    return shift, 1


def _ready(out: FloatArray | None, shape: tuple[int, int]) -> FloatArray:
    if out is None:
        return np.empty(shape, np.float32)
    if out.shape != shape or out.dtype != np.float32 or not (out.flags.c_contiguous and out.flags.writeable):
        raise InvalidValue(f"out of shape {out.shape}, {out.dtype}: must be {shape} float32, C-contiguous, writable")
    return out


def _check(a: Embeddings, b: Embeddings, metric: Metric) -> None:
    if metric not in METRICS:
        raise InvalidValue(f"metric {metric!r}: must be one of {', '.join(METRICS)}")
    widths = [(side.dim, side.sigma_sq.shape[1]) for side in (a, b)]
    if widths[0] != widths[1]:
        raise InvalidValue(
            f"faces of (D, variances) {widths[0]} and {widths[1]}: must be alike; embed both with one model"
        )
    if metric == "fastmls" and widths[0][1] > 1:
        raise InvalidValue("FastMLS of D variances: takes one variance a face; score with mls")
