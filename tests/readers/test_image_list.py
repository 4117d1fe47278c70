import re
from pathlib import Path

import pytest

from probface.errors import DataError, InvalidValue
from probface.readers.image_list import read_list
from probface.readers.item import Item
from probface.readers.open import open_items


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.jpg", "my photo.png", "deep/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def _list(root: Path, text: str, name: str = "list.txt") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root / name


def test_paths_and_labels(root: Path) -> None:
    path = _list(root, "# people\n\na.jpg anna\n  my photo.png   7\r\n#b.jpg x\ndeep/b.jpg\tAnna Berg\n")
    assert read_list(path).items == (
        Item("a.jpg", root / "a.jpg", "anna"),
        Item("my photo.png", root / "my photo.png", "7"),
        Item("deep/b.jpg", root / "deep/b.jpg", "Anna Berg"),
    )


def test_the_last_tab_wins(root: Path) -> None:
    (root / "x\ty z.jpg").touch()
    (item,) = read_list(_list(root, "x\ty z.jpg \t the label\n")).items
    assert (item.name, item.label) == ("x\ty z.jpg", "the label")


def test_an_absolute_path_and_a_byte_order_mark(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = _list(tmp_path_factory.mktemp("elsewhere"), f"\ufeff{root}/a.jpg 1\n")
    assert read_list(path).items == (Item(f"{root}/a.jpg", root / "a.jpg", "1"),)


def test_lists_of_im2rec(root: Path) -> None:
    path = _list(
        root, "5\t7.000000\ta.jpg\n0\t0.5\t3\t4\tmy photo.png\n\n# no more\n12\t16777217\tdeep/b.jpg\n", "x.LST"
    )
    items = read_list(path).items
    assert [(item.name, item.label) for item in items] == [
        ("a.jpg", "7"),
        ("my photo.png", "0.5"),
        ("deep/b.jpg", "16777217"),
    ]
    assert [item.source for item in items] == [root / "a.jpg", root / "my photo.png", root / "deep/b.jpg"]


@pytest.mark.parametrize("name", ["none.jpg", "deep", "x" * 300, "a.jpg/b.jpg"])
def test_what_is_missing(root: Path, name: str) -> None:
    path = _list(root, f"a.jpg 1\n\n{name} 2\ndeep/b.jpg 3\n")
    message = f"{path}, line 3: {name!r}: no such file at {root / name}; correct the path, or skip missing images"
    with pytest.raises(DataError, match=re.escape(message)):
        read_list(path)
    read = read_list(path, missing="skip")
    assert [item.name for item in read.items] == ["a.jpg", "deep/b.jpg"]
    assert read.missing == (name,)


def test_malformed_lines(root: Path) -> None:
    with pytest.raises(DataError, match=r"list.txt, line 2: 'a.jpg', expected a path and a label; correct the line"):
        read_list(_list(root, "#\na.jpg\n"))
    for line in ("a.jpg 1", "1\ta.jpg", "x\t1\ta.jpg", "1\tanna\ta.jpg", "1\tnan\ta.jpg", "1\ta.jpg\t0"):
        message = re.escape(f"x.lst, line 1: {line!r}, expected an index, one or more numbers as labels and a path")
        with pytest.raises(DataError, match=message):
            read_list(_list(root, line, "x.lst"))


def test_an_image_that_is_named_twice(root: Path) -> None:
    with pytest.raises(DataError, match=r"line 3: 'a.jpg' is on line 1 already; remove one"):
        read_list(_list(root, "a.jpg 1\ndeep/b.jpg 1\na.jpg 2\n"))


def test_lists_that_cannot_be_read(root: Path) -> None:
    with pytest.raises(DataError, match=r"none.txt: No such file"):
        read_list(root / "none.txt")
    (root / "latin.txt").write_bytes("bj\xf6rn.jpg 1\n".encode("latin1"))
    with pytest.raises(DataError, match=r"latin.txt: no text in UTF-8"):
        read_list(root / "latin.txt")
    with pytest.raises(InvalidValue, match=r"a.jpg: a list of images must end in .txt or .lst; rename it"):
        read_list(root / "a.jpg")
    with pytest.raises(InvalidValue, match=r"missing 'ignore': must be 'error' or 'skip'"):
        read_list(_list(root, ""), missing="ignore")  # type: ignore[arg-type]


def test_lists_are_opened_as_any_container(root: Path) -> None:
    text, lst = _list(root, "a.jpg anna\n"), _list(root, "0\t3\ta.jpg\n", "x.lst")
    assert list(open_items(text)) == [Item("a.jpg", root / "a.jpg", "anna")]
    assert list(open_items(lst)) == [Item("a.jpg", root / "a.jpg", "3")]
    with pytest.raises(DataError, match=r"none.jpg"):
        open_items(_list(root, "none.jpg anna\n"))
    with pytest.raises(DataError, match="no image in it"):
        list(open_items(_list(root, "# nothing\n")))
