"""Enrolment of ready embeddings into a gallery file, against SQLite's own bulk insert of the same bytes.

    python benchmarks/gallery_enrolment.py

100,000 references of D = 128 in transactions of 10,000; every second one has an identity of its own, the others go to
identities that are there already. The other side is one executemany of the same names and vectors, cut into rows
beforehand, into one plain table without an index, in one transaction, in a file of the same settings (WAL, every commit
on the disk, secure_delete). Measured in turn; prints the medians of 5 and their ratio.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.engines.sqlite_connection import PRAGMAS
from probface.gallery.engines.sqlite_schema import PAGE_BYTES
from probface.gallery.records import GallerySettings, ModelBinding, NewReferences
from probface.types import Embeddings

REFERENCES, TRANSACTION, DIM, ROUNDS = 100_000, 10_000, 128, 5
SETTINGS = GallerySettings(ModelBinding("bench", "0" * 64, DIM, 1))


def main() -> None:
    """Time both, and print the ratio."""
    rng = np.random.default_rng(0)
    mu = rng.normal(size=(REFERENCES, DIM)).astype(np.float32)
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    embeddings = Embeddings(mu, rng.uniform(0.1, 1, (REFERENCES, 1)).astype(np.float32))
    names = [f"person {row // 2 * 2 if row % 2 == 0 else row // 4 * 2}" for row in range(REFERENCES)]
    batches = [
        NewReferences.unlabelled(tuple(names[first : first + TRANSACTION]), embeddings[first : first + TRANSACTION])
        for first in range(0, REFERENCES, TRANSACTION)
    ]
    times: dict[str, list[float]] = {"gallery": [], "plain table": []}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            times["gallery"].append(enrol(Path(folder) / "gallery.db", batches))
            times["plain table"].append(insert(Path(folder) / "plain.db", names, embeddings))
    middle = {name: statistics.median(taken) for name, taken in times.items()}
    for name, seconds in middle.items():
        print(f"{name}: {REFERENCES / seconds:,.0f} references a second")
    print(f"ratio of the rates {middle['plain table'] / middle['gallery']:.2f}")


def enrol(path: Path, batches: list[NewReferences]) -> float:
    """Seconds to enrol all batches durably."""
    with closing(SqliteStore.create(path, SETTINGS)) as store:
        began = time.perf_counter()
        for batch in batches:
            store.add(batch)
        return time.perf_counter() - began


def insert(path: Path, names: list[str], embeddings: Embeddings) -> float:
    """Seconds to insert the same bytes, cut into rows beforehand."""
    columns = (names, embeddings.mu, embeddings.sigma_sq)
    rows = [(name, mu.tobytes(), sigma_sq.tobytes()) for name, mu, sigma_sq in zip(*columns, strict=True)]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        for pragma in PRAGMAS:
            connection.execute(pragma)
        connection.execute("CREATE TABLE plain (id INTEGER PRIMARY KEY, name TEXT, mu BLOB, sigma_sq BLOB)")
        began = time.perf_counter()
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO plain (name, mu, sigma_sq) VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
