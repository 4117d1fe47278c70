"""What every engine must do, done by the PostgreSQL engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test
from store_checks import CHECKS, NARROW, WIDE
from store_machine import StoreMachine

from probface.gallery.engines.postgres import PostgresStore
from probface.gallery.records import GallerySettings
from probface.gallery.store import Store


@pytest.fixture(params=[NARROW, WIDE], ids=["one variance", "D variances"])
def store(request: pytest.FixtureRequest, database: str) -> Iterator[Store]:
    with closing(PostgresStore.create(database, request.param)) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_protocol(check: Callable[[Store], None], store: Store) -> None:
    check(store)


def test_any_order_of_calls(database: str) -> None:
    numbers = itertools.count()

    class Machine(StoreMachine):
        def make(self) -> Store:
            self.name = f"g{next(numbers)}"
            return PostgresStore.create(database, NARROW, self.name)

        def again(self, store: Store) -> Store:
            store.close()
            return PostgresStore.open(database, self.name)

    run_state_machine_as_test(
        Machine,
        settings=hypothesis.settings(max_examples=15, stateful_step_count=20, deadline=None, derandomize=True),
    )


def test_settings_come_back(database: str) -> None:
    for name, made in (("a", NARROW), ("b", WIDE), ("c", GallerySettings(NARROW.model))):
        PostgresStore.create(database, made, name).close()
        with closing(PostgresStore.open(database, name)) as store:
            assert store.settings == made
