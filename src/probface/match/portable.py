"""The search with numpy alone: the same method as the compiled kernel, the same results, slower.

Blocks of references go through one matrix product with a block of probes; what may belong to the top k by its cosine
(:func:`cosine_thresholds`) is scored in float64 (:func:`exact_scores`), ties go to the lower row.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probface.match.layout import ROUNDED_UP, TILE, Layout, tile_codes
from probface.match.merging import merge_top_k
from probface.types import FloatArray

LANES = 32
"""Running sums of the float64 inner product."""
PROBES = 256
"""Probes to a block."""
REFERENCES = 8192
"""References to a block, about; a block ends with a bucket."""
RESCORED_NUMBERS = 1 << 23
"""Components of pairs that are scored in float64 at once."""
BLOCK_NUMBERS = 1 << 23
"""Components of references to a block, about: fewer references of large D."""
EXACT_DIM = 1040
"""Largest D whose sum of products of two codes is below 2^24, and so exact in float32."""

DoubleArray = NDArray[np.float64]
_log = np.frompyfunc(
    math.log, 1, 1
)  # the C library's, as in the compiled kernel: numpy's own differs in the last digit


def exact_dot(a: FloatArray, b: FloatArray) -> DoubleArray:
    """(N,) float64 inner products of paired float32 rows, in the one order of additions that all paths keep.

    Component l goes to running sum l mod 32; the sums are added in halves. The products themselves are exact.
    """
    rows, dim = a.shape
    products = np.zeros((rows, -(-dim // LANES) * LANES))
    np.multiply(a, b, out=products[:, :dim], dtype=np.float64)
    lanes = 0.0 + products[:, :LANES]  # a sum from zero on, as in the compiled kernel: never -0
    for start in range(LANES, products.shape[1], LANES):
        lanes += products[:, start : start + LANES]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def exact_scores(cosine: DoubleArray, s: FloatArray, sigma_sq: FloatArray, *, metric_is_cosine: bool) -> DoubleArray:
    """(N,) float64 scores from float64 cosines: the definition that decides."""
    if metric_is_cosine:
        return cosine
    t = s.astype(np.float64) + sigma_sq.astype(np.float64)
    scores: DoubleArray = -(2.0 - 2.0 * cosine) / t - np.asarray(_log(t), np.float64)
    return scores


def cosine_thresholds(tau: DoubleArray, low: DoubleArray, high: DoubleArray) -> DoubleArray:
    """The cosine below which no reference with ``t`` in [low, high] scores ``tau`` or more; the shapes broadcast.

    ``S > tau`` exactly when ``cos > b(t) = 1 + (t / 2)(tau + log t)``; b is convex and turns at ``exp(-1 - tau)``.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        t = np.clip(np.exp(-1.0 - tau), low, high)
        b = 1.0 + 0.5 * t * (tau + np.log(t))
        lowered = b - 1e-12 * (1.0 + np.abs(b) + t * np.abs(tau))
    return np.where(np.isneginf(tau), -np.inf, lowered)


def search(
    vectors: FloatArray,
    layout: Layout,
    probes: FloatArray,
    probe_sigma_sq: FloatArray,
    k: int,
    *,
    metric_is_cosine: bool,
    int8: bool,
) -> tuple[DoubleArray, NDArray[np.int64], int]:
    """Exact top k.

    Returns:
        scores: (N, k) float64, best first; -inf where there are fewer than k references.
        rows: (N, k) int64; -1 there.
        rescored: how many pairs passed the filter.
    """
    layout = replace(layout, order=layout.order.copy())  # another thread may exclude rows meanwhile
    scores, rows = np.empty((len(probes), k)), np.empty((len(probes), k), np.int64)
    rescored = 0
    for start in range(0, len(probes), PROBES):
        block = slice(start, start + PROBES)
        part = _Block(vectors, layout, probes[block], probe_sigma_sq[block], k, metric_is_cosine, int8)
        scores[block], rows[block] = part.run()
        rescored += part.rescored
    return scores, rows, rescored


class _Block:
    """The search of one block of probes."""

    def __init__(
        self,
        vectors: FloatArray,
        layout: Layout,
        probes: FloatArray,
        sigma_sq: FloatArray,
        k: int,
        metric_is_cosine: bool,
        int8: bool,
    ) -> None:
        self._vectors, self._layout, self._probes, self._sigma_sq = vectors, layout, probes, sigma_sq
        self._k, self._metric_is_cosine, self._int8 = k, metric_is_cosine, int8
        self._scores = np.full((len(probes), k), -np.inf)
        self._rows = np.full((len(probes), k), -1, np.int64)
        self.rescored = 0
        exact = probes.astype(np.float64)
        self._norm = np.sqrt((exact**2).sum(axis=1)) * ROUNDED_UP
        if int8:
            most = np.abs(probes).max(axis=1, keepdims=True)
            self._scale = (most / np.float32(127)).astype(np.float64)
            self._codes = np.clip(np.rint(probes * (np.float32(127) / most)), -127, 127)
            self._residual = np.sqrt(((exact - self._scale * self._codes) ** 2).sum(axis=1)) * ROUNDED_UP

    def run(self) -> tuple[DoubleArray, NDArray[np.int64]]:
        first, buckets = self._layout.bucket_first, len(self._layout.bucket_low)
        end = buckets
        while end > 0:  # from the largest sigma^2 down, as the compiled kernel
            size = max(TILE, min(REFERENCES, BLOCK_NUMBERS // self._probes.shape[1]))
            start = int(np.searchsorted(first, first[end] - size, side="left"))
            start = min(start, end - 1)
            self._search(start, end)
            end = start
        return self._scores, self._rows

    def _search(self, start: int, end: int) -> None:
        """Buckets ``start`` to ``end``."""
        layout = self._layout
        begin = int(layout.bucket_first[start])
        stop = min(int(layout.bucket_first[end]), len(layout.order))
        bounds, slack = self._cosines(begin, stop)
        seed = self._seed(bounds - slack, begin, stop)
        tau = np.maximum(self._scores[:, -1], seed)[:, None]
        if self._metric_is_cosine:
            least = np.repeat(tau - 1e-12, end - start, axis=1)
        else:
            s = self._sigma_sq.astype(np.float64)[:, None]
            low, high = s + layout.bucket_low[None, start:end], s + layout.bucket_high[None, start:end]
            least = cosine_thresholds(tau, low, high)
        sizes = np.diff(np.minimum(layout.bucket_first[start : end + 1], stop))
        passed = bounds + slack >= np.repeat(least, sizes, axis=1)
        passed &= layout.order[begin:stop] >= 0
        probe, position = np.nonzero(passed)
        self.rescored += len(probe)
        found, rows = self._score(probe, begin + position), layout.order[begin + position]
        self._scores, self._rows = merge_top_k(self._scores, self._rows, probe, found, rows)

    def _cosines(self, begin: int, stop: int) -> tuple[DoubleArray, DoubleArray]:
        """(N, n) cosines by the cheap product, and how far they may be off."""
        layout, dim = self._layout, self._probes.shape[1]
        tiles = slice(begin // TILE, -(-stop // TILE))

        def spread(values: NDArray[np.floating]) -> DoubleArray:
            return np.repeat(values[tiles].astype(np.float64), TILE)[: stop - begin]

        norm = spread(layout.tile_norm)
        if self._int8:
            kind = np.float32 if dim <= EXACT_DIM else np.float64
            products = self._codes.astype(kind) @ tile_codes(layout, tiles, dim)[: stop - begin].astype(kind).T
            scale, residual = spread(layout.tile_scale), spread(layout.tile_residual)
            off = self._residual[:, None] * (norm + residual) + self._norm[:, None] * residual
            return products * (self._scale * scale), off + 1e-12
        rows = np.maximum(layout.order[begin:stop], 0)
        products = self._probes @ self._vectors[rows].T
        return products.astype(np.float64), self._norm[:, None] * norm * (1.06 * (dim + 8) * 2.0**-24) + 1e-7

    def _seed(self, cosine: DoubleArray, begin: int, stop: int) -> DoubleArray:
        """(N,) what the k-th best score of this block is at least; -inf where the block has fewer than k."""
        alive = self._layout.order[begin:stop] >= 0
        if np.count_nonzero(alive) < self._k or np.isfinite(self._scores[:, -1]).all():
            return np.full(len(self._probes), -np.inf)
        least = cosine[:, alive]
        if not self._metric_is_cosine:
            t = self._sigma_sq.astype(np.float64)[:, None] + self._layout.sigma_sq[begin:stop][alive]
            least = -(2.0 - 2.0 * least) / t - np.log(t)
            least -= 1e-12 * (1.0 + np.abs(least))
        seed: DoubleArray = np.partition(least, least.shape[1] - self._k, axis=1)[:, -self._k]
        return seed

    def _score(self, probe: NDArray[np.int64], position: NDArray[np.int64]) -> DoubleArray:
        """Float64 scores of pairs, so many at once that they fit into memory."""
        found = np.empty(len(probe))
        size = max(1, RESCORED_NUMBERS // self._probes.shape[1])
        for start in range(0, len(probe), size):
            part = slice(start, start + size)
            cosine = exact_dot(self._probes[probe[part]], self._vectors[self._layout.order[position[part]]])
            found[part] = exact_scores(
                cosine,
                self._sigma_sq[probe[part]],
                self._layout.sigma_sq[position[part]],
                metric_is_cosine=self._metric_is_cosine,
            )
        return found
