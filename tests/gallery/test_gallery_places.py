"""Where a gallery's files are, and which index is whose: copies, links, other folders, files that only look alike."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from gallery_model import binding, faces, settings

from probface.errors import StorageError
from probface.gallery import derived_file
from probface.gallery.gallery import Gallery
from probface.gallery.records import NewReferences
from probface.types import Embeddings


def enrol(gallery: Gallery, name: str, seed: int) -> Embeddings:
    face = faces(seed, 1)
    gallery.enroll(NewReferences.unlabelled((name,), face), model=gallery.settings.model)
    return face


def first(gallery: Gallery, face: Embeddings) -> str:
    return gallery.search(face, model=gallery.settings.model, top=1, metric="cosine")[0][0].name


def begun(path: Path) -> None:
    with Gallery.create(path, settings()) as gallery:
        names = tuple(f"p{row}" for row in range(50))
        gallery.enroll(NewReferences.unlabelled(names, faces(1, 50)), model=binding())


def test_a_copy_that_went_on_otherwise(tmp_path: Path) -> None:
    """Both galleries have as many generations, people and ids; only one has Ann, and its index stays behind."""
    path, copy = tmp_path / "faces.db", tmp_path / "copy.db"
    begun(path)
    shutil.copy(path, copy)
    with Gallery.open(path) as gallery:
        ann = enrol(gallery, "Ann", 100)
        enrol(gallery, "Last", 101)
        assert first(gallery, ann) == "Ann"
    with Gallery.open(copy) as gallery:
        eve = enrol(gallery, "Eve", 102)
        enrol(gallery, "Last", 101)
    copy.replace(path)
    with Gallery.open(path) as gallery:
        assert first(gallery, ann) != "Eve"
        assert first(gallery, eve) == "Eve"
        assert gallery.verify() == ()
    assert ann.mu.tobytes() not in path.with_name("faces.db.index").read_bytes()


def test_the_index_of_a_sibling(tmp_path: Path) -> None:
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    for path, name, seed in ((one, "Ann", 100), (other, "Eve", 102)):
        begun(path)
        with Gallery.open(path) as gallery:
            first(gallery, enrol(gallery, name, seed))
    shutil.copy(tmp_path / "one.db.index", tmp_path / "other.db.index")
    with Gallery.open(other) as gallery:
        assert first(gallery, faces(102, 1)) == "Eve"
        assert first(gallery, faces(100, 1)) != "Eve"


def test_through_a_link_it_is_the_same_gallery(tmp_path: Path) -> None:
    path, link = tmp_path / "faces.db", tmp_path / "links" / "link.db"
    begun(path)
    link.parent.mkdir()
    link.symlink_to(path)
    with Gallery.open(link) as gallery:
        first(gallery, faces(1, 1))
    assert sorted(entry.name for entry in link.parent.iterdir()) == ["link.db"]
    with Gallery.open(path) as gallery:
        gallery.delete(["p0"])
    vector = faces(1, 50).mu[0].tobytes()
    assert all(vector not in entry.read_bytes() for entry in tmp_path.glob("faces.db*"))


def test_a_file_with_two_names_is_refused(tmp_path: Path) -> None:
    begun(tmp_path / "faces.db")
    (tmp_path / "second.db").hardlink_to(tmp_path / "faces.db")
    with pytest.raises(StorageError, match="a file with several hard links"):
        Gallery.open(tmp_path / "second.db")


def test_a_process_that_changes_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path / "faces.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Gallery.open("faces.db") as gallery:
        first(gallery, faces(1, 1))
        os.chdir(tmp_path / "elsewhere")
        gallery.delete(["p0"])
        assert first(gallery, faces(1, 50)[1:2]) == "p1"
    vector = faces(1, 50).mu[0].tobytes()
    assert all(vector not in entry.read_bytes() for entry in tmp_path.glob("faces.db*"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_a_killed_erasure_left_goes_whatever_the_gallery_is_called(tmp_path: Path) -> None:
    path = tmp_path / "a[1].db"
    begun(path)
    left = tmp_path / ".a[1].db.index.xyz.new"
    left.mkdir()
    (left / "a[1].db.index").write_bytes(faces(1, 1).mu.tobytes())
    with Gallery.open(path) as gallery:
        gallery.delete(["p0"])
    assert not left.exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_something_else_that_stands_where_the_index_must_be(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "faces.index"
    if kind == "file":
        place.write_bytes(b"IxFI of another program")
    else:
        place.mkdir()
    with pytest.raises(StorageError, match="is not an index of ProbFace, and stands where one must be"):
        Gallery.create(tmp_path / "faces", settings())
    assert place.exists()
    assert not (tmp_path / "faces").exists()


def test_a_folder_that_somebody_keeps_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path / "faces.db")
    monkeypatch.setattr(derived_file, "LOCK_SECONDS", 0.05)
    with derived_file.folder_lock(tmp_path, wait=True), Gallery.open(tmp_path / "faces.db") as gallery:
        with pytest.raises(StorageError, match=r"locked by another process for 0.05 s, nothing was deleted"):
            gallery.delete(["p0"])
        assert gallery.counts().identities == 50
