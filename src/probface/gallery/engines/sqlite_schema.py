"""What a gallery file is: its tables, its mark, and how a new one comes into being whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from probface.contract import ModelContract
from probface.errors import DataError, InvalidValue, ModelError, StorageError
from probface.gallery.engines.sqlite_stamp import STAMP_BYTES
from probface.gallery.records import GallerySettings, ModelBinding
from probface.schema import from_plain
from probface.storage import storage_errors

T = TypeVar("T", GallerySettings, ModelBinding)

APPLICATION_ID = 0x50724661
"""``PrFa``; in the header of every gallery file (PRAGMA application_id)."""
SCHEMA_VERSION = 1
"""PRAGMA user_version."""
PAGE_BYTES = 8192
"""Three references of D = 512 to a page, twelve of D = 128; pages of 4096 would hold one of D = 512 and waste half."""

COMPANIONS = ("-journal", "-wal", "-shm")
"""What SQLite keeps beside a database file."""

TABLES = """
CREATE TABLE gallery (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    settings TEXT NOT NULL,
    generation INTEGER NOT NULL,
    known_since INTEGER NOT NULL,  -- the change log is whole from behind this generation
    unwiped INTEGER NOT NULL,      -- generation of the last removal whose bytes may still be in the files, or 0
    migration TEXT,                -- the model that is migrated to
    next_identity INTEGER NOT NULL,  -- ids are given out from here, and never again
    next_reference INTEGER NOT NULL
);
CREATE TABLE identity (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    enrolled INTEGER NOT NULL,     -- microseconds since 1970, UTC
    born INTEGER NOT NULL          -- the generation that it came with
);
CREATE TABLE reference (
    id INTEGER PRIMARY KEY,
    identity INTEGER NOT NULL REFERENCES identity ON DELETE CASCADE,
    mu BLOB NOT NULL,              -- D float32, little-endian
    sigma_sq BLOB NOT NULL,        -- 1 or D of the same
    quality INTEGER NOT NULL,
    source NOT NULL,               -- text, or a blob where a path is no Unicode
    source_digest TEXT NOT NULL,
    enrolled INTEGER NOT NULL
);
CREATE INDEX reference_identity ON reference (identity);
CREATE TABLE image (
    reference INTEGER PRIMARY KEY REFERENCES reference ON DELETE CASCADE,
    content BLOB NOT NULL
);
CREATE TABLE change (
    generation INTEGER PRIMARY KEY,
    identities BLOB NOT NULL,      -- pairs of int64, little-endian: the identity, the generation that it came with
    total INTEGER NOT NULL         -- pairs up to here since the gallery was made
);
CREATE TABLE stamp (
    generation INTEGER PRIMARY KEY,
    token TEXT NOT NULL            -- random, so that a copy that went on otherwise has another one
);
CREATE TABLE to_migrate (
    reference INTEGER PRIMARY KEY REFERENCES reference ON DELETE CASCADE,
    missing INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX to_migrate_missing ON to_migrate (missing);
CREATE TABLE migrated (
    reference INTEGER PRIMARY KEY REFERENCES reference ON DELETE CASCADE,
    new_mu BLOB NOT NULL,
    new_sigma_sq BLOB NOT NULL,
    new_quality INTEGER NOT NULL
);
"""


def to_json(value: GallerySettings | ModelBinding) -> str:
    """Settings or a model as one JSON object; the contract as :meth:`ModelContract.to_json` writes it."""
    plain: dict[str, Any] = dataclasses.asdict(value)
    model = value if isinstance(value, ModelBinding) else value.model
    place = plain if isinstance(value, ModelBinding) else plain["model"]
    place["contract"] = None if model.contract is None else json.loads(model.contract.to_json())
    return json.dumps(plain)


def from_json(kind: type[T], text: str, location: str) -> T:
    """Read what :func:`to_json` wrote.

    Raises:
        DataError: not JSON, or not what this version of ProbFace knows.
    """
    try:
        plain = json.loads(text)
        place = plain["model"] if kind is GallerySettings else plain
        contract = place["contract"]
        place["contract"] = None
        value = from_plain(kind, plain, "gallery settings")
        if contract is None:
            return value
        known = ModelContract.from_json(json.dumps(contract))
        if isinstance(value, GallerySettings):
            return dataclasses.replace(value, model=dataclasses.replace(value.model, contract=known))
        return dataclasses.replace(value, contract=known)
    except (ValueError, TypeError, KeyError, ModelError, InvalidValue) as error:
        raise DataError(f"{location}: its settings cannot be read ({error}); restore it from a backup") from error


def create_file(path: Path, settings: GallerySettings) -> None:
    """Make an empty gallery: beside its place first, then linked there, so that a part of one is never seen.

    Raises:
        StorageError: something is there already, or the folder cannot be written.
    """
    left = [f"{path}{end}" for end in COMPANIONS if os.path.lexists(f"{path}{end}")]
    if os.path.lexists(path):
        raise _is_there(path)
    if left:  # SQLite would play an old log into the new file
        raise StorageError(f"{left[0]}: is left of a database that is gone; move it away, or choose another name")
    with storage_errors(path):
        _make_folder(path.parent)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)  # mode 0600
        os.close(handle)
        temporary = Path(name)
        try:
            _fill(temporary, settings)
            os.link(temporary, path)  # unlike a rename it fails if another process was faster
        except FileExistsError:
            raise _is_there(path) from None
        finally:
            for end in ("", *COMPANIONS):
                Path(f"{temporary}{end}").unlink(missing_ok=True)
        _keep_names(path.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; all their names survive a power cut."""
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(absent):
        _keep_names(made.parent)


def _keep_names(folder: Path) -> None:
    """Bring the names in a folder to the disk; Windows has no such call, and needs none."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_there(path: Path) -> StorageError:
    return StorageError(f"{path}: is there already; open it, or choose another name")


def _fill(path: Path, settings: GallerySettings) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            f"PRAGMA synchronous = FULL; PRAGMA page_size = {PAGE_BYTES}; BEGIN; {TABLES}"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        )
        connection.execute("INSERT INTO gallery VALUES (1, ?, 0, 0, 0, NULL, 1, 1)", (to_json(settings),))
        connection.execute("INSERT INTO stamp VALUES (0, ?)", (secrets.token_hex(STAMP_BYTES),))
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")  # stays so: it is written into the file
