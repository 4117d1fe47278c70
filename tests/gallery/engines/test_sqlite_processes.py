"""Several processes on one gallery, and processes that are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from store_checks import NARROW, OTHER_MODEL, new, random_embeddings, whole

from probface.errors import StorageError
from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.records import ModelBinding

WORKER = Path(__file__).with_name("sqlite_worker.py")
People = dict[str, list[bytes]]


@contextmanager
def worker(gallery: Path, journal: Path) -> Iterator["subprocess.Popen[str]"]:
    run = [sys.executable, str(WORKER), str(gallery), str(journal)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()
        assert started.wait(30) == 0


def run_and_kill(started: "subprocess.Popen[str]", seed: int) -> None:
    """Start two processes, kill one at a random moment and the other at the same or a little later."""
    assert started.stdin is not None
    assert started.stdout is not None
    chance = np.random.default_rng(seed)
    started.stdin.write(f"{seed}\n")
    started.stdin.flush()
    children = [int(word) for word in started.stdout.readline().split()]
    chance.shuffle(children)
    time.sleep(chance.uniform(0, 0.15))
    os.kill(children[0], signal.SIGKILL)
    time.sleep(chance.choice([0, 0.02, 0.05]))
    os.kill(children[1], signal.SIGKILL)
    assert started.stdout.readline() == "ended\n"


def vectors(number: int, rows: int, dim_of: ModelBinding) -> list[bytes]:
    return [mu.tobytes() for mu in random_embeddings(number, rows, dim_of).mu]


def replayed(people: People, journal: str) -> tuple[People, dict[str, list[bytes] | None], int]:
    """Who must be there by the journal; what else may be true of the names with a call in flight; finished calls."""
    promised = {name: list(references) for name, references in people.items()}
    begun: dict[str, list[str]] = {}
    finished = 0
    for line in journal.splitlines():
        owner, verb, *rest = line.split(" ")
        assert verb != "error", line
        if verb == "done":
            call, name, *numbers = begun.pop(owner)
            if call == "delete":
                del promised[name]
            else:
                promised.setdefault(name, []).extend(vectors(*map(int, numbers), NARROW.model))
            finished += 1
        else:
            begun[owner] = [verb, *rest]
    in_flight: dict[str, list[bytes] | None] = {}
    for call, name, *numbers in begun.values():
        after = None if call == "delete" else promised.get(name, []) + vectors(*map(int, numbers), NARROW.model)
        in_flight[name] = after
    return promised, in_flight, finished


def stored(store: SqliteStore) -> People:
    block = whole(store, rows=1000)
    names = store.names(block.identities.tolist())
    people: People = {}
    for identity, mu in zip(block.identities.tolist(), block.mu, strict=True):
        people.setdefault(names[identity], []).append(mu.tobytes())
    return people


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(tmp_path: Path, kills: int) -> None:
    path, journal = tmp_path / "gallery.db", tmp_path / "journal"
    SqliteStore.create(path, NARROW).close()
    people: People = {}
    calls = interrupted = 0
    with worker(path, journal) as started:
        for seed in range(kills):
            run_and_kill(started, seed)
            lines = journal.read_text() if journal.exists() else ""
            journal.unlink(missing_ok=True)
            promised, in_flight, finished = replayed(people, lines)
            with closing(SqliteStore.open(path)) as store:
                assert store.verify() == ()
                people = stored(store)
            for name in people.keys() | promised.keys():
                allowed = [promised.get(name), in_flight.get(name, promised.get(name))]
                assert people.get(name) in allowed, (seed, name)
            calls += finished
            interrupted += len(in_flight)
    assert calls > 3 * kills  # the kills met processes at work
    assert interrupted > kills


CREATOR = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from probface.errors import StorageError
from probface.gallery.engines.sqlite import SqliteStore
from store_checks import NARROW, new
sys.stdout.write("ready\\n"), sys.stdout.flush(), sys.stdin.readline()
try:
    store = SqliteStore.create(Path(sys.argv[1]), NARROW)
except StorageError as error:
    print(error)
else:
    store.add(new(store, 1, "A"))
    print("made")
"""


def creators(path: Path, number: int) -> list["subprocess.Popen[str]"]:
    run = [sys.executable, "-c", CREATOR, str(path), str(WORKER.parents[1])]
    started = [subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    for one in started:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    return started


def test_two_processes_make_the_same_gallery(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    for round_ in range(3):
        started = creators(path, 2)
        for one in started:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        said = sorted(one.communicate(timeout=30)[0].strip() for one in started)
        assert said[0].endswith("is there already; open it, or choose another name"), round_
        assert said[1] == "made"
        with closing(SqliteStore.open(path)) as store:
            assert store.verify() == ()
            assert [one.name for one in store.identities()] == ["A"]
        path.unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_creation_that_is_killed(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    made = 0
    for number in range(12):
        path = tmp_path / f"{number}.db"
        (one,) = creators(path, 1)
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
        time.sleep(chance.uniform(0, 0.03))
        one.kill()
        one.communicate()
        if path.exists():
            made += 1
            with closing(SqliteStore.open(path)) as store:
                assert store.verify() == ()
                assert store.settings == NARROW
        else:
            SqliteStore.create(path, NARROW).close()  # nothing that was left is in the way
    assert made < 12


def test_threads_share_a_store(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def work(store: SqliteStore, owner: str) -> None:
        try:
            for round_ in range(15):
                store.add(new(store, round_, f"{owner} {round_}", f"{owner} {round_ - 1}"))
                assert len(store.references(f"{owner} {round_}")) == 1
                assert store.counts().identities > 0
                for block in store.scan(rows=7):
                    assert len(block)
                store.delete([f"{owner} {round_ - 1}"], compact=False)
        except Exception as error:  # noqa: BLE001 (told to the test below)
            errors.append(error)

    with closing(SqliteStore.create(tmp_path / "gallery.db", NARROW)) as store:
        threads = [Thread(target=work, args=(store, f"t{number}")) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert sorted(one.name for one in store.identities()) == [f"t{number} 14" for number in range(4)]
        assert store.verify() == ()


def test_a_gallery_that_another_process_migrates(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    with closing(SqliteStore.create(path, NARROW)) as server, closing(SqliteStore.open(path)) as other:
        server.add(new(server, 1, "A"))
        generation = server.generation()
        other.begin_migration(OTHER_MODEL)
        other.put_migrated([1], new(other, 2, "A", model=OTHER_MODEL))
        other.finish_migration()
        assert server.changes(generation).identities is None
        for act in (lambda: server.add(new(server, 3, "B")), lambda: list(server.scan()), lambda: server.fetch([1])):
            with pytest.raises(
                StorageError, match=r"was migrated to model 'other' \(cccccccccccc\) by another process"
            ):
                act()
        assert server.counts().references == 1
