"""After a deletion: no byte of what was deleted stays in the gallery's files.

``secure_delete`` overwrites freed cells and pages, but a page may keep stale copies of cells that SQLite moved to other
pages while it balanced the tree, and the write-ahead log keeps the pages as they were. So the file is written anew
(VACUUM), the log is played into it and cut to nothing. Until then the ``unwiped`` mark stands in the file, and whoever
opens it to write finishes the work.

VACUUM needs as much free space again as the gallery, for a time; its temporary file holds only what stays enrolled.
"""

from __future__ import annotations

import sqlite3
import time

from probface.gallery.engines.sqlite_values import gallery_row

RETRY_SECONDS = 0.01


def is_unwiped(connection: sqlite3.Connection) -> bool:
    """Whether bytes of what was removed may still be there."""
    return gallery_row(connection, "unwiped") != (0,)


def wipe(connection: sqlite3.Connection, busy_seconds: float) -> str | None:
    """Write the file anew without what was removed, if there is need; not inside a transaction.

    Args:
        connection: that may write.
        busy_seconds: how long to wait for other connections.

    Returns:
        None when all is wiped, otherwise why not, and the mend.
    """
    held = "another connection is reading it; end what else uses it, and run verify, which wipes them"
    try:
        # A mark that a deletion sets from here on is another one, and stays.
        (mark,) = gallery_row(connection, "unwiped")
        if not mark:
            return None
        if not _log_cut(connection, busy_seconds):  # before the long part: it would be in vain
            return held
        connection.execute("VACUUM")
        if not _log_cut(connection, busy_seconds):
            return held
        connection.execute("UPDATE gallery SET unwiped = 0 WHERE unwiped = ?", (mark,))
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return "the disk is full; free space as large as the gallery, and run verify, which wipes them"
        reason = " ".join(str(error).split())
        return f"SQLite refuses ({reason}); see to the disk and to what else uses it, and run verify, which wipes them"
    return None


def _log_cut(connection: sqlite3.Connection, busy_seconds: float) -> bool:
    """Play the log into the file and cut it to no bytes; False if a reader of the old state stays in the way."""
    until = time.monotonic() + busy_seconds
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= until:
            return False
        time.sleep(RETRY_SECONDS)  # SQLite waits for readers itself, but not for another connection that plays the log
    return True
