"""What was deleted is nowhere in the gallery's files."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from store_checks import NARROW, OTHER_MODEL, WIDE, new, whole

from probface.errors import NotWiped, StorageError
from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.records import NewReferences

GREP = """
import sys
from pathlib import Path
needles = [bytes.fromhex(line) for line in sys.stdin.read().split()]
content = [path.read_bytes() for path in Path(sys.argv[1]).iterdir()]
print(*(int(any(needle in whole for whole in content)) for needle in needles))
"""

FULL = """
import resource, signal, sys
from pathlib import Path
from probface.errors import NotWiped
from probface.gallery.engines.sqlite import SqliteStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
store = SqliteStore.open(path)
limit = path.stat().st_size * 3 // 4
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    store.delete(["Victim"])
except NotWiped as error:
    print(error)
"""


def found(folder: Path, needles: list[bytes]) -> list[bool]:
    """Which of these are in any file of the folder. In another process: to close a file here drops SQLite's locks."""
    ended = subprocess.run(
        [sys.executable, "-c", GREP, str(folder)],
        input="\n".join(needle.hex() for needle in needles),
        capture_output=True,
        text=True,
        check=True,
    )
    return [word == "1" for word in ended.stdout.split()]


def traces(rows: NewReferences, row: int) -> list[bytes]:
    """All that tells of one reference; of a long image both ends, since it is spread over pages."""
    mu, sigma_sq = rows.embeddings.mu[row].tobytes(), rows.embeddings.sigma_sq[row].tobytes()
    texts = (rows.names[row], rows.sources[row], rows.source_digests[row])
    image = rows.images[row]
    return [
        mu[:16],
        mu[16:],
        sigma_sq,
        *(text.encode() for text in texts),
        *([image[:500], image[-200:]] if image else []),
    ]


def crowd(store: SqliteStore, seed: int, people: int) -> NewReferences:
    """People with one to three references each, and images that need pages of their own."""
    rng = np.random.default_rng(seed)
    names = tuple(f"{seed} person {rng.integers(people)} {'x' * rng.integers(40)}." for _ in range(2 * people))
    rows = new(store, seed, *names)
    images = tuple(rng.bytes(int(rng.integers(10, 9000))) for _ in names)
    rows = dataclasses.replace(rows, images=images)
    store.add(rows)
    return rows


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore.create(tmp_path / "gallery.db", WIDE, busy_seconds=0.3)) as made:
        yield made


def test_no_byte_is_left(store: SqliteStore, tmp_path: Path) -> None:
    crowds = [crowd(store, 1, 60)]
    victims = dataclasses.replace(
        new(store, 2, "Victim One", "Victim Two", "Victim One"),
        images=(b"\xff\xd8 photo 1" * 900, b"\xff\xd8 2", b"3rd"),
    )
    store.add(victims)
    crowds.append(crowd(store, 3, 60))
    needles = [needle for row in range(3) for needle in traces(victims, row)]
    assert all(found(tmp_path, needles))
    assert store.delete(["Victim One", "Victim Two"]) == 3
    assert not any(found(tmp_path, needles))
    crowds.append(crowd(store, 4, 20))
    for rows in crowds:  # the others lost nothing
        assert all(found(tmp_path, [needle for row in range(len(rows)) for needle in traces(rows, row)]))
    assert store.verify() == ()


def test_no_byte_is_left_of_names_that_moved(store: SqliteStore, tmp_path: Path) -> None:
    """Names that come in no order split the pages of their index; secure_delete alone leaves some of them behind."""
    names = [f"N{row * 7919 % 100000:05d}name" for row in range(8000)]
    for first in range(0, len(names), 50):
        store.add(new(store, first, *names[first : first + 50]))
    np.random.default_rng(0).shuffle(names)
    store.delete(names[:4000])
    assert not any(found(tmp_path, [name.encode() for name in names[:4000]]))
    assert all(found(tmp_path, [name.encode() for name in names[4000:]]))


def test_a_reader_in_the_way(store: SqliteStore, tmp_path: Path) -> None:
    victim = new(store, 6, "Victim")
    store.add(victim)
    crowd(store, 7, 10)
    with closing(SqliteStore.open(tmp_path / "gallery.db", read_only=True)) as other:
        scan = other.scan(rows=1)
        next(scan)
        with pytest.raises(
            NotWiped,
            match=r"1 reference is deleted; the old bytes are not wiped yet, since another connection .* run verify",
        ) as raised:
            store.delete(["Victim"])
        assert isinstance(raised.value, StorageError)
        assert raised.value.references == 1
        assert "Victim" not in {identity.name for identity in store.identities()}
        assert any(found(tmp_path, traces(victim, 0)))
        assert [line for line in store.verify() if "bytes of deleted references" in line]
        assert len(list(scan)) == store.counts().references  # the picture is kept to its end
    assert store.verify() == ()  # which wiped it
    assert not any(found(tmp_path, traces(victim, 0)))


def test_a_disk_too_full_to_wipe(tmp_path: Path) -> None:
    """VACUUM needs the room of another gallery: files may not grow beyond what there is."""
    path = tmp_path / "gallery.db"
    with closing(SqliteStore.create(path, WIDE)) as store:
        crowd(store, 12, 100)
        store.add(new(store, 13, "Victim"))
    run = [sys.executable, "-c", FULL, str(path)]
    (line,) = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "gallery.db: 1 reference is deleted; the old bytes are not wiped yet, since " in line
    assert line.endswith("and run verify, which wipes them")
    assert "nothing was changed" not in line
    with closing(SqliteStore.open(path)) as store:
        assert "Victim" not in {identity.name for identity in store.identities()}
        assert store.verify() == ()


def test_the_next_to_open_wipes(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    with closing(SqliteStore.create(path, WIDE)) as store:
        victim = new(store, 8, "Victim")
        store.add(victim)
        crowd(store, 9, 10)
        store.delete(["Victim"], compact=False)
        assert any(found(tmp_path, traces(victim, 0)))
    with closing(SqliteStore.open(path, read_only=True)) as store:
        assert len(store.verify()) == 1
    SqliteStore.open(path).close()
    assert not any(found(tmp_path, traces(victim, 0)))


def test_a_migration_wipes_the_old_vectors(tmp_path: Path) -> None:
    with closing(SqliteStore.create(tmp_path / "gallery.db", NARROW)) as store:
        old = new(store, 10, *"ABCDE")
        store.add(old)
        vectors = [mu.tobytes() for mu in old.embeddings.mu]
        assert all(found(tmp_path, vectors))
        store.begin_migration(OTHER_MODEL)
        pending = [one.reference for one in store.pending(limit=9)]
        store.put_migrated(pending, new(store, 11, *"ABCDE", model=OTHER_MODEL))
        store.finish_migration()
        assert not any(found(tmp_path, vectors))
        assert all(found(tmp_path, [mu.tobytes() for mu in whole(store).mu]))
