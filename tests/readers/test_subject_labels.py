from __future__ import annotations

from pathlib import Path

import pytest

from probface.errors import DataError
from probface.readers.subject_labels import read_subject_labels

TABLE = "subject,region,age\nann,north,adult\nbob,,adult\n\ncyd, south ,child\nann,north,adult\n"


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "people.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_label_for_each_subject_who_has_one(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeff" + TABLE)  # as spreadsheets write it
    assert dict(read_subject_labels(path, "region")) == {"ann": "north", "cyd": "south"}
    assert dict(read_subject_labels(path, "age")) == {"ann": "adult", "bob": "adult", "cyd": "child"}


def test_one_label_needs_no_name(tmp_path: Path) -> None:
    assert dict(read_subject_labels(written(tmp_path, "who,group\r\nann,a\r\n"))) == {"ann": "a"}


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (TABLE, None, "several labels; choose one of region, age"),
        (TABLE, "sex", "no label 'sex'; choose one of region, age"),
        (TABLE, "subject", "no label 'subject'"),
        ('subject,"re\ngion",age\nann,x,y\n', "region", r"choose one of 're\\ngion', age"),
        ("subject,age,region, age\nann,x,y,z\n", "age", "line 1: column 'age' is in the header twice"),
        ("subject,a\nann,x\nann,y\n", None, "line 3: subject 'ann' is 'y' and 'x'"),
        ("subject,a\nann\n", None, "line 2: 1 cells under a header of 2"),
        ("subject\nann\n", None, "must have a header"),
        ("", None, "must have a header"),
        (b"subject,a\n\xff\xfe,b\n", None, "not a CSV file in UTF-8"),
        ('subject,a\n"ann,b\n', None, "not a CSV file"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, text: str | bytes, column: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_subject_labels(written(tmp_path, text), column)
    assert len(str(caught.value).splitlines()) == 1


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_subject_labels(tmp_path / "none.csv")
