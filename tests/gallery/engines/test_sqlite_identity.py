"""Which file it is: copies that went on apart, files that were put in its place, and how what is written stays."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from store_checks import NARROW, new

from probface.errors import StorageError
from probface.gallery.engines import sqlite_stamp
from probface.gallery.engines.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed gallery of one generation."""
    path = tmp_path / "gallery.db"
    with closing(SqliteStore.create(path, NARROW)) as store:
        store.add(new(store, 1, "A"))
    return path


def test_copies_that_go_on_apart_have_other_stamps(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    with closing(SqliteStore.open(path)) as one, closing(SqliteStore.open(copy)) as two:
        for store in (one, two):
            store.add(new(store, 2, "B"))
        assert one.generation() == two.generation() == 2
        pairs = [(one.stamp(generation), two.stamp(generation)) for generation in range(3)]
    assert [left == right for left, right in pairs] == [True, True, False]
    assert None not in pairs[2]


def test_old_stamps_are_cut_and_with_them_the_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_stamp, "KEPT_STAMPS", 3)
    with closing(SqliteStore.open(path)) as store:
        for number in range(5):
            store.add(new(store, number, "A" if number % 2 else f"fresh {number}"))
        assert store.generation() == 6
        known = [store.stamp(generation) is not None for generation in range(7)]
        assert known == [False] * 3 + [True] * 4
        assert [store.changes(generation).identities is not None for generation in range(7)] == known
        assert store.changes(3).identities == {1}
        assert store.verify() == ()


@pytest.fixture(params=["another", "none"])
def replaced(request: pytest.FixtureRequest, path: Path) -> Iterator[SqliteStore]:
    """A store whose file was replaced while it was open, or moved away."""
    other = path.with_name("other.db")
    with closing(SqliteStore.create(other, NARROW)) as store:
        store.add(new(store, 3, "Stranger"))
    with closing(SqliteStore.open(path)) as store:
        store.add(new(store, 2, "B"))
        if request.param == "another":
            other.replace(path)
        else:
            path.rename(path.with_name("away.db"))
        yield store


def test_a_file_that_was_replaced_is_not_written(replaced: SqliteStore, path: Path) -> None:
    for act in (
        lambda: replaced.add(new(replaced, 4, "C")),
        lambda: replaced.delete(["B"]),
        replaced.generation,
        replaced.counts,
        lambda: replaced.stamp(1),
        lambda: list(replaced.scan()),
        replaced.verify,
        lambda: replaced.begin_migration(NARROW.model),
        replaced.abandon_migration,
    ):
        with pytest.raises(
            StorageError, match=r"was (replaced by another file|moved or removed) while it was open.*open it again"
        ) as error:
            act()
        assert "\n" not in str(error.value)


def test_a_file_that_is_replaced_inside_a_write(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    with closing(SqliteStore.open(path)) as store:
        moved = path.with_name("moved.db")

        def write() -> None:
            with store._file.writing() as connection:
                connection.execute("UPDATE gallery SET generation = generation + 1")
                path.rename(moved)
                copy.rename(path)

        with pytest.raises(StorageError, match="was replaced"):
            write()
        path.rename(copy)
        moved.rename(path)
        assert store.generation() == 1  # back in its place, and nothing was kept


def test_what_is_acknowledged_is_on_the_disk(path: Path) -> None:
    wanted = {"synchronous": 2, "journal_mode": "wal", "secure_delete": 1, "foreign_keys": 1, "trusted_schema": 0}
    with closing(SqliteStore.open(path)) as store:
        with store._file.writing() as connection:
            assert {key: connection.execute(f"PRAGMA {key}").fetchone()[0] for key in wanted} == wanted
        store.add(new(store, 2, "B"))
        with store._file.writing() as connection:  # and stay so
            assert {key: connection.execute(f"PRAGMA {key}").fetchone()[0] for key in wanted} == wanted


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux what a handle is of")
def test_folders_that_are_made_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    fsync = os.fsync

    def noting(handle: int) -> None:
        kept.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    SqliteStore.create(tmp_path / "a" / "b" / "gallery.db", NARROW).close()
    assert kept == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
