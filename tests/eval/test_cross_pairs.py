from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InvalidValue
from probface.eval import cross_pairs
from probface.eval.cross_pairs import CrossPairs
from probface.score.cosine import cosine
from probface.score.fast_mls import fast_mls
from probface.score.mls import mls
from probface.types import Embeddings


def faces(count: int, width: int) -> Embeddings:
    rng = np.random.default_rng(count)
    mu = rng.normal(size=(count, 6))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return Embeddings(mu.astype(np.float32), rng.uniform(0.2, 2, (count, width)).astype(np.float32))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=12), st.integers(1, 5))
def test_pairs_are_those_of_a_plain_loop(drawn: list[tuple[int, int]], rows: int) -> None:
    images = np.array([image for _, image in drawn])
    people = images % 3  # an image shows one person, whatever its copies
    expected = [(i, j) for i, j in combinations(range(len(images)), 2) if images[i] != images[j]]
    kept, cross_pairs.BLOCK_ROWS = cross_pairs.BLOCK_ROWS, rows
    try:
        if not expected:
            with pytest.raises(InvalidValue, match="need two images or more"):
                CrossPairs.of(people, images)
            return
        pairs = CrossPairs.of(people, images)
        first, second = pairs.indices()
        assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected
        assert pairs.genuine.tolist() == [bool(people[i] == people[j]) for i, j in expected]
        for metric, formula, width in (("fastmls", fast_mls, 1), ("mls", mls, 1), ("mls", mls, 6)):
            some = faces(len(images), width)
            a, b = some[first], some[second]
            np.testing.assert_allclose(
                pairs.scores(some, metric),  # type: ignore[arg-type]
                formula(a.mu, a.sigma_sq, b.mu, b.sigma_sq),
                rtol=2e-4,
                atol=1e-5,
            )
        np.testing.assert_allclose(pairs.scores(some, "cosine"), cosine(a.mu, b.mu), atol=1e-6)
    finally:
        cross_pairs.BLOCK_ROWS = kept


def test_what_does_not_go_together() -> None:
    with pytest.raises(InvalidValue, match=r"must both be \(N,\)"):
        CrossPairs.of(np.zeros(3, np.int64), np.zeros(4, np.int64))
    pairs = CrossPairs.of(np.zeros(3, np.int64), np.arange(3))
    with pytest.raises(InvalidValue, match="4 embeddings for 3 faces"):
        pairs.scores(faces(4, 1), "cosine")
    with pytest.raises(InvalidValue, match="metric 'l2': must be one of"):
        pairs.scores(faces(3, 1), "l2")  # type: ignore[arg-type]


@pytest.mark.parametrize("block", [2, 3, 512])
def test_some_pairs_are_found_by_number(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_pairs, "BLOCK_ROWS", block)
    pairs = CrossPairs.of(np.array([0, 0, 1, 1, 2, 2, 0]), np.array([0, 1, 2, 2, 3, 4, 0]))
    first, second = pairs.indices()
    for chosen in (np.arange(len(first)), np.array([0, 5, len(first) - 1]), np.array([7]), np.empty(0, np.int64)):
        i, j = pairs.faces_of(chosen)
        np.testing.assert_array_equal(i, first[chosen])
        np.testing.assert_array_equal(j, second[chosen])
