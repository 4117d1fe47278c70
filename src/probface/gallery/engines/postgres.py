"""A gallery in PostgreSQL with pgvector, shared by as many processes and machines as connect to it.

What deletion wipes, and what it does not: the rows are gone with the commit, and a ``VACUUM`` that follows frees their
space in tables and indexes, so nothing can be read by SQL any more. But PostgreSQL does not overwrite: old bytes stay
in the free space of the data files until new rows take it or :meth:`PostgresStore.rewrite` writes the files anew, in
the write-ahead log until its segments are recycled, in archived segments, in replicas until they have followed, and in
backups until these are deleted. While another session holds an old transaction open, VACUUM must leave the rows that it
may still see; autovacuum takes them later, and the deletion says so, as far as this user may see others' sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING

from probface.errors import InvalidValue, NotWiped, StorageError
from probface.gallery.engines import postgres_migration as migration
from probface.gallery.engines.paging import paged
from probface.gallery.engines.postgres_check import findings
from probface.gallery.engines.postgres_rows import VECTORS, block, one, text_of
from probface.gallery.engines.postgres_schema import bring_up_to_date, create_gallery, settings_from
from probface.gallery.engines.postgres_session import READ, Session
from probface.gallery.engines.postgres_vacuum import free_space
from probface.gallery.engines.postgres_write import State, add, delete
from probface.gallery.engines.refusals import how_many, unknown
from probface.gallery.records import (
    GallerySettings,
    IdentitySummary,
    ModelBinding,
    NewReferences,
    Reference,
    ReferenceBlock,
    check_name,
)
from probface.gallery.store import SCAN_ROWS, Changes, Counts, PendingImage

if TYPE_CHECKING:
    from probface.gallery.engines.postgres_session import Cursor

TABLES = "identity, reference, image, embedding"


class PostgresStore:
    """Keeps the protocol :class:`probface.gallery.store.Store`; made by :meth:`create` or :meth:`open`.

    Threads may share one; they wait for each other. A process that forks opens its own.

    A store is bound to the model that it was opened with. If another process migrates the gallery, what involves
    vectors is refused until the gallery is opened again, since the model in use here is no longer its model.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._keep_settings()

    @classmethod
    def create(cls, url: str, settings: GallerySettings, gallery: str = "default") -> PostgresStore:
        """Make a new gallery and open it.

        Args:
            url: ``postgresql://user:password@host:port/database``; the database exists, in UTF-8.
            settings: what is fixed from now on.
            gallery: its name in the database, 1 to 40 of a to z, 0 to 9 and underscore.

        Raises:
            InvalidValue: the address or the name cannot be.
            MissingExtra: psycopg or its part for pgvector is not installed.
            StorageError: there is one of that name, the server cannot be reached or lets us not in, or has no pgvector.
        """
        create_gallery(Session(url, gallery), settings)
        return cls.open(url, gallery)

    @classmethod
    def open(cls, url: str, gallery: str = "default", *, read_only: bool = False) -> PostgresStore:
        """Open a gallery; tables of an older version are brought up to date.

        Args:
            url: as for :meth:`create`.
            gallery: its name in the database.
            read_only: nothing is changed through this store.

        Raises:
            InvalidValue: the address or the name cannot be.
            MissingExtra: psycopg or its part for pgvector is not installed.
            StorageError: there is none of that name, the server cannot be reached or lets us not in, or it is of an
                older version and opened to read only.
            DataError: it is of a newer version, or no gallery.
        """
        session = Session(url, gallery, read_only=read_only)
        bring_up_to_date(session)
        try:
            return cls(session)
        except BaseException:
            session.close()
            raise

    @property
    def location(self) -> str:
        """The address without password, and the gallery's name."""
        return self.session.location

    @property
    def settings(self) -> GallerySettings:
        """As they were when it was opened, or since this store's own migration."""
        return self._settings

    def counts(self) -> Counts:
        """Identities and references."""
        with self.session.transaction(READ) as cursor:
            return Counts(*one(cursor, "SELECT (SELECT count(*) FROM identity), (SELECT count(*) FROM reference)"))

    def generation(self) -> int:
        """Grows with every committed change of what is searched."""
        with self.session.transaction(READ) as cursor:
            return int(one(cursor, "SELECT generation FROM gallery")[0])

    def changes(self, since: int) -> Changes:
        """What has changed since a generation; the log reaches 10,000 generations back, to the last migration at most.

        Identities that were made and changed, or deleted, after that generation are left out.
        """
        with self.session.transaction(READ) as cursor:
            generation, log_from = one(cursor, "SELECT generation, log_from FROM gallery")
            if not log_from <= since <= generation:
                return Changes(generation, None)
            cursor.execute("SELECT identity FROM change WHERE generation > %s AND born <= %s", (since, since))
            return Changes(generation, frozenset(row[0] for row in cursor))

    def stamp(self, generation: int) -> str | None:
        """A random text of this generation of this very gallery; those of the last 10,000 generations are known."""
        if not 0 <= generation < 1 << 63:  # beyond a bigint
            return None
        with self.session.transaction(READ) as cursor:
            cursor.execute("SELECT token FROM stamp WHERE generation = %s::bigint", (int(generation),))
            row = cursor.fetchone()
            return None if row is None else str(row[0])

    def add(self, references: NewReferences) -> None:
        """Enrol rows: all of them, durably, or none. Images are kept only where the settings say so.

        Raises:
            InvalidValue: widths that are not the model's.
            StorageError: the database cannot be written, or another process migrated it to another model.
        """
        with self._writing() as (cursor, state):
            add(cursor, state, references)

    def delete(self, names: Sequence[str]) -> int:
        """Remove identities with all their rows and images, then free their space; the module says what remains where.

        Raises:
            InvalidValue: a name that is not there; nothing is deleted then.
            NotWiped: the identities are deleted, but VACUUM failed, or an older transaction may still see them;
                autovacuum frees the space later.
            StorageError: the database cannot be written; nothing is deleted then.
        """
        if not names:
            return 0
        with self._writing(any_model=True) as (cursor, state):
            removed = delete(cursor, state, names)
            transaction = str(one(cursor, "SELECT pg_current_xact_id()::xid::text")[0])
        done = how_many(removed, "deleted")
        try:
            with self.session.alone() as connection:
                held = free_space(connection, TABLES, transaction)
        except StorageError as error:
            raise NotWiped(f"{done}, but the space is not freed yet; {error}", removed) from error
        if held:
            raise NotWiped(
                f"{self.location}: {done}, but the space is not freed yet, since an older transaction may "
                f"still see what was there ({held}); end it, and let VACUUM run",
                removed,
            )
        return removed

    def rewrite(self) -> None:
        """Write all tables anew, so that the data files hold nothing deleted; others wait meanwhile (VACUUM FULL)."""
        with self.session.alone() as connection:
            connection.execute(f"VACUUM (FULL) {TABLES}".encode())

    def identities(self, *, after: str = "", limit: int | None = None) -> Iterator[IdentitySummary]:
        """Identities by name, ascending in code points, from behind ``after``; a page at a time."""
        return paged(self._page, after, limit)

    def _page(self, after: str, size: int) -> list[IdentitySummary]:
        with self.session.transaction(READ) as cursor:
            cursor.execute(
                "SELECT i.id, i.name, (SELECT count(*) FROM reference r WHERE r.identity = i.id), i.enrolled "
                "FROM identity i WHERE i.name > %s ORDER BY i.name LIMIT %s",
                (after, size),
            )
            return [IdentitySummary(id_, name, held, enrolled.astimezone(UTC)) for id_, name, held, enrolled in cursor]

    def references(self, name: str) -> tuple[Reference, ...]:
        """The references of one identity, by ascending id; InvalidValue where there is none of that name."""
        check_name(name)
        with self.reading() as (cursor, model):
            cursor.execute(
                "SELECT r.id, r.source, r.source_bytes, r.source_digest, e.quality, e.sigma_sq, r.enrolled, "
                "EXISTS (SELECT 1 FROM image m WHERE m.reference = r.id) "
                "FROM identity i JOIN reference r ON r.identity = i.id JOIN embedding e ON e.reference = r.id "
                "WHERE i.name = %s ORDER BY r.id",
                (name,),
            )
            rows = cursor.fetchall()
        if not rows:
            raise unknown(name)
        one = model.sigma_sq_width == 1
        return tuple(
            Reference(
                id_,
                text_of(source, whole),
                digest,
                quality,
                float(sigma_sq if one else sigma_sq.to_numpy().sum(dtype="f8")),
                enrolled.astimezone(UTC),
                kept,
            )
            for id_, source, whole, digest, quality, sigma_sq, enrolled, kept in rows
        )

    def names(self, identities: Sequence[int]) -> dict[int, str]:
        """Names of those of these ids that exist (now)."""
        with self.session.transaction(READ) as cursor:
            cursor.execute("SELECT id, name FROM identity WHERE id = ANY(%s::bigint[])", (_ids(identities),))
            return {row[0]: row[1] for row in cursor}

    def scan(self, *, after_identity: int = 0, rows: int = SCAN_ROWS) -> Iterator[ReferenceBlock]:
        """All references of the identities above an id, in blocks; one consistent picture, on a connection of its own.

        Until the iterator is used up or closed, it keeps a migration from being finished.
        """
        if rows < 1:
            raise InvalidValue(f"{rows} rows to a block: must be 1 or more")
        own = Session(self.session.url, self.session.gallery)
        try:
            with self.reading(own) as (cursor, model), cursor.connection.cursor("scan", binary=True) as streaming:
                streaming.execute(
                    f"SELECT {VECTORS} FROM embedding WHERE identity > %s ORDER BY identity, reference".encode(),  # noqa: S608
                    (after_identity,),
                )
                while found := streaming.fetchmany(rows):
                    yield block(found, model)
        finally:
            own.close()

    def fetch(self, identities: Sequence[int]) -> ReferenceBlock:
        """The references of some identities, with their vectors; ids that do not exist are left out."""
        with self.reading() as (cursor, model):
            cursor.execute(
                f"SELECT {VECTORS} FROM embedding WHERE identity = ANY(%s::bigint[]) "  # noqa: S608
                "ORDER BY identity, reference".encode(),
                (_ids(identities),),
            )
            return block(cursor.fetchall(), model)

    def begin_migration(self, model: ModelBinding) -> None:
        """Prepare for another model's embeddings; goes on with a migration that was begun for it."""
        with self._writing() as (cursor, _):
            migration.begin(cursor, model)

    def pending(self, *, limit: int) -> tuple[PendingImage, ...]:
        """References that the migration has not embedded or given up yet, by ascending id."""
        with self.session.transaction(READ) as cursor:
            return migration.pending(cursor, limit)

    def put_migrated(self, references: Sequence[int], embeddings: NewReferences) -> None:
        """Keep the new model's embeddings of some references, durably; those deleted meanwhile are passed over."""
        with self._writing() as (cursor, _):
            migration.put(cursor, references, embeddings)

    def mark_missing(self, references: Sequence[int]) -> None:
        """Note that the images of these cannot be had."""
        with self._writing() as (cursor, _):
            migration.mark_missing(cursor, references)

    def missing(self) -> tuple[PendingImage, ...]:
        """References that were marked so, without images."""
        with self.session.transaction(READ) as cursor:
            return migration.missing(cursor)

    def finish_migration(self) -> None:
        """Put the new model's embeddings in the place of the old ones, in one transaction.

        Raises:
            InvalidValue: some references are pending or missing.
            StorageError: a scan has been reading the old ones for 30 seconds more.
        """
        with self._writing() as (cursor, _):
            migration.finish(cursor)
        self._keep_settings()

    def abandon_migration(self) -> None:
        """Forget the new model's embeddings; the gallery stays as it was."""
        with self._writing(any_model=True) as (cursor, _):
            migration.abandon(cursor)

    def verify(self) -> tuple[str, ...]:
        """Check the whole of it; what is wrong, one sentence each; nothing where it is sound."""
        with self.reading() as (cursor, model):
            return findings(cursor, model)

    def close(self) -> None:
        """Let go of the database."""
        self.session.close()

    @contextmanager
    def _writing(self, *, any_model: bool = False) -> Iterator[tuple[Cursor, State]]:
        """A transaction that holds the gallery's one row, so that no other writer comes between."""
        with self.session.transaction() as cursor:
            row = one(cursor, "SELECT settings, generation, last_identity, last_reference FROM gallery FOR UPDATE")
            if not any_model:
                self._check_model(row[0])
            yield cursor, State(self._settings, *row[1:])

    @contextmanager
    def reading(self, session: Session | None = None) -> Iterator[tuple[Cursor, ModelBinding]]:
        """One consistent picture of the vectors, and the model that made them; for what searches in the server."""
        with (session or self.session).transaction(READ) as cursor:
            # Before the first look, so that no migration replaces the table between the model and its vectors.
            cursor.execute("LOCK TABLE embedding IN ACCESS SHARE MODE")
            self._check_model(one(cursor, "SELECT settings FROM gallery")[0])
            yield cursor, self._settings.model

    def _keep_settings(self) -> None:
        with self.session.transaction(READ) as cursor:
            self._settings_text = str(one(cursor, "SELECT settings FROM gallery")[0])
        self._settings = settings_from(self._settings_text)

    def _check_model(self, text: str) -> None:
        if text != self._settings_text:
            model = settings_from(text).model
            raise StorageError(
                f"{self.location}: was migrated to model {model.name!r} ({model.digest[:12]}) by another process; open "
                "it again, with that model"
            )


def _ids(identities: Sequence[int]) -> list[int]:
    return [int(identity) for identity in identities]
