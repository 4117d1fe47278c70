from __future__ import annotations

import pytest

from probface.errors import DataError
from probface.eval.protocols.people_lists import refuse_overlap


def test_lists_without_a_person_in_common_pass() -> None:
    assert refuse_overlap(["ann", "bob"], iter(["cyd"])) == ()
    assert refuse_overlap([], ["cyd"]) == ()


def test_people_in_both_lists_are_named_and_counted() -> None:
    with pytest.raises(DataError, match="people 'ann': 1 of the 2 people to judge by are in the training list"):
        refuse_overlap(["ann", "bob"], ["cyd", "ann", "ann"])
    many = ["eve", "ann", "bob", "dan", "cyd"]
    with pytest.raises(DataError, match=r"people 'ann', 'bob', 'cyd', \.\.\.: 5 of the 5 people"):
        refuse_overlap(many, many)


def test_forced_they_are_told() -> None:
    assert refuse_overlap(iter(["bob", "ann", "eve"]), ["ann", "bob", "cyd"], force=True) == ("ann", "bob")
