import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from store_checks import CHECKS, NARROW, WIDE
from store_machine import StoreMachine

from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.records import GallerySettings
from probface.gallery.store import Store


@pytest.fixture(params=[NARROW, WIDE], ids=["one variance", "D variances"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with closing(SqliteStore.create(tmp_path / "gallery.db", request.param)) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_protocol(check: Callable[[Store], None], store: Store) -> None:
    check(store)


def test_any_order_of_calls() -> None:
    class Machine(StoreMachine):
        def make(self) -> Store:
            self.folder = tempfile.TemporaryDirectory()
            self.path = Path(self.folder.name) / "gallery.db"
            return SqliteStore.create(self.path, NARROW)

        def again(self, store: Store) -> Store:
            store.close()
            return SqliteStore.open(self.path)

        def teardown(self) -> None:
            super().teardown()
            self.folder.cleanup()

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None, derandomize=True)
    )


def test_settings_come_back(tmp_path: Path) -> None:
    for number, made in enumerate((NARROW, WIDE, GallerySettings(NARROW.model))):
        path = tmp_path / f"{number}.db"
        SqliteStore.create(path, made).close()
        with closing(SqliteStore.open(path)) as store:
            assert store.settings == made
            assert store.location == str(path)
