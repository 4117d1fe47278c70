"""The tables of a gallery in PostgreSQL, how they are made, and how those of an older version are brought up to date.

Every gallery has a schema of its own, ``probface_<gallery>``, so several live in one database, each with its own D, and
the owner grants, dumps or drops each for itself (``DROP SCHEMA probface_x CASCADE`` is the end of one). Vectors are
apart from the rest, so that a search reads nothing else.

``gallery`` has one row. Whoever writes locks it first: writers wait for each other, ids and generations ascend in the
order of the commits, and two processes cannot enrol one name twice or enrol into an identity that is being deleted.
Readers wait for nobody.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from probface.errors import DataError, ModelError, StorageError
from probface.gallery.engines.postgres_session import DURABLE, SCHEMA_PREFIX, Session, driver
from probface.gallery.records import GallerySettings, ModelBinding
from probface.schema import from_plain

if TYPE_CHECKING:
    from probface.gallery.engines.postgres_session import Cursor

T = TypeVar("T")
Step: TypeAlias = "Callable[[Cursor], None]"

OLDEST_VECTOR = (0, 7)
"""The first version of pgvector that has the ``||`` of vectors, which the search needs."""


def _first_tables(cursor: Cursor) -> None:
    """Version 1."""
    cursor.execute(
        """
        CREATE TABLE gallery (
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            settings text NOT NULL,
            migration text,
            generation bigint NOT NULL DEFAULT 0,
            log_from bigint NOT NULL DEFAULT 0,
            last_identity bigint NOT NULL DEFAULT 0,
            last_reference bigint NOT NULL DEFAULT 0
        )
        """
    )
    # In UTF-8, the order of bytes ("C") is that of code points, whatever the language of the server.
    cursor.execute(
        """
        CREATE TABLE identity (
            id bigint PRIMARY KEY,
            name text COLLATE "C" NOT NULL UNIQUE,
            enrolled timestamptz NOT NULL,
            born bigint NOT NULL
        )
        """
    )
    cursor.execute(
        """
        CREATE TABLE reference (
            id bigint PRIMARY KEY,
            identity bigint NOT NULL REFERENCES identity ON DELETE CASCADE,
            source text NOT NULL,
            source_bytes bytea,
            source_digest text NOT NULL,
            enrolled timestamptz NOT NULL
        )
        """
    )
    cursor.execute("CREATE INDEX ON reference (identity)")
    cursor.execute(
        "CREATE TABLE image (reference bigint PRIMARY KEY REFERENCES reference ON DELETE CASCADE, bytes bytea NOT NULL)"
    )
    cursor.execute("ALTER TABLE image ALTER COLUMN bytes SET STORAGE EXTERNAL")  # images are compressed already
    cursor.execute(
        "CREATE TABLE change (generation bigint, identity bigint, born bigint NOT NULL, "
        "PRIMARY KEY (generation, identity))"
    )
    cursor.execute("CREATE TABLE stamp (generation bigint PRIMARY KEY, token text NOT NULL)")


STEPS: tuple[Step, ...] = (_first_tables,)
"""Entry i leads from version i to version i + 1; a new gallery walks them all."""


def create_gallery(session: Session, settings: GallerySettings) -> None:
    """Make the extension, the schema and its tables, all or none.

    Raises:
        StorageError: there is a gallery of that name, pgvector is not there or too old, the database is not in UTF-8,
            or the user may not.
    """
    sql = driver().sql
    connection = session.raw_connection()
    with session.translated(), connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(DURABLE.encode())
        # Two that create at the same time would trip over each other in the catalogues.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('probface'))")
        _check_encoding(session, cursor)
        _ensure_vector(session, cursor)
        cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (session.schema,))
        if cursor.fetchone() is not None:
            raise StorageError(f"{session.location}: is there already; open it, or choose another name")
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(session.schema)))
        session.enter_schema(connection)
        cursor.execute("CREATE TABLE schema_version (version integer NOT NULL)")
        for step in STEPS:
            step(cursor)
        cursor.execute("INSERT INTO schema_version VALUES (%s)", (len(STEPS),))
        cursor.execute("INSERT INTO gallery (settings) VALUES (%s)", (settings_text(settings),))
        cursor.execute("INSERT INTO stamp VALUES (0, %s)", (new_stamp(),))
        create_embedding_table(cursor, "embedding", settings.model)


def new_stamp() -> str:
    """What tells a generation from one of the same number in a copy of the gallery that went on otherwise."""
    return secrets.token_hex(16)


def bring_up_to_date(session: Session) -> None:
    """Check that the gallery is there and of a version that this ProbFace knows; upgrade an older one, wholly or not.

    Raises:
        StorageError: the database has no such gallery (the message names those that it has), or it cannot be upgraded.
        DataError: it is of a newer version, or the schema is no gallery.
    """
    connection = session.raw_connection()
    with session.translated(), connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(DURABLE.encode())
        cursor.execute(
            "SELECT to_regnamespace(%s), to_regclass(%s)", (session.schema, f"{session.schema}.schema_version")
        )
        [(schema, table)] = cursor.fetchall()
        if schema is None:
            raise StorageError(f"{session.location}: there is no such gallery; {_others(cursor)}")
        if table is None:
            raise DataError(f"{session.location}: schema {session.schema} is no gallery; choose another name")
        session.enter_schema(connection)
        version = _version(cursor)
        if version < len(STEPS):
            session.check_writable()
            cursor.execute("LOCK TABLE schema_version IN ACCESS EXCLUSIVE MODE")
            version = _version(cursor)  # another process may have upgraded it while we waited
            for step in STEPS[version:]:
                step(cursor)
            cursor.execute("UPDATE schema_version SET version = %s", (len(STEPS),))
    if version > len(STEPS):
        raise DataError(
            f"{session.location}: is of version {version}, this ProbFace knows up to {len(STEPS)}; use a newer ProbFace"
        )


def create_embedding_table(cursor: Cursor, name: str, model: ModelBinding) -> None:
    """Make a table of vectors for a model. Indexes have no names, since a migration renames the table.

    Variances are one ``real``, or a ``vector(D)``. What is searched by inner product, ``[mu, sigma_sq]``, is computed
    while reading: kept as a column it made the table three times as large and a search 1.5 times as slow (D = 512).
    """
    sql = driver().sql
    dim = sql.Literal(model.dim)
    if model.sigma_sq_width == 1:
        variance = sql.SQL("real NOT NULL CHECK (sigma_sq > 0 AND sigma_sq < 'infinity')")
    else:
        variance = sql.SQL("vector({}) NOT NULL").format(dim)
    # With the usual target of 2 kB, a vector of 512 would go to a side table, and reading it would take a look-up each.
    cursor.execute(
        sql.SQL(
            "CREATE TABLE {} (reference bigint PRIMARY KEY REFERENCES reference ON DELETE CASCADE, "
            "identity bigint NOT NULL, quality smallint NOT NULL, mu vector({}) NOT NULL, sigma_sq {}) "
            "WITH (toast_tuple_target = 8160)"
        ).format(sql.Identifier(name), dim, variance)
    )
    cursor.execute(sql.SQL("CREATE INDEX ON {} (identity, reference)").format(sql.Identifier(name)))
    if model.sigma_sq_width == 1:
        cursor.execute(sql.SQL("CREATE INDEX ON {} (sigma_sq)").format(sql.Identifier(name)))  # for least and largest


def settings_text(settings: GallerySettings) -> str:
    """The settings as JSON."""
    return json.dumps(dataclasses.asdict(settings), allow_nan=False)


def settings_from(text: str) -> GallerySettings:
    """What :func:`settings_text` wrote; raises DataError where it cannot be read."""
    return _from_text(GallerySettings, text, "gallery settings")


def binding_text(model: ModelBinding) -> str:
    """A model as JSON."""
    return json.dumps(dataclasses.asdict(model), allow_nan=False)


def binding_from(text: str) -> ModelBinding:
    """What :func:`binding_text` wrote; raises as :func:`settings_from`."""
    return _from_text(ModelBinding, text, "model of a migration")


def _from_text(kind: type[T], text: str, where: str) -> T:
    try:
        return from_plain(kind, json.loads(text), where)
    except (ValueError, ModelError) as error:
        raise DataError(f"{where} cannot be read ({error}); use the ProbFace that wrote it") from error


def _version(cursor: Cursor) -> int:
    cursor.execute("SELECT version FROM schema_version")
    row = cursor.fetchone()
    return int(row[0]) if row is not None else 0


def _others(cursor: Cursor) -> str:
    cursor.execute(
        "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s) ORDER BY nspname LIMIT 10", (SCHEMA_PREFIX,)
    )
    names = ", ".join(str(row[0]).removeprefix(SCHEMA_PREFIX) for row in cursor)
    return f"this database has {names}" if names else "create one first, or correct the address"


def _check_encoding(session: Session, cursor: Cursor) -> None:
    cursor.execute("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()")
    row = cursor.fetchone()
    if row is None or row[0] != "UTF8":
        found = row[0] if row else "unknown"
        raise StorageError(f"{session.location}: the database is in {found}; create one with ENCODING 'UTF8'")


def _ensure_vector(session: Session, cursor: Cursor) -> None:
    errors = driver().errors
    mend = "let an administrator install pgvector on the server and run CREATE EXTENSION vector in this database"
    found = _vector_version(cursor)
    if found is None:
        try:
            cursor.execute("CREATE EXTENSION vector")
        except (errors.FeatureNotSupported, errors.UndefinedFile) as error:
            raise StorageError(f"{session.location}: the server has no pgvector; {mend}") from error
        except errors.InsufficientPrivilege as error:
            raise StorageError(f"{session.location}: this user may not create the extension vector; {mend}") from error
        found = _vector_version(cursor) or ""
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_VECTOR:
        least = ".".join(map(str, OLDEST_VECTOR))
        raise StorageError(f"{session.location}: pgvector is {found}, and must be {least} or newer; {mend}")


def _vector_version(cursor: Cursor) -> str | None:
    cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    row = cursor.fetchone()
    return str(row[0]) if row is not None else None
