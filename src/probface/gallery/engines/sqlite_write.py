"""Enrolment and deletion, inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain, count, islice

import numpy as np

from probface.gallery.engines.refusals import check_all_there, check_widths
from probface.gallery.engines.sqlite_rows import blobs, microseconds, texts_for
from probface.gallery.engines.sqlite_stamp import next_generation
from probface.gallery.engines.sqlite_values import Damaged, gallery_row, integer, migration_of
from probface.gallery.records import GallerySettings, NewReferences, check_name

KEPT_CHANGES = 100_000
"""Changed identities in the log; who is further behind derives everything anew."""

COLUMNS = 8
"""Of the table of references."""
GROUP = 64
"""References to a statement; SQLite takes 999 parameters in every version."""
ROW = "(?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_REFERENCE = "INSERT INTO reference VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def add(connection: sqlite3.Connection, new: NewReferences, settings: GallerySettings) -> None:
    """Enrol rows. Ids are given out here, in the order of the rows: inside a write transaction nobody else does."""
    check_widths(new.embeddings, settings.model)
    if not len(new):
        return
    moments, first_moment = new.moments(datetime.now(UTC))
    generation = next_generation(connection)
    identity, first = gallery_row(connection, "next_identity", "next_reference")
    unique = dict.fromkeys(new.names)
    known = _identities(connection, unique)
    _log(connection, generation, known.values())
    ids = {name: there for name, (there, _) in known.items()}
    fresh = dict(zip((name for name in unique if name not in ids), count(identity), strict=False))
    ids |= fresh
    connection.executemany(
        "INSERT INTO identity (name, id, enrolled, born) VALUES (?, ?, ?, ?)",
        ((name, there, microseconds(first_moment[name]), generation) for name, there in fresh.items()),
    )
    _insert_references(
        connection,
        len(new),
        zip(
            range(first, first + len(new)),
            map(ids.__getitem__, new.names),
            blobs(new.embeddings.mu),
            blobs(new.embeddings.sigma_sq),
            new.quality.tolist(),
            texts_for(new.sources),
            new.source_digests,
            map(microseconds, moments),
            strict=True,
        ),
    )
    connection.execute(
        "UPDATE gallery SET next_identity = ?, next_reference = ?", (identity + len(fresh), first + len(new))
    )
    if settings.keep_images:
        connection.executemany(
            "INSERT INTO image VALUES (?, ?)",
            ((first + row, image) for row, image in enumerate(new.images) if image is not None),
        )
    if migration_of(connection) is not None:
        connection.execute("INSERT INTO to_migrate (reference) SELECT id FROM reference WHERE id >= ?", (first,))


def _insert_references(connection: sqlite3.Connection, number: int, rows: Iterable[tuple[object, ...]]) -> None:
    """Insert rows, many to a statement: that saves an eighth of the whole time of an enrolment."""
    values = chain.from_iterable(rows)
    for group, times in ((GROUP, number // GROUP), (1, number % GROUP)):
        parameters = (tuple(islice(values, group * COLUMNS)) for _ in range(times))
        connection.executemany(INSERT_REFERENCE + f", {ROW}" * (group - 1), parameters)


def delete(connection: sqlite3.Connection, names: Sequence[str]) -> int:
    """Remove identities and all that hangs on them; the number of references. The bytes are wiped afterwards.

    Raises:
        InvalidValue: a name that is not there, or cannot be.
    """
    wanted = list(dict.fromkeys(map(check_name, names)))
    known = _identities(connection, wanted)
    check_all_there(wanted, known)
    generation = next_generation(connection)
    _log(connection, generation, known.values())
    ids = json.dumps([identity for identity, _ in known.values()])
    (removed,) = connection.execute(
        "SELECT count(*) FROM reference WHERE identity IN (SELECT value FROM json_each(?))", (ids,)
    ).fetchone()
    connection.execute("DELETE FROM identity WHERE id IN (SELECT value FROM json_each(?))", (ids,))  # cascades
    connection.execute("UPDATE gallery SET unwiped = ?", (generation,))
    return int(removed)


def _identities(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Name -> (id, born) of those that are there."""
    rows = connection.execute(
        "SELECT name, id, born FROM identity WHERE name IN (SELECT value FROM json_each(?))",
        (json.dumps(list(names), ensure_ascii=False),),
    ).fetchall()
    return {name: (identity, integer(born, "generation of an identity")) for name, identity, born in rows}


def _log(connection: sqlite3.Connection, generation: int, identities: Collection[tuple[int, int]]) -> None:
    """Note which identities (id, born) a generation changes; cut the log where it is too long."""
    if not identities:
        return
    last = connection.execute("SELECT total FROM change ORDER BY generation DESC LIMIT 1").fetchone()
    total = len(identities) + (integer(last[0], "total of the log of changes") if last else 0)
    pairs = np.array(list(identities), "<i8").tobytes()
    connection.execute("INSERT INTO change VALUES (?, ?, ?)", (generation, pairs, total))
    oldest = "SELECT generation FROM (SELECT * FROM change ORDER BY generation LIMIT 1) WHERE total <= ?"
    while row := connection.execute(oldest, (total - KEPT_CHANGES,)).fetchone():
        connection.execute("DELETE FROM change WHERE generation = ?", row)
        connection.execute("UPDATE gallery SET known_since = ?", row)


def changed(connection: sqlite3.Connection, since: int) -> frozenset[int]:
    """The identities that were there at a generation, and lost or gained references since."""
    rows = connection.execute("SELECT identities FROM change WHERE generation > ?", (since,)).fetchall()
    if any(not isinstance(pairs, bytes) or len(pairs) % 16 for (pairs,) in rows):
        raise Damaged("log of changes")
    identity, born = np.frombuffer(b"".join(pairs for (pairs,) in rows), "<i8").reshape(-1, 2).T
    return frozenset(np.unique(identity[born <= since]).tolist())
