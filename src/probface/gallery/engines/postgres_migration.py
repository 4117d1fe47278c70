"""The vectors of another model beside the present ones, until they take their place.

They fill a table of their own, ``embedding_next``. The end of a migration drops the old table and renames the new one,
in one transaction: its files go away as a whole, and no searcher sees a mixture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from probface.errors import InvalidValue
from probface.gallery.engines.postgres_rows import copy_embeddings, text_of
from probface.gallery.engines.postgres_schema import (
    binding_from,
    binding_text,
    create_embedding_table,
    new_stamp,
    settings_from,
    settings_text,
)
from probface.gallery.engines.refusals import check_widths
from probface.gallery.records import ModelBinding, NewReferences
from probface.gallery.store import PendingImage

if TYPE_CHECKING:
    from probface.gallery.engines.postgres_session import Cursor

LOCK_WAIT = "30s"
"""How long the end of a migration waits for scans that still read the old vectors."""

_PENDING = """
    SELECT r.id, i.name, r.source, r.source_bytes, r.source_digest, m.bytes
    FROM reference r JOIN identity i ON i.id = r.identity LEFT JOIN image m ON m.reference = r.id
    WHERE NOT EXISTS (SELECT 1 FROM embedding_next n WHERE n.reference = r.id)
      AND NOT EXISTS (SELECT 1 FROM migration_missing g WHERE g.reference = r.id)
    ORDER BY r.id LIMIT %s
"""


def begin(cursor: Cursor, model: ModelBinding) -> None:
    """Make the tables for another model; where it goes on, what was missing is asked for again.

    Raises:
        InvalidValue: a migration to yet another model is under way.
    """
    present = under_way(cursor)
    if present is not None:
        if _key(present) != _key(model):
            raise InvalidValue(
                f"migration to model {model.name!r}: one to {present.name!r} is under way; finish or abandon that first"
            )
        cursor.execute("DELETE FROM migration_missing")
        return
    create_embedding_table(cursor, "embedding_next", model)
    cursor.execute(
        "CREATE TABLE migration_missing (reference bigint PRIMARY KEY REFERENCES reference ON DELETE CASCADE)"
    )
    cursor.execute("UPDATE gallery SET migration = %s", (binding_text(model),))


def under_way(cursor: Cursor) -> ModelBinding | None:
    """The model that the gallery migrates to, if it does."""
    cursor.execute("SELECT migration FROM gallery")
    row = cursor.fetchone()
    return None if row is None or row[0] is None else binding_from(row[0])


def pending(cursor: Cursor, limit: int) -> tuple[PendingImage, ...]:
    """References without new vectors that were not given up, by ascending id."""
    if under_way(cursor) is None:
        return ()
    cursor.execute(_PENDING, (max(0, limit),))
    return tuple(
        PendingImage(id_, name, text_of(source, whole), digest, image)
        for id_, name, source, whole, digest, image in cursor
    )


def put(cursor: Cursor, references: Sequence[int], new: NewReferences) -> None:
    """Keep new vectors; those of references that were deleted meanwhile are dropped.

    Raises:
        InvalidValue: no migration is under way, or the widths are not those of its model.
    """
    check_widths(new.embeddings, _need(cursor))
    if len(references) != len(new) or len(set(references)) != len(references):
        raise InvalidValue(f"{len(new)} embeddings for {len(references)} references: need one each, none twice")
    ids = [int(reference) for reference in references]
    for table in ("embedding_next", "migration_missing"):
        cursor.execute(f"DELETE FROM {table} WHERE reference = ANY(%s::bigint[])".encode(), (ids,))  # noqa: S608
    cursor.execute("SELECT id, identity FROM reference WHERE id = ANY(%s::bigint[])", (ids,))
    identity_of = {int(row[0]): int(row[1]) for row in cursor}
    rows = [row for row, reference in enumerate(ids) if reference in identity_of]
    kept = [ids[row] for row in rows]
    copy_embeddings(
        cursor,
        "embedding_next",
        kept,
        [identity_of[reference] for reference in kept],
        dataclasses.replace(
            new,
            names=tuple(new.names[row] for row in rows),
            embeddings=new.embeddings[rows],
            quality=new.quality[rows],
            sources=tuple(new.sources[row] for row in rows),
            source_digests=tuple(new.source_digests[row] for row in rows),
            images=(),
        ),
    )


def mark_missing(cursor: Cursor, references: Sequence[int]) -> None:
    """Note references whose images cannot be had; those that are embedded already stay so.

    Raises:
        InvalidValue: no migration is under way.
    """
    _need(cursor)
    cursor.execute(
        "INSERT INTO migration_missing SELECT id FROM reference r WHERE id = ANY(%s::bigint[]) "
        "AND NOT EXISTS (SELECT 1 FROM embedding_next n WHERE n.reference = r.id) ON CONFLICT DO NOTHING",
        ([int(reference) for reference in references],),
    )


def missing(cursor: Cursor) -> tuple[PendingImage, ...]:
    """References that were noted so, by ascending id, without images."""
    if under_way(cursor) is None:
        return ()
    cursor.execute(
        "SELECT r.id, i.name, r.source, r.source_bytes, r.source_digest FROM migration_missing g "
        "JOIN reference r ON r.id = g.reference JOIN identity i ON i.id = r.identity ORDER BY r.id"
    )
    return tuple(
        PendingImage(id_, name, text_of(source, whole), digest, None) for id_, name, source, whole, digest in cursor
    )


def finish(cursor: Cursor) -> None:
    """Put the new vectors in the place of the old ones; what was known of changes is forgotten.

    Raises:
        InvalidValue: no migration is under way, or references are pending or missing.
    """
    model = _need(cursor)
    cursor.execute(
        "SELECT (SELECT count(*) FROM reference), (SELECT count(*) FROM embedding_next), "
        "(SELECT count(*) FROM migration_missing)"
    )
    [(references, embedded, gone)] = cursor.fetchall()
    if embedded != references:
        raise InvalidValue(
            f"migration to model {model.name!r}: {references - embedded - gone} references are pending and {gone} are "
            "missing; embed them, delete their identities, or abandon the migration"
        )
    cursor.execute("SELECT settings FROM gallery")
    [(text,)] = cursor.fetchall()
    settings = dataclasses.replace(settings_from(text), model=model)
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_WAIT,))
    cursor.execute("DROP TABLE embedding, migration_missing")
    cursor.execute("ALTER TABLE embedding_next RENAME TO embedding")
    cursor.execute("DELETE FROM change")
    cursor.execute(
        "UPDATE gallery SET settings = %s, migration = NULL, generation = generation + 1, log_from = generation + 1",
        (settings_text(settings),),
    )
    cursor.execute("INSERT INTO stamp SELECT generation, %s FROM gallery", (new_stamp(),))


def abandon(cursor: Cursor) -> None:
    """Forget the new vectors, if there are any."""
    if under_way(cursor) is not None:
        cursor.execute("DROP TABLE embedding_next, migration_missing")
        cursor.execute("UPDATE gallery SET migration = NULL")


def _need(cursor: Cursor) -> ModelBinding:
    model = under_way(cursor)
    if model is None:
        raise InvalidValue("no migration is under way; begin one first")
    return model


def _key(model: ModelBinding) -> tuple[str, str, int, int]:
    return model.name, model.digest, model.dim, model.sigma_sq_width
