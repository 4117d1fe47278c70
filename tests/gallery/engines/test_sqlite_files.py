"""Files that are no gallery, places that cannot be written, and disks that are full."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from store_checks import NARROW, new

from probface.contract import InputSpec, ModelContract, QualityScale, Threshold
from probface.errors import DataError, ProbFaceError, StorageError
from probface.gallery.engines import sqlite_write
from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.records import GallerySettings, ModelBinding


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed gallery of 40 references."""
    path = tmp_path / "gallery.db"
    with closing(SqliteStore.create(path, NARROW)) as store:
        store.add(new(store, 1, *(f"person {number}" for number in range(40))))
    return path


def plain_sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def refused(path: Path, kind: type[ProbFaceError], match: str, *, read_only: bool = False) -> None:
    with pytest.raises(kind, match=match) as raised:
        SqliteStore.open(path, read_only=read_only)
    assert "\n" not in str(raised.value)
    assert str(path.parent) in str(raised.value)
    assert ";" in str(raised.value)


@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_gallery(tmp_path: Path, path: Path, read_only: bool) -> None:
    def check(file: Path, kind: type[ProbFaceError], match: str) -> None:
        refused(file, kind, match, read_only=read_only)

    odd = tmp_path / "odd"
    check(odd, StorageError, "no such file; enrol somebody")
    check(path / "below", StorageError, "no such file")
    check(tmp_path, StorageError, "is no file")
    odd.write_bytes(b"")
    check(odd, DataError, "is empty")
    odd.write_bytes(b"faces, faces, faces " * 1000)
    check(odd, DataError, "no SQLite database")
    odd.unlink()
    plain_sql(odd, "CREATE TABLE mine (x)")
    before = odd.read_bytes()
    check(odd, DataError, "an SQLite database, but no gallery")
    assert odd.read_bytes() == before


@pytest.mark.parametrize("kept", [10, 50, 100, 1000, 8192, 20000, -8192, -1])
def test_a_truncated_gallery(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, DataError, r"is damaged|no SQLite database|no gallery")


def test_formats(path: Path) -> None:
    plain_sql(path, "PRAGMA user_version = 2")
    refused(path, DataError, "a gallery of format 2, and this ProbFace knows 1; use a newer ProbFace")
    plain_sql(path, "PRAGMA user_version = 0")
    refused(path, DataError, "without a format")
    plain_sql(path, "PRAGMA user_version = 1", "UPDATE gallery SET settings = '{}'")
    refused(path, DataError, "settings cannot be read")
    plain_sql(path, "DROP TABLE gallery")
    refused(path, StorageError, "no such table: gallery")


def test_a_contract_is_kept(tmp_path: Path) -> None:
    contract = ModelContract(
        "m", 8, 1, InputSpec(), "f" * 64, quality=QualityScale(-3, 1), data={"set": "faces"},
        thresholds=(Threshold("fastmls", 1e-3, 0.5, 2e-3, 1000, 1, "set"),),
    )  # fmt: skip
    made = GallerySettings(ModelBinding("m", "f" * 64, 8, 1, contract))
    path = tmp_path / "deep" / "a #1?%41 gallery é.db"
    SqliteStore.create(path, made).close()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(SqliteStore.open(path)) as store:
        assert store.settings == made
        store.begin_migration(made.model)
        store.begin_migration(made.model)
        store.finish_migration()
        assert store.settings == made


def test_nothing_is_made_over_something(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError, match="is there already; open it"):
        SqliteStore.create(path, NARROW)
    assert path.read_bytes() == before
    left = tmp_path / "new.db-wal"
    left.write_bytes(b"log")
    with pytest.raises(StorageError, match=r"new.db-wal: is left of a database that is gone"):
        SqliteStore.create(tmp_path / "new.db", NARROW)
    with pytest.raises(StorageError, match="cannot be written"):
        SqliteStore.create(path / "below" / "gallery.db", NARROW)


def test_read_only(path: Path) -> None:
    with closing(SqliteStore.open(path, read_only=True)) as store:
        assert store.counts().references == 40
        assert store.verify() == ()
        for write in (
            lambda: store.delete(["person 1"]),
            lambda: store.add(new(store, 2, "B")),
            store.abandon_migration,
        ):
            with pytest.raises(StorageError, match="opened to read only; open it to write"):
                write()


def test_a_closed_store(path: Path) -> None:
    store = SqliteStore.open(path)
    store.close()
    store.close()
    with pytest.raises(StorageError, match="closed database; open the gallery again"):
        store.counts()


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from probface.errors import StorageError
from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.records import GallerySettings, ModelBinding
import probface.contract, numpy, encodings.idna
if os.geteuid() == 0:  # permissions do not bind root
    os.setgid(65534), os.setuid(65534)
folder = Path(sys.argv[1])
for act in (
    lambda: SqliteStore.open(folder / "sealed.db"),
    lambda: SqliteStore.open(folder / "read.db"),
    lambda: SqliteStore.open(folder / "closed" / "gallery.db", read_only=True),
    lambda: SqliteStore.create(folder / "closed" / "new.db", GallerySettings(ModelBinding("m", "", 2, 1))),
):
    try:
        act()
        print("no error")
    except StorageError as error:
        print(error)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach; pytest's are the owner's alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        (folder / "closed").chmod(0o755)


def test_without_permission(path: Path, open_folder: Path) -> None:
    (open_folder / "closed").mkdir()
    for name, mode in (("sealed.db", 0o000), ("read.db", 0o444), ("closed/gallery.db", 0o444)):
        shutil.copy(path, open_folder / name)
        (open_folder / name).chmod(mode)
    (open_folder / "closed").chmod(0o555)
    run = [sys.executable, "-c", UNPRIVILEGED, str(open_folder)]
    lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 4
    assert "sealed.db: may not be read; see to its permissions" in lines[0]
    assert "read.db: may not be written" in lines[1]
    assert "closed: may not be written, and SQLite keeps its log there" in lines[2]
    assert "new.db: cannot be written (Permission denied)" in lines[3]


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SqliteStore.open(path)) as store:
        generation = store.generation()
        with store._file.writing() as connection:  # SQLite refuses pages beyond a limit just as beyond the disk
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StorageError, match="the disk is full, nothing was changed; free space"):
            store.add(new(store, 2, *(f"new {number}" for number in range(500))))
        assert store.generation() == generation
        assert store.counts().references == 40
        store.add(new(store, 3, "one more"))
        assert store.verify() == ()


LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from probface.errors import StorageError
from probface.gallery.engines.sqlite import SqliteStore
from store_checks import NARROW, new
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
store = SqliteStore.open(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))
for act in (
    lambda: store.add(new(store, 2, *(f"new {number}" for number in range(5000)))),
    lambda: SqliteStore.create(path.with_name("new.db"), NARROW),
):
    try:
        act()
        print("no error")
    except StorageError as error:
        print(error)
print(store.counts().references, store.generation(), store.verify())
"""


def test_a_disk_that_fails(path: Path) -> None:
    """Files may not grow beyond 60 kB: SQLite meets an error of the disk in the midst of writing."""
    run = [sys.executable, "-c", LIMITED, str(path), str(Path(__file__).parents[1])]
    lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "disk I/O error (SQLITE_IOERR" in lines[0]
    assert "nothing was changed; see to the disk" in lines[0]
    assert "disk I/O error" in lines[1]
    assert lines[2] == "40 1 ()"
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]


def test_locked_by_somebody_else(path: Path) -> None:
    with (
        closing(SqliteStore.open(path, busy_seconds=0.2)) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match=r"locked by another process for more than 0.2 s"):
            store.add(new(store, 2, "B"))
        assert store.counts().references == 40  # readers do not wait
        other.execute("ROLLBACK")
        store.add(new(store, 2, "B"))
        assert store.counts().references == 41


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE reference SET mu = substr(mu, 1, 8) WHERE id = 3", "1 vectors of the wrong length .* references: 3"),
        ("UPDATE reference SET mu = zeroblob(32) WHERE id = 4", "1 mu not of unit length .* references: 4"),
        ("UPDATE reference SET sigma_sq = zeroblob(4) WHERE id < 9", "8 sigma_sq not positive .*: 1, 2, 3, 4, 5, ..."),
        ("UPDATE reference SET sigma_sq = x'0000807f' WHERE id = 5", "1 sigma_sq not positive and finite"),
        ("DELETE FROM reference WHERE identity = 7", "1 identities without references: person 6"),
        ("DELETE FROM identity WHERE id = 7", "row 7 of table reference belongs to no row of table identity"),
        ("UPDATE gallery SET next_reference = 40", "1 references with an id that was never given out: 40"),
        ("UPDATE identity SET born = 9 WHERE id = 1", "1 identities of a generation to come: person 0"),
        ("UPDATE gallery SET unwiped = 1", "bytes of deleted references may still be in the file"),
    ],
)
def test_verify_finds(path: Path, statement: str, finding: str) -> None:
    plain_sql(path, statement)
    with closing(SqliteStore.open(path, read_only=True)) as store:
        found = store.verify()
    assert [line for line in found if re.search(finding, line)]


def test_verify_finds_broken_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3 * 8192 : 3 * 8192 + 3000] = b"\xa5" * 3000
    path.write_bytes(content)
    with closing(SqliteStore.open(path)) as store:
        assert store.verify()


def test_a_log_that_was_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_write, "KEPT_CHANGES", 3)
    with closing(SqliteStore.open(path)) as store:
        since = [store.generation()]
        for number in range(5):
            store.add(new(store, number, f"person {number}"))
            since.append(store.generation())
        lost = [store.changes(generation).identities for generation in since]
    assert [None if ids is None else len(ids) for ids in lost] == [None, None, 3, 2, 1, 0]


def test_a_path_that_is_no_unicode(path: Path) -> None:
    source = os.fsdecode(b"/photos/caf\xe9.jpg")
    with closing(SqliteStore.open(path)) as store:
        rows = new(store, 2, "A", "A")
        store.add(type(rows)(rows.names, rows.embeddings, rows.quality, (source, "é"), rows.source_digests))
        assert [reference.source for reference in store.references("A")] == [source, "é"]
