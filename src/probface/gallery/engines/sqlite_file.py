"""One open gallery file: its connections, their locks and transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from probface.errors import StorageError
from probface.gallery.engines.sqlite_connection import check_file, connect, sqlite_errors
from probface.gallery.engines.sqlite_wipe import is_unwiped, wipe


class GalleryFile:
    """A connection that writes and one that reads, each behind a lock, and more of them for long readings.

    Attributes:
        path: of the file.
        busy_seconds: how long a lock of another process is waited for.
    """

    def __init__(self, path: Path, *, read_only: bool, busy_seconds: float) -> None:
        check_file(path, read_only=read_only)
        self.path, self.busy_seconds = path, busy_seconds
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        self._file = self._at_path()
        self._reader = connect(path, read_only=True, busy_seconds=busy_seconds)
        self._writer: sqlite3.Connection | None = None
        try:
            if not read_only:
                self._writer = connect(path, read_only=False, busy_seconds=busy_seconds)
            self._check_unmoved()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A short reading: one consistent picture, other readers of this object wait."""
        with self._read_lock, self._errors(), _transaction(self._reader, "BEGIN") as connection:
            self._check_unmoved()
            yield connection

    @contextmanager
    def reading_long(self) -> Iterator[sqlite3.Connection]:
        """A reading on a connection of its own, in whose way nobody is."""
        self._check_unmoved()
        with (
            self._errors(),
            closing(connect(self.path, read_only=True, busy_seconds=self.busy_seconds)) as connection,
            _transaction(connection, "BEGIN"),
        ):
            self._check_unmoved()
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the file's write lock from its beginning: committed, or nothing changed.

        Raises:
            StorageError: opened to read only, locked, not writable, or replaced by another file.
        """
        with self._write_lock, self._errors(), _transaction(self._writable(), "BEGIN IMMEDIATE") as connection:
            self._check_unmoved()
            yield connection
            self._check_unmoved()  # a commit into a file that nobody sees any more is no commit

    def wipe(self) -> str | None:
        """Wipe what deletions left, waiting for other connections; None when all is wiped, otherwise why not."""
        with self._write_lock, self._errors():
            self._check_unmoved()
            return wipe(self._writable(), self.busy_seconds)

    def wipe_if_idle(self) -> None:
        """Wipe what earlier deletions left, if nobody else uses the file and it may be written."""
        with self._write_lock, self._errors():
            if self._writer is None or not is_unwiped(self._writer):
                return
            self._check_unmoved()
            self._writer.execute("PRAGMA busy_timeout = 0")
            try:
                wipe(self._writer, 0)
            finally:
                self._writer.execute(f"PRAGMA busy_timeout = {round(1000 * self.busy_seconds)}")

    def close(self) -> None:
        """Close the connections once the calls of other threads have returned."""
        with self._write_lock, self._read_lock, self._errors():
            self._reader.close()
            if self._writer is not None:
                self._writer.close()  # the last one to close plays the log into the file and removes it

    def _writable(self) -> sqlite3.Connection:
        if self._writer is None:
            raise StorageError(f"{self.path}: was opened to read only; open it to write")
        return self._writer

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with sqlite_errors(self.path, self.busy_seconds):
            yield

    def _at_path(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise StorageError(
                f"{self.path}: was moved or removed while it was open ({error.strerror}); put it back and open it again"
            ) from error
        return found.st_dev, found.st_ino

    def _check_unmoved(self) -> None:
        """SQLite does not notice another file in the place of its own, and goes on with the log of either."""
        if self._at_path() != self._file:
            raise StorageError(f"{self.path}: was replaced by another file while it was open; open it again")


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    connection.execute(begin)
    try:
        yield connection
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # SQLite itself rolls back after some errors, such as a full disk
            connection.execute("ROLLBACK")
