"""Connections to a gallery file: opened only if it is one, set up alike, their refusals in one line with the mend."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probface.errors import DataError, ProbFaceError, StorageError
from probface.gallery.engines.sqlite_schema import APPLICATION_ID, SCHEMA_VERSION
from probface.gallery.engines.sqlite_values import Damaged

BUSY_SECONDS = 30.0
"""How long a lock that another process holds is waited for."""

PRAGMAS = (
    "PRAGMA synchronous = FULL",  # a commit survives a power cut
    "PRAGMA secure_delete = ON",  # freed cells and pages are overwritten with zeros
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",  # a file from a stranger runs no functions of ours
    "PRAGMA cell_size_check = ON",
    "PRAGMA cache_size = -32768",  # KiB: a transaction of 10,000 references is not written out before its end
    "PRAGMA wal_autocheckpoint = 4000",  # pages, 32 MiB: nor is the log played into the file after each of them
)


def connect(path: Path, *, read_only: bool, busy_seconds: float) -> sqlite3.Connection:
    """A connection to the gallery at ``path``, for any thread that holds its lock; transactions are begun by hand.

    Raises:
        StorageError: no file, or one that may not be read (or written, where ``read_only`` is not set).
        DataError: no gallery, a damaged one, or one of a newer version.
    """
    with sqlite_errors(path, busy_seconds):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
            uri=True,
            timeout=busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _recognise(connection, path)
            for pragma in PRAGMAS:
                connection.execute(pragma)
            if not read_only:
                connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
    return connection


def check_file(path: Path, *, read_only: bool) -> None:
    """What can be told without SQLite, which says of most of these that it is "unable to open database file".

    The file itself is left alone: closing it would drop the locks of this process's connections to it.

    Raises:
        StorageError: no file, or no permission.
        DataError: an empty file.
    """
    try:
        empty = path.stat().st_size == 0
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StorageError(f"{path}: no such file; enrol somebody to make a gallery") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be opened ({error.strerror}); see to its permissions") from error
    if not path.is_file():
        raise StorageError(f"{path}: is no file; a gallery is one")
    if empty:
        raise DataError(f"{path}: is empty, a gallery never is; remove it, or restore it from a backup")
    if not os.access(path, os.R_OK):
        raise StorageError(f"{path}: may not be read; see to its permissions")
    if not read_only and not os.access(path, os.W_OK):
        raise StorageError(f"{path}: may not be written; see to its permissions, or open it to read only")
    if not os.access(path.parent, os.W_OK):
        raise StorageError(f"{path.parent}: may not be written, and SQLite keeps its log there; see to its permissions")


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if mark != APPLICATION_ID:
        raise DataError(f"{path}: is an SQLite database, but no gallery; name the gallery's file")
    if version > SCHEMA_VERSION:
        raise DataError(
            f"{path}: a gallery of format {version}, and this ProbFace knows {SCHEMA_VERSION}; use a newer ProbFace"
        )
    if version < 1:
        raise DataError(f"{path}: a gallery without a format, so it is damaged; restore it from a backup")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # pages that are cut off show here
    log = Path(f"{path}-wal")
    if not (log.exists() and log.stat().st_size):  # otherwise the end of the file may still be in the log
        odd = path.stat().st_size % int(connection.execute("PRAGMA page_size").fetchone()[0])
        if odd:  # SQLite would read zeros from there on
            raise DataError(f"{path}: is damaged (cut {odd} bytes into a page); restore it from a backup")


@contextmanager
def sqlite_errors(path: Path, busy_seconds: float) -> Iterator[None]:
    """Raise the errors of SQLite in the block as StorageError or DataError, and values that cannot be as the latter."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path, busy_seconds) from error
    except Damaged as error:
        raise DataError(f"{path}: is damaged ({error}); restore it from a backup") from error


def translated(error: sqlite3.Error, path: Path, busy_seconds: float) -> ProbFaceError:
    """What SQLite says, as a line with the mend."""
    reason = " ".join(str(error).split()).rstrip(".")
    code = getattr(error, "sqlite_errorcode", None)  # only what the library itself reports has one
    if code is None and "decode to UTF-8" in reason:
        return DataError(f"{path}: is damaged ({ascii(reason)[1:60]}); restore it from a backup")
    if code is None:
        return StorageError(f"{path}: {reason}; open the gallery again")
    known: dict[int, ProbFaceError] = {
        sqlite3.SQLITE_FULL: StorageError(f"{path}: the disk is full, nothing was changed; free space and try again"),
        sqlite3.SQLITE_BUSY: StorageError(
            f"{path}: locked by another process for more than {busy_seconds:g} s; wait until it has ended, or end it"
        ),
        sqlite3.SQLITE_READONLY: StorageError(f"{path}: may not be written ({reason}); see to its permissions"),
        sqlite3.SQLITE_PERM: StorageError(f"{path}: may not be used ({reason}); see to its permissions"),
        sqlite3.SQLITE_CANTOPEN: StorageError(f"{path}: cannot be opened ({reason}); see to its folder's permissions"),
        sqlite3.SQLITE_IOERR: StorageError(
            f"{path}: disk I/O error ({error.sqlite_errorname}), nothing was changed; see to the disk and its space"
        ),
        sqlite3.SQLITE_CORRUPT: DataError(f"{path}: is damaged ({reason}); restore it from a backup"),
        sqlite3.SQLITE_NOTADB: DataError(f"{path}: is no SQLite database, so no gallery; name the gallery's file"),
    }
    general = StorageError(f"{path}: SQLite refuses ({reason}); run verify on the gallery")
    return known.get(code & 0xFF, general)  # the rest of the code says more of the same
