"""The 1:1 list of IJB-B and IJB-C, ``template template label``: 8 and 15.7 million lines, read in compiled code."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue

LINE = re.compile(rb"\s*(\d{1,10})\s+(\d{1,10})\s+([01])\s*")
PLAIN = b"0123456789 \t\r\n"
"""The bytes of a sound list."""
LONE_RETURN = re.compile(rb"\r(?!\n)")
"""An end of line to numpy, and none to the counting of lines here."""
CHUNK = 1 << 24
TEMPLATE_LIMIT = 1 << 31
_COLUMNS = np.dtype([("first", np.int32), ("second", np.int32), ("label", np.int8)])


@dataclass(frozen=True, slots=True, eq=False)
class IjbPairs:
    """P comparisons of two templates.

    Attributes:
        first, second: (P,) int32, numbers of the templates.
        genuine: (P,) bool, whether the two show one subject.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    genuine: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.genuine)


def read_ijb_pairs(
    path: Path, templates: NDArray[np.integer], *, repeated: Literal["error", "keep"] = "error"
) -> IjbPairs:
    r"""Read the comparisons of the 1:1 protocol.

    Args:
        path: of the list.
        templates: every template that has an image.
        repeated: what to do about two templates that are compared twice, in either order.

    Raises:
        DataError: the list cannot be read, a line is not three whole numbers with a label of 0 or 1 or ends in another
            way than with \n or \r\n, a template has no image or is compared with itself, pairs are repeated, or all
            are of one kind; with file, line and mend.
        InvalidValue: another word for ``repeated``.
    """
    if repeated not in ("error", "keep"):
        raise InvalidValue(f"repeated {repeated!r}: must be 'error' or 'keep'; choose one of them")
    try:
        _require_plain(path)
        # Blank lines are passed over; a number that does not fit or a line that is too short is a ValueError.
        table = np.loadtxt(path, _COLUMNS, comments=None, encoding="ascii", ndmin=1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a readable list") from error
    except ValueError:
        _explain(path)
    first, second = np.ascontiguousarray(table["first"]), np.ascontiguousarray(table["second"])
    if not (table["label"] <= 1).all():
        _explain(path)
    pairs = IjbPairs(first, second, table["label"] == 1)
    _check_templates(path, pairs, templates)
    if repeated == "error":
        _refuse_repeated(path, pairs)
    kinds = int(np.count_nonzero(pairs.genuine))
    if kinds in (0, len(pairs)):
        label = 1 if kinds else 0
        raise DataError(
            f"{path}, line {_line_of(path, len(pairs) - 1)}: the list ends, and all {len(pairs)} labels are {label}; "
            "the protocol needs both kinds, get a complete copy"
        )
    return pairs


def _require_plain(path: Path) -> None:
    """Nothing but digits, white space and plain ends of lines, and a number at all."""
    some = False
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if chunk.endswith(b"\r"):
                chunk += file.read(1)
            some = some or bool(chunk.strip())
            if chunk.translate(None, PLAIN) or LONE_RETURN.search(chunk):
                _explain(path)
    if not some:
        raise DataError(f"{path}, line 1: the list is empty, expected 'template template label'; get a complete copy")


def _explain(path: Path) -> NoReturn:
    """Find the line that breaks the format; slow, and only taken where there is one."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if LONE_RETURN.search(line):
                raise DataError(
                    f"{path}, line {number}: a carriage return alone, expected lines that end with \\n or \\r\\n; "
                    "convert the ends of the lines"
                )
            match = LINE.fullmatch(line)
            large = match is not None and max(int(match[1]), int(match[2])) >= TEMPLATE_LIMIT
            if line.strip() and (match is None or large):
                shown = line.strip()[:60].decode("utf-8", "replace")
                raise DataError(
                    f"{path}, line {number}: {shown!r}, expected 'template template label' with template numbers below "
                    f"{TEMPLATE_LIMIT} and a label of 0 or 1; correct the line, or get a complete copy"
                )
    raise DataError(f"{path}: changed while it was read; read it again")


def _check_templates(path: Path, pairs: IjbPairs, templates: NDArray[np.integer]) -> None:
    known = np.unique(templates)
    for side in (pairs.first, pairs.second):
        unknown = np.flatnonzero(~np.isin(side, known))
        if len(unknown):
            row = int(unknown[0])
            raise DataError(
                f"{path}, line {_line_of(path, row)}: template {side[row]} has no image in the list of faces "
                f"({len(np.unique(side[unknown]))} such templates); get complete copies of both lists"
            )
    own = np.flatnonzero(pairs.first == pairs.second)
    if len(own):
        row = int(own[0])
        raise DataError(
            f"{path}, line {_line_of(path, row)}: template {pairs.first[row]} is compared with itself; remove the line"
        )


def _refuse_repeated(path: Path, pairs: IjbPairs) -> None:
    keys = np.minimum(pairs.first, pairs.second).astype(np.int64)
    keys <<= 32
    keys |= np.maximum(pairs.first, pairs.second)
    rising = np.sort(keys)
    again = rising[1:][rising[1:] == rising[:-1]]
    if len(again):
        one, other = np.flatnonzero(keys == again[0])[:2].tolist()
        raise DataError(
            f"{path}, line {_line_of(path, other)}: templates {pairs.first[other]} and {pairs.second[other]} are "
            f"compared on line {_line_of(path, one)} already ({len(again)} such lines); remove them, or keep "
            "repeated pairs"
        )


def _line_of(path: Path, row: int) -> int:
    """The number of the line of a pair; blank lines are none."""
    with path.open("rb") as file:
        numbers = (number for number, line in enumerate(file, start=1) if line.strip())
        return next(itertools.islice(numbers, row, None))
