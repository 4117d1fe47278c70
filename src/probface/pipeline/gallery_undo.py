"""Takes back a gallery file that was made for a first enrolment which then failed: bound to a model, and empty."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from probface.gallery.derived_file import index_path


def remove_if_untouched(place: str | os.PathLike[str]) -> bool:
    """Remove a gallery's files if nothing was ever enrolled in it and nobody else has it open.

    Whoever opens it at just that moment can write nothing any more, since SQLite refuses to change a file that is in no
    folder; so nobody is told of an enrolment that is gone.

    Args:
        place: of a gallery file that this process has closed.

    Returns:
        Whether it was removed; otherwise it is left as it was.
    """
    path = Path(place).resolve()
    try:
        address = f"{path.as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)) as connection:
            # Out of the log's mode: refused while anybody has the file open. It plays the log in and removes it.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN EXCLUSIVE")
            untouched: bool = connection.execute("SELECT generation FROM gallery").fetchone() == (0,)
            if untouched:
                with suppress(OSError):
                    index_path(path).unlink(missing_ok=True)
                path.unlink()
            connection.execute("ROLLBACK")
            return untouched
    except (sqlite3.Error, OSError):
        return False
