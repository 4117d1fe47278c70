from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from probface.errors import DataError
from probface.eval.protocols.lfw import lfw_comparisons
from probface.readers.lfw import LfwPair, people_folds, read_pairs

LFW = Path(__file__).parents[3] / ".." / "shared" / "data" / "lfw"
PAIRS = (
    LfwPair(1, "Ann/Ann_0001", "Ann/Ann_0002", True),
    LfwPair(1, "Ann/Ann_0001", "Bob/Bob_0001", False),
    LfwPair(2, "Cem/Cem_0001", "Cem/Cem_0003", True),
    LfwPair(2, "Cem/Cem_0002", "Dan/Dan_0001", False),
)


def test_subjects_are_the_people_in_the_names() -> None:
    found = lfw_comparisons(PAIRS)
    assert [(found.names[i], found.names[j]) for i, j in zip(found.first, found.second, strict=True)] == [
        (pair.a, pair.b) for pair in PAIRS
    ]
    assert found.subjects == ("Ann", "Ann", "Bob", "Cem", "Cem", "Cem", "Dan")
    assert found.genuine.tolist() == [True, False, True, False]
    assert found.folds is not None
    assert found.folds.tolist() == [1, 1, 2, 2]
    assert lfw_comparisons(PAIRS[:2]).folds is None


@pytest.mark.parametrize(("a", "b"), [("Ann/Ann_0001", "Bob/Bob_0001"), ("Bob/Bob_0001", "Ann/Ann_0001")])
def test_a_pair_that_comes_twice_is_refused_by_name(a: str, b: str) -> None:
    twice = (*PAIRS, LfwPair(2, a, b, False))
    with pytest.raises(DataError, match="'Ann/Ann_0001' and 'Bob/Bob_0001': is in the list twice"):
        lfw_comparisons(twice)
    assert len(lfw_comparisons(twice, allow_duplicates=True)) == 5


@pytest.mark.parametrize("pairs", [PAIRS[::2], PAIRS[1::2]])
def test_one_kind_alone_is_refused(pairs: Sequence[LfwPair]) -> None:
    with pytest.raises(DataError, match="a protocol needs both kinds"):
        lfw_comparisons(pairs)


@pytest.mark.skipif(not LFW.is_dir(), reason="LFW's lists (shared/data/lfw) are not beside this checkout")
def test_the_true_lists_have_no_pair_twice_and_no_person_in_two_folds() -> None:
    counts = {"pairs.txt": (3000, 3000), "pairsDevTrain.txt": (1100, 1100), "pairsDevTest.txt": (500, 500)}
    for name, (genuine, impostor) in counts.items():
        found = lfw_comparisons(read_pairs(LFW / name))
        assert (found.genuine.sum(), (~found.genuine).sum()) == (genuine, impostor)
        subjects = found.subject_numbers
        assert ((subjects[found.first] == subjects[found.second]) == found.genuine).all()
    view_2 = lfw_comparisons(read_pairs(LFW / "pairs.txt"))
    of = people_folds(LFW / "people.txt")
    assert view_2.folds is not None
    for rows in (view_2.first, view_2.second):
        assert [of[view_2.subjects[row]] for row in rows] == view_2.folds.tolist()
    assert np.bincount(view_2.folds).tolist() == [0] + [600] * 10
