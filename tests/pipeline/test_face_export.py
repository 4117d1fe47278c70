from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from people_folder import write_people

from photos import folder_of_photos
from probface.contract import QualityScale
from probface.encoder.onnx import Encoder
from probface.errors import DataError, InvalidValue, StorageError
from probface.eval.face_table import DETECTOR_SCORE, NORM, SHARPNESS
from probface.face.degrade import MODERATE, image_rng
from probface.face.image import encode_png, read_image
from probface.face.sharpness import sharpness
from probface.models.graft import set_contract
from probface.pipeline import embed as room
from probface.pipeline import face_export
from probface.pipeline.crop_files import CropFiles
from probface.pipeline.embedding_parts import PartsFolder
from probface.pipeline.exported_faces import ExportedFaces, read_exported_faces
from probface.pipeline.face_export import export_faces
from probface.pipeline.face_rows import ExportOptions
from probface.pipeline.recogniser import FaceFinder, open_detector
from probface.readers.item import Broken, Item
from probface.readers.open import open_items

ALIGNED = ExportOptions(aligned=True)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PART_IMAGES", 4)


@pytest.fixture(scope="module")
def model(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with a head of random weights, and a quality scale."""
    return write_model(tmp_path_factory.mktemp("model") / "small.onnx", quality=QualityScale(-3.0, 3.0))


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Eleven aligned faces, and one broken image among them."""
    folder = write_people(tmp_path / "people", 4)
    (folder / "person-01" / "1.png").write_bytes(b"no image")
    return list(open_items(folder))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_photos_with_all_that_protocols_score(tmp_path: Path) -> None:
    photos = list(open_items(folder_of_photos(tmp_path / "photos", 3)))
    seen: list[int] = []
    found = export_faces(photos, tmp_path / "faces", options=ExportOptions(mirror=True), progress=seen.append)
    assert sum(seen) == len(photos) == 5
    assert [Path(name).stem for name in found.table.names] == ["photo-00", "photo-01", "photo-02"]
    assert {Path(image.path).name: image.kind for image in found.failed} == {
        "text.jpg": "UnreadableImage",
        "wall.png": "NoFace",
    }
    assert set(found.table.measures) == {NORM, SHARPNESS, DETECTOR_SCORE}
    finder, encoder = FaceFinder(found.contract.input, policy="central"), Encoder("sface", threads=1, norm=True)
    assert found.mirror is not None
    for row, name in enumerate(found.table.names):
        (face,) = finder(Path(name), name)
        assert face.face is not None
        picture = found.picture(name)
        assert picture is not None
        np.testing.assert_array_equal(picture, face.crop)
        assert found.table.measures[DETECTOR_SCORE][row] == face.face.detector_score
        assert found.table.measures[SHARPNESS][row] == sharpness(face.crop)
        for table, crop in ((found.table, face.crop), (found.mirror, face.crop[:, ::-1])):
            alone = encoder.encode_with_norm(np.ascontiguousarray(crop)[None])
            assert alone.norm is not None
            np.testing.assert_allclose(table.embeddings.mu[row], alone.embeddings.mu[0], atol=1e-5)
            np.testing.assert_allclose(table.embeddings.sigma_sq[row], alone.embeddings.sigma_sq[0], rtol=1e-4)
            np.testing.assert_allclose(table.measures[NORM][row], alone.norm[0], rtol=1e-5)
    assert found.picture("nobody") is None
    assert found.notes == ()
    assert ((found.quality >= 0) & (found.quality <= 100)).all()


def test_aligned_faces_are_seen_by_the_detector_as_they_are(model: Path, items: list[Item], tmp_path: Path) -> None:
    photos = FaceFinder(Encoder("sface", threads=1).contract.input)
    (face,) = photos(next(open_items(folder_of_photos(tmp_path / "photos", 1))).source)
    portrait = Item("portrait", encode_png(face.crop))
    small = Item("small", encode_png(np.ascontiguousarray(face.crop[::2, ::2])))
    odd = Item("odd", encode_png(face.crop[:50]))
    found = export_faces([*items, portrait, small, odd], tmp_path / "faces", model=model, options=ALIGNED)
    scores = dict(zip(found.table.names, found.table.measures[DETECTOR_SCORE], strict=True))
    assert scores["portrait"] == max(one.detector_score for one in open_detector().detect(face.crop))
    assert scores[items[0].name] == 0  # a pattern without a face
    picture = found.picture("small")
    assert picture is not None
    assert picture.shape == (112, 112, 3)  # the same proportions: resized
    assert {Path(image.path).name: image.kind for image in found.failed} == {
        "1.png": "UnreadableImage",
        "odd": "InvalidValue",
    }


def test_degraded_faces_are_the_same_in_every_run_and_order(model: Path, items: list[Item], tmp_path: Path) -> None:
    clean = export_faces(items, tmp_path / "clean", model=model, options=ALIGNED)
    options = replace(ALIGNED, degrade="moderate", seed=3)
    found = export_faces(items, tmp_path / "bad", model=model, options=options)
    turned = export_faces(items[::-1], tmp_path / "turned", model=model, options=options)
    shared = export_faces(items, tmp_path / "shared", model=model, options=options, shared=clean)
    for name in found.table.names:
        aligned = clean.picture(name)
        assert aligned is not None
        expected = MODERATE(aligned, image_rng(3, "moderate", 0, name))
        for export in (found, turned, shared):
            np.testing.assert_array_equal(export.picture(name), expected)
            assert export.table.measures[SHARPNESS][export.table.rows([name])[0]] == sharpness(expected)
    assert (tmp_path / "bad" / "embeddings.npz").read_bytes() == (tmp_path / "shared" / "embeddings.npz").read_bytes()
    assert [image.error for image in shared.failed] == [image.error for image in clean.failed]
    other = export_faces(items, tmp_path / "other", model=model, options=replace(options, seed=4))
    assert not np.array_equal(other.table.embeddings.mu, found.table.embeddings.mu)


def test_shared_faces_must_be_those_that_would_be_found(model: Path, items: list[Item], tmp_path: Path) -> None:
    clean = export_faces(items, tmp_path / "clean", model=model, options=ALIGNED)
    again = export_faces(items, tmp_path / "again", model=model, options=ALIGNED, shared=clean)
    assert (tmp_path / "again" / "embeddings.npz").read_bytes() == (tmp_path / "clean" / "embeddings.npz").read_bytes()
    assert again.failed[0].path == clean.failed[0].path
    with pytest.raises(InvalidValue, match="of other images; export without them"):
        export_faces(items[1:], tmp_path / "x", model=model, options=ALIGNED, shared=clean)
    bare = export_faces(items, tmp_path / "bare", model=model, options=replace(ALIGNED, crops=False))
    with pytest.raises(InvalidValue, match="must be kept, and not degraded"):
        export_faces(items, tmp_path / "x", model=model, options=ALIGNED, shared=bare)
    with pytest.raises(InvalidValue, match=r"found otherwise than \{'aligned': False"):
        export_faces(items, tmp_path / "x", model=model, shared=clean)
    graph = onnx.load(model)
    contract = clean.contract
    set_contract(graph, replace(contract, input=replace(contract.input, template="arcface-96")))
    onnx.save(graph, tmp_path / "narrow.onnx")
    with pytest.raises(InvalidValue, match="by template 'arcface', the model takes 112 x 112 by 'arcface-96'"):
        export_faces(items, tmp_path / "x", model=tmp_path / "narrow.onnx", options=ALIGNED, shared=clean)
    assert bare.picture(bare.table.names[0]) is None
    assert not (tmp_path / "bare" / "crops").exists()
    assert not (tmp_path / "x").exists()


KILLED = """
import os, sys
from probface.pipeline import embed as room
from probface.pipeline import face_export
from probface.pipeline.crop_files import CropFiles
from probface.pipeline.embedding_parts import PartsFolder
from probface.pipeline.face_export import export_faces
from probface.pipeline.face_rows import ExportOptions
from probface.readers.open import open_items
room.PART_IMAGES = 4
seen = 0
def die(count):
    global seen
    seen += count
    if seen > 9:
        os.kill(os.getpid(), 9)
options = ExportOptions(aligned=True, mirror=True, degrade="extreme")
export_faces(list(open_items(sys.argv[1])), sys.argv[2], model=sys.argv[3], options=options, progress=die)
"""


def test_a_killed_run_goes_on_and_leaves_the_same_bytes(model: Path, items: list[Item], tmp_path: Path) -> None:
    options = replace(ALIGNED, mirror=True, degrade="extreme")
    whole = export_faces(items, tmp_path / "whole", model=model, options=options)
    out = tmp_path / "cut"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "people"), str(out), str(model)]
    assert subprocess.run(command, check=False).returncode == -9
    with pytest.raises(DataError, match="no finished export of faces"):
        read_exported_faces(out)
    with pytest.raises(DataError, match="parts of an interrupted run; go on with --resume"):
        export_faces(items, out, model=model, options=options)
    with pytest.raises(DataError, match="another model, inputs or options"):
        export_faces(items, out, model=model, options=replace(options, seed=1), resume=True)
    with pytest.raises(DataError, match="another model, inputs or options"):
        export_faces(items, out, model="sface", options=options, resume=True)
    (out / "crops" / "part-000001.npy").unlink()  # a part is not finished without its faces
    result = export_faces(items, out, model=model, options=options, resume=True)
    assert result.resumed == 4
    assert content(out) == content(tmp_path / "whole")
    assert result.failed == whole.failed


def test_what_is_finished_is_taken_and_what_has_changed_is_refused(
    model: Path, items: list[Item], tmp_path: Path
) -> None:
    out, seen = tmp_path / "faces", list[int]()
    first = export_faces(items, out, model=model, options=ALIGNED)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = export_faces(items, out, model=model, options=ALIGNED, resume=True, progress=seen.append)
    assert (again.resumed, sum(seen)) == (12, 12)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    np.testing.assert_array_equal(again.table.embeddings.mu, first.table.embeddings.mu)

    def refused(**changed: object) -> None:
        given = {"items": items, "model": model, "options": ALIGNED} | changed
        with pytest.raises(DataError, match="by another model, from other images or with other options"):
            export_faces(given.pop("items"), out, resume=True, **given)  # type: ignore[arg-type]

    refused(model="sface")
    refused(options=replace(ALIGNED, mirror=True))
    refused(items=items[1:])
    changed = items[0].origin
    assert isinstance(changed, Path)
    pixels = read_image(changed)
    changed.write_bytes(encode_png(np.ascontiguousarray(pixels[:, ::-1])))  # the same name, another face
    refused()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    anew = export_faces(items, out, model=model, options=ALIGNED)  # without resume it is replaced
    assert anew.resumed == 0
    assert not np.array_equal(anew.table.embeddings.mu[0], first.table.embeddings.mu[0])


def killed_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, export: Callable[[], object]) -> None:
    """Run an export that is killed where it calls ``name``: nothing tidies up behind it."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def left(parts: PartsFolder, *_: object) -> None:
        parts._held.close()  # as the system does

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        patch.setattr(PartsFolder, "__exit__", left)
        with pytest.raises(KeyboardInterrupt):
            export()


def test_parts_whose_manifest_is_gone_are_not_taken(
    model: Path, items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, bare = tmp_path / "out", replace(ALIGNED, crops=False)  # faces that are gone would have the parts made again
    other = replace(bare, degrade="extreme")
    killed_at(monkeypatch, face_export, "_assemble", lambda: export_faces(items, out, model=model, options=bare))
    (out / "embeddings.npz.parts" / "manifest.json").unlink()
    assert export_faces(items, out, model=model, options=other).resumed == 0
    export_faces(items, tmp_path / "clean", model=model, options=other)
    assert content(out) == content(tmp_path / "clean")


def test_a_manifest_never_stands_beside_other_embeddings(
    model: Path, items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, other = tmp_path / "out", replace(ALIGNED, degrade="extreme")
    first = export_faces(items, out, model=model, options=ALIGNED)
    manifest = (out / "manifest.json").read_bytes()
    (out / "embeddings.npz").unlink()
    killed_at(monkeypatch, face_export, "write_bytes", lambda: export_faces(items, out, model=model, options=other))
    assert (out / "embeddings.npz").exists()
    assert not (out / "manifest.json").exists()
    (out / "manifest.json").write_bytes(manifest)  # by hand
    with pytest.raises(DataError, match=r"embeddings.npz is not the one that manifest.json describes; export the"):
        export_faces(items, out, model=model, options=ALIGNED, resume=True)
    again = export_faces(items, out, model=model, options=ALIGNED)
    np.testing.assert_array_equal(again.table.embeddings.mu, first.table.embeddings.mu)


def test_faces_of_an_older_and_longer_run_do_not_stay(
    model: Path, items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export_faces(items, out, model=model, options=ALIGNED)  # three parts
    killed_at(monkeypatch, CropFiles, "clear", lambda: export_faces(items[:8], out, model=model, options=ALIGNED))
    assert len(list((out / "crops").iterdir())) == 3
    (out / "crops" / ".part-000000.npy.1.tmp").write_bytes(b"half")
    export_faces(items[:8], out, model=model, options=ALIGNED, resume=True)
    export_faces(items[:8], tmp_path / "clean", model=model, options=ALIGNED)
    assert content(out) == content(tmp_path / "clean")
    bare = replace(ALIGNED, crops=False)
    killed_at(monkeypatch, CropFiles, "clear", lambda: export_faces(items, out, model=model, options=bare))
    export_faces(items, out, model=model, options=bare, resume=True)
    assert not (out / "crops").exists()


def test_one_export_at_a_time(model: Path, items: list[Item], tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no lock for folders")
    out, refused = tmp_path / "out", list[str]()

    def another(_: int) -> None:
        with pytest.raises(StorageError, match="out: another run is at work there; wait for its end, or") as error:
            export_faces(items, out, model=model, options=ALIGNED, resume=True)
        refused.append(str(error.value))

    assert export_faces(items, out, model=model, options=ALIGNED, progress=another).resumed == 0
    assert len(refused) == len(items)
    assert export_faces(items, out, model=model, options=ALIGNED, resume=True).resumed == len(items)


def test_damaged_exports_are_told(model: Path, items: list[Item], tmp_path: Path) -> None:
    out = tmp_path / "faces"
    export_faces(items, out, model=model, options=ALIGNED)
    crops = out / "crops" / "part-000002.npy"
    whole = crops.read_bytes()
    crops.unlink()
    with pytest.raises(DataError, match=r"7 faces for 11 embeddings; export the faces again"):
        read_exported_faces(out)
    crops.write_bytes(whole[:60])
    with pytest.raises(DataError, match=r"part-000002.npy: cannot be read"):
        read_exported_faces(out)
    crops.write_bytes(whole)
    (out / "embeddings.errors.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"errors.jsonl: cannot be read"):
        read_exported_faces(out)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["options"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="no finished export"):
        read_exported_faces(out)


def test_a_graph_without_the_norm_and_a_contract_without_quality(
    model: Path, items: list[Item], tmp_path: Path
) -> None:
    graph = onnx.load(model)
    (division,) = (node for node in graph.graph.node if "mu" in node.output)
    division.CopyFrom(helper.make_node("LpNormalization", [division.input[0]], ["mu"], axis=1, p=2))
    contract = Encoder(model, threads=1).contract
    set_contract(graph, replace(contract, quality=None))
    onnx.save(graph, tmp_path / "other.onnx")
    options = replace(ALIGNED, mirror=True)
    found = export_faces(items, tmp_path / "faces", model=tmp_path / "other.onnx", options=options)
    assert set(found.table.measures) == {SHARPNESS, DETECTOR_SCORE}
    assert found.mirror is not None
    assert found.mirror.measures == {}
    assert (found.quality == -1).all()
    assert found.notes == ("embedding norm: the graph of model 'random' does not show it, so this measure is absent",)


def test_what_cannot_be_exported_leaves_nothing(model: Path, items: list[Item], tmp_path: Path) -> None:
    def refused(kind: type[Exception], match: str, images: list[Item], **arguments: object) -> None:
        with pytest.raises(kind, match=match):
            export_faces(images, tmp_path / "new", model=model, **arguments)  # type: ignore[arg-type]

    refused(DataError, "12 images of 11 names", [*items[:11], items[0]])
    refused(InvalidValue, "batch 0", items, batch=0)
    gone = [Item("gone", tmp_path / "gone.png"), Item("bad", Broken("a broken record"))]
    refused(DataError, "no face in any of 2 images; the first failed so: image gone", gone, options=ALIGNED)
    refused(DataError, "no face in any of 0 images", [])
    assert not list((tmp_path / "new").rglob("*.*"))
    with pytest.raises(InvalidValue, match="degradation 'rain': must be one of moderate, composed, extreme"):
        ExportOptions(degrade="rain")
    with pytest.raises(InvalidValue, match="seed -1"):
        ExportOptions(seed=-1)


def test_names_that_are_no_text(model: Path, items: list[Item], tmp_path: Path) -> None:
    origin = items[0].origin
    assert isinstance(origin, Path)
    name = os.fsdecode(b"k\xff")
    options = replace(ALIGNED, degrade="moderate")
    found: ExportedFaces = export_faces([Item(name, origin)], tmp_path / "faces", model=model, options=options)
    assert found.table.names == (name,)
    assert found.picture(name) is not None
