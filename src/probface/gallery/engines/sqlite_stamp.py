"""The generations of a gallery file, each with a stamp that tells it from those of other copies of the file."""

from __future__ import annotations

import secrets
import sqlite3

from probface.gallery.engines.sqlite_values import Damaged, gallery_row

KEPT_STAMPS = 10_000
"""How many generations back their stamps are known; the log of changes reaches no further."""
STAMP_BYTES = 16


def next_generation(connection: sqlite3.Connection) -> int:
    """Begin a generation, with a stamp that no copy of this gallery can have for it."""
    (before, known_since) = gallery_row(connection, "generation", "known_since")
    generation = before + 1
    oldest = generation - KEPT_STAMPS
    connection.execute("INSERT INTO stamp VALUES (?, ?)", (generation, secrets.token_hex(STAMP_BYTES)))
    connection.execute("UPDATE gallery SET generation = ?", (generation,))
    if oldest > 0:
        connection.execute("DELETE FROM stamp WHERE generation < ?", (oldest,))
    if oldest > known_since:  # nobody may go on from a generation that cannot be recognised
        connection.execute("DELETE FROM change WHERE generation <= ?", (oldest,))
        connection.execute("UPDATE gallery SET known_since = ?", (oldest,))
    return generation


def stamp(connection: sqlite3.Connection, generation: int) -> str | None:
    """The stamp of a generation, where it is known."""
    if not 0 <= generation < 1 << 63:  # beyond what SQLite can hold
        return None
    row = connection.execute("SELECT token FROM stamp WHERE generation = ?", (int(generation),)).fetchone()
    if row is None:
        return None
    if not isinstance(row[0], str):
        raise Damaged(f"stamp of generation {generation}")
    return row[0]
