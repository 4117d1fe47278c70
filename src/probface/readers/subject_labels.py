"""Labels of people from a table: who belongs to which group.

A CSV file with a header; the first column names the subject as the protocol does, every other one is a label:

    subject,region,age
    Ann_Lee,north,adult
    Bob_Ray,,adult          an empty label: unknown, left out of its group's figures
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from probface.errors import DataError


def read_subject_labels(path: Path, column: str | None = None) -> Mapping[str, str]:
    """Subject -> label.

    Args:
        path: the table, UTF-8.
        column: which label, by its header; may be left out where there is one.

    Returns:
        The labels that are not empty.

    Raises:
        DataError: not such a table, no such column or two of that name, or a subject with two labels; the message
            names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}); write it as one") from error
    if len(rows) < 2 or len(rows[0]) < 2:
        raise DataError(f"{path}: must have a header, a column of subjects and one of labels; see 'subject,label'")
    place = _column(path, rows[0], column)
    labels: dict[str, str] = {}
    for line, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(rows[0]):
            raise DataError(f"{path}, line {line}: {len(row)} cells under a header of {len(rows[0])}; mend the line")
        subject, label = row[0].strip(), row[place].strip()
        if label and labels.setdefault(subject, label) != label:
            raise DataError(f"{path}, line {line}: subject {subject!r} is {label!r} and {labels[subject]!r}; keep one")
    return MappingProxyType(labels)


def _column(path: Path, header: list[str], wanted: str | None) -> int:
    names = [name.strip() for name in header]
    if wanted is None and len(names) == 2:
        return 1
    if wanted not in names[1:]:
        what = "several labels" if wanted is None else f"no label {wanted!r}"
        shown = ", ".join(name if name.isprintable() else repr(name) for name in names[1:])
        raise DataError(f"{path}: {what}; choose one of {shown}")
    if names.count(wanted) > 1:
        raise DataError(f"{path}, line 1: column {wanted!r} is in the header twice; remove or rename one of them")
    return names.index(wanted, 1)
