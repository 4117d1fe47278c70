"""Enrolment and deletion, inside a transaction that holds the gallery's one row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from probface.gallery.engines.postgres_rows import copy_embeddings, copy_rows, one, text_for
from probface.gallery.engines.postgres_schema import new_stamp
from probface.gallery.engines.refusals import check_all_there, check_widths
from probface.gallery.records import GallerySettings, NewReferences, check_name

if TYPE_CHECKING:
    from probface.gallery.engines.postgres_session import Cursor

LOG_GENERATIONS = 10_000
"""How far back the log of changes and the stamps of generations reach."""


@dataclass(frozen=True, slots=True)
class State:
    """The one row of ``gallery``, as it was when it was locked."""

    settings: GallerySettings
    generation: int
    last_identity: int
    last_reference: int


def add(cursor: Cursor, state: State, new: NewReferences) -> None:
    """Enrol rows. Ids are given out in the order of the rows; nobody else does so at the same time."""
    check_widths(new.embeddings, state.settings.model)
    if not len(new):
        return
    generation = state.generation + 1
    unique = list(dict.fromkeys(new.names))
    known = _identities(cursor, unique)
    unknown = [name for name in unique if name not in known]
    fresh = dict(zip(unknown, count(state.last_identity + 1), strict=False))
    id_of = {name: identity for name, (identity, _) in known.items()} | fresh
    identities = [id_of[name] for name in new.names]
    ids = list(range(state.last_reference + 1, state.last_reference + 1 + len(new)))
    moments, first_moment = new.moments(one(cursor, "SELECT clock_timestamp()")[0])
    copy_rows(
        cursor,
        "identity",
        {"id": "int8", "name": "text", "enrolled": "timestamptz", "born": "int8"},
        ((identity, name, first_moment[name], generation) for name, identity in fresh.items()),
    )
    copy_rows(
        cursor,
        "reference",
        {
            "id": "int8",
            "identity": "int8",
            "source": "text",
            "source_bytes": "bytea",
            "source_digest": "text",
            "enrolled": "timestamptz",
        },
        (
            (id_, identity, *text_for(source), digest, moment)
            for id_, identity, source, digest, moment in zip(
                ids, identities, new.sources, new.source_digests, moments, strict=True
            )
        ),
    )
    copy_embeddings(cursor, "embedding", ids, identities, new)
    if state.settings.keep_images and new.images:
        kept = ((id_, image) for id_, image in zip(ids, new.images, strict=True) if image is not None)
        copy_rows(cursor, "image", {"reference": "int8", "bytes": "bytea"}, kept)
    _log(cursor, generation, known.values())
    cursor.execute("UPDATE gallery SET last_identity = last_identity + %s, last_reference = %s", (len(fresh), ids[-1]))


def delete(cursor: Cursor, state: State, names: Sequence[str]) -> int:
    """Remove identities and all that hangs on them; the number of references.

    Raises:
        InvalidValue: a name that is not there, or cannot be.
    """
    wanted = list(dict.fromkeys(map(check_name, names)))
    known = _identities(cursor, wanted)
    check_all_there(wanted, known)
    ids = [identity for identity, _ in known.values()]
    removed = int(one(cursor, "SELECT count(*) FROM reference WHERE identity = ANY(%s::bigint[])", (ids,))[0])
    cursor.execute("DELETE FROM identity WHERE id = ANY(%s::bigint[])", (ids,))  # the rest follows by cascade
    _log(cursor, state.generation + 1, known.values())
    return removed


def _identities(cursor: Cursor, names: list[str]) -> dict[str, tuple[int, int]]:
    """Name -> (id, born) of those that are there."""
    cursor.execute("SELECT name, id, born FROM identity WHERE name = ANY(%s)", (names,))
    return {name: (identity, born) for name, identity, born in cursor}


def _log(cursor: Cursor, generation: int, identities: Iterable[tuple[int, int]]) -> None:
    """Begin a generation: note the identities (id, born) that it changes, and cut the log behind."""
    rows = ((generation, identity, born) for identity, born in identities)
    copy_rows(cursor, "change", {"generation": "int8", "identity": "int8", "born": "int8"}, rows)
    log_from = generation - LOG_GENERATIONS
    cursor.execute("DELETE FROM change WHERE generation <= %s", (log_from,))
    cursor.execute("UPDATE gallery SET generation = %s, log_from = greatest(log_from, %s)", (generation, log_from))
    cursor.execute("INSERT INTO stamp VALUES (%s, %s)", (generation, new_stamp()))
    cursor.execute("DELETE FROM stamp WHERE generation < %s", (log_from,))
