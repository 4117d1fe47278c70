"""Any order of calls against a plain model in memory: a hypothesis machine that an engine's tests give stores to.

class Machine(StoreMachine):
    def make(self) -> Store: ...       an empty gallery of NARROW
    def again(self, store) -> Store: ...  the same gallery, opened anew; the old store is closed by it
TestMachine = Machine.TestCase
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_checks import OTHER_MODEL, new, whole

from probface.gallery.records import NewReferences
from probface.gallery.store import Store

NAMES = st.sampled_from(["Ann", "Bo", "Cy", "Dé", "E e"])


class StoreMachine(RuleBasedStateMachine):
    """A store, a model of it, and a follower that knows of it only what changes() tells."""

    def make(self) -> Store:
        raise NotImplementedError

    def again(self, store: Store) -> Store:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.store = self.make()
        self.people: dict[str, list[bytes]] = {}
        self.seed = 0
        self.migrating = False
        self.seen: dict[int, list[bytes]] = {}
        self.last_seen = 0
        self.generation = self.store.generation()

    @rule(names=st.lists(NAMES, min_size=1, max_size=4))
    def add(self, names: list[str]) -> None:
        self.seed += 1
        rows: NewReferences = new(self.store, self.seed, *names)
        self.store.add(rows)
        for name, mu in zip(names, rows.embeddings.mu, strict=True):
            self.people.setdefault(name, []).append(mu.tobytes())

    @rule(names=st.sets(NAMES, min_size=1, max_size=3))
    def delete(self, names: set[str]) -> None:
        there = [name for name in names if name in self.people]
        removed = self.store.delete(there)
        assert removed == sum(len(self.people.pop(name)) for name in there)

    @rule(part=st.integers(1, 5))
    def migrate(self, part: int) -> None:
        if self.store.settings.model == OTHER_MODEL:
            return
        self.store.begin_migration(OTHER_MODEL)
        pending = self.store.pending(limit=part)
        self.seed += 1
        rows = new(self.store, self.seed, *(one.name for one in pending), model=OTHER_MODEL)
        if pending:
            self.store.put_migrated([one.reference for one in pending], rows)

    @rule(finish=st.booleans())
    def end_migration(self, finish: bool) -> None:
        if not finish or self.store.settings.model == OTHER_MODEL or self.store.pending(limit=1):
            self.store.abandon_migration()
            return
        self.store.begin_migration(OTHER_MODEL)
        if self.store.pending(limit=1):
            return
        self.store.finish_migration()
        sizes = {name: len(vectors) for name, vectors in self.people.items()}
        self.people = self.stored()  # the vectors are new; who they belong to is not
        assert {name: len(vectors) for name, vectors in self.people.items()} == sizes

    @rule()
    def open_again(self) -> None:
        self.store = self.again(self.store)

    @rule()
    def follow(self) -> None:
        changes = self.store.changes(self.generation)
        if changes.identities is None:
            self.seen, self.last_seen = {}, 0
        else:
            for identity in changes.identities:
                self.seen.pop(identity, None)
            block = self.store.fetch(sorted(changes.identities))
            for identity, mu in zip(block.identities.tolist(), block.mu, strict=True):
                self.seen.setdefault(identity, []).append(mu.tobytes())
        for block in self.store.scan(after_identity=self.last_seen, rows=3):
            for identity, mu in zip(block.identities.tolist(), block.mu, strict=True):
                self.seen.setdefault(identity, []).append(mu.tobytes())
                self.last_seen = max(self.last_seen, identity)
        self.generation = changes.generation
        names = self.store.names(list(self.seen))
        assert {names[identity]: vectors for identity, vectors in self.seen.items()} == self.people

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert self.stored() == self.people
        assert self.store.stamp(self.generation) is not None or self.store.changes(self.generation).identities is None
        counts = self.store.counts()
        assert counts.identities == len(self.people)
        assert counts.references == sum(map(len, self.people.values()))

    def stored(self) -> dict[str, list[bytes]]:
        block = whole(self.store)
        names = self.store.names(np.unique(block.identities).tolist())
        found: dict[str, list[bytes]] = {}
        for identity, mu in zip(block.identities.tolist(), block.mu, strict=True):
            found.setdefault(names[identity], []).append(mu.tobytes())
        return found

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store.verify() == ()
            self.store.close()
