from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probface.errors import DataError, InvalidValue
from probface.eval.candidate import BLOCK_PAIRS, Candidate
from probface.eval.comparisons import Comparisons
from probface.eval.face_table import FaceTable
from probface.eval.results import System
from probface.score.fast_mls import fast_mls
from probface.types import Embeddings

LIST = Comparisons(
    names=("ann1", "ann2", "bob1", "cyd1"),
    subjects=("ann", "ann", "bob", "cyd"),
    first=np.array([0, 0, 2]),
    second=np.array([1, 2, 3]),
    genuine=np.array([True, False, False]),
    folds=np.array([1, 1, 2]),
)


def test_pairs_are_chosen_by_subject_and_by_image() -> None:
    assert LIST.of_subjects(["ann"]).tolist() == [True, True, False]
    assert LIST.of_subjects(["nobody"]).tolist() == [False] * 3
    assert LIST.with_images(["bob1"]).tolist() == [False, True, True]
    assert LIST.subject_numbers.tolist() == [0, 0, 1, 2]
    fewer = LIST.select(np.array([True, False, True]))
    assert (fewer.first.tolist(), fewer.folds.tolist() if fewer.folds is not None else None) == ([0, 2], [1, 2])


def test_a_pair_that_comes_twice_is_found_in_either_order() -> None:
    assert LIST.duplicate() is None
    twice = replace(LIST, first=np.array([0, 0, 2]), second=np.array([1, 2, 0]))
    assert twice.duplicate() == ("ann1", "bob1")


def test_one_kind_of_pair_is_no_protocol() -> None:
    with pytest.raises(DataError, match="all 3 pairs are impostors'"):
        replace(LIST, genuine=np.zeros(3, np.bool_))
    with pytest.raises(DataError, match="all 3 pairs are genuine"):
        replace(LIST, genuine=np.ones(3, np.bool_))


def test_the_parts_go_together() -> None:
    with pytest.raises(InvalidValue, match="3 labels"):
        replace(LIST, first=np.array([0]))
    with pytest.raises(InvalidValue, match="folds of shape"):
        replace(LIST, folds=np.array([0]))
    with pytest.raises(InvalidValue, match="1 subjects for 4 images"):
        replace(LIST, subjects=("ann",))


def test_scores_are_those_of_the_formula_in_the_order_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    count = BLOCK_PAIRS + 7  # two blocks
    mu = rng.normal(size=(4, 8)).astype(np.float32)
    faces = Embeddings(mu / np.linalg.norm(mu, axis=1, keepdims=True), rng.uniform(0.1, 1, (4, 1)).astype(np.float32))
    table = FaceTable(("cyd1", "bob1", "ann2", "ann1"), faces)  # in another order than the list's
    pairs = replace(
        LIST,
        first=rng.integers(4, size=count),
        second=rng.integers(4, size=count),
        genuine=np.arange(count) % 2 == 0,
        folds=None,
    )
    scores = Candidate(System("s", "s", "m", "", "fastmls"), table).scores(pairs)
    rows = 3 - np.arange(4)
    a, b = faces[rows[pairs.first]], faces[rows[pairs.second]]
    np.testing.assert_array_equal(scores, fast_mls(a.mu, a.sigma_sq, b.mu, b.sigma_sq))


def test_unused_images_go_and_the_pairs_stay() -> None:
    kept = LIST.select(np.array([True, True, False])).without_unused_images()
    assert kept.names == ("ann1", "ann2", "bob1")
    assert kept.subjects == ("ann", "ann", "bob")
    assert [(kept.names[a], kept.names[b]) for a, b in zip(kept.first, kept.second, strict=True)] == [
        ("ann1", "ann2"),
        ("ann1", "bob1"),
    ]
