"""Values and moments at the edge: the smallest and largest variances, zeros with a sign, rows that leave meanwhile."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from probface.errors import DataError, InvalidValue
from probface.match import index_file
from probface.match.exact import SearchIndex
from probface.match.matrix import score_matrix
from probface.match.native import kernel, paths
from probface.match.synthetic import synthetic_faces
from probface.types import Embeddings

PATHS = [path.name for path in paths()]


def faces(rng: np.random.Generator, rows: int, dim: int, low: float, high: float) -> Embeddings:
    mu = rng.normal(size=(rows, dim))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    sigma_sq = np.exp(rng.uniform(np.log(low), np.log(high), (rows, dim)))
    return Embeddings(mu.astype(np.float32), sigma_sq.astype(np.float32))


def exact(probes: Embeddings, references: Embeddings) -> np.ndarray:
    t = probes.sigma_sq.astype(float)[:, None] + references.sigma_sq.astype(float)[None]
    apart = probes.mu.astype(float)[:, None] - references.mu.astype(float)[None]
    return -0.5 * (apart**2 / t + np.log(t)).sum(axis=2)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("low", "high"),
    [(1e-38, 3e38), (1e-38, 1e-37), (1e37, 3e38), (1e-45, 1e-40), (1e-30, 1e-5), (1e-18, 1e18), (0.1, 1.0)],
)
def test_d_variances_of_any_size(path: str, low: float, high: float) -> None:
    rng = np.random.default_rng(4)
    for dim in (3, 8, 37):
        probes, references = faces(rng, 5, dim, low, high), faces(rng, 90, dim, low, high)
        scores = exact(probes, references)
        found = SearchIndex(references, path=path).search(probes, 7, metric="mls")
        assert np.array_equal(found.indices, np.argsort(-scores, axis=1, kind="stable")[:, :7])
        matrix = score_matrix(probes, references, "mls", path=path)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(matrix, scores.astype(np.float32), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("path", PATHS)
def test_opposite_spikes_with_the_least_variance(path: str) -> None:
    mu = np.zeros((2, 4), np.float32)
    mu[0, 0], mu[1, 0] = 1, -1
    both = Embeddings(mu, np.full((2, 4), 1e-38, np.float32))
    assert SearchIndex(both, path=path).search(both[:1], 2, metric="mls").indices.tolist() == [[0, 1]]


@pytest.mark.parametrize("path", PATHS)
def test_a_product_is_never_minus_zero(path: str) -> None:
    one, other = np.zeros((1, 32), np.float32), np.zeros((1, 32), np.float32)
    one[0, 0], other[0, 1] = -1, 1
    one[0, 2:], other[0, 2:] = -0.0, 0.0
    sigma_sq = np.ones((1, 1), np.float32)
    found = SearchIndex(Embeddings(other, sigma_sq), path=path).search(Embeddings(one, sigma_sq), 1, metric="cosine")
    assert not np.signbit(found.scores[0, 0])


@pytest.mark.parametrize("path", PATHS)
def test_rows_that_are_excluded_during_a_search(path: str) -> None:
    probes, references = synthetic_faces(40, 3000, 16)
    index = SearchIndex(references, path=path)
    stop = threading.Event()

    def excluding() -> None:
        for row in range(0, 3000, 2):
            if stop.is_set():
                return
            index.exclude(np.array([row]))

    other = threading.Thread(target=excluding)
    other.start()
    try:
        for _ in range(20):
            found = index.search(probes, 10, threads=1)
            assert (found.indices >= 0).all()  # 1500 always are left
            assert (np.diff(found.scores, axis=1) <= 0).all()
    finally:
        stop.set()
        other.join()


def test_what_is_to_be_excluded_must_be_rows() -> None:
    index = SearchIndex(synthetic_faces(2, 100, 8)[1])
    for rows in (np.ones(100, bool), np.array([100]), np.array([-1]), np.array([1.0])):
        with pytest.raises(InvalidValue, match=r"must be whole numbers in 0 \.\. 99"):
            index.exclude(rows)


def test_only_numbers_are_kept_beside_an_index(tmp_path: Path) -> None:
    index = SearchIndex(synthetic_faces(2, 100, 8)[1])
    names = np.array([f"p{row}" for row in range(100)], object)
    with pytest.raises(InvalidValue, match=r"array 'extra.names' of object: must be rows of numbers"):
        index.save(tmp_path / "faces.index", extra={"names": names})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [[-1], [5, 200]])
def test_nothing_is_erased_where_a_row_is_not_there(tmp_path: Path, rows: list[int]) -> None:
    path = tmp_path / "faces.index"
    SearchIndex(synthetic_faces(2, 200, 8)[1]).save(path)
    before = path.read_bytes()
    with pytest.raises(InvalidValue, match=r"must be in 0 \.\. 199; nothing was erased"):
        index_file.erase_rows(path, np.array(rows))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"mu": ["|O", [200, 1], 4096]},
        {"mu": ["<f4", [200.0, 8], 4096]},
        {"mu": ["<f4", [True, 8], 4096]},
        {"mu": ["<f4", [2**70, 0], 4096]},
        {"mu": ["<f4", [], 4096]},
        {"mu": ["<f4", [1] * 70, 4096]},
        {"mu": ["<f4", [200, 8], 4096.0]},
        {"order": ["<U2", [200], 4096]},
        {"order": ["<i8", [], 4096]},
        {"codes": ["|u1", [200], 4096]},
        {"bucket_low": ["<f4", [2, 2], 4096]},
    ],
    ids=str,
)
def test_damaged_headers(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "faces.index"
    SearchIndex(synthetic_faces(2, 200, 8)[1]).save(path)
    content = path.read_bytes()
    size = int.from_bytes(content[8:16], "little")
    header = json.loads(content[16 : 16 + size])
    header["arrays"] |= change
    text = json.dumps(header).encode()
    path.write_bytes(content[:8] + size.to_bytes(8, "little") + text.ljust(size) + content[16 + size :])
    with pytest.raises(DataError, match="delete it, so that it is made anew"):
        SearchIndex.open(path)


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_where_there_is_a_compiler_there_is_a_kernel() -> None:
    assert kernel() is not None
