"""Tables in CSV with a header, as NIST distributes its protocols: the columns asked for, row by row."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from probface.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """The columns asked for, in the order asked; ``where`` names file and line for messages."""

    where: str
    fields: tuple[str, ...]

    def whole(self, column: int) -> int:
        """A whole number of 0 or more; raises DataError."""
        text = self.fields[column].strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 19):  # fits into 64 bits
            raise DataError(f"{self.where}: {text[:60]!r}, expected a whole number of 0 or more; correct the line")
        return int(text)

    def number(self, column: int) -> float:
        """A finite number, or NaN where the field is empty; raises DataError."""
        text = self.fields[column].strip()
        try:
            value = float(text) if text else math.nan
        except ValueError:
            value = math.inf
        if math.isinf(value) or (text and math.isnan(value)):
            raise DataError(f"{self.where}: {text!r}, expected a number or nothing; correct the line")
        return value


def csv_rows(path: Path, columns: Sequence[str], header: bool = True) -> Iterator[Row]:
    """The rows of a file, read as they are taken; blank lines are passed over.

    Args:
        path: a file in UTF-8, fields parted by commas.
        columns: names in the header, wherever they stand; without a header, of all the columns there are.
        header: whether the first line names the columns.

    Raises:
        DataError: the file cannot be read, a column is missing or there twice, or a row has more or fewer fields than
            the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])] if header else list(columns)
            missing = [column for column in columns if column not in names]
            if missing:
                raise DataError(
                    f"{path}, line 1: no column {missing[0]} in the header; get a complete copy of the list"
                )
            twice = [column for column in columns if names.count(column) > 1]
            if twice:
                raise DataError(
                    f"{path}, line 1: column {twice[0]} is in the header twice; remove or rename one of them"
                )
            places = [names.index(column) for column in columns]
            for fields in reader:
                where = f"{path}, line {reader.line_num}"
                if fields and len(fields) != len(names):
                    raise DataError(
                        f"{where}: {len(fields)} fields, expected {len(names)}; correct the line, or get a complete "
                        "copy of the list"
                    )
                if fields:
                    yield Row(where, tuple(fields[place] for place in places))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a readable list") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table in UTF-8 ({error}); get a complete copy of the list") from error
