"""Whole matrices of scores against the formulas in float64, on every path."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InvalidValue
from probface.match.matrix import merging, score_blocks, score_matrix
from probface.match.native import paths
from probface.score.by_metric import score_matrix as formula
from probface.types import Embeddings, Metric

PATHS = [path.name for path in paths()]
U = 2.0**-24


def in_float64(a: Embeddings, b: Embeddings, metric: Metric) -> np.ndarray:
    """The formula of probface.score, with everything in float64."""

    def wide(faces: Embeddings) -> Embeddings:
        made = object.__new__(Embeddings)  # the type itself allows float32 only
        object.__setattr__(made, "mu", faces.mu.astype(np.float64))
        object.__setattr__(made, "sigma_sq", faces.sigma_sq.astype(np.float64))
        return made

    return formula(wide(a), wide(b), metric)


def size(a: Embeddings, b: Embeddings, metric: Metric) -> np.ndarray:
    """(N, M) what float32 rounding of a score scales with: the sum of the sizes of its terms."""
    if metric == "cosine":
        return np.full((len(a), len(b)), 1.0)
    s, r = a.sigma_sq.astype(np.float64), b.sigma_sq.astype(np.float64)
    if s.shape[1] == 1:
        t = s + r.T
        terms = 4 / t + np.abs(np.log(t)) + 1
        return terms * (a.dim / 2 if metric == "mls" else 1)
    t = s[:, None] + r[None]
    apart = (a.mu.astype(np.float64)[:, None] - b.mu.astype(np.float64)[None]) ** 2
    return (apart / t + np.abs(np.log(t)) + 1).sum(axis=2)


SHAPES = [(1, 1, 1), (3, 63, 2), (5, 64, 7), (7, 65, 8), (2, 129, 9), (130, 70, 16), (20, 200, 31), (9, 100, 128)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_metrics(bench: SimpleNamespace, path: str, shape: tuple[int, int, int]) -> None:
    rows, columns, dim = shape
    for metric, width in (("cosine", 1), ("fastmls", 1), ("mls", 1), ("mls", dim), ("cosine", dim)):
        a, b = bench.faces(rows, dim, 0, width=width, low=1e-3), bench.faces(columns, dim, 1, width=width, low=1e-3)
        for threads in (1, 3):
            scores = score_matrix(a, b, metric, path=path, threads=threads)
            assert (scores.shape, scores.dtype) == ((rows, columns), np.float32)
            off = np.abs(scores - in_float64(a, b, metric))
            assert (off <= U * (16 + dim / 4) * size(a, b, metric)).all()


@settings(max_examples=60, deadline=None)
@given(
    low=st.floats(-8, 1),
    span=st.floats(0, 9),
    dim=st.integers(1, 40),
    columns=st.integers(1, 140),
    seed=st.integers(0, 2**32 - 1),
)
def test_mls_of_any_range_of_variances(
    bench: SimpleNamespace, low: float, span: float, dim: int, columns: int, seed: int
) -> None:
    least, most = 10**low, 10 ** min(1, low + span)
    a = bench.faces(4, dim, seed, low=least, high=most, width=dim)
    b = bench.faces(columns, dim, seed + 1, low=least, high=most, width=dim)
    b = Embeddings.concatenate([b, a])  # and a distance of 0
    for path in PATHS:
        off = np.abs(score_matrix(a, b, "mls", path=path) - in_float64(a, b, "mls"))
        assert (off <= U * (16 + dim / 8) * size(a, b, "mls")).all()


@pytest.mark.parametrize(
    ("low", "high", "merge"),
    [(0.1, 10, 8), (1e-4, 1, 8), (1e-8, 10, 4), (1e-16, 1e4, 2), (1e-30, 1e6, 1), (1e-34, 1e-32, 2)],
)
@pytest.mark.parametrize("path", PATHS)
def test_merging_of_fractions(bench: SimpleNamespace, path: str, low: float, high: float, merge: int) -> None:
    """Each number of merged dimensions, with the ends of its range in one product."""
    for dim in (8, 13, 64, 200):
        a = bench.faces(6, dim, 2, low=low, high=high, width=dim)
        b = bench.faces(70, dim, 3, low=low, high=high, width=dim)
        for faces in (a, b):
            faces.sigma_sq[0], faces.sigma_sq[1] = low, high
            faces.sigma_sq[-1, : dim // 2], faces.sigma_sq[-1, dim // 2 :] = low, high
        assert merging(a, b)[1] == merge
        scores = score_matrix(a, b, "mls", path=path)
        assert np.isfinite(scores).all()
        assert (np.abs(scores - in_float64(a, b, "mls")) <= U * (32 + dim / 8) * size(a, b, "mls")).all()


@pytest.mark.parametrize("path", PATHS)
def test_into_a_given_array(bench: SimpleNamespace, path: str) -> None:
    for metric, width in (("cosine", 1), ("fastmls", 1), ("mls", 1), ("mls", 9)):
        a, b = bench.faces(140, 9, 4, width=width), bench.faces(33, 9, 5, width=width)
        out = np.full((140, 33), np.nan, np.float32)
        assert score_matrix(a, b, metric, out=out, path=path) is out
        np.testing.assert_array_equal(out, score_matrix(a, b, metric, path=path))


@pytest.mark.parametrize("rows", [1, 7, 128, 129, 1000])
def test_blocks(bench: SimpleNamespace, rows: int) -> None:
    for metric, width in (("cosine", 1), ("fastmls", 1), ("mls", 9)):
        a, b = bench.faces(140, 9, 6, width=width), bench.faces(33, 9, 7, width=width)
        expected = score_matrix(a, b, metric)
        seen = np.full(expected.shape, np.nan, np.float32)
        buffers = set()
        for part, scores in score_blocks(a, b, metric, rows=rows):
            assert len(scores) <= rows
            seen[part] = scores
            buffers.add(scores.__array_interface__["data"][0])
        np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-5)  # a product of other blocks rounds otherwise
        assert len(buffers) == 1


@pytest.mark.parametrize("path", PATHS)
def test_nobody(bench: SimpleNamespace, path: str) -> None:
    for metric, width in (("cosine", 1), ("fastmls", 1), ("mls", 1), ("mls", 4)):
        some, none = bench.faces(3, 4, 8, width=width), bench.faces(0, 4, 9, width=width)
        assert score_matrix(none, some, metric, path=path).shape == (0, 3)
        assert score_matrix(some, none, metric, path=path).shape == (3, 0)
        assert list(score_blocks(none, some, metric, path=path)) == []


def test_what_cannot_be_scored(bench: SimpleNamespace) -> None:
    faces, wide = bench.faces(3, 4, 0), bench.faces(3, 4, 0, width=4)
    with pytest.raises(InvalidValue, match="metric 'l2': must be one of"):
        score_matrix(faces, faces, "l2")
    with pytest.raises(InvalidValue, match=r"faces of \(D, variances\) \(4, 1\) and \(4, 4\): must be alike"):
        score_matrix(faces, wide, "mls")
    with pytest.raises(InvalidValue, match=r"\(4, 1\) and \(5, 1\)"):
        score_matrix(faces, bench.faces(3, 5, 0))
    with pytest.raises(InvalidValue, match="FastMLS of D variances: takes one variance a face; score with mls"):
        score_matrix(wide, wide)
    with pytest.raises(InvalidValue, match="rows 0: must be 1 or more"):
        next(score_blocks(faces, faces, rows=0))
    with pytest.raises(InvalidValue, match="path 'mmx'"):
        score_matrix(faces, faces, path="mmx")
    for out in (
        np.empty((3, 2), np.float32),
        np.empty((3, 3), np.float64),
        np.empty((3, 3), np.float32, order="F"),
        np.empty((3, 6), np.float32)[:, ::2],
    ):
        with pytest.raises(InvalidValue, match=r"out of shape .*: must be \(3, 3\) float32, C-contiguous"):
            score_matrix(faces, faces, out=out)
