"""Values that ProbFace never writes, in a damaged file or a hostile one: one line, and verify finds them all."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_checks import NARROW, OTHER_MODEL, new

from probface.errors import DataError, ProbFaceError
from probface.gallery.engines.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed gallery of three people and a change, with a migration under way."""
    path = tmp_path / "gallery.db"
    with closing(SqliteStore.create(path, NARROW)) as store:
        store.add(new(store, 1, "A", "B", "C"))
        store.add(new(store, 2, "A"))
        store.begin_migration(OTHER_MODEL)
        store.put_migrated([1], new(store, 3, "A", model=OTHER_MODEL))
    return path


def alter(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def read_all(store: SqliteStore) -> None:
    """Everything that reads; whatever it meets must be an error of ours, of one line."""
    acts = [
        store.counts,
        store.generation,
        lambda: store.changes(1),
        lambda: store.stamp(1),
        lambda: list(store.identities()),
        lambda: store.references("A"),
        lambda: store.names([1, 2, 3]),
        lambda: list(store.scan()),
        lambda: store.fetch([1, 2, 3]),
        lambda: store.pending(limit=9),
        store.missing,
        lambda: store.add(new(store, 4, "A", "D")),
        lambda: store.put_migrated([2], new(store, 5, "B", model=OTHER_MODEL)),
        lambda: store.delete(["A"]),
    ]
    errors = []
    for act in acts:
        try:
            act()
        except ProbFaceError as error:
            errors.append(error)
    assert all(re.fullmatch(r".*gallery\.db: .*; .*", str(error)) for error in errors)
    assert any(isinstance(error, DataError) and "is damaged (" in str(error) for error in errors)


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE reference SET sigma_sq = 'text' WHERE id = 1", "column sigma_sq in table reference .*: 1"),
        ("UPDATE reference SET mu = 'text of 32 characters, not a blob' WHERE id = 1", "column mu in table reference"),
        ("UPDATE reference SET enrolled = 9000000000000000000", "column enrolled in table reference .*: 1, 2, 3, 4"),
        ("UPDATE identity SET enrolled = 'yesterday' WHERE id = 2", "column enrolled in table identity .*: 2"),
        ("UPDATE identity SET enrolled = 1.5 WHERE id = 2", "column enrolled in table identity .*: 2"),
        ("UPDATE reference SET source = x'ff61ff' WHERE id = 1", "1 sources that are no text, references: 1"),
        ("UPDATE reference SET source = CAST(x'ff61ff' AS TEXT)", "4 sources or digests that are no UTF-8"),
        ("UPDATE reference SET source = 7", "column source in table reference"),
        ("UPDATE reference SET source_digest = x'00' WHERE id = 1", "column source_digest in table reference"),
        ("UPDATE reference SET quality = 'good' WHERE id = 1", "column quality in table reference"),
        ("UPDATE reference SET quality = 101 WHERE id = 1", "column quality in table reference"),
        ("UPDATE reference SET identity = 'nobody' WHERE id = 1", "column identity in table reference"),
        ("UPDATE identity SET name = ' B' || char(10) WHERE id = 2", "1 names that nobody can have, identities: 2"),
        ("UPDATE identity SET name = CAST(x'ff' AS TEXT) WHERE id = 2", "1 names that nobody can have, identities: 2"),
        ("UPDATE identity SET name = x'42' WHERE id = 2", "column name in table identity"),
        ("UPDATE identity SET born = 'x' WHERE id = 1", "column born in table identity"),
        ("UPDATE gallery SET generation = 'x'", "column generation in table gallery"),
        ("UPDATE gallery SET known_since = -5", "column known_since in table gallery"),
        ("UPDATE gallery SET next_reference = x'00'", "column next_reference in table gallery"),
        ("UPDATE change SET identities = x'0102'", "column identities in table change"),
        ("UPDATE change SET total = 'x'", "column total in table change"),
        ("UPDATE stamp SET token = x'00' WHERE generation = 1", "column token in table stamp"),
        ("UPDATE image SET content = 'text'", "column content in table image"),
    ],
)
def test_values_that_cannot_be(path: Path, statement: str, finding: str) -> None:
    alter(path, statement)
    with closing(SqliteStore.open(path, read_only=True)) as store:
        found = store.verify()
    assert [line for line in found if re.search(finding, line)], found
    with closing(SqliteStore.open(path)) as store:
        read_all(store)


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "CREATE TRIGGER spy AFTER INSERT ON identity BEGIN DELETE FROM change; END",
            "not of a gallery: trigger 'spy'",
        ),
        ("CREATE VIEW spy AS SELECT * FROM identity", "not of a gallery: view 'spy'"),
        ("CREATE TABLE spy (x)", "not of a gallery: table 'spy'"),
        ("DROP INDEX reference_identity", "missing or altered: index 'reference_identity'"),
        ("DELETE FROM stamp WHERE generation = 2", "1 generations without a stamp: 2"),
        ("INSERT INTO stamp VALUES (9, hex(zeroblob(16)))", "1 stamps of a generation to come: 9"),
    ],
)
def test_a_schema_of_somebody_else(path: Path, statement: str, finding: str) -> None:
    alter(path, statement)
    with closing(SqliteStore.open(path, read_only=True)) as store:
        found = store.verify()
    assert [line for line in found if finding in line], found


@pytest.mark.parametrize("statement", ["DELETE FROM gallery", "UPDATE gallery SET settings = x'00'"])
def test_no_settings(path: Path, statement: str) -> None:
    alter(path, statement)
    with pytest.raises(DataError, match=r"is damaged \(.*\); restore it from a backup"):
        SqliteStore.open(path)
