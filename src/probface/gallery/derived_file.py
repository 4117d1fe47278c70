"""The derived index of a gallery file: one file beside it, taken as it is, erased in, replaced, or made anew.

It holds nothing that the gallery does not, so whatever is wrong with it, removing it is the mend. What must never
happen is that it keeps the vector of somebody who is deleted, without anybody knowing:

- Its generation is that of the gallery when it was made, and stays so. A deletion commits in the gallery first, and is
  then erased here. A crash between the two leaves a file that is behind: whoever opens the gallery next sees that by
  the generation, asks what has changed, and erases it. The other order would be worse: a crash after erasing would
  leave people enrolled whom no search finds, and a search that runs meanwhile would meet erased rows of people who are
  still there; in this order an erased row belongs to a name that is gone, which the search drops.
- While rows are erased the file is out of its place, in a folder that counts as rubbish. Power that fails meanwhile
  leaves no half-erased index that looks whole.
- An index that was made from an older picture than a deletion is put in its place under the same lock that deletions
  hold, after what was deleted since is erased from it.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, ProbFaceError, StorageError
from probface.gallery.index_form import check_form
from probface.gallery.records import GallerySettings
from probface.gallery.store import Store
from probface.gallery.template_rows import Ids, rows_of
from probface.match import index_file
from probface.match.exact import SearchIndex
from probface.storage import storage_errors

LOCK_SECONDS = 30.0
"""How long a deletion waits for another one in the same folder."""
VERSION = 1
"""Of what stands beside the search index in the file."""


def index_path(gallery: Path) -> Path:
    """Where the index of a gallery file is."""
    return gallery.with_name(f"{gallery.name}.index")


def meta_of(settings: GallerySettings, generation: int, highest: int, stamp: str | None) -> dict[str, Any]:
    """What the file says of itself: what it was derived from, and how."""
    return {
        "version": VERSION,
        "model": settings.model.digest,
        "templates": settings.templates,
        "estimator": settings.estimator,
        "generation": generation,
        "stamp": stamp,
        "highest": highest,
    }


def open_index(path: Path, settings: GallerySettings) -> SearchIndex:
    """Map the index, if it was derived as the settings say and nothing in it can lead the search astray.

    Raises:
        DataError: there is none, or not of this gallery's model and templates, or its form is damaged.
    """
    try:
        arrays, header = index_file.read(path)
        index = SearchIndex.open(path)
        meta = header["meta"]
        told = meta_of(settings, meta["generation"], meta["highest"], meta["stamp"])
        if (
            told != meta
            or index.meta != meta
            or not all(isinstance(meta[key], int) for key in ("generation", "highest"))
            or not isinstance(meta["stamp"], str)
        ):
            raise DataError(f"{path}: an index of another model, other templates or another version")
        check_form(path, index, arrays["order"], settings)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: a damaged index ({error})") from error
    return index


def publish(
    path: Path, index: SearchIndex, meta: Mapping[str, Any], extra: Mapping[str, NDArray[Any]], store: Store
) -> bool:
    """Put an index in its place, readable by its owner alone; False where the folder or the moment does not let it.

    It is never awaited: while somebody deletes, a search that needs this index should not stand still.
    """
    try:
        with _aside(path) as folder:
            made = folder / path.name
            index.save(made, meta=meta, extra=extra)
            made.chmod(0o600)
            _sync(made)
            with folder_lock(path.parent, wait=False) as locked:
                if not locked or not _erase_deleted(made, store):
                    return False
                made.replace(path)
        _sync(path.parent)
    except (OSError, ProbFaceError):
        return False
    return True


def erase_deleted(path: Path, store: Store) -> None:
    """Erase what the store has deleted since the index was made; remove the index where that cannot be told.

    The caller holds :func:`folder_lock`.

    Raises:
        StorageError: the file can be neither changed nor removed.
    """
    remove_leftovers(path)
    if not path.exists():
        return
    try:
        if not len(_deleted_rows(path, store)):
            return
        with _aside(path) as folder:
            made = folder / path.name
            path.replace(made)
            _sync(path.parent)
            _sync(folder)
            if _erase_deleted(made, store):
                made.replace(path)
    except (OSError, ProbFaceError):  # no index is better than one that holds them
        remove(path)


def remove(path: Path) -> None:
    """Remove the index.

    Raises:
        StorageError: it cannot be.
    """
    with storage_errors(path, "it holds vectors of people who are deleted: remove it"):
        path.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Refuse a place where something else stands.

    Raises:
        StorageError: a folder, or a file that is no index.
    """
    if path.exists() and not (path.is_file() and index_file.is_ours(path)):
        raise StorageError(f"{path}: is not an index of ProbFace, and stands where one must be; move it away")


def remove_leftovers(path: Path) -> None:
    """Remove what a process that was killed left of building or erasing.

    One that is building just now finds its work gone, and keeps its index in memory.
    """
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def folder_lock(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a gallery's folder, which deletions and those who replace an index take; whether it was had.

    Where the system or the file system has no such lock, it counts as had: then a deletion and the end of a rebuild may
    cross, and the next one to open the gallery erases.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows; a folder that may be entered and not be listed
        yield True
        return
    locked, patience = False, time.monotonic() + (LOCK_SECONDS if wait else 0)
    try:
        while not locked:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = True
            except BlockingIOError:
                if time.monotonic() >= patience:
                    break
                time.sleep(0.01)
            except OSError:  # a network's file system without locks
                locked = True
        if wait and not locked:
            raise StorageError(
                f"{folder}: locked by another process for {LOCK_SECONDS:g} s, nothing was deleted; wait, or end it"
            )
        yield locked
    finally:
        os.close(handle)


def _deleted_rows(path: Path, store: Store) -> Ids:
    """Rows of deleted identities that are not erased yet.

    Raises:
        DataError: what was deleted cannot be told.
    """
    index = open_index(path, store.settings)
    changed = store.changes(index.meta["generation"]).identities
    if changed is None or store.stamp(index.meta["generation"]) != index.meta["stamp"]:
        raise DataError(f"{path}: older than what the gallery remembers of its changes, or of another gallery")
    identities = index.extra["identities"]
    rows = rows_of(identities, np.array(sorted(changed), np.int64))
    rows = rows[index.references.mu[rows].any(axis=1)]  # erased rows are 0, and no vector of unit length is
    names = store.names(np.unique(identities[rows]).tolist())
    return rows[~np.isin(identities[rows], np.array(list(names), np.int64))]


def _erase_deleted(path: Path, store: Store) -> bool:
    """False where it cannot be told what was deleted."""
    try:
        rows = _deleted_rows(path, store)
    except DataError:
        return False
    if len(rows):
        index_file.erase_rows(path, rows)
    return True


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A folder beside the index that only the owner can enter, and that anybody removes who finds it later."""
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """See a file, or the names in a folder, through to the disk."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
