"""What every engine must do, as plain functions of an empty store; each engine's tests run them all.

@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_protocol(check, store): check(store)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from probface.errors import InvalidValue
from probface.gallery.records import GallerySettings, ModelBinding, NewReferences, ReferenceBlock
from probface.gallery.store import Store
from probface.types import Embeddings

DIM = 8
NARROW = GallerySettings(ModelBinding("narrow", "a" * 64, DIM, 1), keep_images=True)
WIDE = GallerySettings(ModelBinding("wide", "b" * 64, DIM, DIM), "all", "minimum", keep_images=True)
OTHER_MODEL = ModelBinding("other", "c" * 64, 5, 1)


def random_embeddings(seed: int, rows: int, model: ModelBinding) -> Embeddings:
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(rows, model.dim)).astype(np.float32)
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return Embeddings(mu, rng.uniform(0.01, 2, (rows, model.sigma_sq_width)).astype(np.float32))


def new(store: Store, seed: int, *names: str, model: ModelBinding | None = None) -> NewReferences:
    """References with everything that is known of them different in each row; every third without an image."""
    rows = len(names)
    return NewReferences(
        names,
        random_embeddings(seed, rows, model or store.settings.model),
        np.arange(rows, dtype=np.int64) * 7 % 101 - (rows == 1),
        tuple(f"/photos/{seed}/{row} ä.jpg" for row in range(rows)),
        tuple(f"{seed:032x}{row:032x}" for row in range(rows)),
        tuple(None if row % 3 == 2 else f"image {seed} {row}".encode() for row in range(rows)),
    )


def whole(store: Store, rows: int = 3) -> ReferenceBlock:
    """A scan, put together."""
    blocks = list(store.scan(rows=rows))
    assert all(0 < len(block) <= rows for block in blocks)
    width = store.settings.model.sigma_sq_width
    return ReferenceBlock(
        np.concatenate([np.empty(0, np.int64), *(block.ids for block in blocks)]),
        np.concatenate([np.empty(0, np.int64), *(block.identities for block in blocks)]),
        np.concatenate(
            [np.empty((0, store.settings.model.dim), np.float32), *(block.mu for block in blocks)],
        ),
        np.concatenate([np.empty((0, width), np.float32), *(block.sigma_sq for block in blocks)]),
    )


def ids_of(store: Store) -> dict[str, int]:
    return {identity.name: identity.id for identity in store.identities()}


def same_block(one: ReferenceBlock, two: ReferenceBlock) -> bool:
    return all(
        np.array_equal(getattr(one, field), getattr(two, field)) for field in ("ids", "identities", "mu", "sigma_sq")
    )


def check_an_empty_store(store: Store) -> None:
    assert dataclasses.astuple(store.counts()) == (0, 0)
    assert list(store.identities()) == []
    assert list(store.scan()) == []
    block = store.fetch([1, 2])
    assert block.mu.shape == (0, DIM)
    assert block.sigma_sq.shape == (0, store.settings.model.sigma_sq_width)
    assert store.names([1]) == {}
    assert store.delete([]) == 0
    assert store.changes(store.generation()).identities == frozenset()
    assert store.verify() == ()


def check_what_is_added_is_there(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    first = new(store, 1, "Bo", "Ann", "Bo", "Zoé", "Bo")
    store.add(first)
    store.add(new(store, 2, "Ann"))
    assert dataclasses.astuple(store.counts()) == (3, 6)
    summaries = list(store.identities())
    assert [(one.name, one.references) for one in summaries] == [("Ann", 2), ("Bo", 3), ("Zoé", 1)]
    assert all(before <= one.enrolled <= datetime.now(UTC) + timedelta(seconds=5) for one in summaries)
    references = store.references("Bo")
    assert [one.id for one in references] == sorted(one.id for one in references)
    for reference, row in zip(references, (0, 2, 4), strict=True):
        assert reference.source == first.sources[row]
        assert reference.source_digest == first.source_digests[row]
        assert reference.quality == first.quality[row]
        assert reference.image_kept == (first.images[row] is not None)
        assert reference.sigma_sq == pytest.approx(float(first.embeddings.sigma_sq[row].sum()))
        assert reference.enrolled.utcoffset() == timedelta(0)
    with pytest.raises(InvalidValue, match="'Nobody'"):
        store.references("Nobody")
    assert store.verify() == ()


def check_times_of_an_earlier_enrolment_are_kept(store: Store) -> None:
    early, late = datetime(2020, 5, 1, 12, 30, 1, 5, UTC), datetime(2023, 1, 1, tzinfo=UTC)
    store.add(dataclasses.replace(new(store, 1, "Ann", "Ann", "Bo"), enrolled=(late, early, late)))
    assert [reference.enrolled for reference in store.references("Ann")] == [late, early]
    assert {known.name: known.enrolled for known in store.identities()} == {"Ann": early, "Bo": late}
    with pytest.raises(InvalidValue, match="1 times of enrolment: must be 2 with a time zone"):
        dataclasses.replace(new(store, 1, "Ann", "Bo"), enrolled=(late,))


def check_vectors_come_back_bit_for_bit(store: Store) -> None:
    added = new(store, 3, *"dbcadbcab")
    store.add(added)
    ids = ids_of(store)
    block = whole(store)
    assert block.mu.dtype == block.sigma_sq.dtype == np.float32
    assert block.ids.dtype == block.identities.dtype == np.int64
    order = np.lexsort((block.ids, block.identities))
    assert (order == np.arange(9)).all()
    rows = {name: [row for row, other in enumerate(added.names) if other == name] for name in "abcd"}
    for name, identity in ids.items():
        part = store.fetch([identity])
        assert np.array_equal(part.mu, added.embeddings.mu[rows[name]])
        assert np.array_equal(part.sigma_sq, added.embeddings.sigma_sq[rows[name]])
    assert same_block(whole(store, rows=100), block)
    assert same_block(store.fetch([*ids.values(), 10**6]), block)
    later = next(iter(store.scan(after_identity=sorted(ids.values())[1])))
    assert set(later.identities) == set(sorted(ids.values())[2:])


def check_many_rows_at_once(store: Store) -> None:
    for rows in (64, 65, 200):
        added = new(store, rows, *(f"{rows} {row}" for row in range(rows)))
        store.add(added)
        ids = ids_of(store)
        block = store.fetch([ids[name] for name in added.names])
        assert np.array_equal(block.mu, added.embeddings.mu)
        assert np.array_equal(block.sigma_sq, added.embeddings.sigma_sq)
        for row in (0, 63, rows - 1):
            (reference,) = store.references(added.names[row])
            assert reference.source == added.sources[row]
            assert reference.quality == added.quality[row]
            assert reference.image_kept == (row % 3 != 2)


def check_identities_are_paged_in_code_points(store: Store) -> None:
    names = ("a", "B", "b", "ä", "Ω", "é", "e\u0301", "\U0001f600", "\ufb01", "a b", "a'b", 'a"b', "%", "_")
    store.add(new(store, 4, *names))
    everything = [one.name for one in store.identities()]
    assert everything == sorted(names)
    for limit in (0, 1, 3, 100):
        assert [one.name for one in store.identities(limit=limit)] == everything[:limit]
    assert [one.name for one in store.identities(after=everything[4], limit=2)] == everything[5:7]
    ids = ids_of(store)
    assert store.names([ids["ä"], 10**6, ids["%"]]) == {ids["ä"]: "ä", ids["%"]: "%"}


def check_deletion(store: Store) -> None:
    store.add(new(store, 5, "A", "B", "A", "C"))
    ids = ids_of(store)
    kept = store.fetch([ids["C"]])
    with pytest.raises(InvalidValue, match="'Nobody'"):
        store.delete(["A", "Nobody"])
    assert dataclasses.astuple(store.counts()) == (3, 4)
    assert store.delete(["A", "B", "A"]) == 3
    assert list(ids_of(store)) == ["C"]
    assert same_block(whole(store), kept)
    assert store.names(list(ids.values())) == {ids["C"]: "C"}
    assert store.verify() == ()


def check_ids_are_never_used_again(store: Store) -> None:
    store.add(new(store, 6, "A", "B"))
    old = whole(store)
    store.delete(["B", "A"])
    store.add(new(store, 7, "A", "B"))
    assert min(whole(store).ids) > max(old.ids)
    assert min(whole(store).identities) > max(old.identities)


def check_rows_of_another_width_are_refused(store: Store) -> None:
    store.add(new(store, 8, "A"))
    generation, model = store.generation(), store.settings.model
    other_width = 1 if model.sigma_sq_width > 1 else DIM
    for odd in (ModelBinding("m", "", DIM + 1, 1), ModelBinding("m", "", DIM, other_width)):
        with pytest.raises(InvalidValue, match="D = "):
            store.add(new(store, 9, "A", "B", model=odd))
    assert store.generation() == generation
    assert dataclasses.astuple(store.counts()) == (1, 1)


def check_generations_and_changes(store: Store) -> None:
    g0 = store.generation()
    store.add(new(store, 10, "A", "B"))
    g1 = store.generation()
    ids = ids_of(store)
    store.add(new(store, 11, "B", "C", "C"))
    g2 = store.generation()
    ids = ids_of(store)
    store.add(new(store, 12, "C"))
    g3 = store.generation()
    store.delete(["A"])
    g4 = store.generation()
    assert g0 < g1 < g2 < g3 < g4
    expected = {
        g0: set(),  # nobody was there
        g1: {ids["A"], ids["B"]},
        g2: {ids["A"], ids["C"]},
        g3: {ids["A"]},
        g4: set(),
    }
    for since, identities in expected.items():
        changes = store.changes(since)
        assert changes.generation == g4
        assert changes.identities == identities
    assert store.changes(g4 + 1).identities is None  # a backup was put back


def check_stamps(store: Store) -> None:
    generations, acts = (
        [store.generation()],
        (
            lambda: store.add(new(store, 30, "A", "B")),
            lambda: store.add(new(store, 31, "C")),
            lambda: store.delete(["A"]),
        ),
    )
    stamps = [store.stamp(generations[0])]
    for act in acts:
        act()
        generations.append(store.generation())
        stamps.append(store.stamp(generations[-1]))
    assert None not in stamps
    assert len(set(stamps)) == 4
    assert [store.stamp(generation) for generation in generations] == stamps  # they stay
    for never in (generations[-1] + 1, -1, 10**30):
        assert store.stamp(never) is None
    with pytest.raises(InvalidValue):
        store.delete(["A"])
    store.add(new(store, 32))
    assert store.generation() == generations[-1]
    assert store.stamp(generations[-1]) == stamps[-1]
    store.begin_migration(OTHER_MODEL)
    pending = store.pending(limit=9)
    store.put_migrated([one.reference for one in pending], new(store, 33, *"xy", model=OTHER_MODEL))
    assert store.stamp(store.generation()) == stamps[-1]
    store.finish_migration()
    assert store.stamp(store.generation()) not in (None, *stamps)
    assert store.verify() == ()


def check_names_that_cannot_be(store: Store) -> None:
    store.add(new(store, 34, "A"))
    for name in ("\udcff", "a\0b", " a", "x" * 201, "a\nb"):
        for act in (
            lambda name=name: store.references(name),
            lambda name=name: store.delete(["A", name]),
            lambda name=name: list(store.identities(after=name)),
        ):
            with pytest.raises(InvalidValue, match=r"identity name .*: must be 1 to 200 printable characters"):
                act()
    assert dataclasses.astuple(store.counts()) == (1, 1)


def check_a_scan_is_one_picture(store: Store) -> None:
    store.add(new(store, 13, *"abcdefghij"))
    expected = whole(store)
    scan = store.scan(rows=2)
    blocks = [next(scan)]
    store.add(new(store, 14, "a", "x", "y"))
    blocks.extend(scan)
    assert np.array_equal(np.concatenate([block.ids for block in blocks]), expected.ids)
    assert dataclasses.astuple(store.counts()) == (12, 13)


def check_migration(store: Store) -> None:
    added = new(store, 15, "A", "B", "A", "C")
    store.add(added)
    ids, generation, settings = whole(store).ids, store.generation(), store.settings
    store.begin_migration(OTHER_MODEL)
    assert [one.reference for one in store.pending(limit=2)] == sorted(ids)[:2]
    pending = store.pending(limit=100)
    row = {digest: row for row, digest in enumerate(added.source_digests)}
    for one in pending:
        at = row[one.source_digest]
        assert (one.name, one.source, one.image) == (added.names[at], added.sources[at], added.images[at])
    store.put_migrated([pending[0].reference], new(store, 16, "any", model=OTHER_MODEL))
    assert store.generation() == generation
    with pytest.raises(InvalidValue, match="other"):
        store.begin_migration(ModelBinding("yet another", "d" * 64, 6, 1))
    store.begin_migration(OTHER_MODEL)  # goes on
    assert [one.reference for one in store.pending(limit=100)] == [one.reference for one in pending[1:]]
    store.mark_missing([pending[1].reference])
    assert [one.reference for one in store.missing()] == [pending[1].reference]
    assert [one.image for one in store.missing()] == [None]
    store.begin_migration(OTHER_MODEL)  # the file may have come back
    assert [one.reference for one in store.pending(limit=100)] == [one.reference for one in pending[1:]]
    assert store.missing() == ()
    store.mark_missing([pending[1].reference])
    store.add(new(store, 17, "D"))  # by the old model, while the migration is under way
    rest = [one.reference for one in store.pending(limit=100)]
    assert len(rest) == 3
    with pytest.raises(InvalidValue, match="D = "):
        store.put_migrated(rest, new(store, 18, *"xyz"))
    store.put_migrated(rest, new(store, 19, *"xyz", model=OTHER_MODEL))
    with pytest.raises(InvalidValue, match=r"missing|no image"):
        store.finish_migration()
    assert store.settings == settings
    store.put_migrated([pending[1].reference], new(store, 20, "found", model=OTHER_MODEL))
    store.finish_migration()
    assert store.settings == dataclasses.replace(settings, model=OTHER_MODEL)
    assert store.generation() > generation
    assert store.changes(generation).identities is None
    assert sorted(whole(store).ids) == [*sorted(ids), max(ids) + 1]
    found = [one for one in store.references(pending[1].name) if one.id == pending[1].reference]
    assert found[0].source == pending[1].source
    position = np.flatnonzero(whole(store).ids == pending[1].reference)[0]
    assert np.array_equal(whole(store).mu[position], random_embeddings(20, 1, OTHER_MODEL).mu[0])
    assert store.pending(limit=5) == store.missing() == ()
    assert store.verify() == ()


def check_deletion_during_a_migration(store: Store) -> None:
    store.add(new(store, 21, "A", "B", "C"))
    store.begin_migration(OTHER_MODEL)
    first, second, third = (one.reference for one in store.pending(limit=3))
    store.put_migrated([first], new(store, 22, "x", model=OTHER_MODEL))
    store.mark_missing([second])
    store.delete(["A", "B"])
    assert store.missing() == ()
    store.put_migrated([first, third], new(store, 23, "x", "y", model=OTHER_MODEL))  # the first is gone
    assert store.verify() == ()
    store.finish_migration()
    assert whole(store).ids.tolist() == [third]
    assert store.verify() == ()


def check_an_abandoned_migration(store: Store) -> None:
    store.add(new(store, 24, "A", "B"))
    before, generation = whole(store), store.generation()
    store.begin_migration(OTHER_MODEL)
    store.put_migrated([int(before.ids[0])], new(store, 25, "x", model=OTHER_MODEL))
    store.abandon_migration()
    assert store.pending(limit=5) == ()
    with pytest.raises(InvalidValue, match="no migration"):
        store.finish_migration()
    with pytest.raises(InvalidValue, match="no migration"):
        store.put_migrated([int(before.ids[0])], new(store, 26, "x", model=OTHER_MODEL))
    assert same_block(whole(store), before)
    assert store.generation() == generation
    store.begin_migration(ModelBinding("third", "e" * 64, 3, 3))
    assert len(store.pending(limit=5)) == 2


CHECKS: Sequence[Callable[[Store], None]] = (
    check_an_empty_store,
    check_what_is_added_is_there,
    check_times_of_an_earlier_enrolment_are_kept,
    check_vectors_come_back_bit_for_bit,
    check_many_rows_at_once,
    check_identities_are_paged_in_code_points,
    check_deletion,
    check_ids_are_never_used_again,
    check_rows_of_another_width_are_refused,
    check_generations_and_changes,
    check_stamps,
    check_names_that_cannot_be,
    check_a_scan_is_one_picture,
    check_migration,
    check_deletion_during_a_migration,
    check_an_abandoned_migration,
)
