"""Order, buckets, codes and bounds of the index, and the closed form of the threshold."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.match.exact import SearchIndex
from probface.match.layout import BUCKET_RATIO, BUCKET_TILES, TILE, Layout, make_layout, tile_codes
from probface.match.native import kernel
from probface.match.portable import EXACT_DIM, cosine_thresholds
from probface.types import Embeddings

Pair = tuple[Embeddings, Embeddings]
needs_kernel = pytest.mark.skipif(kernel() is None, reason="the compiled kernel was not built")


def laid_out(faces: Embeddings, *, native: bool = False, with_codes: bool = True, threads: int = 1) -> Layout:
    return make_layout(faces.mu, faces.sigma_sq[:, 0], with_codes=with_codes, threads=threads, native=native)


def test_every_reference_is_in_one_bucket_of_like_variance(hard_set: Pair) -> None:
    faces = hard_set[0]
    layout = laid_out(faces)
    assert (np.sort(layout.order) == np.arange(len(faces))).all()
    assert (layout.sigma_sq == faces.sigma_sq[layout.order, 0]).all()
    assert layout.bucket_first[0] == 0
    assert (layout.bucket_first % TILE == 0).all()
    assert 0 <= layout.bucket_first[-1] - len(faces) < TILE
    for bucket, (start, end) in enumerate(zip(layout.bucket_first[:-1], layout.bucket_first[1:], strict=True)):
        own = layout.sigma_sq[start:end]
        assert (own.min(), own.max()) == (layout.bucket_low[bucket], layout.bucket_high[bucket])
        assert TILE <= end - start <= TILE * BUCKET_TILES
        assert end - start == TILE or own.max() <= BUCKET_RATIO * own.min()
    assert (np.diff(layout.bucket_low) >= 0).all()


@needs_kernel
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_and_numpy_pack_alike(hard_set: Pair, threads: int) -> None:
    by_numpy, compiled = laid_out(hard_set[0]), laid_out(hard_set[0], native=True, threads=threads)
    for field in dataclasses.fields(Layout):
        ours, theirs = getattr(by_numpy, field.name), getattr(compiled, field.name)
        if field.name in ("tile_norm", "tile_residual"):  # sums in another order
            np.testing.assert_allclose(ours, theirs, rtol=3e-7, atol=1e-9)
        else:
            np.testing.assert_array_equal(ours, theirs, field.name, strict=True)


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_kernel)])
def test_lengths_and_residuals_are_bounds(hard_set: Pair, native: bool) -> None:
    faces = hard_set[0]
    layout = laid_out(faces, native=native)
    mu = faces.mu[layout.order].astype(np.longdouble)
    tile = np.arange(len(mu)) // TILE
    codes = tile_codes(layout, slice(None), faces.dim)
    assert (np.abs(codes) <= 127).all()
    assert (codes[len(mu) :] == 0).all()
    left = mu - layout.tile_scale[tile].astype(np.longdouble)[:, None] * codes[: len(mu)]
    residual, length = np.sqrt((left**2).sum(axis=1)), np.sqrt((mu**2).sum(axis=1))
    for bound, values in ((layout.tile_residual, residual), (layout.tile_norm, length)):
        assert (bound[tile] >= values).all()
        largest = np.zeros(len(bound), np.longdouble)
        np.maximum.at(largest, tile, values)
        np.testing.assert_allclose(bound.astype(np.float64), largest.astype(np.float64), rtol=3e-6, atol=1e-9)
    padding = layout.codes.transpose(0, 2, 1, 3).reshape(-1, layout.codes.shape[1] * 4)[:, faces.dim :]
    assert (padding == 128).all()


def test_the_bound_of_the_codes_holds(hard_set: Pair) -> None:
    """|cos - a_i a_j I| <= e_i n_j + n_i e_j + e_i e_j, probes coded as references are."""
    references, probes = hard_set
    layout = laid_out(references)
    tile = np.arange(len(references)) // TILE
    codes = tile_codes(layout, slice(None), references.dim)[: len(references)].astype(np.longdouble)
    for row in range(len(probes)):
        own = laid_out(probes[row : row + 1])
        code = tile_codes(own, slice(None), probes.dim)[0].astype(np.longdouble)
        cosine = references.mu[layout.order].astype(np.longdouble) @ probes.mu[row].astype(np.longdouble)
        scales = layout.tile_scale[tile].astype(np.longdouble) * own.tile_scale[0]
        e_j, n_j = (part[tile].astype(np.longdouble) for part in (layout.tile_residual, layout.tile_norm))
        e_i, n_i = np.longdouble(own.tile_residual[0]), np.longdouble(own.tile_norm[0])
        assert (np.abs(cosine - scales * (codes @ code)) <= e_i * n_j + n_i * e_j + e_i * e_j + 1e-16).all()


def test_sums_of_codes_are_exact_in_float32_up_to_the_stated_width() -> None:
    assert EXACT_DIM * 127 * 127 < 2**24
    assert 65536 * 255 * 127 < 2**31  # biased codes in 32 bits, at the largest D


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_kernel)])
def test_without_codes(bench: SimpleNamespace, native: bool) -> None:
    faces = bench.faces(130, 10, 0)
    layout, full = (laid_out(faces, native=native, with_codes=codes) for codes in (False, True))
    assert (layout.has_codes, layout.codes.shape, full.has_codes) == (False, (0, 3, 64, 4), True)
    np.testing.assert_array_equal(layout.order, full.order)
    np.testing.assert_array_equal(layout.tile_norm, full.tile_norm)


def test_what_an_index_weighs(bench: SimpleNamespace) -> None:
    """Beside the vectors: D + 12 bytes a reference and a little for each tile and bucket."""
    faces = bench.faces(20_000, 128, 0)
    for prefilter, most in (("int8", 128 + 24), ("float32", 24)):
        index = SearchIndex(faces, prefilter=prefilter)
        assert index.references.mu is faces.mu
        held = sum(getattr(index._layout, field.name).nbytes for field in dataclasses.fields(Layout))
        assert held <= most * len(faces)
        assert held <= 0.30 * faces.mu.nbytes


@given(
    tau=st.floats(-1e5, 12),
    low=st.floats(1e-8, 20),
    ratio=st.floats(1, 1e3),
)
def test_threshold_is_the_least_b_of_the_bucket(tau: float, low: float, ratio: float) -> None:
    high = low * ratio
    ours = float(cosine_thresholds(np.array(tau), np.array(low), np.array(high)))
    t = np.geomspace(low, high, 4001).astype(np.longdouble)
    t[0], t[-1] = low, high
    b = 1 + t / 2 * (tau + np.log(t))
    size = 1 + high * (abs(tau) + abs(np.log(high)) + abs(np.log(low)))
    assert ours <= b.min()
    # The scan's steps are wide where the bucket is: near its turn, b rises by (dt)^2 / (4 t).
    step = np.log(ratio) / 4000
    assert ours >= b.min() - 4e-12 * size - high * step**2


def test_no_score_yet_filters_nothing() -> None:
    assert cosine_thresholds(np.array(-np.inf), np.array(0.1), np.array(0.2)) == -np.inf
