"""Template fusion (PFE, Shi and Jain, ICCV 2019, section 3.3): several references of one person as one Gaussian.

    w_n   = (1 / sigma_n^2 + 1e-6)^(1/T) / sum_m (1 / sigma_m^2 + 1e-6)^(1/T)        (each dimension for itself)
    mu    = sum_n w_n mu_n, then scaled to length 1
    sigma^2 by one of
        minimum         min_n sigma_n^2                 PFE's code: as sure as the surest reference
        weighted_mean   sum_n w_n sigma_n^2             ProbFace's code: at T = 1 the harmonic mean
        precision_sum   1 / sum_n 1 / sigma_n^2         the product of independent Gaussians (PFE, Eq. 5)

The temperature T flattens the weights: at T = 1 they are the precisions, towards infinity all references count alike.
A single reference is its own template, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.gallery.records import ESTIMATORS, Estimator
from probface.types import Embeddings, FloatArray

PRECISION_FLOOR = 1e-6
"""Added to 1 / sigma^2, as the reference code does."""
SHORTEST_MEAN = 1e-6
"""Below this length a mean is rounding noise and has no direction."""
BLOCK_ELEMENTS = 1 << 18
"""Of the (rows, D) arrays in float64 that are in work at once: 2 MiB each, so that they stay in the cache."""

Float64Array = NDArray[np.float64]


def fuse(embeddings: Embeddings, estimator: Estimator = "weighted_mean", temperature: float = 1.0) -> Embeddings:
    """One Gaussian for all rows.

    Args:
        embeddings: N rows of one person, N of 1 or more.
        estimator: of the variance.
        temperature: T > 0; infinity gives the plain mean.

    Returns:
        One row, ``sigma_sq`` as wide as it was.

    Raises:
        InvalidValue: no row, an unknown estimator, T <= 0, or vectors that cancel out.
    """
    if not len(embeddings):
        raise InvalidValue("0 embeddings: a template needs one reference or more")
    whole = np.zeros(1, np.int64)
    mu, sigma_sq = fuse_groups(embeddings.mu, embeddings.sigma_sq, whole, estimator, temperature)
    return Embeddings(mu, sigma_sq)


def fuse_groups(
    mu: FloatArray,
    sigma_sq: FloatArray,
    starts: NDArray[np.int64],
    estimator: Estimator = "weighted_mean",
    temperature: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """One Gaussian for each group of adjacent rows; what :func:`fuse` gives for each, to the bit.

    Args:
        mu: (N, D) float32, unit length.
        sigma_sq: (N, 1) or (N, D) float32, positive.
        starts: (G,) the first row of each group, ascending from 0; a group reaches to the next one's start.
        estimator: of the variance.
        temperature: T > 0.

    Returns:
        ``mu`` (G, D) and ``sigma_sq`` (G, 1) or (G, D), float32.

    Raises:
        InvalidValue: groups that are empty or leave rows out, an unknown estimator, T <= 0, or a group whose vectors
            cancel out; the message names its number.
    """
    if estimator not in ESTIMATORS:
        raise InvalidValue(f"estimator {estimator!r}: must be one of {', '.join(ESTIMATORS)}")
    if not temperature > 0:
        raise InvalidValue(f"temperature {temperature}: must be above 0")
    bounds = np.append(starts, len(mu))
    if bounds[0] != 0 or (np.diff(bounds) < 1).any():
        raise InvalidValue(
            f"groups that start at {starts[:5].tolist()} of {len(mu)} rows: must begin at 0 and have a row or more each"
        )
    sizes = np.diff(bounds)
    fused_mu, fused_sigma_sq = mu[starts], sigma_sq[starts]  # copies; right already where a group has one row
    for first, last in group_blocks(bounds, max(1, BLOCK_ELEMENTS // mu.shape[1])):
        several = np.flatnonzero(sizes[first:last] > 1) + first
        if not len(several):
            continue
        rows = np.repeat(sizes[first:last] > 1, sizes[first:last])
        inner = np.append(0, np.cumsum(sizes[several])[:-1])
        part = slice(bounds[first], bounds[last])
        m, length, s = _fuse_block(mu[part][rows], sigma_sq[part][rows], inner, sizes[several], estimator, temperature)
        lost = several[length < SHORTEST_MEAN]
        if len(lost):
            raise InvalidValue(
                f"group {lost[0]} of {sizes[lost[0]]} references: their vectors cancel out to a mean of length 0; "
                "they cannot show one person, enrol them apart"
            )
        fused_mu[several], fused_sigma_sq[several] = m, s
    return fused_mu, fused_sigma_sq


def group_blocks(bounds: NDArray[np.int64], rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of whole groups with about so many rows; a larger group has a block to itself.

    Args:
        bounds: (G + 1,) the first row of each group, and the end of the last.
        rows: wanted in a block.
    """
    first, groups = 0, len(bounds) - 1
    while first < groups:
        last = int(np.searchsorted(bounds, bounds[first] + rows, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _fuse_block(
    mu: FloatArray,
    sigma_sq: FloatArray,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    estimator: Estimator,
    temperature: float,
) -> tuple[FloatArray, Float64Array, FloatArray]:
    """The fused rows, and the length of each weighted mean."""
    variance = sigma_sq.astype(np.float64)
    precision = 1 / variance
    # In logarithms, from the largest of the group down: a power of 1 / T overflows for a small T.
    logs = np.log(precision + PRECISION_FLOOR) / temperature
    weights = np.exp(logs - np.repeat(np.maximum.reduceat(logs, starts, axis=0), sizes, axis=0))
    total = np.add.reduceat(weights, starts, axis=0)
    mean = np.add.reduceat(weights * mu, starts, axis=0) / total
    length = np.sqrt((mean * mean).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):  # a zero mean is the caller's to refuse
        unit = (mean / length[:, None]).astype(np.float32)
    return unit, length, fused_variance(variance, weights, total, starts, estimator)


def fused_variance(
    variance: Float64Array, weights: Float64Array, total: Float64Array, starts: NDArray[np.int64], estimator: Estimator
) -> FloatArray:
    """The variance of each group of adjacent rows, by one of the estimators above.

    Args:
        variance: (N, W) of the rows.
        weights: (N, W) or (N, 1), not normalised; only ``weighted_mean`` looks at them.
        total: (G, W) or (G, 1), their sum over each group.
        starts: (G,) the first row of each group.
        estimator: which.

    Returns:
        (G, W) float32, positive.
    """
    if estimator == "minimum":
        fused = np.minimum.reduceat(variance, starts, axis=0)
    elif estimator == "weighted_mean":
        fused = np.add.reduceat(weights * variance, starts, axis=0) / total
    else:
        fused = 1 / np.add.reduceat(1 / variance, starts, axis=0)
    smallest = np.finfo(np.float32).smallest_subnormal  # in float32 the sum of huge precisions could become 0
    return np.maximum(fused, smallest).astype(np.float32)
