"""What goes wrong around a gallery in PostgreSQL: one line each, and nothing half-written."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from postgres_galleries import faces, people, settings

from probface.errors import DataError, InvalidValue, MissingExtra, NotWiped, StorageError
from probface.gallery.engines import postgres_migration, postgres_schema
from probface.gallery.engines.postgres import PostgresStore
from probface.gallery.records import NewReferences
from probface.gallery.store import Counts

pytest.importorskip("psycopg", reason="needs psycopg: pip install 'probface[postgres]'")

Ask = Callable[..., list[tuple[Any, ...]]]

CUT = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    made = PostgresStore.create(database, settings())
    yield made
    made.close()


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("mysql://u@h/d", "must begin with postgresql://"),
        ("postgresql://u:p%zz@h/d", "cannot be read"),
        ("postgresql://u:se:cret@h:x/d?nothing=1", "cannot be read"),
        ("postgresql://u:se@cret@h/d", "cannot be read"),
        ("postgresql://u:1/cret@h/d", "cannot be read"),
        ("postgresql://u:cret/x@h/d", "cannot be read"),
    ],
)
def test_addresses_that_cannot_be(url: str, rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule) as error:
        PostgresStore.open(url)
    assert "cret" not in one_line(error)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("gallery", ["", "A", "a-b", "x" * 41, 'x"; DROP SCHEMA public; --', "é"])
def test_names_of_galleries(gallery: str) -> None:
    with pytest.raises(InvalidValue, match="must be 1 to 40 of the characters"):
        PostgresStore.open("postgresql://h/d", gallery)


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be reached .*; start the server, or correct the address") as error:
        PostgresStore.open(f"postgresql://ann:secret@/d?host={tmp_path}")
    assert "secret" not in one_line(error)


def test_no_database(postgres_server: Any) -> None:
    absent = postgres_server.get_uri(database="absent")
    with pytest.raises(StorageError, match=r'database "absent" does not exist.*; create the database first') as error:
        PostgresStore.create(absent, settings())
    one_line(error)


def test_a_wrong_password(postgres_server: Any, database: str, ask: Ask) -> None:
    ask("CREATE ROLE careful LOGIN PASSWORD 'right-one'")
    rules = postgres_server.pgdata / "pg_hba.conf"
    before = rules.read_text()
    try:
        rules.write_text("local all careful scram-sha-256\n" + before)
        ask("SELECT pg_reload_conf()")
        wrong = database.replace("postgres:@", "careful:wrong-one@")
        with pytest.raises(StorageError, match=r"password.*; correct user and password") as error:
            PostgresStore.open(wrong)
        assert "wrong-one" not in one_line(error)
        with pytest.raises(StorageError, match="no such gallery"):
            PostgresStore.open(wrong.replace("wrong-one", "right-one"))
        with pytest.raises(StorageError, match="may not create the extension vector; let an administrator") as error:
            PostgresStore.create(wrong.replace("wrong-one", "right-one"), settings())
        ask("CREATE EXTENSION vector")
        with pytest.raises(StorageError, match=r"not allowed .*; let the database's owner grant it") as error:
            PostgresStore.create(wrong.replace("wrong-one", "right-one"), settings())
        one_line(error)
    finally:
        rules.write_text(before)
        ask("SELECT pg_reload_conf()")
        ask("DROP ROLE careful")


def test_the_location_shows_no_password(database: str) -> None:
    store = PostgresStore.create(database.replace("postgres:@", "postgres:s3cret@"), settings())
    store.close()
    assert "s3cret" not in store.location
    assert store.location.startswith("postgresql://postgres@%2F")
    assert store.location.endswith(" (gallery default)")


def test_no_pgvector(database: str, ask: Ask) -> None:
    ask(f"ALTER DATABASE {database.split('?')[0].rsplit('/', 1)[1]} SET extension_control_path = '/nowhere'")
    with pytest.raises(StorageError, match="the server has no pgvector; let an administrator install"):
        PostgresStore.create(database, settings())


def test_not_a_utf8_database(postgres_server: Any, admin: Any) -> None:
    admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StorageError, match="is in LATIN1; create one with ENCODING 'UTF8'"):
            PostgresStore.create(postgres_server.get_uri(database="latin"), settings())
    finally:
        admin.execute("DROP DATABASE latin")


def test_a_schema_that_is_no_gallery(database: str, ask: Ask) -> None:
    ask("CREATE SCHEMA probface_default")
    with pytest.raises(DataError, match="schema probface_default is no gallery"):
        PostgresStore.open(database)
    with pytest.raises(StorageError, match="is there already"):
        PostgresStore.create(database, settings())


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'probface\[postgres\]'"):
        PostgresStore.open("postgresql://h/d")


def test_a_creation_that_fails_leaves_nothing(database: str, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(cursor: Any) -> None:
        cursor.execute("SELECT 1 / 0")

    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "STEPS", (*postgres_schema.STEPS, failing))
        with pytest.raises(StorageError, match="division by zero"):
            PostgresStore.create(database, settings())
    assert ask("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'probface%'") == [(0,)]
    PostgresStore.create(database, settings()).close()


def test_versions(database: str, store: PostgresStore, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(people("a b"))

    def second(cursor: Any) -> None:
        cursor.execute("ALTER TABLE identity ADD COLUMN note text NOT NULL DEFAULT 'upgraded'")

    def failing(cursor: Any) -> None:
        cursor.execute("SELECT 1 / 0")

    first = postgres_schema.STEPS
    monkeypatch.setattr(postgres_schema, "STEPS", (*first, second, failing))
    with pytest.raises(StorageError, match="division by zero"):
        PostgresStore.open(database)
    assert ask("SELECT version FROM schema_version") == [(1,)]  # and the second step is undone, too
    monkeypatch.setattr(postgres_schema, "STEPS", (*first, second))
    upgraded = PostgresStore.open(database)
    assert upgraded.counts() == Counts(2, 2)
    upgraded.close()
    assert ask("SELECT note, (SELECT version FROM schema_version) FROM identity") == [("upgraded", 2)] * 2
    PostgresStore.open(database).close()  # nothing to be done any more
    monkeypatch.setattr(postgres_schema, "STEPS", first)
    with pytest.raises(DataError, match="is of version 2, this ProbFace knows up to 1; use a newer ProbFace"):
        PostgresStore.open(database)


def test_a_connection_lost_between_calls_is_made_anew(store: PostgresStore, ask: Ask) -> None:
    store.add(people("a"))
    ask(CUT)
    store.add(people("b"))
    ask(CUT)
    assert store.counts() == Counts(2, 2)
    ask(CUT)
    assert store.delete(["a"]) == 1


@pytest.mark.parametrize("table", ["identity", "reference", "embedding", "gallery"])
def test_a_connection_lost_inside_a_call_leaves_nothing(store: PostgresStore, ask: Ask, table: str) -> None:
    store.add(people("a b"))
    ask(
        "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
    )
    ask(f"CREATE TRIGGER cut AFTER INSERT OR UPDATE OR DELETE ON {table} EXECUTE FUNCTION cut()")
    for change in (lambda: store.add(people("a c d", 1)), lambda: store.delete(["a"])):
        with pytest.raises(StorageError, match=r"the connection was lost .*; call again, which connects anew") as error:
            change()
        assert not isinstance(error.value, NotWiped)
        one_line(error)
    ask(f"DROP TRIGGER cut ON {table}")
    assert store.counts() == Counts(2, 2)
    assert store.generation() == 1
    assert store.verify() == ()
    store.add(people("a c d", 1))
    assert store.counts() == Counts(4, 5)


def test_a_connection_lost_in_a_scan(store: PostgresStore, ask: Ask) -> None:
    store.add(NewReferences.unlabelled(tuple(f"p{i}" for i in range(5000)), faces(0, 5000)))
    scan = store.scan(rows=1000)
    next(scan)
    ask(CUT)
    with pytest.raises(StorageError, match="connection was lost"):
        list(scan)
    assert sum(len(part) for part in store.scan()) == 5000


def test_a_vacuum_that_fails_says_that_the_deletion_is_done(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(people("a b"))
    monkeypatch.setattr("probface.gallery.engines.postgres.TABLES", "nothing_of_this_name")
    with pytest.raises(NotWiped, match="1 reference is deleted, but the space is not freed yet") as error:
        store.delete(["a"])
    assert error.value.references == 1
    assert store.counts() == Counts(1, 1)


def test_an_older_transaction_keeps_the_rows(
    database: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setattr("probface.gallery.engines.postgres_vacuum.HELD_SECONDS", 0.2)
    store.add(people("a b b c d"))
    dead = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'probface_default.reference'::regclass"
    with psycopg.connect(database) as other, psycopg.connect(database, autocommit=True) as asking:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1 FROM probface_default.gallery")
        with pytest.raises(NotWiped, match=r"2 references are deleted, .* \(process \d+\); end it") as error:
            store.delete(["b"])
        one_line(error)
        assert error.value.references == 2
        assert asking.execute(dead).fetchone() == (2,)  # by the server's own count
        other.rollback()
        assert store.delete(["c"]) == 1
        assert asking.execute(dead).fetchone() == (0,)
        monkeypatch.setattr("probface.gallery.engines.postgres_vacuum.HELD_SECONDS", 60)
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1 FROM probface_default.gallery")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.delete, ["d"])
            while asking.execute(dead).fetchone() != (1,):  # the first VACUUM left it
                assert not waiting.done()
            other.rollback()
            assert waiting.result(30) == 1
        assert asking.execute(dead).fetchone() == (0,)


def test_an_acknowledgement_is_durable(database: str, store: PostgresStore, ask: Ask) -> None:
    name = database.split("?")[0].rsplit("/", 1)[1]
    for default, wanted in (("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")):
        ask(f"ALTER DATABASE {name} SET synchronous_commit = {default}")
        ask(CUT)
        assert ask("SHOW synchronous_commit") == [(default,)]
        with store._writing() as (cursor, _):
            cursor.execute("SELECT current_setting('synchronous_commit')")
            assert cursor.fetchall() == [(wanted,)]


def test_a_scan_under_way_keeps_a_migration_from_its_end(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probface.gallery.engines.postgres_migration.LOCK_WAIT", "100ms")
    store.add(people("a b"))
    store.begin_migration(settings(4).model)
    store.put_migrated([1, 2], people("a b", 1, 4))
    scan = store.scan(rows=1)
    next(scan)
    with pytest.raises(StorageError, match=r"others are reading it .*; try again when they have ended"):
        store.finish_migration()
    assert [len(part) for part in scan] == [1]
    store.finish_migration()
    assert [part.mu.shape for part in store.scan()] == [(2, 4)]


def test_a_reader_that_comes_while_a_migration_ends(database: str, store: PostgresStore, ask: Ask) -> None:
    store.add(people("a b"))
    reader = PostgresStore.open(database)
    store.begin_migration(settings(4).model)
    store.put_migrated([1, 2], people("a b", 1, 4))
    with ThreadPoolExecutor(1) as pool:
        with store._writing() as (cursor, _):
            postgres_migration.finish(cursor)
            late = pool.submit(reader.fetch, [1])
            while not ask("SELECT 1 FROM pg_locks WHERE NOT granted"):
                assert not late.done()
        with pytest.raises(StorageError, match="was migrated to model 'tiny'"):
            late.result(30)
    reader.close()


ADD = """
import sys
from postgres_galleries import people
from probface.gallery.engines.postgres import PostgresStore
store = PostgresStore.open(sys.argv[1])
for i in range(20):
    store.add(people(f"shared{i} own-{sys.argv[2]}-{i} shared{i}", i))
store.close()
"""


def test_processes_that_enrol_at_once(database: str, store: PostgresStore) -> None:
    path = ":".join([str(Path(__file__).parents[1]), *sys.path])
    command = [sys.executable, "-W", "error", "-c", ADD, database]
    running = [subprocess.Popen([*command, str(i)], env={"PYTHONPATH": path}) for i in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert store.counts() == Counts(20 + 60, 180)
    assert store.generation() == 60
    assert {found.references for found in store.identities() if found.name.startswith("shared")} == {6}
    ids = [int(i) for part in store.scan() for i in part.ids]
    assert sorted(ids) == list(range(1, 181))
    assert store.verify() == ()


def test_enrolment_against_deletion_of_one_name(database: str, store: PostgresStore) -> None:
    start = threading.Barrier(2)

    def enrol() -> None:
        own = PostgresStore.open(database)
        start.wait()
        for i in range(30):
            own.add(people("a a", i))
        own.close()

    def delete() -> int:
        own = PostgresStore.open(database)
        removed = 0
        start.wait()
        for _ in range(30):
            with suppress(InvalidValue):
                removed += own.delete(["a"])
        own.close()
        return removed

    with ThreadPoolExecutor(2) as pool:
        added, deleted = pool.submit(enrol), pool.submit(delete)
        added.result()
        removed = deleted.result()
    assert removed > 0
    assert store.counts().references == 60 - removed
    assert store.verify() == ()


def test_threads_share_a_store(store: PostgresStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: (store.add(people(f"p{i}", i)), store.counts()), range(20)))
    assert store.counts() == Counts(20, 20)


def test_two_that_create_at_once(database: str) -> None:
    start = threading.Barrier(3)

    def create(_: int) -> str:
        start.wait()
        try:
            PostgresStore.create(database, settings()).close()
        except StorageError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(3) as pool:
        told = sorted(pool.map(create, range(3)))
    assert told[0] == ""
    assert all("is there already" in text for text in told[1:])
