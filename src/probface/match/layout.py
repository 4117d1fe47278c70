"""The order in which references are searched: buckets of like sigma^2, tiles of like scale, and their codes.

References are sorted by sigma^2 and cut into buckets, each of which has one cosine threshold for a probe; within a
bucket they are sorted by their largest component, so that the 64 of a tile can share one scale:

    mu = scale * code + what is left,      code a whole number in -127 .. 127,      residual >= |what is left|

docs/exact_search.md explains why the results stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probface.match.native import kernel
from probface.types import FloatArray

TILE = 64
"""References to a tile."""
MAX_DIM = 65536
"""Largest D: above it a sum of products of codes may leave 32 bits."""
BUCKET_TILES = 16
"""Most tiles to a bucket."""
BUCKET_RATIO = 1.03
"""Largest quotient of two sigma^2 in a bucket of more than one tile."""
ROUNDED_UP = 1 + 1e-6
"""Float32 bounds are made larger by so much, so that rounding does not make them too small."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """M references in search order. Positions run over this order, rows over the caller's.

    Attributes:
        order: (M,) int64, position -> row; -1 for an erased one.
        sigma_sq: (M,) float32 by position.
        bucket_first: (B + 1,) int64, position of each bucket's first reference, a multiple of 64.
        bucket_low, bucket_high: (B,) float32, least and largest sigma^2 of each bucket.
        tile_norm: (T,) float32, the largest length of a vector in each tile.
        codes: (T, ceil(D / 4), 64, 4) uint8, codes plus 128; (0, ceil(D / 4), 64, 4) without the int8 filter.
        tile_scale, tile_residual: (T,) float32.
    """

    order: NDArray[np.int64]
    sigma_sq: FloatArray
    bucket_first: NDArray[np.int64]
    bucket_low: FloatArray
    bucket_high: FloatArray
    tile_norm: FloatArray
    codes: NDArray[np.uint8]
    tile_scale: FloatArray
    tile_residual: FloatArray

    @property
    def has_codes(self) -> bool:
        """Whether the int8 filter can run."""
        return len(self.codes) > 0 or len(self.order) == 0

    def fits(self, mu: NDArray[Any], sigma_sq: NDArray[Any]) -> bool:
        """Whether all arrays have the form of a layout of these references: nothing reads one past its end.

        What a damaged file holds inside its arrays is not looked at; they may be large.
        """
        if mu.ndim != 2 or mu.dtype != np.float32 or sigma_sq.dtype != np.float32:
            return False
        if not 0 < mu.shape[1] <= MAX_DIM or self.bucket_low.ndim != 1 or self.codes.ndim != 4:
            return False
        (rows, dim), first, buckets = mu.shape, self.bucket_first, len(self.bucket_low)
        tiles = -(-rows // TILE)
        whole, single = np.int64, np.float32
        forms: dict[str, tuple[type, tuple[int, ...]]] = {
            "order": (whole, (rows,)),
            "sigma_sq": (single, (rows,)),
            "bucket_first": (whole, (buckets + 1,)),
            "bucket_low": (single, (buckets,)),
            "bucket_high": (single, (buckets,)),
            "tile_norm": (single, (tiles,)),
            "codes": (np.uint8, (tiles if len(self.codes) else 0, -(-dim // 4), TILE, 4)),
            "tile_scale": (single, (tiles,)),
            "tile_residual": (single, (tiles,)),
        }
        return (
            sigma_sq.shape in ((rows, 1), mu.shape)
            and all((getattr(self, name).dtype, getattr(self, name).shape) == form for name, form in forms.items())
            and (first[0], first[-1]) == (0, tiles * TILE)
            and bool((np.diff(first) > 0).all() and (first % TILE == 0).all())
        )


def make_layout(vectors: FloatArray, sigma_sq: FloatArray, *, with_codes: bool, threads: int, native: bool) -> Layout:
    """Sort and pack references.

    Args:
        vectors: (M, D) float32, C-contiguous, near unit length; may be mapped from disk.
        sigma_sq: (M,) float32, positive.
        with_codes: make what the int8 filter needs.
        threads: of the compiled code.
        native: use the compiled code; without it the codes are the same.
    """
    rows = len(vectors)
    order = np.argsort(sigma_sq, kind="stable").astype(np.int64)
    ordered = sigma_sq[order]
    first = _bucket_starts(ordered)
    last = np.minimum(first[1:], rows) - 1
    low, high = ordered[first[:-1]], ordered[last]
    peaks = _peaks(vectors, threads, native)[order]
    bucket = np.repeat(np.arange(len(low)), np.diff(np.minimum(first, rows)))
    within = np.lexsort((order, peaks, bucket))
    order = order[within]
    tiles, steps = -(-rows // TILE), -(-vectors.shape[1] // 4)
    codes = np.empty((tiles if with_codes else 0, steps, TILE, 4), np.uint8)
    scale, residual, norm = (np.ones(tiles, np.float32) for _ in range(3))
    compiled = kernel() if native else None
    if compiled is not None:
        compiled.pack(vectors, order, threads, codes, scale, residual, norm)
    else:
        _pack(vectors, order, codes, scale, residual, norm)
    return Layout(order, sigma_sq[order], first, low, high, norm, codes, scale, residual)


def _bucket_starts(ordered: FloatArray) -> NDArray[np.int64]:
    """(B + 1,) positions: whole tiles, at most 16, whose sigma^2 differ by at most 3 % where there are several."""
    tiles = -(-len(ordered) // TILE)
    low = ordered[::TILE].tolist()
    high = np.append(ordered[TILE - 1 :: TILE], ordered[-1:])[:tiles].tolist()
    starts = [0] if tiles else []
    for tile in range(1, tiles):
        if tile - starts[-1] >= BUCKET_TILES or high[tile] > BUCKET_RATIO * low[starts[-1]]:
            starts.append(tile)
    return np.array([*starts, tiles], np.int64) * TILE


def _peaks(vectors: FloatArray, threads: int, native: bool) -> FloatArray:
    peaks = np.empty(len(vectors), np.float32)
    compiled = kernel() if native else None
    if compiled is not None:
        compiled.row_peaks(vectors, threads, peaks)
    else:
        for start in range(0, len(vectors), 16384):
            block = slice(start, start + 16384)
            peaks[block] = np.abs(vectors[block]).max(axis=1)
    return peaks


def _pack(
    vectors: FloatArray,
    order: NDArray[np.int64],
    codes: NDArray[np.uint8],
    scale: FloatArray,
    residual: FloatArray,
    norm: FloatArray,
) -> None:
    """What the compiled ``pack`` does; the residuals may differ in their last digit."""
    dim = vectors.shape[1]
    for tile in range(len(norm)):
        block = vectors[order[tile * TILE : (tile + 1) * TILE]]
        norm[tile] = np.sqrt((block.astype(np.float64) ** 2).sum(axis=1).max()) * ROUNDED_UP
        if len(codes) == 0:
            continue
        most = np.abs(block).max()
        scale[tile] = most / np.float32(127)
        whole = np.clip(np.rint(block * (np.float32(127) / most)), -127, 127)
        left = block.astype(np.float64) - np.float64(scale[tile]) * whole
        residual[tile] = np.sqrt((left**2).sum(axis=1).max()) * ROUNDED_UP
        padded = np.zeros((TILE, codes.shape[1] * 4))
        padded[: len(block), :dim] = whole
        codes[tile] = (padded + 128).astype(np.uint8).reshape(TILE, -1, 4).transpose(1, 0, 2)


def tile_codes(layout: Layout, tiles: slice, dim: int) -> NDArray[np.float32]:
    """(n, D) codes of the references of some whole tiles, as float32 whole numbers."""
    block = layout.codes[tiles].transpose(0, 2, 1, 3)
    return block.reshape(len(block) * TILE, -1)[:, :dim].astype(np.float32) - 128
