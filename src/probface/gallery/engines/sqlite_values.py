"""What is read from a gallery file, refused where ProbFace cannot have written it: a damaged file, or a hostile one."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

from probface.errors import InvalidValue
from probface.gallery.records import check_name

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
LATEST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
"""What a time of enrolment can be, in microseconds since 1970."""


class Damaged(Exception):
    """What of a gallery file is not as ProbFace writes it; becomes a DataError with the path."""


def gallery_row(connection: sqlite3.Connection, *columns: str) -> tuple[int, ...]:
    """Numbers of the one row of the table ``gallery``."""
    found = _gallery(connection, columns)
    return tuple(integer(value, f"{column} of the gallery") for column, value in zip(columns, found, strict=True))


def settings_of(connection: sqlite3.Connection) -> str:
    """The settings as they stand in the file."""
    return text(_gallery(connection, ("settings",))[0], "settings of the gallery")


def migration_of(connection: sqlite3.Connection) -> str | None:
    """The model that is migrated to as it stands in the file, None where none is."""
    stored = _gallery(connection, ("migration",))[0]
    return None if stored is None else text(stored, "migration of the gallery")


def integer(stored: object, what: str, low: int = 0, high: int = (1 << 63) - 1) -> int:
    """A whole number in low..high."""
    if not isinstance(stored, int) or not low <= stored <= high:
        raise Damaged(f"{what} is {_shown(stored)}")
    return stored


def text(stored: object, what: str) -> str:
    """A text."""
    if not isinstance(stored, str):
        raise Damaged(f"{what} is {_shown(stored)}")
    return stored


def name_of(stored: object) -> str:
    """The name of an identity."""
    try:
        return check_name(text(stored, "name of an identity"))
    except InvalidValue as error:
        raise Damaged(f"name of an identity is {_shown(stored)}") from error


def source_of(stored: object) -> str:
    """What an image was; a path of undecodable bytes has surrogates, and is a blob in the file."""
    if isinstance(stored, bytes):
        try:
            return stored.decode(errors="surrogatepass")
        except UnicodeDecodeError as error:
            raise Damaged(f"source of a reference is {_shown(stored)}") from error
    return text(stored, "source of a reference")


def quality_of(stored: object) -> int:
    """Of a reference."""
    return integer(stored, "quality of a reference", -1, 100)


def moment_of(stored: object) -> datetime:
    """When somebody was enrolled."""
    return EPOCH + integer(stored, "time of enrolment", EARLIEST, LATEST) * MICROSECOND


def _gallery(connection: sqlite3.Connection, columns: tuple[str, ...]) -> tuple[Any, ...]:
    rows = connection.execute(f"SELECT {', '.join(columns)} FROM gallery").fetchall()  # noqa: S608
    if len(rows) != 1:
        raise Damaged(f"table gallery has {len(rows)} rows")
    row: tuple[Any, ...] = rows[0]
    return row


def _shown(stored: object) -> str:
    return f"{type(stored).__name__} {stored!r:.40}"
