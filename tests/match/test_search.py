"""Exact top k against scoring every pair in extended precision, on every path, filter and number of threads."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InvalidValue
from probface.match.exact import SearchIndex, SearchResult, top_k
from probface.match.native import paths
from probface.types import Embeddings, Metric

PATHS = [path.name for path in paths()]
FILTERS = ("int8", "float32")
Pair = tuple[Embeddings, Embeddings]


def every_way(references: Embeddings, probes: Embeddings, k: int, metric: Metric, threads: tuple[int, ...]) -> Pair:
    """The result, after all paths, filters and numbers of threads were seen to give it to the last bit."""
    first: SearchResult | None = None
    index = SearchIndex(references, prefilter="int8", path=PATHS[0])
    for path in PATHS:
        for prefilter in FILTERS:
            for count in threads if path != "numpy" else (1,):
                found = index.search(probes, k, metric=metric, path=path, prefilter=prefilter, threads=count)
                assert (found.report.path, found.report.prefilter) == (path, prefilter)
                first = first or found
                np.testing.assert_array_equal(found.scores, first.scores, f"{path} {prefilter} {count}", strict=True)
                np.testing.assert_array_equal(found.indices, first.indices, f"{path} {prefilter} {count}", strict=True)
    assert first is not None
    return first


@pytest.mark.parametrize("metric", ["fastmls", "cosine"])
def test_every_way_gives_the_same_and_the_true_top_k(hard_set: Pair, metric: Metric, bench: SimpleNamespace) -> None:
    references, probes = hard_set
    truth = bench.true_scores(probes, references, metric)
    for k, threads in ((1, (1, 2)), (10, (1, 2, 3, 4)), (100, (1, 4))):
        found = every_way(references, probes, k, metric, threads)
        assert found.scores.shape == (len(probes), min(k, len(references)))
        bench.check_top_k(found.scores, found.indices, probes, references, metric, truth)


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(1, 300),
    dim=st.integers(1, 70),
    probes=st.integers(1, 40),
    k=st.integers(1, 320),
    spread=st.sampled_from([0.0, 1e-7, 1e-4, 0.01, 0.3, 3.0]),
    low=st.sampled_from([1e-4, 0.01, 0.5, 9.9]),
    same=st.booleans(),
    sparse=st.booleans(),
    metric=st.sampled_from(["fastmls", "mls", "cosine"]),
    threads=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_set(
    bench: SimpleNamespace,
    count: int,
    dim: int,
    probes: int,
    k: int,
    spread: float,
    low: float,
    same: bool,
    sparse: bool,
    metric: Metric,
    threads: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count + probes, dim))
    if sparse:
        noise *= rng.random(noise.shape) < 0.1
    mu = bench.unit(rng.normal(size=dim) + spread * noise)
    mu *= (1 + rng.uniform(-9e-4, 9e-4, (len(mu), 1)) * rng.integers(0, 2)).astype(np.float32)
    sigma_sq = rng.uniform(low, low if same else 10, (len(mu), 1)).astype(np.float32)
    faces = Embeddings(mu, sigma_sq)[rng.integers(0, len(mu), len(mu)) if rng.integers(0, 2) else np.arange(len(mu))]
    found = every_way(faces[:count], faces[count:], k, metric, (threads,))
    bench.check_top_k(found.scores, found.indices, faces[count:], faces[:count], metric)


def test_top_k_is_one_search(bench: SimpleNamespace) -> None:
    references, probes = bench.faces(300, 16, 0), bench.faces(20, 16, 1)
    for metric in ("fastmls", "mls", "cosine"):
        once, kept = (
            top_k(probes, references, 5, metric=metric),
            SearchIndex(references).search(probes, 5, metric=metric),
        )
        np.testing.assert_array_equal(once.scores, kept.scores)
        np.testing.assert_array_equal(once.indices, kept.indices)
        bench.check_top_k(once.scores, once.indices, probes, references, metric)


def test_an_index_packed_by_numpy_gives_the_same(bench: SimpleNamespace) -> None:
    references, probes = bench.sets["mixed spikes"]()
    expected = SearchIndex(references).search(probes, 10)
    for built in PATHS:
        index = SearchIndex(references, prefilter="int8", path=built)
        for path in (None, "numpy"):
            found = index.search(probes, 10, path=path)
            np.testing.assert_array_equal(found.scores, expected.scores)
            np.testing.assert_array_equal(found.indices, expected.indices)


def test_vectors_that_are_not_contiguous(bench: SimpleNamespace) -> None:
    references, probes = bench.faces(100, 12, 0), bench.faces(10, 12, 1)
    strided = [Embeddings(np.asfortranarray(side.mu), side.sigma_sq) for side in (references, probes)]
    expected = SearchIndex(references).search(probes, 3)
    np.testing.assert_array_equal(SearchIndex(strided[0]).search(strided[1], 3).scores, expected.scores)


@pytest.mark.parametrize("metric", ["fastmls", "mls", "cosine"])
@pytest.mark.parametrize("path", PATHS)
def test_no_probes(bench: SimpleNamespace, path: str, metric: Metric) -> None:
    for width in (1, 6) if metric == "mls" else (1,):
        found = SearchIndex(bench.faces(9, 6, 0, width=width), path=path).search(
            bench.faces(0, 6, 1, width=width), 4, metric=metric
        )
        assert (found.scores.shape, found.indices.shape) == ((0, 4), (0, 4))
        assert (found.report.pairs, found.report.rescored) == (0, 0)


@pytest.mark.parametrize("path", PATHS)
def test_more_than_there_are_gives_all(bench: SimpleNamespace, path: str) -> None:
    references, probes = bench.faces(70, 8, 0), bench.faces(5, 8, 1)
    found = SearchIndex(references, path=path).search(probes, 10**6)
    assert (np.sort(found.indices, axis=1) == np.arange(70)).all()
    bench.check_top_k(found.scores, found.indices, probes, references, "fastmls")


def test_what_cannot_be_searched(bench: SimpleNamespace) -> None:
    faces, wide = bench.faces(8, 4, 0), bench.faces(8, 4, 0, width=4)
    index = SearchIndex(faces)
    for arguments, message in (
        ({"k": 0}, r"k = 0: must be 1 or more"),
        ({"k": -3}, r"k = -3: must be 1 or more"),
        ({"metric": "l2"}, r"metric 'l2': must be one of fastmls, mls, cosine"),
        ({"prefilter": "int4"}, r"prefilter 'int4': must be one of auto, int8, float32"),
        ({"path": "sse9"}, r"path 'sse9': this machine has .*numpy; choose one of these, or auto"),
        ({"threads": -1}, r"threads -1: must be 0 \(all cores\) to 1024"),
        ({"probes": bench.faces(2, 5, 0)}, r"probes of D = 5 with 1 variances, references of D = 4 with 1"),
        ({"probes": wide}, r"probes of D = 4 with 4 variances, references of D = 4 with 1: must be alike"),
    ):
        with pytest.raises(InvalidValue, match=message):
            index.search(**{"probes": faces, "k": 1, **arguments})
    with pytest.raises(InvalidValue, match="FastMLS of D variances: takes one variance a face; search with mls"):
        SearchIndex(wide).search(wide, 1)
    with pytest.raises(InvalidValue, match="built without it; build it with prefilter='int8' or 'auto'"):
        SearchIndex(faces, prefilter="float32").search(faces, 1, prefilter="int8")


def test_what_cannot_be_indexed(bench: SimpleNamespace) -> None:
    faces = bench.faces(8, 4, 0)
    with pytest.raises(InvalidValue, match="0 references: a search needs at least one"):
        SearchIndex(faces[:0])
    with pytest.raises(InvalidValue, match="prefilter 'int4': must be one of"):
        SearchIndex(faces, prefilter="int4")
    with pytest.raises(InvalidValue, match="path 'sse9': this machine has"):
        SearchIndex(faces, path="sse9")
    with pytest.raises(InvalidValue, match="D = 65537: must be at most 65536"):
        SearchIndex(Embeddings(np.eye(1, 65537, dtype=np.float32), np.ones((1, 1), np.float32)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("mu", np.nan), r"mu row 3 has length nan"),
        (("mu", 0), r"mu row 3 has length 0: must be 1; normalise the rows"),
        (("mu", 1.1), r"mu row 3 has length .*normalise the rows"),
        (("sigma_sq", 0), r"sigma_sq row 3 is \[0\.\]: must be positive and finite"),
        (("sigma_sq", -1), r"sigma_sq row 3 is \[-\d"),
        (("sigma_sq", np.nan), r"sigma_sq row 3 is \[nan\]"),
        (("sigma_sq", np.inf), r"sigma_sq row 3 is \[inf\]"),
    ],
)
def test_faces_that_break_the_rules_get_nowhere_near(
    bench: SimpleNamespace, change: tuple[str, float], message: str
) -> None:
    faces = bench.faces(8, 4, 0)
    parts = {"mu": faces.mu.copy(), "sigma_sq": faces.sigma_sq.copy()}
    parts[change[0]][3] *= change[1]
    with pytest.raises(InvalidValue, match=message):
        top_k(Embeddings(**parts), faces, 1)
