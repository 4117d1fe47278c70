"""One run at a time in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probface.errors import StorageError
from probface.gallery.derived_file import folder_lock
from probface.storage import storage_errors


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Make a folder, and hold it during the block, as far as the system and the file system have such locks.

    The lock is on the folder itself: it leaves no file, and ends with the process that holds it.

    Raises:
        StorageError: another run holds the folder, or it cannot be made.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        made = folder.stat()
    with folder_lock(folder, wait=False) as locked:
        if not (locked and _is_still(folder, made)):
            raise StorageError(f"{folder}: another run is at work there; wait for its end, or choose another output")
        yield


def _is_still(folder: Path, made: os.stat_result) -> bool:
    """Whether nobody took the folder away before it was locked: a lock on what is gone keeps nobody out."""
    try:
        return os.path.samestat(folder.stat(), made)
    except FileNotFoundError:
        return False
