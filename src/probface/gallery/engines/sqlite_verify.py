"""What can be wrong inside a gallery file, looked for row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np

from probface.gallery.engines.sqlite_rows import block_of
from probface.gallery.engines.sqlite_wipe import is_unwiped
from probface.gallery.records import ModelBinding, ReferenceBlock
from probface.gallery.store import SCAN_ROWS
from probface.types import UNIT_TOLERANCE

VECTORS = {
    "reference": "SELECT id, identity, mu, sigma_sq FROM reference WHERE length(mu) = ? AND length(sigma_sq) = ?",
    "migrated": (
        "SELECT reference, 0, new_mu, new_sigma_sq FROM migrated WHERE length(new_mu) = ? AND length(new_sigma_sq) = ?"
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
    "identities of a generation to come": ("SELECT name FROM identity WHERE born > (SELECT generation FROM gallery)"),
    "references that a migration forgot": (
        "SELECT id FROM reference WHERE (SELECT migration FROM gallery) IS NOT NULL "
        "AND id NOT IN (SELECT reference FROM migrated) AND id NOT IN (SELECT reference FROM to_migrate)"
    ),
}


def findings(connection: sqlite3.Connection, model: ModelBinding, migration: ModelBinding | None) -> Iterator[str]:
    """One sentence for each thing that is wrong, in a transaction of the caller's."""
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"SQLite finds: {line}"
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of table {table} belongs to no row of table {parent}"
    for what, query in LINKS.items():
        yield from _listed(what, [str(row[0]) for row in connection.execute(query)])
    yield from _vectors(connection, "reference", model)
    if migration is not None:
        yield from _vectors(connection, "migrated", migration)
    if is_unwiped(connection):
        yield "bytes of deleted references may still be in the file; end what else uses it, and verify again"


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
