"""What can be wrong inside a gallery file, looked for row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import numpy as np

from probface.errors import InvalidValue
from probface.gallery.engines.sqlite_rows import block_of
from probface.gallery.engines.sqlite_schema import TABLES
from probface.gallery.engines.sqlite_values import EARLIEST, LATEST
from probface.gallery.engines.sqlite_wipe import is_unwiped
from probface.gallery.records import ModelBinding, ReferenceBlock, check_name
from probface.gallery.store import SCAN_ROWS
from probface.types import UNIT_TOLERANCE

VECTORS = {
    "reference": (
        "SELECT id, 0, mu, sigma_sq FROM reference WHERE length(mu) = ? AND length(sigma_sq) = ? "
        "AND typeof(mu) = 'blob' AND typeof(sigma_sq) = 'blob'"
    ),
    "migrated": (
        "SELECT reference, 0, new_mu, new_sigma_sq FROM migrated WHERE length(new_mu) = ? AND length(new_sigma_sq) = ? "
        "AND typeof(new_mu) = 'blob' AND typeof(new_sigma_sq) = 'blob'"
    ),
}
LENGTHS = {
    "reference": "SELECT id FROM reference WHERE length(mu) <> ? OR length(sigma_sq) <> ? ORDER BY id",
    "migrated": "SELECT reference FROM migrated WHERE length(new_mu) <> ? OR length(new_sigma_sq) <> ? ORDER BY 1",
}
LINKS = {
    "identities without references": "SELECT name FROM identity WHERE id NOT IN (SELECT identity FROM reference)",
    "identities with an id that was never given out": (
        "SELECT id FROM identity WHERE id < 1 OR id >= (SELECT next_identity FROM gallery)"
    ),
    "references with an id that was never given out": (
        "SELECT id FROM reference WHERE id < 1 OR id >= (SELECT next_reference FROM gallery)"
    ),
    "generations without a stamp": (
        "SELECT known FROM (SELECT generation AS known FROM change UNION SELECT known_since FROM gallery "
        "UNION SELECT generation FROM gallery) WHERE known NOT IN (SELECT generation FROM stamp) ORDER BY 1"
    ),
    "stamps of a generation to come": (
        "SELECT generation FROM stamp WHERE generation > (SELECT generation FROM gallery)"
    ),
    "identities of a generation to come": ("SELECT name FROM identity WHERE born > (SELECT generation FROM gallery)"),
    "references that a migration forgot": (
        "SELECT id FROM reference WHERE (SELECT migration FROM gallery) IS NOT NULL "
        "AND id NOT IN (SELECT reference FROM migrated) AND id NOT IN (SELECT reference FROM to_migrate)"
    ),
}

TEXT = "typeof({0}) <> 'text'"
BLOB = "typeof({0}) <> 'blob'"
COUNT = "typeof({0}) <> 'integer' OR {0} < 0"
QUALITY = "typeof({0}) <> 'integer' OR {0} NOT BETWEEN -1 AND 100"
MOMENT = f"typeof({{0}}) <> 'integer' OR {{0}} NOT BETWEEN {EARLIEST} AND {LATEST}"
COLUMNS = {
    "gallery": {
        "settings": TEXT,
        "generation": COUNT,
        "known_since": COUNT,
        "unwiped": COUNT,
        "migration": "{0} IS NOT NULL AND typeof({0}) <> 'text'",
        "next_identity": COUNT,
        "next_reference": COUNT,
    },
    "identity": {"name": TEXT, "enrolled": MOMENT, "born": COUNT},
    "reference": {
        "identity": COUNT,
        "mu": BLOB,
        "sigma_sq": BLOB,
        "quality": QUALITY,
        "source": "typeof({0}) NOT IN ('text', 'blob')",
        "source_digest": TEXT,
        "enrolled": MOMENT,
    },
    "image": {"content": BLOB},
    "change": {"identities": f"{BLOB} OR length({{0}}) % 16 <> 0", "total": COUNT},
    "stamp": {"token": f"{TEXT} OR length({{0}}) <> 32"},
    "to_migrate": {"missing": "{0} NOT IN (0, 1)"},
    "migrated": {"new_mu": BLOB, "new_sigma_sq": BLOB, "new_quality": QUALITY},
}


def findings(connection: sqlite3.Connection, model: ModelBinding, migration: ModelBinding | None) -> Iterator[str]:
    """One sentence for each thing that is wrong, in a transaction of the caller's."""
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"SQLite finds: {line}"
    yield from _schema(connection)
    for table, columns in COLUMNS.items():
        for column, odd in columns.items():
            query = f"SELECT rowid FROM {table} WHERE {odd.format(column)} ORDER BY rowid"  # noqa: S608
            rows = [str(row[0]) for row in connection.execute(query)]
            yield from _listed(f"values of column {column} in table {table} that ProbFace never writes, rows", rows)
    yield from _texts(connection)
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of table {table} belongs to no row of table {parent}"
    for what, query in LINKS.items():
        yield from _listed(what, [str(row[0]) for row in connection.execute(query)])
    yield from _vectors(connection, "reference", model)
    if migration is not None:
        yield from _vectors(connection, "migrated", migration)
    if is_unwiped(connection):
        yield "bytes of deleted references may still be in the file; end what else uses it, free space, verify again"


def _schema(connection: sqlite3.Connection) -> Iterator[str]:
    """Whether the file has exactly the tables and indexes of a gallery: no trigger or view of somebody else's."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(TABLES)
        wanted = set(model.execute(query))
    found = set(connection.execute(query))
    for what, entries in (("not of a gallery", found - wanted), ("missing or altered", wanted - found)):
        yield from _listed(f"entries of the schema {what}", sorted(f"{one[0]} {one[1]!a}" for one in entries))


def _texts(connection: sqlite3.Connection) -> Iterator[str]:
    """Whether all names and sources can be read; as bytes, so that none is in the way of the others."""
    names = connection.execute("SELECT id, CAST(name AS BLOB) FROM identity WHERE typeof(name) = 'text'")
    yield from _listed("names that nobody can have, identities", [str(id_) for id_, raw in names if not _is_name(raw)])
    blobs = connection.execute("SELECT id, source FROM reference WHERE typeof(source) = 'blob'")
    yield from _listed("sources that are no text, references", [str(id_) for id_, raw in blobs if not _is_text(raw)])
    texts = connection.execute(
        "SELECT id, CAST(source AS BLOB), CAST(source_digest AS BLOB) FROM reference WHERE typeof(source) = 'text'"
    )
    odd = [str(id_) for id_, *raw in texts if not all(map(_is_text, raw))]
    yield from _listed("sources or digests that are no UTF-8, references", odd)


def _is_name(raw: bytes) -> bool:
    try:
        check_name(raw.decode())
    except (UnicodeDecodeError, InvalidValue):
        return False
    return True


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _vectors(connection: sqlite3.Connection, table: str, model: ModelBinding) -> Iterator[str]:
    lengths = (4 * model.dim, 4 * model.sigma_sq_width)
    odd = [str(row[0]) for row in connection.execute(LENGTHS[table], lengths)]
    yield from _listed(f"vectors of the wrong length in table {table}, references", odd)
    off: list[str] = []
    bad: list[str] = []
    cursor = connection.execute(VECTORS[table], lengths)
    while rows := cursor.fetchmany(SCAN_ROWS):
        block: ReferenceBlock = block_of(rows, model)
        with np.errstate(invalid="ignore", over="ignore"):  # broken bytes may be any number
            far = ~(np.abs(np.linalg.norm(block.mu, axis=1) - 1) <= UNIT_TOLERANCE)
        off += map(str, block.ids[far])
        bad += map(str, block.ids[~((block.sigma_sq > 0) & np.isfinite(block.sigma_sq)).all(axis=1)])
    yield from _listed(f"mu not of unit length in table {table}, references", off)
    yield from _listed(f"sigma_sq not positive and finite in table {table}, references", bad)


def _listed(what: str, found: list[str]) -> Iterator[str]:
    if found:
        yield f"{len(found)} {what}: {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}"
