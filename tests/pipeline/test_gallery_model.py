"""How a gallery comes into being for its first enrolment: whole, or not at all, and once."""

import os
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from probface.errors import InvalidValue, StorageError
from probface.gallery.exchange import settings_text
from probface.gallery.gallery import Gallery
from probface.gallery.place import checked_place
from probface.gallery.records import GallerySettings, NewReferences
from probface.pipeline.gallery_import import declared_model, import_gallery
from probface.pipeline.gallery_model import created_if_new, opened, opened_if_there, settings_for
from probface.pipeline.gallery_undo import remove_if_untouched
from probface.types import Embeddings

MODEL = declared_model("r50", 3, 1)
ANN = NewReferences.unlabelled(("Ann",), Embeddings(np.eye(3, dtype=np.float32)[:1], np.ones((1, 1), np.float32)))
SETTINGS = partial(settings_for, model=MODEL, templates=None, estimator=None)


class Stop(Exception):
    """Whatever may go wrong."""


def test_a_first_enrolment_that_fails_leaves_no_gallery(tmp_path: Path) -> None:
    def fail(*, enrolled: bool) -> None:
        with created_if_new(tmp_path / "g.db", None, SETTINGS) as (gallery, new):
            assert new
            if enrolled:
                gallery.enroll(ANN, model=MODEL)
            raise Stop

    with pytest.raises(Stop):
        fail(enrolled=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Stop):
        fail(enrolled=True)
    with Gallery.open(tmp_path / "g.db") as gallery:  # somebody is in it
        assert gallery.counts().references == 1


def test_a_gallery_that_was_in_use_or_is_somebody_elses_stays(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    with Gallery.create(path, GallerySettings(MODEL)) as gallery:
        assert not remove_if_untouched(path)
        gallery.enroll(ANN, model=MODEL)
        gallery.delete(["Ann"])
    assert not remove_if_untouched(path)
    with Gallery.open(path) as gallery:
        gallery.enroll(ANN, model=MODEL)
        assert gallery.verify() == ()
    (tmp_path / "text").write_text("no gallery")
    assert not remove_if_untouched(tmp_path / "text")
    assert not remove_if_untouched(tmp_path / "gone")


def test_the_slower_of_two_goes_on_in_the_gallery_of_the_faster(tmp_path: Path) -> None:
    path, ready, news = tmp_path / "g.db", threading.Barrier(4), []

    def first_enrolment() -> None:
        with opened_if_there(path) as there:
            assert there is None
            ready.wait()
            with created_if_new(path, there, SETTINGS) as (gallery, new):
                gallery.enroll(ANN, model=MODEL)
                news.append(new)

    threads = [threading.Thread(target=first_enrolment) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(news) == [False, False, False, True]
    with Gallery.open(path) as gallery:
        assert gallery.counts() == type(gallery.counts())(1, 4)
    other = partial(settings_for, model=declared_model("r100", 3, 1), templates=None, estimator=None)
    otherwise = partial(settings_for, model=MODEL, templates="all", estimator=None)
    for settings, message in ((other, "holds embeddings of model 'r50'"), (otherwise, "was made with 'fused'")):
        with pytest.raises(InvalidValue, match=message), created_if_new(path, None, settings):
            pass
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"), created_if_new(tmp_path / "file/g.db", None, SETTINGS):
        pass


@pytest.mark.parametrize("mu", [[[1.0, 0, 0], [-1, 0, 0]], [[1.0, 0], [0, 1]]])
def test_what_cannot_be_enrolled_makes_no_gallery(tmp_path: Path, mu: list[list[float]]) -> None:
    exported = np.array(settings_text(GallerySettings(MODEL)))
    np.savez(tmp_path / "x.npz", mu=np.array(mu), name=np.array(["b", "b"]), sigma_sq=np.ones(2), gallery=exported)
    with pytest.raises(InvalidValue, match=r"cancel out|model 'r50' gives 3"):
        import_gallery(tmp_path / "x.npz", tmp_path / "new" / "g.db")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize(
    "address", ["postgresql+psycopg://me:secret@h/db", "mysql://me:secret@h/db", "sqlite:///me:secret", "x://secret"]
)
def test_addresses_that_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (opened, opened_if_there, lambda place: created_if_new(place, None, SETTINGS)):
        with pytest.raises(InvalidValue, match="must be postgresql://user:password@host") as raised, call(address):
            pass
        assert "secret" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_addresses_and_paths() -> None:
    assert checked_place("POSTGRESQL://U:p@H/D") == "postgresql://U:p@H/D"
    assert checked_place("postgres://h/d") == "postgres://h/d"
    for path in ("g.db", "a:b/g.db", "/x//y", Path("g.db"), "1://x", "ä://x"):
        assert checked_place(path) == path
    assert os.fspath(checked_place(Path("a/b"))) == "a/b".replace("/", os.sep)
