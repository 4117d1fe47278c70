"""A gallery in one SQLite file: the standard library alone, durable at every return, for several processes at once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from probface.errors import DataError, NotWiped, StorageError
from probface.gallery.engines import sqlite_migration as migration
from probface.gallery.engines.paging import paged
from probface.gallery.engines.refusals import how_many, unknown
from probface.gallery.engines.sqlite_connection import BUSY_SECONDS, sqlite_errors
from probface.gallery.engines.sqlite_file import GalleryFile
from probface.gallery.engines.sqlite_rows import block_of, vectors
from probface.gallery.engines.sqlite_schema import create_file, from_json
from probface.gallery.engines.sqlite_stamp import stamp
from probface.gallery.engines.sqlite_values import (
    gallery_row,
    moment_of,
    name_of,
    quality_of,
    settings_of,
    source_of,
    text,
)
from probface.gallery.engines.sqlite_verify import findings
from probface.gallery.engines.sqlite_write import add, changed, delete
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


class SqliteStore:
    """The :class:`~probface.gallery.store.Store` in one SQLite file.

    Threads may share one; processes open one each, and not across a fork. Writers wait for one another, readers never
    wait for a writer, and every scan has a connection of its own.

    A store is bound to the model that it was opened with. If another process migrates the gallery, what involves
    vectors is refused until the gallery is opened again, since the model in use here is no longer its model.
    """

    def __init__(self, path: Path, *, read_only: bool, busy_seconds: float) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._file = GalleryFile(path, read_only=read_only, busy_seconds=busy_seconds)
        try:
            self._keep_settings()
            self._file.wipe_if_idle()
        except BaseException:
            self._file.close()
            raise

    @classmethod
    def create(cls, path: Path, settings: GallerySettings, *, busy_seconds: float = BUSY_SECONDS) -> SqliteStore:
        """Make an empty gallery, whole or not at all, readable by its owner alone, and open it.

        Raises:
            StorageError: the path is taken (by another process a moment ago, perhaps), or cannot be written.
        """
        with sqlite_errors(path, busy_seconds):
            create_file(path, settings)
        return cls(path, read_only=False, busy_seconds=busy_seconds)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> SqliteStore:
        """Open the gallery of that path; finish wiping what an earlier process deleted, if nobody else uses it.

        Args:
            path: of a gallery.
            read_only: nothing is changed through this store. SQLite still needs to write its log in the folder.
            busy_seconds: how long a lock of another process is waited for.

        Raises:
            StorageError: no such file, no permission, or locked.
            DataError: no gallery, a damaged one, or one of a newer version.
        """
        return cls(path, read_only=read_only, busy_seconds=busy_seconds)

    @property
    def location(self) -> str:
        """The path."""
        return str(self._file.path)

    @property
    def settings(self) -> GallerySettings:
        """As they were when it was opened, or since this store's own migration."""
        return self._settings

    def counts(self) -> Counts:
        """Identities and references."""
        with self._file.reading() as connection:
            query = "SELECT (SELECT count(*) FROM identity), (SELECT count(*) FROM reference)"
            return Counts(*connection.execute(query).fetchone())

    def generation(self) -> int:
        """Grows with every committed change of what is searched; one row is read."""
        with self._file.reading() as connection:
            return gallery_row(connection, "generation")[0]

    def changes(self, since: int) -> Changes:
        """What has changed since a generation; no identities for one that is forgotten or was never reached."""
        with self._file.reading() as connection:
            now, known_since = gallery_row(connection, "generation", "known_since")
            if not known_since <= since <= now:
                return Changes(now, None)
            return Changes(now, changed(connection, since))

    def stamp(self, generation: int) -> str | None:
        """A random text of this generation of this very gallery; those of the last 10,000 generations are known."""
        with self._file.reading() as connection:
            return stamp(connection, generation)

    def add(self, references: NewReferences) -> None:
        """Enrol rows: all of them, durably, or none. Images are kept only where the settings say so."""
        with self._file.writing() as connection:
            self._check_model(connection)
            add(connection, references, self._settings)

    def delete(self, names: Sequence[str], *, compact: bool = True) -> int:
        """Remove identities with all their rows, images and bytes; returns the number of references removed.

        The rows go in one transaction. Then the file is written anew, since SQLite's ``secure_delete`` is not enough:
        pages may keep stale copies of cells that were moved when the tree was balanced, and the log keeps old pages.

        Args:
            names: of identities.
            compact: wipe the bytes before returning. Without it that is left to the next deletion with it, to
                :meth:`verify`, or to whoever opens the gallery next; for many deletions in a row.

        Raises:
            InvalidValue: a name that is not there; nothing is deleted then.
            NotWiped: the identities are deleted, but their bytes could not be wiped yet (another connection reads the
                old state, the disk is full); the same that finishes the work without ``compact`` will do it.
            StorageError: the database cannot be written; nothing is deleted then.
        """
        if not names:
            return 0
        with self._file.writing() as connection:
            removed = delete(connection, names)
        if compact:
            self._wipe_or_tell(removed, "deleted")
        return removed

    def identities(self, *, after: str = "", limit: int | None = None) -> Iterator[IdentitySummary]:
        """Identities by name, ascending in code points, from behind ``after``; read in pages as they are asked for."""
        return paged(self._page, after, limit)

    def _page(self, after: str, size: int) -> list[IdentitySummary]:
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT id, name, (SELECT count(*) FROM reference WHERE identity = identity.id), enrolled "
                "FROM identity WHERE name > ? ORDER BY name LIMIT ?",
                (after, size),
            ).fetchall()
            return [
                IdentitySummary(id_, name_of(name), count, moment_of(enrolled)) for id_, name, count, enrolled in rows
            ]

    def references(self, name: str) -> tuple[Reference, ...]:
        """The references of one identity, by id; InvalidValue where there is none of that name."""
        check_name(name)
        with self._file.reading() as connection:
            found = connection.execute("SELECT id FROM identity WHERE name = ?", (name,)).fetchone()
            if found is None:
                raise unknown(name)
            rows = connection.execute(
                "SELECT id, source, source_digest, quality, sigma_sq, enrolled, "
                "EXISTS (SELECT 1 FROM image WHERE reference = reference.id) "
                "FROM reference WHERE identity = ? ORDER BY id",
                found,
            ).fetchall()
            self._check_model(connection)
            width = self._settings.model.sigma_sq_width
            return tuple(
                Reference(
                    id_,
                    source_of(source),
                    text(digest, "digest of a source"),
                    quality_of(quality),
                    float(vectors([sigma_sq], width).sum(dtype="f8")),
                    moment_of(enrolled),
                    bool(kept),
                )
                for id_, source, digest, quality, sigma_sq, enrolled, kept in rows
            )

    def names(self, identities: Sequence[int]) -> dict[int, str]:
        """Names of those of these ids that exist (now)."""
        with self._file.reading() as connection:
            query = "SELECT id, name FROM identity WHERE id IN (SELECT value FROM json_each(?))"
            rows = connection.execute(query, (json.dumps([int(i) for i in identities]),)).fetchall()
            return {id_: name_of(name) for id_, name in rows}

    def scan(self, *, after_identity: int = 0, rows: int = SCAN_ROWS) -> Iterator[ReferenceBlock]:
        """All references of the identities above an id, ordered by (identity, reference), from one transaction.

        The picture is taken with the first block. Until the last one is taken (or the iterator is closed) the log
        cannot be cut, so a deletion at that time leaves bytes to be wiped later.
        """
        with self._file.reading_long() as connection:
            self._check_model(connection)
            query = "SELECT id, identity, mu, sigma_sq FROM reference WHERE identity > ? ORDER BY identity, id"
            # Closed by hand: whoever keeps an error of ours would keep the cursor, and so the log from being cut.
            with closing(connection.execute(query, (after_identity,))) as cursor:
                while block := cursor.fetchmany(rows):
                    yield block_of(block, self._settings.model)

    def fetch(self, identities: Sequence[int]) -> ReferenceBlock:
        """The references of some identities, with their vectors; ids that do not exist are left out."""
        with self._file.reading() as connection:
            self._check_model(connection)
            rows = connection.execute(
                "SELECT id, identity, mu, sigma_sq FROM reference "
                "WHERE identity IN (SELECT value FROM json_each(?)) ORDER BY identity, id",
                (json.dumps([int(i) for i in identities]),),
            ).fetchall()
            return block_of(rows, self._settings.model)

    def begin_migration(self, model: ModelBinding) -> None:
        """Prepare for another model, or go on; what was marked missing is pending again."""
        with self._file.writing() as connection:
            self._check_model(connection)
            migration.begin(connection, model, self.location)

    def pending(self, *, limit: int) -> tuple[PendingImage, ...]:
        """References that the migration has not embedded or given up yet, by ascending id."""
        with self._file.reading() as connection:
            return migration.waiting(connection, missing=False, limit=max(0, limit))

    def put_migrated(self, references: Sequence[int], embeddings: NewReferences) -> None:
        """Keep the new model's embeddings; those of references that were deleted meanwhile are dropped."""
        with self._file.writing() as connection:
            migration.put(connection, references, embeddings, self.location)

    def mark_missing(self, references: Sequence[int]) -> None:
        """Note that the images of these cannot be had."""
        with self._file.writing() as connection:
            migration.mark_missing(connection, references, self.location)

    def missing(self) -> tuple[PendingImage, ...]:
        """References that were marked so, without images, by ascending id."""
        with self._file.reading() as connection:
            return migration.waiting(connection, missing=True, limit=-1)

    def finish_migration(self) -> None:
        """Put the new model's embeddings in the place of the old ones, in one transaction, and wipe the old ones.

        Raises:
            InvalidValue: some references are pending or missing, or no migration is under way.
            NotWiped: the migration is done, but bytes of the old embeddings could not be wiped yet.
        """
        with self._file.writing() as connection:
            self._check_model(connection)
            replaced = migration.finish(connection, self._settings, self.location)
        self._keep_settings()
        self._wipe_or_tell(replaced, "migrated")

    def abandon_migration(self) -> None:
        """Forget the new model's embeddings; the gallery stays as it was."""
        with self._file.writing() as connection:
            migration.forget(connection)

    def verify(self) -> tuple[str, ...]:
        """Check the whole of it, after finishing what was left to wipe; what is wrong, one sentence each."""
        found: list[str] = []
        try:
            self._file.wipe_if_idle()
            with self._file.reading_long() as connection:
                self._check_model(connection)
                target = migration.target(connection, self.location)
                found.extend(findings(connection, self._settings.model, target))
        except DataError as error:  # too damaged to be read on
            found.append(str(error))
        return tuple(found)

    def close(self) -> None:
        """Let go of the database; scans that are under way end on their own."""
        self._file.close()

    def _keep_settings(self) -> None:
        with self._file.reading() as connection:
            self._settings_text = settings_of(connection)
        self._settings = from_json(GallerySettings, self._settings_text, self.location)

    def _check_model(self, connection: sqlite3.Connection) -> None:
        found = settings_of(connection)
        if found != self._settings_text:
            model = from_json(GallerySettings, found, self.location).model
            raise StorageError(
                f"{self.location}: was migrated to model {model.name!r} ({model.digest[:12]}) by another process; "
                "open it again, with that model"
            )

    def _wipe_or_tell(self, removed: int, done: str) -> None:
        reason = self._file.wipe()
        if reason is not None:
            raise NotWiped(
                f"{self.location}: {how_many(removed, done)}; the old bytes are not wiped yet, since {reason}", removed
            )
