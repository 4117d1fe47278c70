import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import DataError
from probface.readers.item import Broken, Item, Origin, Span
from probface.train.image_table import ImageTable

NAMES = st.text(max_size=20) | st.sampled_from(["", "ä/ö.png", "\udcff.png"])  # the last: a file name that is no UTF-8
PATHS = st.sampled_from([Path("a.rec"), Path("folder/b.rec"), Path("\udcff.png"), Path("c.png")])
ORIGINS: st.SearchStrategy[Origin] = (
    PATHS
    | st.builds(Span, PATHS, st.integers(0, 1 << 45), st.integers(0, 1 << 31))
    | st.binary(max_size=10)
    | st.builds(Broken, st.text(max_size=20))
)
LABELS = st.sampled_from(["7", "42", "anna", "", "Åsa", "007"])
ITEMS = st.lists(st.builds(Item, NAMES, ORIGINS, LABELS), min_size=1, max_size=30)


@settings(deadline=None, max_examples=200)
@given(ITEMS)
def test_what_comes_out_is_what_went_in(items: list[Item]) -> None:
    table = ImageTable(iter(items))
    assert len(table) == len(items)
    assert [table[i] for i in range(len(items))] == items
    assert list(table) == items
    assert [table[i] for i in range(-len(items), 0)] == items


@settings(deadline=None, max_examples=100)
@given(ITEMS)
def test_people_are_numbered_densely_by_their_names(items: list[Item]) -> None:
    table = ImageTable(items)
    assert table.identities == tuple(sorted({item.label for item in items}))  # type: ignore[type-var]
    assert table.people.dtype == np.int64
    assert [table.identities[k] for k in table.people] == [item.label for item in items]
    assert set(table.people) == set(range(len(table.identities)))


@settings(deadline=None, max_examples=100)
@given(ITEMS, st.data())
def test_a_selection_is_a_table_of_its_own(items: list[Item], data: st.DataObject) -> None:
    table = ImageTable(items)
    numbers = data.draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=40))
    chosen = table.select(np.array(numbers))
    wanted = [items[i] for i in numbers]
    for selection, expected in ((chosen, wanted), (chosen[1:], wanted[1:]), (table[::-2], items[::-2])):
        assert list(selection) == expected
        assert selection.identities == tuple(sorted({item.label for item in expected}))  # type: ignore[type-var]
        assert [selection.identities[k] for k in selection.people] == [item.label for item in expected]
    assert list(table) == items


def test_labels_need_not_be_dense() -> None:
    table = ImageTable(Item(str(i), b"", label) for i, label in enumerate(["7", "anna", "42", "7"]))
    assert table.identities == ("42", "7", "anna")
    assert table.people.tolist() == [1, 2, 0, 1]


def test_numbers_outside_are_index_errors() -> None:
    table = ImageTable([Item("a", b"1", "x"), Item("b", b"2", "x")])
    for index in (2, -3):
        with pytest.raises(IndexError):
            table[index]


def test_nobodys_image_is_refused() -> None:
    with pytest.raises(DataError, match="image second: nobody's; training images need a person each"):
        ImageTable([Item("first", b"", "x"), Item("second", b"")])


def test_no_image_is_refused() -> None:
    with pytest.raises(DataError, match="no image at all"):
        ImageTable([])


MANY, PER_PERSON = 200_000, 50


@pytest.mark.slow
@pytest.mark.parametrize("place", ["in one file", "files"])
def test_an_image_takes_little_memory(place: str) -> None:
    def items() -> Iterator[Item]:
        for i in range(MANY):
            person = f"{i // PER_PERSON:06d}"
            name = f"{person}/{i:07d}"
            origin = Path("faces") / name if place == "files" else Span(Path("train.rec"), 9000 * i, 8900)
            yield Item(name, origin, person)

    table = ImageTable(items())
    *_, last = items()
    assert table[MANY - 1] == last
    texts = len("000000/0000000") + (len("faces/000000/0000000") if place == "files" else 0)
    held = sum(map(sys.getsizeof, vars(table).values()))
    assert held / MANY < 64 + 1.25 * texts  # room that an array keeps to grow is counted
