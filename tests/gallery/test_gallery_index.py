"""The index file: opened as it is, kept in step with the gallery, derived anew; foreign, or in a full folder."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from gallery_model import (
    PROBES,
    ModelGallery,
    asked,
    assert_answers,
    binding,
    filled,
    index_of,
    named,
    settings,
)

from probface.gallery import search_index
from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.gallery import Gallery
from probface.gallery.records import NewReferences, ReferenceBlock, Templates
from probface.gallery.search_index import GalleryIndex
from probface.match import index_file
from probface.types import Embeddings

TEMPLATES: tuple[Templates, ...] = get_args(Templates)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each index that was made had."""
    sizes: list[int] = []

    class Counted(search_index.SearchIndex):
        def __init__(self, references: Embeddings) -> None:
            sizes.append(len(references))
            super().__init__(references)

    monkeypatch.setattr(search_index, "SearchIndex", Counted)
    return sizes


@pytest.mark.parametrize("templates", TEMPLATES)
def test_one_file_for_its_owner_alone_that_is_opened_as_it_is(
    templates: Templates, tmp_path: Path, built: list[int]
) -> None:
    path = tmp_path / "faces.db"
    model = filled(path, templates)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["faces.db", "faces.db.index"]
    assert stat.S_IMODE(index_of(path).stat().st_mode) == 0o600
    rows = 200 if templates == "fused" else 210
    assert built == [rows]
    asked(path, model)
    assert built == [rows]
    arrays, header = index_file.read(index_of(path))
    assert len(arrays["extra.identities"]) == rows
    with Gallery.open(path) as gallery:
        stamp = gallery.store.stamp(2)
    assert stamp is not None
    assert header["meta"] == {
        "version": 1,
        "stamp": stamp,
        "model": binding().digest,
        "templates": templates,
        "estimator": "weighted_mean",
        "generation": 2,
        "highest": 200,
    }


def test_what_changed_is_loaded_and_no_more(tmp_path: Path, built: list[int]) -> None:
    path = tmp_path / "faces.db"
    model = filled(path)
    built.clear()
    with Gallery.open(path) as gallery, Gallery.open(path) as other:
        for turn, new in enumerate([named(200, 3, 3), named(5, 1, 4), named(201, 1, 5), named(0, 2, 6)]):
            other.enroll(new, model=binding())
            model.enroll(new)
            assert_answers(gallery, model, PROBES, 5, "fastmls")
            assert built.pop() == [3, 4, 4, 6][turn]
        other.delete(["p5", "p201", "p100"])
        for name in ("p5", "p201", "p100"):
            del model.people[name]
        assert_answers(gallery, model, PROBES, 200, "fastmls")
        assert built == [4]


def test_too_much_change_is_derived_anew(tmp_path: Path, built: list[int]) -> None:
    path = tmp_path / "faces.db"
    model = filled(path, count=50)
    store = SqliteStore.open(path)
    index = GalleryIndex(store, index_of(path), most_behind=5)
    built.clear()

    def searched() -> tuple[int, int | None]:
        with index.current() as now:
            scores, _ = now.best(PROBES, 4, "fastmls")
            expected = [list(model.best(PROBES[row : row + 1], "fastmls").values())[:4] for row in range(3)]
            np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
            assert now.main is not None
            return len(now.main.index), None if now.tail is None else len(now.tail.index)

    assert searched() == (50, None)
    for turn, (main, tail) in enumerate([(50, 3), (56, None), (56, 3)]):
        new = named(60 + 3 * turn, 3, turn)
        store.add(new)
        model.enroll(new)
        assert searched() == (main, tail)
    names = [f"p{row}" for row in range(6)]
    store.delete(names[:5])
    for name in names[:5]:
        del model.people[name]
    assert searched() == (56, 3)
    store.delete(names[5:])
    del model.people[names[5]]
    assert searched() == (53, None)
    assert index_file.read(index_of(path))[1]["meta"]["generation"] == store.generation()
    index.close()
    store.close()


@pytest.mark.parametrize("main", [True, False])
def test_who_comes_in_the_middle_of_loading_is_not_overlooked_later(
    main: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store does not name changes of people who are newer than the generation that is asked from."""
    path = tmp_path / "faces.db"
    model = filled(path)
    if main:
        index_of(path).unlink()
    with Gallery.open(path) as gallery, Gallery.open(path) as other:
        scan, left = SqliteStore.scan, [3]

        def late(store: SqliteStore, *, after_identity: int = 0, rows: int = 16384) -> Iterator[ReferenceBlock]:
            if left[0]:
                left[0] -= 1
                enrol(named(500 + left[0], 1, left[0]))
            return scan(store, after_identity=after_identity, rows=rows)

        def enrol(new: NewReferences) -> None:
            other.enroll(new, model=binding())
            model.enroll(new)

        monkeypatch.setattr(SqliteStore, "scan", late)
        enrol(named(400, 1, 7))
        gallery.search(PROBES, model=binding())
        monkeypatch.undo()
        for row in (500, 501, 502, 400):
            if f"p{row}" in model.people:
                enrol(named(row, 1, row))
                assert_answers(gallery, model, PROBES, 300, "fastmls")
        for row in (502, 501):
            if f"p{row}" in model.people:
                other.delete([f"p{row}"])
                del model.people[f"p{row}"]
        assert_answers(gallery, model, PROBES, 300, "fastmls")


def test_a_gallery_that_never_rests_is_searched_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "faces.db"
    model = filled(path)
    index_of(path).unlink()
    with Gallery.open(path) as gallery, Gallery.open(path) as other:
        scan = SqliteStore.scan

        def late(store: SqliteStore, **asked: int) -> Iterator[ReferenceBlock]:
            new = named(500 + len(model.people), 1, len(model.people))
            other.enroll(new, model=binding())
            model.enroll(new)
            return scan(store, **asked)

        monkeypatch.setattr(SqliteStore, "scan", late)
        gallery.search(PROBES, model=binding())
        monkeypatch.undo()
        assert not index_of(path).exists()  # its generation is not known
        assert_answers(gallery, model, PROBES, 300, "fastmls")
    asked(path, model)


def test_a_log_that_was_cut_means_all_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: list[int]) -> None:
    path = tmp_path / "faces.db"
    model = filled(path)
    monkeypatch.setattr("probface.gallery.engines.sqlite_write.KEPT_CHANGES", 1)
    with Gallery.open(path) as gallery:
        assert_answers(gallery, model, PROBES, 5, "fastmls")
        built.clear()
        for row in range(4):
            new = named(row, 1, row)
            gallery.enroll(new, model=binding())
            model.enroll(new)
        assert_answers(gallery, model, PROBES, 5, "fastmls")
        assert built == [200]


def test_an_index_of_a_gallery_that_had_this_name_before(tmp_path: Path) -> None:
    """Its generation, model and ids fit; only its people are others."""
    path = tmp_path / "faces.db"
    filled(path)
    foreign = index_of(path).read_bytes()
    path.unlink()
    model = ModelGallery("fused")
    with Gallery.create(path, settings()) as gallery:
        assert not index_of(path).exists()
        for new in (named(0, 200, 7), named(0, 10, 8)):
            gallery.enroll(new, model=binding())
            model.enroll(new)
        index_of(path).write_bytes(foreign)
        assert_answers(gallery, model, PROBES, 5, "fastmls")
    asked(path, model)


def test_a_folder_that_cannot_take_an_index_leaves_it_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "faces.db"
    model = filled(path)
    index_of(path).unlink()

    def full(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    asked(path, model)
    assert not index_of(path).exists()


def test_processes_that_begin_at_once(tmp_path: Path) -> None:
    """Each derives the index; whoever is last leaves his, and all answer alike."""
    path = tmp_path / "faces.db"
    model = filled(path, count=3000)
    index_of(path).unlink()
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from gallery_model import binding, faces\nfrom probface.gallery.gallery import Gallery\n"
        "with Gallery.open(sys.argv[1]) as gallery: print(gallery.search(faces(99, 3), model=binding()))"
    )
    command = [sys.executable, "-c", code, str(path), str(Path(__file__).parent)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert len(answers) == 1
    assert {file.name for file in tmp_path.iterdir()} <= {"faces.db", "faces.db.index"}
    asked(path, model)


def test_opening_maps_and_does_not_read(tmp_path: Path, built: list[int]) -> None:
    path = tmp_path / "faces.db"
    filled(path)
    built.clear()
    store = SqliteStore.open(path)
    index = GalleryIndex(store, index_of(path))
    with index.current() as now:
        assert now.main is not None
        held = now.main.index.references.mu
        assert isinstance(held.base, np.memmap)
        assert isinstance(now.main.identities.base, np.memmap)
    assert built == []
    index.close()
    store.close()
