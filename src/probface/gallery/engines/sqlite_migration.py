"""Migration to another model: the new embeddings wait in a table beside, then take the old ones' place at once.

``to_migrate`` holds the references that are still to be embedded (all of them when it begins, later ones as they are
enrolled), ``migrated`` the new embeddings. Every function works inside the caller's transaction.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Sequence

from probface.errors import InvalidValue
from probface.gallery.engines.refusals import check_widths
from probface.gallery.engines.sqlite_rows import blobs
from probface.gallery.engines.sqlite_schema import from_json, to_json
from probface.gallery.engines.sqlite_stamp import next_generation
from probface.gallery.engines.sqlite_values import Damaged, migration_of, name_of, source_of, text
from probface.gallery.records import GallerySettings, ModelBinding, NewReferences
from probface.gallery.store import PendingImage


def target(connection: sqlite3.Connection, location: str) -> ModelBinding | None:
    """The model that is migrated to, if one is."""
    stored = migration_of(connection)
    return None if stored is None else from_json(ModelBinding, stored, location)


def begin(connection: sqlite3.Connection, model: ModelBinding, location: str) -> None:
    """Note the model and every reference; where it goes on, what was missing is asked for again."""
    current = target(connection, location)
    if current is None:
        connection.execute("UPDATE gallery SET migration = ?", (to_json(model),))
        connection.execute("INSERT INTO to_migrate (reference) SELECT id FROM reference")
    elif (current.name, current.digest) != (model.name, model.digest):
        raise InvalidValue(
            f"migration to model {model.name!r}: one to {current.name!r} ({current.digest[:12]}) is under way; "
            "finish or abandon that one first"
        )
    else:
        connection.execute("UPDATE to_migrate SET missing = 0")


def waiting(connection: sqlite3.Connection, *, missing: bool, limit: int) -> tuple[PendingImage, ...]:
    """References without a new embedding, those pending or those given up; the latter without images."""
    rows = connection.execute(
        """
        SELECT reference.id, name, source, source_digest, CASE WHEN missing = 0 THEN content END
        FROM (SELECT reference AS id, missing FROM to_migrate WHERE missing = ? ORDER BY reference LIMIT ?) AS chosen
        JOIN reference USING (id)
        JOIN identity ON identity.id = reference.identity
        LEFT JOIN image ON image.reference = reference.id
        ORDER BY reference.id
        """,
        (int(missing), limit),
    ).fetchall()
    return tuple(
        PendingImage(id_, name_of(name), source_of(source), text(digest, "digest of a source"), _image_of(image))
        for id_, name, source, digest, image in rows
    )


def put(connection: sqlite3.Connection, references: Sequence[int], new: NewReferences, location: str) -> None:
    """Keep new embeddings; those of references that were deleted meanwhile are dropped."""
    model = _under_way(connection, location)
    if len(references) != len(new):
        raise InvalidValue(f"{len(references)} references, {len(new)} embeddings: must be as many")
    check_widths(new.embeddings, model)
    rows = zip(
        references,
        blobs(new.embeddings.mu),
        blobs(new.embeddings.sigma_sq),
        new.quality.tolist(),
        references,
        strict=True,
    )
    connection.executemany(
        "INSERT OR REPLACE INTO migrated SELECT ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM reference WHERE id = ?)", rows
    )
    connection.executemany("DELETE FROM to_migrate WHERE reference = ?", ((reference,) for reference in references))


def mark_missing(connection: sqlite3.Connection, references: Sequence[int], location: str) -> None:
    """Give references up; those that are embedded already stay so."""
    _under_way(connection, location)
    connection.executemany("UPDATE to_migrate SET missing = 1 WHERE reference = ?", ((i,) for i in references))


def finish(connection: sqlite3.Connection, settings: GallerySettings, location: str) -> int:
    """Replace every embedding; how many there were."""
    model = _under_way(connection, location)
    total, missing = connection.execute("SELECT count(*), coalesce(sum(missing), 0) FROM to_migrate").fetchone()
    if total:
        raise InvalidValue(
            f"migration to model {model.name!r}: {total - missing} references are pending and {missing} have no image; "
            "embed them, or delete their identities, then finish"
        )
    replaced = connection.execute(
        "UPDATE reference SET (mu, sigma_sq, quality) = "
        "(SELECT new_mu, new_sigma_sq, new_quality FROM migrated WHERE migrated.reference = reference.id)"
    ).rowcount
    forget(connection)
    generation = next_generation(connection)
    connection.execute("DELETE FROM change")
    # No change before this generation is of use: everything is to be derived anew.
    connection.execute(
        "UPDATE gallery SET settings = ?, known_since = ?, unwiped = ?",
        (to_json(dataclasses.replace(settings, model=model)), generation, generation),
    )
    return replaced


def forget(connection: sqlite3.Connection) -> None:
    """No migration is under way, and nothing is left of one."""
    connection.execute("DELETE FROM migrated")
    connection.execute("DELETE FROM to_migrate")
    connection.execute("UPDATE gallery SET migration = NULL")


def _image_of(stored: object) -> bytes | None:
    if stored is None or isinstance(stored, bytes):
        return stored
    raise Damaged(f"image of a reference is a {type(stored).__name__}")


def _under_way(connection: sqlite3.Connection, location: str) -> ModelBinding:
    model = target(connection, location)
    if model is None:
        raise InvalidValue(f"{location}: no migration is under way; begin one")
    return model
