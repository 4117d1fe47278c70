"""What is killed: forks processes that enrol and delete, and write a line before and after each call.

    python sqlite_worker.py GALLERY JOURNAL

Reads seeds, a line each; forks two processes of two threads, answers with their process ids, waits for their end and
says so. Python and numpy are loaded once, so that hundreds of kills take a minute or two.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from store_checks import new

from probface.errors import ProbFaceError
from probface.gallery.engines.sqlite import SqliteStore


def work(store: SqliteStore, journal: int, owner: str, seed: int) -> None:
    """Change one's own people at random, for ever."""

    def tell(*words: object) -> None:
        os.write(journal, (" ".join(map(str, (owner, *words))) + "\n").encode())  # appended whole

    chance = np.random.default_rng([seed, *owner.encode()])
    there = {one.name for one in store.identities() if one.name.startswith(owner)}
    try:
        while True:
            name = f"{owner}-{chance.integers(4)}"
            if name in there and chance.random() < 0.4:
                tell("delete", name)
                store.delete([name])
                there.discard(name)
            else:
                number, rows = int(chance.integers(10**9)), int(chance.integers(1, 4))
                tell("add", name, number, rows)
                store.add(new(store, number, *[name] * rows))
                there.add(name)
            tell("done")
    except ProbFaceError as error:
        tell("error", error)


def process(gallery: Path, journal: Path, number: int, seed: int) -> None:
    """Two threads on one store."""
    handle = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    store = SqliteStore.open(gallery)
    for thread in range(2):
        threading.Thread(target=work, args=(store, handle, f"p{number}t{thread}", seed)).start()


def main() -> None:
    gallery, journal = map(Path, sys.argv[1:])
    for seed in sys.stdin:
        children = []
        for number in range(2):
            child = os.fork()
            if child == 0:
                process(gallery, journal, number, int(seed))
                threading.Event().wait()  # until killed
            children.append(child)
        sys.stdout.write(f"{children[0]} {children[1]}\n")
        sys.stdout.flush()
        for child in children:
            os.waitpid(child, 0)
        sys.stdout.write("ended\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
