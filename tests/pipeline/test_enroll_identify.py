"""From photographs into a gallery and back to a name, with the default model."""

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
import onnx
import pytest

import probface
from photos import portrait, save
from probface.cli.demo import PORTRAITS, _carried
from probface.errors import DataError, InvalidValue, ModelNotFound, NoFace, StorageError, UnreadableImage
from probface.face.image import encode_png, read_image
from probface.gallery.gallery import Gallery
from probface.gallery.records import GallerySettings
from probface.models.graft import set_contract
from probface.models.registry import ResolvedModel, resolve_model
from probface.pipeline.enroll import enroll
from probface.pipeline.gallery_import import declared_model
from probface.pipeline.gallery_model import model_binding
from probface.pipeline.identify import identify
from probface.pipeline.recogniser import Recogniser

HOPPER = _carried(*PORTRAITS["hopper.jpg"])


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of one person, one of another, and one of nobody."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        save(folder / f"collins-{number}.png", portrait(300 + 40 * number, noise=4.0 * number, seed=number))
    (folder / "hopper.jpg").write_bytes(HOPPER)
    save(folder / "wall.png", np.full((300, 300, 3), 120, np.uint8))
    return folder


@pytest.fixture
def place(photos: Path, recogniser: Recogniser, tmp_path: Path) -> Path:
    """A gallery of two people."""
    where = tmp_path / "g.db"
    enroll("Collins", [photos / "collins-0.png", photos / "collins-1.png"], where, model=recogniser)
    enroll("Hopper", photos / "hopper.jpg", where, model=recogniser)
    return where


def test_what_is_enrolled_is_what_the_recogniser_gives(photos: Path, recogniser: Recogniser, tmp_path: Path) -> None:
    where = tmp_path / "new folder" / "g.db"
    images = [photos / "collins-0.png", photos / "collins-1.png"]
    result = enroll("Collins", images, where, model=recogniser)
    assert (result.name, result.created, result.references) == ("Collins", True, 2)
    assert [face.source for face in result.faces] == [str(path) for path in images]
    with Gallery.open(where) as gallery:
        assert gallery.settings == GallerySettings(model_binding(recogniser))
        (block,) = gallery.store.scan()
        for row, (path, reference) in enumerate(zip(images, gallery.store.references("Collins"), strict=True)):
            (alone,) = recogniser(path)
            np.testing.assert_allclose(block.mu[row], alone.embedding.mu[0], atol=1e-5)
            np.testing.assert_allclose(block.sigma_sq[row], alone.embedding.sigma_sq[0], rtol=1e-4)
            assert reference.source == str(path)
            assert reference.source_digest == hashlib.sha256(path.read_bytes()).hexdigest()
            assert abs(reference.quality - alone.quality) <= 1
            assert not reference.image_kept
    again = enroll("Collins", str(photos / "collins-2.png"), where)
    assert (again.created, again.references, len(again.faces)) == (False, 3, 1)


def test_people_are_told_apart_and_strangers_are_nobody(place: Path, photos: Path, recogniser: Recogniser) -> None:
    for metric in ("fastmls", "mls", "cosine"):
        found = identify(photos / "collins-2.png", place, metric=metric, model=recogniser)  # type: ignore[arg-type]
        assert found.answer.name == "Collins"
        assert found.answer.candidates[0].score > found.answer.threshold > found.answer.candidates[1].score
        assert identify(HOPPER, place, metric=metric, model=recogniser).answer.name == "Hopper"  # type: ignore[arg-type]
    with Gallery.open(place) as gallery:
        gallery.delete(["Hopper"])
        answer = identify(HOPPER, gallery, top=9).answer
        assert (answer.name, [candidate.name for candidate in answer.candidates]) == (None, ["Collins"])
        gallery.delete(["Collins"])
        assert identify(HOPPER, gallery).answer.reason == "the gallery is empty"


@pytest.mark.parametrize("bad", ["wall.png", "missing.png", "text.png"])
def test_one_bad_image_and_nobody_is_enrolled(place: Path, photos: Path, bad: str, tmp_path: Path) -> None:
    (photos / "text.png").write_text("no image")
    images = [photos / "collins-2.png", photos / bad]
    with pytest.raises((NoFace, UnreadableImage), match=bad):
        enroll("New", images, place)
    with Gallery.open(place) as gallery:
        assert gallery.counts().references == 3
    with pytest.raises((NoFace, UnreadableImage), match=bad):
        enroll("New", images, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def test_every_kind_of_source(photos: Path, recogniser: Recogniser, tmp_path: Path) -> None:
    content = (photos / "collins-0.png").read_bytes()
    pixels = read_image(content)
    with Gallery.create(tmp_path / "g.db", GallerySettings(model_binding(recogniser), keep_images=True)) as gallery:
        enroll("A", [photos / "collins-0.png", content, io.BytesIO(content), pixels], gallery, model=recogniser)
        references = gallery.store.references("A")
        assert [reference.source for reference in references] == [
            *(str(photos / "collins-0.png"), "<bytes>", "<file>", "<array>")
        ]
        digests = [hashlib.sha256(data).hexdigest() for data in (content, encode_png(pixels))]
        assert [reference.source_digest for reference in references] == [digests[0]] * 3 + [digests[1]]
        assert all(reference.image_kept for reference in references)
        (block,) = gallery.store.scan()
        np.testing.assert_allclose(block.mu, np.repeat(block.mu[:1], 4, axis=0), atol=1e-6)
        enroll("B", pixels, gallery, model=recogniser)
        enroll("C", content, gallery, model=recogniser)
        with pytest.raises(InvalidValue, match="<file>: reads as str, not bytes"):
            enroll("D", io.StringIO("x"), gallery, model=recogniser)  # type: ignore[arg-type]


def test_a_path_is_found_again_from_another_folder(
    photos: Path, recogniser: Recogniser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    enroll("A", "collins-0.png", tmp_path / "g.db", model=recogniser)
    with Gallery.open(tmp_path / "g.db") as gallery:
        assert gallery.store.references("A")[0].source == str(photos / "collins-0.png")


def test_settings_are_fixed_when_the_gallery_is_made(photos: Path, recogniser: Recogniser, tmp_path: Path) -> None:
    image, where = photos / "collins-0.png", tmp_path / "g.db"
    enroll("A", image, where, model=recogniser, templates="all", estimator="minimum", keep_images=True)
    with Gallery.open(where) as gallery:
        assert gallery.settings == GallerySettings(model_binding(recogniser), "all", "minimum", keep_images=True)
        assert next(iter(gallery.store.references("A"))).image_kept
    enroll("A", image, where, model=recogniser, templates="all")
    with pytest.raises(InvalidValue, match=r"templates 'fused': gallery .*g.db was made with 'all', which stays"):
        enroll("A", image, where, model=recogniser, templates="fused")
    with pytest.raises(InvalidValue, match="keep_images False: "):
        enroll("A", image, where, model=recogniser, keep_images=False)
    with pytest.raises(InvalidValue, match="estimator 'most': must be one of"):
        enroll("A", image, tmp_path / "h.db", model=recogniser, estimator="most")  # type: ignore[arg-type]


def in_a_file(path: Path, producer: str | None = None) -> Path:
    """The default model as a file; with a producer its graph is another one."""
    network = resolve_model("sface").onnx
    assert isinstance(network, bytes)
    model = onnx.load_model_from_string(network)
    if producer is not None:
        model.producer_name = producer
    path.write_bytes(model.SerializeToString())
    return path


def test_the_same_model_in_a_file_opens_the_gallery(place: Path, photos: Path, tmp_path: Path) -> None:
    """Also with thresholds measured anew: the digest is of what makes the vectors."""
    path = in_a_file(tmp_path / "mine.onnx")
    model = onnx.load(path)
    set_contract(model, dataclasses.replace(resolve_model("sface").contract, thresholds=(), histograms=()))
    onnx.save(model, path)
    assert resolve_model(path).digest == resolve_model("sface").digest
    enroll("A", photos / "collins-0.png", place, model=path)


def test_another_model_is_refused_by_name(place: Path, photos: Path, tmp_path: Path) -> None:
    other = in_a_file(tmp_path / "other.onnx", "somebody else")
    for call in (lambda: enroll("A", "missing.png", place, model=other), lambda: identify("x", place, model=other)):
        with pytest.raises(InvalidValue, match=r"model 'sface' \(.{12}\): gallery .*g.db holds embeddings of model"):
            call()
    enroll("A", photos / "collins-0.png", tmp_path / "h.db", model=other)
    with pytest.raises(InvalidValue, match="cannot be compared with its own; give that model, or migrate the gallery"):
        enroll("A", photos / "collins-0.png", tmp_path / "h.db")  # by name: the default model has another digest
    assert identify(photos / "collins-1.png", tmp_path / "h.db", model=other).answer.name == "A"


def test_a_gallery_whose_model_is_not_at_hand(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g.db", GallerySettings(declared_model("w600k_r50", 128, 1))):
        pass
    with pytest.raises(ModelNotFound, match="its model 'w600k_r50' was declared when embeddings were imported"):
        identify(HOPPER, tmp_path / "g.db")
    binding = model_binding(resolve_model("sface"))
    own = type(binding)("my model", "a" * 64, 128, 1, binding.contract)
    with Gallery.create(tmp_path / "h.db", GallerySettings(own)):
        pass
    with pytest.raises(ModelNotFound, match=r"its model 'my model' \(a{12}\) is not known by name; give its file"):
        enroll("A", HOPPER, tmp_path / "h.db")


def test_a_model_without_digest_is_refused() -> None:
    model = resolve_model("sface")
    with pytest.raises(InvalidValue, match="model 'sface': has no digest"):
        model_binding(ResolvedModel(model.name, model.onnx, model.contract))


def test_what_is_refused(place: Path, photos: Path, tmp_path: Path) -> None:
    image = photos / "collins-0.png"
    for name in ("", " a", "a\n", "x" * 201):
        with pytest.raises(InvalidValue, match="identity name"):
            enroll(name, image, place)
    with pytest.raises(InvalidValue, match="0 images of 'A': give one or more"):
        enroll("A", [], place)
    with pytest.raises(StorageError, match=r"gone.db: no such file"):
        identify(image, tmp_path / "gone.db")
    (tmp_path / "text.db").write_text("no gallery at all, but a text")
    for call in (lambda: enroll("A", image, tmp_path / "text.db"), lambda: identify(image, tmp_path / "text.db")):
        with pytest.raises(DataError, match=r"text.db"):
            call()
    with pytest.raises(StorageError):
        enroll("A", image, tmp_path)
    with pytest.raises(InvalidValue, match="FPIR 2"):
        identify(image, place, fpir=2)


def test_aligned_faces_and_the_public_names(photos: Path, recogniser: Recogniser, tmp_path: Path) -> None:
    (found,) = recogniser.find(photos / "collins-0.png")
    crop = encode_png(found.crop)
    assert probface.enroll("A", crop, tmp_path / "g.db", aligned=True).faces[0].face is None
    assert probface.identify(crop, tmp_path / "g.db", aligned=True).answer.name == "A"
    with probface.Gallery.open(tmp_path / "g.db") as gallery:
        assert probface.identify(photos / "collins-0.png", gallery).answer.name == "A"


def test_a_gallery_that_may_only_be_read(place: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from probface.pipeline import gallery_model

    monkeypatch.setattr(gallery_model, "_writable", lambda _: False)  # a superuser may write anywhere
    assert identify(photos / "collins-2.png", place).answer.name == "Collins"
    assert not place.with_name("g.db.index").exists()
    monkeypatch.undo()
    assert identify(photos / "collins-2.png", place).answer.name == "Collins"
    assert place.with_name("g.db.index").exists()  # kept for the next question
