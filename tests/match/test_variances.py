"""Exact top k by MLS with D variances, and the bound that its filter trusts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.match import variances
from probface.match.exact import SearchIndex
from probface.match.matrix import mls_scores
from probface.match.native import choose_path, paths
from probface.types import Embeddings

PATHS = [path.name for path in paths()]


def check_every_path(bench: SimpleNamespace, references: Embeddings, probes: Embeddings, k: int) -> None:
    truth = bench.true_scores(probes, references, "mls")
    index = SearchIndex(references)
    first = index.search(probes, k, metric="mls", path=PATHS[0])
    bench.check_top_k(first.scores, first.indices, probes, references, "mls", truth)
    for path in PATHS:
        for threads in (1, 3):
            found = index.search(probes, k, metric="mls", path=path, threads=threads)
            np.testing.assert_array_equal(found.scores, first.scores, strict=True)
            np.testing.assert_array_equal(found.indices, first.indices, strict=True)


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("dim", [2, 3, 5, 31, 32, 33, 100])
def test_top_k(bench: SimpleNamespace, dim: int, k: int) -> None:
    references = bench.faces(150, dim, 0, width=dim, low=1e-3)
    probes = Embeddings.concatenate([references[:5], bench.faces(66, dim, 1, width=dim)])
    check_every_path(bench, references, probes, k)


def test_duplicates(bench: SimpleNamespace) -> None:
    few = bench.faces(5, 16, 2, width=16)
    references = few[np.random.default_rng(3).integers(0, 5, 130)]
    for k in (1, 10, 100, 500):
        check_every_path(bench, references, few, k)


@pytest.mark.parametrize("block", [30, 4096])
def test_hair_apart(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Scores that differ in the last digits of float32."""
    monkeypatch.setattr(variances, "REFERENCES", block)
    rng = np.random.default_rng(4)
    mu = bench.unit(rng.normal(size=32) + 1e-5 * rng.normal(size=(200, 32)))
    sigma_sq = (0.3 + 1e-6 * rng.random((200, 32))).astype(np.float32)
    faces = Embeddings(mu, sigma_sq)
    check_every_path(bench, faces[10:], faces[:10], 10)


def test_blocks_of_references(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variances, "REFERENCES", 50)
    monkeypatch.setattr(variances, "PROBES", 7)
    for k in (1, 30, 60, 200):
        check_every_path(bench, bench.faces(180, 9, 5, width=9), bench.faces(20, 9, 6, width=9), k)


def test_the_filter_leaves_little(bench: SimpleNamespace) -> None:
    references, probes = bench.faces(9000, 24, 7, width=24), bench.faces(30, 24, 8, width=24)
    for path in PATHS:
        report = SearchIndex(references, prefilter="float32").search(probes, 10, metric="mls", path=path).report
        assert (report.path, report.pairs) == (path, 30 * 9000)
        assert 300 <= report.rescored < 0.05 * report.pairs


@settings(max_examples=80, deadline=None)
@given(
    low=st.floats(-30, 4),
    span=st.floats(0, 34),
    own=st.floats(-30, 4),
    dim=st.integers(1, 60),
    tilt=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_error_bound_bounds(
    bench: SimpleNamespace, low: float, span: float, own: float, dim: int, tilt: float, seed: int
) -> None:
    """Probes of one range of variances, references of another; vectors from equal to unrelated."""
    a = bench.faces(3, dim, seed, low=10**own, high=10 ** min(5, own + span / 3), width=dim)
    b = bench.faces(70, dim, seed + 1, low=10**low, high=10 ** min(5, low + span), width=dim)
    b = Embeddings(bench.unit(tilt * b.mu + (1 - tilt) * a.mu[0] + 1e-9 * b.mu), b.sigma_sq)
    truth = bench.true_scores(a, b, "mls")
    for path in PATHS:
        cheap = mls_scores(a, b, path=choose_path(path), threads=1)
        assert (np.abs(cheap - truth) <= variances.error_bound(cheap, a, b)).all(), path


def test_the_bound_is_needed(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    mu = bench.unit(rng.normal(size=32) + 1e-5 * rng.normal(size=(300, 32)))
    faces = Embeddings(mu, (0.3 + 3e-7 * rng.random((300, 32))).astype(np.float32))
    index = SearchIndex(faces[20:])
    right = index.search(faces[:20], 1, metric="mls").indices
    monkeypatch.setattr(variances, "error_bound", lambda scores, *_: np.zeros(scores.shape))
    assert (index.search(faces[:20], 1, metric="mls").indices != right).any()
