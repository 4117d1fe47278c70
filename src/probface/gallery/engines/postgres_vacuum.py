"""After a deletion: VACUUM, and whether older transactions kept it from freeing the rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probface.gallery.engines.postgres_session import Connection

HELD_SECONDS = 5.0
"""How long to wait for older transactions to end."""
RETRY_SECONDS = 0.05

_OLDER = """
    SELECT holder FROM (
        SELECT 'process ' || pid AS holder, greatest(age(backend_xmin), age(backend_xid)) AS age
        FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND (datname IS NULL OR datname = current_database())
          AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
        UNION ALL SELECT 'replication slot ' || slot_name, age(xmin) FROM pg_replication_slots
        UNION ALL SELECT 'prepared transaction ' || gid, age(transaction) FROM pg_prepared_xacts
        WHERE database = current_database()
    ) held WHERE age >= age(%s::text::xid) ORDER BY age DESC, holder LIMIT 1
"""
"""Whoever may still see rows that a transaction deleted; without pg_read_all_stats, only one's own sessions."""


def free_space(connection: Connection, tables: str, transaction: str) -> str | None:
    """Free the space of what a transaction deleted, waiting a while for older ones.

    Args:
        connection: outside of a transaction.
        tables: their names, with commas.
        transaction: the xid of the deletion.

    Returns:
        None when it is free, otherwise who is in the way.
    """
    # Without INDEX_CLEANUP, names and vectors would stay in indexes when few rows were deleted.
    vacuum = f"VACUUM (INDEX_CLEANUP ON) {tables}".encode()
    held = _older(connection, transaction)
    connection.execute(vacuum)
    if held is None:
        return None
    until = time.monotonic() + HELD_SECONDS
    while (held := _older(connection, transaction)) is not None:
        if time.monotonic() >= until:
            return held
        time.sleep(RETRY_SECONDS)
    connection.execute(vacuum)  # the first one may have come too early
    return None


def _older(connection: Connection, transaction: str) -> str | None:
    row = connection.execute(_OLDER, (transaction,)).fetchone()
    return None if row is None else str(row[0])
