"""A gallery moves to another model: whole, resumable, and never half."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from photos import portrait, save
from probface.cli.demo import PORTRAITS, _carried
from probface.contract import QualityScale
from probface.errors import InvalidValue, ModelError, UnreadableImage
from probface.gallery.gallery import Gallery
from probface.gallery.records import NewReferences
from probface.models.backbone import Backbone
from probface.models.graft import graft
from probface.models.head_weights import HeadWeights
from probface.models.taps import find_taps
from probface.pipeline import gallery_migration as room
from probface.pipeline.enroll import enroll
from probface.pipeline.gallery_migration import abandon_migration, migrate_gallery
from probface.pipeline.gallery_model import model_binding
from probface.pipeline.identify import identify
from probface.pipeline.recogniser import Recogniser

HOPPER = _carried(*PORTRAITS["hopper.jpg"])
COUNT = 6


@pytest.fixture(scope="module")
def other_file(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of D = 32, for faces of 112 x 96."""
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    return write_model(path, "mobilefacenet", name="other", quality=QualityScale(-3, 3))


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser()


@pytest.fixture(scope="module")
def other(other_file: Path) -> Recogniser:
    return Recogniser(other_file)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    return [save(folder / f"{n}.png", portrait(240 + 10 * n, noise=2.0 * n, seed=n)) for n in range(COUNT)]


def filled(where: Path, photos: list[Path], recogniser: Recogniser, *, keep_images: bool = False) -> Path:
    """Two references of one person, and one each of the others."""
    for number, photo in enumerate(photos):
        enroll(f"person {max(1, number)}", photo, where, model=recogniser, keep_images=keep_images)
    return where


def rows(where: Path) -> dict[int, np.ndarray]:
    with Gallery.open(where) as gallery:
        return {
            id_: np.append(mu, sigma_sq)
            for block in gallery.store.scan()
            for id_, mu, sigma_sq in zip(block.ids.tolist(), block.mu, block.sigma_sq, strict=True)
        }


@pytest.mark.parametrize("keep_images", [False, True])
def test_every_reference_gets_what_the_new_model_gives(
    photos: list[Path], recogniser: Recogniser, other: Recogniser, tmp_path: Path, keep_images: bool
) -> None:
    where = filled(tmp_path / "g.db", photos, recogniser, keep_images=keep_images)
    if keep_images:
        for photo in photos:
            photo.unlink()
    with Gallery.open(where) as gallery:
        gallery.search(recogniser(portrait(250))[0].embedding, model=model_binding(recogniser))
        old = next(gallery.store.scan()).mu[-1].tobytes()
    index = where.with_name(f"{where.name}.index")
    assert old in index.read_bytes()
    seen: list[tuple[int, int]] = []
    result = migrate_gallery(where, other, progress=lambda done, total: seen.append((done, total)))
    assert (result.finished, result.model, result.embedded, result.missing) == (True, "other", COUNT, ())
    assert seen == [(COUNT, COUNT)]
    assert all(old not in path.read_bytes() for path in where.parent.glob(f"*{where.name}*"))
    fresh = tmp_path / "fresh.db"
    if not keep_images:
        assert_alike(rows(where), rows(filled(fresh, photos, other)))
    with Gallery.open(where) as gallery:
        assert gallery.settings.model == model_binding(other)
        assert gallery.verify() == ()
        probe = other(portrait(250))[0].embedding
        assert len(gallery.search(probe, model=model_binding(other), metric="cosine")[0]) == COUNT - 1
        assert all(0 <= reference.quality <= 100 for reference in gallery.store.references("person 1"))
    again = migrate_gallery(where, other)
    assert (again.finished, again.embedded) == (True, 0)


def assert_alike(one: dict[int, np.ndarray], two: dict[int, np.ndarray]) -> None:
    assert one.keys() == two.keys()
    for id_, row in one.items():
        np.testing.assert_allclose(row, two[id_], rtol=1e-4, atol=1e-5)


def test_missing_images_keep_the_gallery_on_its_model(
    photos: list[Path], recogniser: Recogniser, other: Recogniser, tmp_path: Path
) -> None:
    where = filled(tmp_path / "g.db", photos, recogniser)
    with Gallery.open(where) as gallery:
        enroll("bytes", HOPPER, gallery, model=recogniser)
        embedding = recogniser(HOPPER)[0].embedding
        binding = model_binding(recogniser)
        gallery.enroll(NewReferences.unlabelled(("vector",), embedding), model=binding)
        known = NewReferences(("no digest",), embedding, np.array([5]), (str(photos[0]),), ("",))
        gallery.enroll(known, model=binding)
    content = photos[2].read_bytes()
    photos[2].unlink()
    photos[3].write_bytes(content)
    before = rows(where)
    result = migrate_gallery(where, other)
    assert (result.finished, result.model, result.embedded) == (False, "sface", COUNT - 2)
    assert {one.name: one.reason for one in result.missing} == {
        "person 2": f"no image was kept, and {photos[2]} cannot be read (No such file or directory)",
        "person 3": f"no image was kept, and {photos[3]} has changed since",
        "bytes": "no image was kept, and <bytes> cannot be read (No such file or directory)",
        "vector": "no image was kept, and where it came from is not known",
        "no digest": f"no image was kept, and the SHA-256 of {photos[0]} is not known",
    }
    assert_alike(rows(where), before)
    with Gallery.open(where) as gallery:
        assert gallery.identify(recogniser(HOPPER)[0].embedding, model=binding).name is not None
        gallery.delete(["person 3", "bytes", "vector", "no digest"])
    photos[2].write_bytes(content)
    (tmp_path / "hopper.jpg").write_bytes(HOPPER)
    enroll("person 3", tmp_path / "hopper.jpg", where, model=recogniser)
    result = migrate_gallery(where, other)
    assert (result.finished, result.embedded, result.missing) == (True, 2, ())
    assert len(rows(where)) == COUNT


def test_a_face_that_is_found_no_more_is_missing(
    photos: list[Path], recogniser: Recogniser, other: Recogniser, tmp_path: Path
) -> None:
    where = filled(tmp_path / "g.db", photos[:2], recogniser, keep_images=True)
    with Gallery.open(where) as gallery:
        wall = save(tmp_path / "wall.png", np.full((200, 200, 3), 90, np.uint8)).read_bytes()
        embedding = recogniser(HOPPER)[0].embedding
        new = NewReferences(("wall",), embedding, np.array([5]), ("x.png",), ("",), (wall,))
        gallery.enroll(new, model=model_binding(recogniser))
    result = migrate_gallery(where, other)
    assert [(one.name, one.source) for one in result.missing] == [("wall", "x.png")]
    assert "image x.png: no face found" in result.missing[0].reason
    abandon_migration(where)
    with Gallery.open(where) as gallery:
        assert gallery.store.pending(limit=9) == gallery.store.missing() == ()
        assert gallery.settings.model == model_binding(recogniser)


def test_one_migration_at_a_time(
    photos: list[Path], recogniser: Recogniser, other: Recogniser, tmp_path: Path, other_file: Path
) -> None:
    where = filled(tmp_path / "g.db", photos[:2], recogniser)
    photos[0].unlink()
    assert not migrate_gallery(where, other).finished
    third = tmp_path / "third.onnx"
    model = onnx.load(other_file)
    model.doc_string = "another digest"
    onnx.save(model, third)
    with pytest.raises(InvalidValue, match="finish or abandon that one first"):
        migrate_gallery(where, third)


def test_a_model_without_quality_is_refused_before_anything_is_begun(
    photos: list[Path],
    recogniser: Recogniser,
    backbones: dict[str, Backbone],
    make_head: Callable[..., HeadWeights],
    tmp_path: Path,
) -> None:
    where = filled(tmp_path / "g.db", photos[:1], recogniser)
    backbone = backbones["mobilefacenet"]
    head = make_head(backbone, find_taps(backbone.model, backbone.face))
    onnx.save(graft(backbone.model, head, backbone_digest=backbone.digest), tmp_path / "plain.onnx")
    with pytest.raises(InvalidValue, match="model 'random' has no quality scale"):
        migrate_gallery(where, tmp_path / "plain.onnx")
    with Gallery.open(where) as gallery:
        assert gallery.store.pending(limit=1) == ()


def test_a_face_that_the_network_fails_on_does_not_stop_the_others(
    photos: list[Path], recogniser: Recogniser, other: Recogniser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = filled(tmp_path / "g.db", photos[:4], recogniser)
    embed = Recogniser.embed

    def fails(self: Recogniser, faces: list[object]) -> object:
        if any(face.source == str(photos[2]) for face in faces):  # type: ignore[attr-defined]
            raise ModelError("not finite")
        return embed(self, faces)  # type: ignore[arg-type]

    monkeypatch.setattr(Recogniser, "embed", fails)
    result = migrate_gallery(where, other)
    assert result.embedded == 3
    assert [one.reason for one in result.missing] == [f"image {photos[2]}: not finite"]
    monkeypatch.undo()
    assert migrate_gallery(where, other).embedded == 1


def test_who_is_enrolled_meanwhile_is_migrated_too(
    photos: list[Path], recogniser: Recogniser, other: Recogniser, tmp_path: Path
) -> None:
    where = filled(tmp_path / "g.db", photos[:2], recogniser)
    with Gallery.open(where) as gallery:
        finish = gallery.store.finish_migration
        late = [photos[2], photos[3]]

        def enrolling() -> None:
            if late:
                enroll("late", late.pop(), gallery, model=recogniser)
            finish()

        gallery.store.finish_migration = enrolling  # type: ignore[method-assign]
        result = migrate_gallery(gallery, other)
        assert (result.finished, result.embedded) == (True, 4)
        assert len(gallery.store.references("late")) == 2


KILLED = """
import os, sys
from probface.pipeline import gallery_migration as room
room.STEP_IMAGES = 2
def die(done, total):
    if done >= int(sys.argv[3]):
        os.kill(os.getpid(), 9)
room.migrate_gallery(sys.argv[1], sys.argv[2], progress=die)
"""


@pytest.mark.parametrize("images", [2, 4, 6])
def test_a_killed_migration_goes_on_where_it_stopped(
    photos: list[Path],
    recogniser: Recogniser,
    other: Recogniser,
    other_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: int,
) -> None:
    monkeypatch.setattr(room, "STEP_IMAGES", 2)
    where = filled(tmp_path / "g.db", photos, recogniser)
    before = rows(where)
    command = [sys.executable, "-c", KILLED, str(where), str(other_file), str(images)]
    assert subprocess.run(command, check=False).returncode == -9
    assert_alike(rows(where), before)  # and still on the old model
    with Gallery.open(where) as gallery:
        assert gallery.settings.model == model_binding(recogniser)
        assert gallery.verify() == ()
    result = migrate_gallery(where, other)
    assert (result.finished, result.embedded) == (True, COUNT - images)
    assert_alike(rows(where), rows(filled(tmp_path / "fresh.db", photos, other)))


@pytest.mark.skipif(os.name != "posix", reason="pipes are files on POSIX systems only")
def test_a_pipe_in_the_place_of_an_image(
    photos: list[Path], recogniser: Recogniser, other: Recogniser, tmp_path: Path
) -> None:
    where = filled(tmp_path / "g.db", photos[:2], recogniser)
    photos[0].unlink()
    os.mkfifo(photos[0])
    (missing,) = migrate_gallery(where, other).missing
    assert missing.reason == (
        f"no image was kept, and of its file: image {photos[0]}: no regular file, but a pipe or device; save the image "
        "to a file"
    )
    for call in (lambda: enroll("x", photos[0], where), lambda: identify(photos[0], where)):
        with pytest.raises(UnreadableImage, match="no regular file"):
            call()
