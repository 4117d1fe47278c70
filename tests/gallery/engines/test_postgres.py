"""The protocol over a real server: what goes in comes out, all or none, and what changed is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from postgres_galleries import binding, faces, people, settings

from probface.errors import InvalidValue, NotWiped, StorageError
from probface.gallery.engines.postgres import PostgresStore
from probface.gallery.records import NewReferences
from probface.gallery.store import Changes, Counts, Store

Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    made = PostgresStore.create(database, settings(keep_images=True))
    yield made
    made.close()


def test_it_keeps_the_protocol(store: PostgresStore) -> None:
    kept: Store = store
    assert kept.counts() == Counts(0, 0)
    assert kept.generation() == 0
    assert list(kept.scan()) == []
    assert kept.verify() == ()


@pytest.mark.parametrize("width", [1, 512])
def test_every_bit_of_a_vector_comes_back(database: str, width: int) -> None:
    rng = np.random.default_rng(3)
    new = people(" ".join(f"p{i}" for i in range(50)), 1, 512, width)
    new.embeddings.mu[0, :4] = [1e-42, -1e-38, -0.0, 1e-20]  # subnormal, tiny, and minus nothing
    new.embeddings.sigma_sq[:] = np.exp(rng.uniform(-20, 20, (50, width))).astype(np.float32)
    store = PostgresStore.create(database, settings(512, width))
    store.add(new)
    blocks = list(store.scan(rows=7))
    fetched = store.fetch([int(i) for i in np.concatenate([part.identities for part in blocks])])
    store.close()
    assert [len(part) for part in blocks] == [7] * 7 + [1]
    mu, sigma_sq = (np.concatenate([getattr(part, name) for part in blocks]) for name in ("mu", "sigma_sq"))
    for found, wanted in ((mu, new.embeddings.mu), (sigma_sq, new.embeddings.sigma_sq)):
        assert found.dtype == np.float32
        assert found.tobytes() == wanted.tobytes()
    assert fetched.mu.tobytes() == new.embeddings.mu.tobytes()
    assert fetched.sigma_sq.tobytes() == new.embeddings.sigma_sq.tobytes()


def test_what_is_known_of_a_reference_comes_back(store: PostgresStore) -> None:
    sources = ("a/b.jpg", "bad\udcff.jpg", "zero\0byte", "Größe/写真.png")
    new = NewReferences(
        ("Ann", "Bo", "Ann", "Ann"),
        faces(1, 4),
        np.array([0, 100, -1, 55]),
        sources,
        ("aa", "", "bb", "cc"),
        (b"\0\xff", None, None, b"x" * 50_000),
    )
    before = datetime.now(UTC) - timedelta(seconds=5)
    store.add(new)
    ann = store.references("Ann")
    assert [found.id for found in ann] == [1, 3, 4]
    assert [found.source for found in ann] == [sources[0], *sources[2:]]
    assert store.references("Bo")[0].source == sources[1]
    assert [found.source_digest for found in ann] == ["aa", "bb", "cc"]
    assert [found.quality for found in ann] == [0, -1, 55]
    assert [found.image_kept for found in ann] == [True, False, True]
    assert [found.sigma_sq for found in ann] == new.embeddings.sigma_sq[[0, 2, 3], 0].tolist()
    assert all(before < found.enrolled < datetime.now(UTC) + timedelta(seconds=5) for found in ann)
    assert ann[0].enrolled.tzinfo is UTC
    with pytest.raises(InvalidValue, match="is not in the gallery; ask for its names"):
        store.references("Nobody")


def test_identities_come_in_the_order_of_code_points(store: PostgresStore, ask: Ask) -> None:
    names = ["Zoë", "adam", "Ärger", "Zoe", "写真", "a b", "𝔸", "\ufb01n"]
    store.add(NewReferences.unlabelled((*names, "adam"), faces(1, 9)))
    listed = list(store.identities())
    assert [found.name for found in listed] == sorted(names)
    assert {found.name: found.references for found in listed} == dict.fromkeys(names, 1) | {"adam": 2}
    assert [found.name for found in store.identities(after="adam", limit=2)] == sorted(names)[4:6]
    assert list(store.identities(limit=0)) == []
    # It must not hang on the language that the database was made with; the test server knows no other.
    query = (
        "SELECT collname FROM pg_attribute JOIN pg_collation c ON c.oid = attcollation WHERE attrelid = %s::regclass"
    )
    assert ask(query, "probface_default.identity") == [("C",)]


def test_listing_goes_over_pages(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probface.gallery.engines.paging.PAGE", 3)
    store.add(people("a b c d e f g"))
    assert "".join(found.name for found in store.identities()) == "abcdefg"
    assert "".join(found.name for found in store.identities(limit=5)) == "abcde"


def test_ids_ascend_and_are_never_used_again(store: PostgresStore) -> None:
    store.add(people("a b"))
    assert store.delete(["b", "b"]) == 1
    store.add(people("b c", 1))
    assert [(found.id, found.name) for found in store.identities()] == [(1, "a"), (3, "b"), (4, "c")]
    assert store.references("b")[0].id == 3
    assert [part.ids.tolist() for part in store.scan(after_identity=1)] == [[3, 4]]


def test_changes_name_those_who_were_there(store: PostgresStore) -> None:
    store.add(people("a b"))  # generation 1: identities 1, 2
    store.add(people("c a", 1))  # 2: 1 gains, 3 is new
    store.add(people("c", 2))  # 3: 3 gains
    store.delete(["b"])  # 4: 2 goes
    assert store.generation() == 4
    assert store.changes(4) == Changes(4, frozenset())
    assert store.changes(3) == Changes(4, frozenset({2}))
    assert store.changes(2) == Changes(4, frozenset({2, 3}))
    assert store.changes(1) == Changes(4, frozenset({1, 2}))
    assert store.changes(0) == Changes(4, frozenset())
    assert store.changes(5).identities is None
    assert store.changes(-1).identities is None
    store.add(NewReferences.unlabelled((), faces(0, 0)))
    assert store.delete([]) == 0
    assert store.generation() == 4


def test_the_log_of_changes_is_cut(store: PostgresStore, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probface.gallery.engines.postgres_write.LOG_GENERATIONS", 3)
    for seed in range(6):
        store.add(people("a", seed))
    assert store.changes(2).identities is None
    assert store.changes(3) == Changes(6, frozenset({1}))
    assert ask("SELECT count(*) FROM change") == [(3,)]
    assert [store.stamp(generation) is None for generation in range(7)] == [True] * 3 + [False] * 4


def test_a_deletion_of_somebody_unknown_deletes_nobody(store: PostgresStore) -> None:
    store.add(people("a b"))
    with pytest.raises(InvalidValue, match="'x' and 1 more: not in the gallery"):
        store.delete(["a", "x", "y"])
    assert store.counts() == Counts(2, 2)
    assert store.generation() == 1


def on_disk(postgres_server: Any, ask: Ask) -> bytes:
    """The files of all tables, with their side tables."""
    ask("CHECKPOINT")
    paths = ask(
        "SELECT pg_relation_filepath(oid), pg_relation_filepath(nullif(reltoastrelid, 0)) FROM pg_class "
        "WHERE relname IN ('identity', 'reference', 'image', 'embedding') AND relkind = 'r'"
    )
    files = [postgres_server.pgdata / path for pair in paths for path in pair if path is not None]
    assert len(files) >= 4
    return b"".join(file.read_bytes() for file in files)


def test_a_deletion_frees_the_space_and_a_rewrite_wipes_it(
    postgres_server: Any, store: PostgresStore, ask: Ask
) -> None:
    secrets = [f"secret-{i:02}".encode() for i in range(40)]
    new = people(" ".join(f"p{i}" for i in range(40)))
    sources = tuple(secret.decode() for secret in secrets)
    store.add(
        NewReferences(new.names, new.embeddings, new.quality, sources, ("d",) * 40, tuple(s * 999 for s in secrets))
    )
    vector = new.embeddings.mu[39].tobytes()
    before = on_disk(postgres_server, ask)
    assert all(secret in before for secret in secrets)
    assert vector in before
    size = ask("SELECT pg_table_size('image')")[0][0]
    assert store.delete(list(new.names[1:])) == 39
    for table in ("identity", "reference", "image", "embedding"):
        assert ask(f"SELECT count(*) FROM {table}") == [(1,)]  # noqa: S608
    assert ask("SELECT pg_table_size('image')")[0][0] < size / 4  # only VACUUM gives pages back
    store.rewrite()
    after = on_disk(postgres_server, ask)
    assert secrets[0] in after
    assert not any(secret in after for secret in secrets[1:])
    assert vector not in after
    assert store.verify() == ()


def test_widths_of_another_model_are_refused(store: PostgresStore) -> None:
    for new in (people("a", 0, 9), people("a", 0, 8, 8)):
        with pytest.raises(InvalidValue, match="model 'tiny' gives 8 and 1; use embeddings of that model"):
            store.add(new)
    assert store.counts() == Counts(0, 0)


def test_a_scan_shows_one_state(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probface.gallery.engines.postgres_vacuum.HELD_SECONDS", 0.1)
    store.add(people("a b c d"))
    scan = store.scan(rows=2)
    first = next(scan)
    with pytest.raises(NotWiped, match="an older transaction may still see"):  # the scan's
        store.delete(["c"])
    store.add(people("a e", 1))
    rest = list(scan)
    assert [part.ids.tolist() for part in [first, *rest]] == [[1, 2], [3, 4]]
    assert [part.ids.tolist() for part in store.scan()] == [[1, 5, 2, 4, 6]]
    with pytest.raises(InvalidValue, match="0 rows to a block"):
        next(store.scan(rows=0))


def test_galleries_of_one_database_are_apart(database: str, store: PostgresStore) -> None:
    other = PostgresStore.create(database, settings(3), "two")
    store.add(people("a b"))
    other.add(people("a", 1, 3))
    assert (store.counts(), other.counts()) == (Counts(2, 2), Counts(1, 1))
    other.close()
    with pytest.raises(StorageError, match="is there already; open it"):
        PostgresStore.create(database, settings(), "two")
    with pytest.raises(StorageError, match="no such gallery; this database has default, two"):
        PostgresStore.open(database, "three")


def test_a_gallery_is_opened_as_it_was_made(database: str) -> None:
    made = PostgresStore.create(database, settings(5, 5, keep_images=True), "g")
    made.close()
    opened = PostgresStore.open(database, "g")
    assert opened.settings == settings(5, 5, keep_images=True)
    assert opened.location == made.location
    opened.close()
    with pytest.raises(StorageError, match="was closed"):
        opened.counts()


def test_a_gallery_opened_to_read_only(database: str, store: PostgresStore) -> None:
    store.add(people("a b"))
    reader = PostgresStore.open(database, read_only=True)
    assert reader.counts() == Counts(2, 2)
    assert [len(part) for part in reader.scan()] == [2]
    writes = (lambda: reader.add(people("c")), lambda: reader.delete(["a"]), reader.rewrite, reader.abandon_migration)
    for write in writes:
        with pytest.raises(StorageError, match="opened to read only"):
            write()
    reader.close()
    assert store.counts() == Counts(2, 2)


def test_a_migration_replaces_every_vector(database: str, store: PostgresStore, tmp_path: Path) -> None:
    new = people("a b c")
    store.add(NewReferences(new.names, new.embeddings, new.quality, ("x", "y", "z"), ("",) * 3, (b"1", None, None)))
    other = PostgresStore.open(database)
    target = binding(4, 4, "next")
    store.begin_migration(target)
    with pytest.raises(InvalidValue, match="one to 'next' is under way"):
        store.begin_migration(binding(4, 4, "third"))
    assert [(p.reference, p.name, p.source, p.image) for p in store.pending(limit=2)] == [
        (1, "a", "x", b"1"),
        (2, "b", "y", None),
    ]
    vectors = people("a b c d", 5, 4, 4)
    store.put_migrated([1], NewReferences.unlabelled(("a",), vectors.embeddings[:1]))
    store.mark_missing([1, 2])  # 1 is embedded already
    assert [p.reference for p in store.missing()] == [2]
    assert [p.reference for p in store.pending(limit=9)] == [3]
    store.add(people("d", 7))  # enrolled while the migration is under way
    with pytest.raises(InvalidValue, match="2 references are pending and 1 are missing"):
        store.finish_migration()
    store.begin_migration(target)  # goes on, and asks for the missing one again
    assert [p.reference for p in store.pending(limit=9)] == [2, 3, 4]
    with pytest.raises(InvalidValue, match="gives 4 and 4; use embeddings"):
        store.put_migrated([2], people("b"))
    store.delete(["c"])
    store.put_migrated([2, 3, 4], NewReferences.unlabelled(("b", "c", "d"), vectors.embeddings[1:]))
    assert store.verify() == ()
    store.finish_migration()
    assert store.settings.model == target
    [part] = store.scan()
    assert part.ids.tolist() == [1, 2, 4]
    assert part.mu.tobytes() == vectors.embeddings.mu[[0, 1, 3]].tobytes()
    assert part.sigma_sq.tobytes() == vectors.embeddings.sigma_sq[[0, 1, 3]].tobytes()
    assert store.changes(store.generation() - 1).identities is None
    assert store.pending(limit=9) == store.missing() == store.verify() == ()
    with pytest.raises(InvalidValue, match="no migration is under way"):
        store.finish_migration()
    for refused in (lambda: other.add(people("e", 1)), lambda: other.fetch([1]), lambda: list(other.scan())):
        with pytest.raises(StorageError, match="was migrated to model 'next'"):
            refused()
    assert other.counts() == Counts(3, 3)
    other.close()
    store.begin_migration(binding(8, 1, "back"))  # the renamed table's names are free again
    store.put_migrated([1], people("a"))
    store.abandon_migration()
    assert [part.mu.shape for part in store.scan()] == [(3, 4)]


def test_verify_finds_what_is_wrong(store: PostgresStore, ask: Ask) -> None:
    store.add(people("a b c"))
    for statement in (
        "DELETE FROM embedding WHERE reference = 1",
        "DELETE FROM reference WHERE id = 2",
        "UPDATE embedding SET mu = '[3,0,0,0,0,0,0,0]', quality = 101 WHERE reference = 3",
        "UPDATE gallery SET last_reference = 0, generation = -1",
        "INSERT INTO change VALUES (7, 1, 1)",
    ):
        ask(statement)
    assert store.verify() == (
        "1 identities have no reference",
        "1 references have no vector",
        "2 identities or references have an id that is still to be given",
        "1 entries of the log of changes are of a generation to come",
        "1 vectors are not of unit length",
        "1 qualities are not in -1..100",
    )


def test_copies_that_go_on_apart_have_other_stamps(admin: Any, database: str, store: PostgresStore) -> None:
    store.add(people("a"))
    store.session._forget()  # a database in use cannot be a template
    name = database.split("?")[0].rsplit("/", 1)[1]
    admin.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
    try:
        copy = PostgresStore.open(database.replace(f"/{name}", f"/{name}_copy"))
        for one in (store, copy):
            one.add(people("b", 1))
        pairs = [(store.stamp(generation), copy.stamp(generation)) for generation in range(3)]
        copy.close()
    finally:
        admin.execute(f"DROP DATABASE {name}_copy WITH (FORCE)")
    assert [one == other for one, other in pairs] == [True, True, False]
    assert None not in pairs[2]
