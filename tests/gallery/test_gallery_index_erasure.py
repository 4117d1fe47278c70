"""Who is deleted is gone from the index file, too: at once, after a crash, and whatever others do meanwhile."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from gallery_model import PROBES, asked, assert_answers, binding, faces, filled, fused, index_of

from probface.errors import InvalidValue, StorageError
from probface.gallery import derived_file, search_index
from probface.gallery.gallery import Gallery
from probface.gallery.records import Templates
from probface.match import index_file
from probface.types import Embeddings

TEMPLATES: tuple[Templates, ...] = get_args(Templates)


@pytest.mark.parametrize("templates", TEMPLATES)
def test_no_byte_of_a_deleted_vector_stays(templates: Templates, tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    model = filled(path, templates)
    arrays, _ = index_file.read(index_of(path))
    references = Embeddings.concatenate([faces(1, 200)[3:4], faces(2, 10)[3:4]])
    vectors = [fused(3)] if templates == "fused" else [references.mu[:1], references.mu[1:]]
    before = index_of(path).read_bytes()
    assert all(vector.tobytes() in before for vector in vectors)
    rows = np.flatnonzero(arrays["extra.identities"] == 4)
    assert len(rows) == len(vectors)
    at = np.flatnonzero(np.isin(arrays["order"], rows))
    codes = arrays["codes"][at // 64, :, at % 64].copy()
    sigmas = arrays["variances"][rows].copy()
    del arrays

    with Gallery.open(path) as gallery:
        gallery.delete(["p3"])  # without a search before: the index was not even mapped
        del model.people["p3"]
        for file in tmp_path.iterdir():
            content = file.read_bytes()
            assert not any(vector.tobytes() in content for vector in [*vectors, references.mu[:1], references.mu[1:]])
        arrays, _ = index_file.read(index_of(path))
        assert (codes != 128).any(axis=(1, 2)).all()
        assert (arrays["codes"][at // 64, :, at % 64] == 128).all()
        assert (arrays["order"][at] == -1).all()
        assert not np.isin(sigmas, arrays["variances"]).any()
        assert not np.isin(sigmas, arrays["sigma_sq"]).any()
        assert_answers(gallery, model, PROBES, 200, "fastmls")
        assert gallery.verify() == ()
    assert stat.S_IMODE(index_of(path).stat().st_mode) == 0o600
    asked(path, model)


KILLED = """
import os, signal, sys
from pathlib import Path
from probface.gallery import derived_file
from probface.gallery.gallery import Gallery
from probface.match import index_file

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def erased_and_die(path, rows):
    erase(path, rows[:1])
    die()

place, erase = sys.argv[2], index_file.erase_rows
gallery = Gallery.open(sys.argv[1])
if place == "committed":
    derived_file.erase_deleted = die
else:
    index_file.erase_rows = erased_and_die
gallery.delete(["p3", "p4"])
"""


@pytest.mark.parametrize("place", ["committed", "half erased"])
def test_a_killed_deletion_is_finished_by_who_opens_next(place: str, tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    model = filled(path)
    vectors = [fused(at) for at in (3, 4)]
    ended = subprocess.run([sys.executable, "-c", KILLED, path, place], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file != path)
    assert vectors[1].tobytes() in left  # the test's own sense: there was something to finish
    del model.people["p3"], model.people["p4"]
    Gallery.open(path).close()
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == []
    for file in tmp_path.iterdir():
        assert not any(vector.tobytes() in file.read_bytes() for vector in vectors)
    asked(path, model)


def test_a_deletion_that_fails_erases_nothing(tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    model = filled(path)
    before = index_of(path).read_bytes()
    with Gallery.open(path) as gallery:
        with pytest.raises(InvalidValue):
            gallery.delete(["p3", "nobody"])
        assert index_of(path).read_bytes() == before
        assert_answers(gallery, model, PROBES, 5, "fastmls")


def test_an_index_of_an_older_picture_is_erased_in_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is deleted while another process derives the index anew."""
    path = tmp_path / "faces.db"
    model = filled(path)
    index_of(path).unlink()
    real = search_index.derived_file.publish
    with Gallery.open(path) as gallery, Gallery.open(path) as other:

        def late(*args: object) -> bool:
            other.delete(["p3"])
            return real(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(search_index.derived_file, "publish", late)
        gallery.search(PROBES, model=binding())
        monkeypatch.undo()
        assert index_of(path).exists()
        assert fused(3).tobytes() not in index_of(path).read_bytes()
        del model.people["p3"]
        assert_answers(gallery, model, PROBES, 5, "fastmls")
    asked(path, model)


def test_while_somebody_deletes_no_index_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    model = filled(path)
    index_of(path).unlink()
    with Gallery.open(path) as gallery, derived_file.folder_lock(tmp_path, wait=True) as locked:
        assert locked
        assert_answers(gallery, model, PROBES, 5, "fastmls")  # does not wait
    assert sorted(file.name for file in tmp_path.iterdir()) == ["faces.db"]
    asked(path, model)
    assert index_of(path).exists()


def test_vectors_that_cannot_be_erased_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "faces.db"
    filled(path)
    with Gallery.open(path) as gallery:

        def refused(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "replace", refused)
        monkeypatch.setattr(Path, "unlink", refused)
        with pytest.raises(StorageError, match=r"index: .* holds vectors of people who are deleted: remove it"):
            gallery.delete(["p3"])
        monkeypatch.undo()
        assert gallery.counts().identities == 199
