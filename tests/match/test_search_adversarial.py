"""The filter lets little through, and needs every part of its bound: without it, sets made for that go wrong."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from probface.match import portable
from probface.match.exact import SearchIndex
from probface.match.native import paths
from probface.types import Embeddings, Metric

PATHS = [path.name for path in paths()]


@pytest.fixture(scope="module")
def large(bench: SimpleNamespace) -> tuple[Embeddings, Embeddings]:
    """20,000 references and 64 probes, each with a mate, in a space like that of a face model."""
    references = bench.faces(20_000, 128, 0, low=0.1, high=1)
    return references, bench.near(references, np.arange(0, 6400, 100), 0.8, 1)


@pytest.mark.parametrize("metric", ["fastmls", "cosine"])
@pytest.mark.parametrize("prefilter", ["int8", "float32"])
@pytest.mark.parametrize("path", PATHS)
def test_the_filter_leaves_little(
    large: tuple[Embeddings, Embeddings], path: str, prefilter: str, metric: Metric
) -> None:
    references, probes = large
    index = SearchIndex(references, path=path, prefilter=prefilter)
    report = index.search(probes, 10, metric=metric).report
    assert (report.path, report.prefilter, report.pairs) == (path, prefilter, 64 * 20_000)
    assert report.rescored >= 64 * 10
    assert report.rescored < 0.05 * report.pairs


def _hidden_by_rounding(bench: SimpleNamespace) -> tuple[Embeddings, Embeddings]:
    """The best reference is the last, and nearly all of its likeness is in what its code leaves out.

    The probe's components are all equal, so that its own code leaves nothing. The last reference has one large
    component, which sets the scale, and 127 of just under half a step, which all become 0.
    """
    probe = np.full((1, 128), 128**-0.5)
    hidden = np.full((1, 128), 0.45 * 0.9 / 127)
    hidden[0, 0] = 0.9
    others = np.zeros((256, 128))  # of cosine 0.110; `hidden` has 0.128, and its code looks like 0.088
    for row in range(256):
        others[row, (np.arange(64) + row) % 128] = np.where(np.arange(64) < 37, 1, -1)
    mu = bench.unit(np.concatenate([others, hidden]))
    variances = np.full((257, 1), 0.5, np.float32)
    return Embeddings(mu, variances), Embeddings(bench.unit(probe), variances[:1])


@pytest.mark.parametrize("path", PATHS)
def test_the_residual_of_a_tile_is_needed(bench: SimpleNamespace, path: str) -> None:
    references, probes = _hidden_by_rounding(bench)
    index = SearchIndex(references, path=path, prefilter="int8")
    found = index.search(probes, 1)
    assert found.indices.tolist() == [[256]]
    bench.check_top_k(found.scores, found.indices, probes, references, "fastmls")
    layout = index._layout
    index._layout = dataclasses.replace(layout, tile_residual=np.zeros_like(layout.tile_residual))
    assert index.search(probes, 1).indices.tolist() != [[256]]


def test_the_residual_of_the_probe_is_needed(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The roles are changed: here the probe's code hides the likeness, and no reference's code leaves anything."""
    flat, hidden = _hidden_by_rounding(bench)[1], _hidden_by_rounding(bench)[0][-1:]
    others = np.zeros((256, 128))  # of cosine 0.111, all from the probe's large component
    others[:, :81] = np.where(np.arange(81) < 41, 1, -1)
    variances = np.full((257, 1), 0.5, np.float32)
    variances[256] = 0.4  # its bucket is searched last
    references = Embeddings(bench.unit(np.concatenate([others, flat.mu])), variances)
    for path in PATHS:
        found = SearchIndex(references, path=path, prefilter="int8").search(hidden, 1, metric="cosine", threads=1)
        assert found.indices.tolist() == [[256]]
        bench.check_top_k(found.scores, found.indices, hidden, references, "cosine")
    begin = portable._Block.__init__

    def without(self: portable._Block, *arguments: object) -> None:
        begin(self, *arguments)
        self._residual[:] = 0

    monkeypatch.setattr(portable._Block, "__init__", without)
    index = SearchIndex(references, path="numpy", prefilter="int8")
    assert index.search(hidden, 1, metric="cosine").indices.tolist() != [[256]]


def test_the_slack_of_float32_is_needed(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    references, probes = bench.sets["hair apart"]()
    index = SearchIndex(references, path="numpy", prefilter="float32")
    right = index.search(probes, 1, metric="cosine").indices
    cosines = portable._Block._cosines

    def without(self: object, begin: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        products, slack = cosines(self, begin, stop)
        return products, np.zeros_like(slack)

    monkeypatch.setattr(portable._Block, "_cosines", without)
    assert (index.search(probes, 1, metric="cosine").indices != right).any()


@pytest.mark.parametrize("end", [0, 1], ids=["low", "high"])
def test_the_turn_of_the_threshold_is_needed(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, end: int) -> None:
    """b is least inside a bucket: taken at either end of a bucket of wide variances, it loses references."""
    references = bench.faces(64, 16, 2, low=1e-3, high=10)
    probes = bench.near(references, np.arange(40), 0.5, 3)
    index = SearchIndex(references, path="numpy", prefilter="float32")
    right = index.search(probes, 5).indices

    def at_the_end(tau: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        t = (low, high)[end]
        return np.where(np.isneginf(tau), -np.inf, 1 + 0.5 * t * (tau + np.log(t)))

    monkeypatch.setattr(portable, "cosine_thresholds", at_the_end)
    assert (index.search(probes, 5).indices != right).any()


@pytest.mark.parametrize("path", PATHS)
def test_ties_over_buckets_and_threads(bench: SimpleNamespace, path: str) -> None:
    """3,000 equal references: whoever finds them, the lowest rows win, for every k."""
    one = bench.faces(1, 40, 4)
    references = Embeddings(np.repeat(one.mu, 3000, 0), np.repeat(one.sigma_sq, 3000, 0))
    index = SearchIndex(references, path=path, prefilter="int8")
    for k in (1, 10, 100):
        for prefilter in ("int8", "float32"):
            for threads in (1, 3):
                found = index.search(one, k, threads=threads, prefilter=prefilter)
                assert found.indices.tolist() == [list(range(k))]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dim", [512, 1100, 4096])
def test_long_vectors(bench: SimpleNamespace, path: str, dim: int) -> None:
    """Sums of products of codes beyond what float32 counts."""
    references = bench.faces(150, dim, 5)
    flat = Embeddings(np.full((20, dim), dim**-0.5, np.float32), references.sigma_sq[:20])
    references = Embeddings.concatenate([references, flat])
    probes = Embeddings.concatenate([bench.near(references, np.arange(20), 0.5, 6), flat[:5]])
    for prefilter in ("int8", "float32"):
        found = SearchIndex(references, path=path, prefilter=prefilter).search(probes, 10)
        bench.check_top_k(found.scores, found.indices, probes, references, "fastmls")


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["fastmls", "cosine"])
def test_a_large_set_is_right(large: tuple[Embeddings, Embeddings], bench: SimpleNamespace, metric: Metric) -> None:
    references, probes = large
    truth = bench.true_scores(probes, references, metric)
    for path in PATHS:
        for prefilter in ("int8", "float32"):
            found = SearchIndex(references, path=path, prefilter=prefilter).search(probes, 100, metric=metric)
            bench.check_top_k(found.scores, found.indices, probes, references, metric, truth)
