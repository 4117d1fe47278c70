from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from people_folder import write_people

from probface.contract import QualityScale, Threshold, person_digests
from probface.encoder.onnx import Encoder
from probface.errors import DataError, InsufficientData, InvalidValue, StorageError
from probface.eval.cross_pairs import CrossPairs
from probface.face.degrade import EXTREME, MODERATE, image_rng
from probface.face.image import read_image
from probface.models.graft import read_contract
from probface.models.registry import resolve_model
from probface.pipeline.calibrate import CalibratedModel, calibrate_model
from probface.pipeline.embed import embed
from probface.readers.open import open_items
from probface.score.quality import fit_scale
from probface.types import Embeddings
from probface.writers.recordio import write_recordio

PEOPLE, TRAINED = 32, ("person-03", "person-30")
OLD = Threshold("cosine", 1e-2, 0.5, 0.02, 1000, 5, "what came with the model")
SCALE = QualityScale(-9.0, 9.0)


@pytest.fixture(scope="module")
def model(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with a head of random weights, which two of the people trained."""
    return write_model(
        tmp_path_factory.mktemp("model") / "small.onnx",
        training_people=person_digests(TRAINED),
        quality=SCALE,
        thresholds=(OLD,),
        data={OLD.data: "other people"},
    )


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 people of 3 images; one image is broken."""
    folder = write_people(tmp_path_factory.mktemp("data") / "people", PEOPLE)
    (folder / "person-07" / "1.png").write_bytes(b"no image")
    return folder


def crops_of(people: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, people and pixels of the images that count, in the order of the names."""
    kept = [item for item in open_items(people) if item.label not in TRAINED and not item.name.endswith("07/1.png")]
    labels = np.unique([item.label or "" for item in kept], return_inverse=True)[1]
    return [item.name for item in kept], labels, np.stack([read_image(item.source) for item in kept])


def calibrated(model: Path | str, people: Path, out: Path, **options: object) -> CalibratedModel:
    return calibrate_model(model, people, out, aligned=True, **options)  # type: ignore[arg-type]


def test_thresholds_are_those_of_all_pairs_of_people_who_did_not_train(
    model: Path, people: Path, tmp_path: Path
) -> None:
    steps: list[tuple[str, int, int]] = []
    made = calibrated(model, people, tmp_path / "mine.onnx", progress=lambda *step: steps.append(step))
    assert (made.people, made.images, made.trained, made.beyond) == (30, 89, 2, 0)
    assert [Path(image.path).name for image in made.failed] == ["1.png"]
    assert {step for step in steps if step[1] == step[2]} == {
        (f"embedding, {state}", 90, 90) for state in ("as they are", "moderate", "extreme")
    }

    names, labels, crops = crops_of(people)
    encoder = Encoder(model, threads=1)
    bad, extreme = (
        np.stack([mix(crop, image_rng(0, mix.name, 0, name)) for crop, name in zip(crops, names, strict=True)])
        for mix in (MODERATE, EXTREME)
    )
    clean = encoder.encode(crops)
    both = Embeddings.concatenate([clean, encoder.encode(bad)])
    pairs = CrossPairs.of(np.tile(labels, 2), np.tile(np.arange(89), 2))
    contract = made.contract
    assert {entry.fmr for entry in contract.thresholds} == {1e-1, 1e-2, 1e-3}
    assert made.insufficient == (1e-4, 1e-5, 1e-6)
    for entry in contract.thresholds:
        impostor = pairs.scores(both, entry.metric)[~pairs.genuine]
        assert entry.impostor_pairs == len(impostor)
        share = float((impostor > entry.threshold + 1e-5 * abs(entry.threshold)).mean())
        assert entry.fmr * 0.9 < share <= entry.fmr < entry.fmr_upper
        assert entry.data == "people"
    expected = fit_scale(clean.sigma_sq, encoder.encode(extreme).sigma_sq)
    assert contract.quality is not None
    assert contract.quality.log_sigma_sq_best == pytest.approx(expected.log_sigma_sq_best, abs=1e-4)
    assert contract.quality.log_sigma_sq_worst == pytest.approx(expected.log_sigma_sq_worst, abs=1e-4)
    today = datetime.now(UTC).date().isoformat()
    assert list(contract.data) == ["people"]
    assert (
        "all cross-identity pairs of 89 images of 30 people of people, each image clean and once degraded ("
        in (contract.data["people"])
    )
    assert f"2 people who trained the head were left out; measured on {today}" in contract.data["people"]
    assert len(contract.histograms) == 3


def test_only_the_contract_changes(model: Path, people: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    made = calibrated(model, people, tmp_path / "new" / "folder", name="door 7", degrade=False)
    assert made.out == tmp_path / "new" / "folder" / "model.onnx"
    assert resolve_model(tmp_path / "new" / "folder").contract == made.contract
    given, written = onnx.load(model), onnx.load(made.out)
    assert written.graph.SerializeToString(deterministic=True) == given.graph.SerializeToString(deterministic=True)
    old, new = read_contract(given), made.contract
    assert old is not None
    same = {"thresholds": (), "histograms": (), "data": {}}
    assert replace(new, **same) == replace(old, **same)  # type: ignore[arg-type]
    assert new.training_people == person_digests(TRAINED)
    assert list(new.data) == ["door 7"]
    assert "each image as it is;" in new.data["door 7"]
    crops = crops_of(people)[2][:9]
    for after, one in zip(Encoder(made.out).encode(crops).mu, Encoder(model).encode(crops).mu, strict=True):
        np.testing.assert_array_equal(after, one)
    assert model.read_bytes() == before


def test_the_default_model_becomes_a_file(people: Path, tmp_path: Path) -> None:
    made = calibrated("sface", people, tmp_path / "mine.onnx", degrade=False, fmrs=(0.05,), most_people=12)
    assert (made.people, made.beyond, made.insufficient) == (12, 20, ())
    crops = crops_of(people)[2][:4]
    before, after = Encoder("sface", threads=1).encode(crops), Encoder(made.out, threads=1).encode(crops)
    np.testing.assert_array_equal(before.mu, after.mu)
    np.testing.assert_array_equal(before.sigma_sq, after.sigma_sq)
    assert {(entry.metric, entry.fmr) for entry in Encoder(made.out).contract.thresholds} == {
        (metric, 0.05) for metric in ("fastmls", "mls", "cosine")
    }
    assert len(made.contract.training_people) == 1163
    assert "too few people (12)" in made.contract.data["people"]


def test_ready_embeddings_of_the_model_serve_as_well(model: Path, people: Path, tmp_path: Path) -> None:
    file = embed(people, tmp_path / "people.npz", model=model, aligned=True).out
    ready = calibrate_model(model, file, tmp_path / "ready.onnx")
    images = calibrated(model, people, tmp_path / "images.onnx", degrade=False)
    assert (ready.people, ready.images, ready.trained) == (30, 89, 2)
    for one, other in zip(ready.contract.thresholds, images.contract.thresholds, strict=True):
        assert one.threshold == pytest.approx(other.threshold, rel=1e-5)
        assert (one.metric, one.fmr, one.impostor_pairs) == (other.metric, other.fmr, other.impostor_pairs)
    assert ready.contract.quality == SCALE
    # Also those made with the calibrated file: it is the same network.
    again = embed(people, tmp_path / "again.npz", model=ready.out, aligned=True).out
    assert calibrate_model(model, again, tmp_path / "third.onnx").people == 30
    with pytest.raises(DataError, match="embeddings of model 'random', which is not the model"):
        calibrate_model("sface", file, tmp_path / "x.onnx")
    with pytest.raises(InvalidValue, match="embeddings cannot be degraded"):
        calibrate_model(model, file, tmp_path / "x.onnx", degrade=True)
    np.savez(tmp_path / "bare.npz", path=np.array(["a/b.png"]), mu=np.eye(1, 64, dtype=np.float32))
    with pytest.raises(DataError, match="not embeddings of probface embed"):
        calibrate_model(model, tmp_path / "bare.npz", tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_limits_take_the_first_by_name(model: Path, people: Path, tmp_path: Path) -> None:
    made = calibrated(
        model, people, tmp_path / "m.onnx", degrade=False, images_per_person=2, most_people=20, fmrs=(0.1,)
    )
    assert (made.people, made.images, made.trained, made.beyond) == (20, 39, 2, 10)


def test_what_is_refused_leaves_nothing_and_harms_nothing(model: Path, people: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    out = tmp_path / "new" / "m.onnx"
    with pytest.raises(InvalidValue, match=r"output .*small.onnx: would destroy .*small.onnx, which is read"):
        calibrated(model, people, model)
    with pytest.raises(InvalidValue, match=r"m.pt: must end in .onnx, or be a folder"):
        calibrated(model, people, out.with_suffix(".pt"))
    for bad in ((), (0.0,), (0.1, 1.0), (float("nan"),)):
        with pytest.raises(InvalidValue, match="give one or more rates between 0 and 1"):
            calibrated(model, people, out, fmrs=bad)
    with pytest.raises(InvalidValue, match="images per person 0"):
        calibrated(model, people, out, images_per_person=0)
    with pytest.raises(InsufficientData, match=r"FMR 1e-06 needs at least 10,000,000 impostor comparisons"):
        calibrated(model, people, out, degrade=False, fmrs=(1e-6,))
    with pytest.raises(DataError, match="no such file or folder"):
        calibrated(model, tmp_path / "nowhere", out)
    only = tmp_path / "only"
    for person in TRAINED:
        (only / person).mkdir(parents=True)
        (only / person / "0.png").write_bytes((people / person / "0.png").read_bytes())
    with pytest.raises(DataError, match="all 2 people in it trained the head; bring others"):
        calibrated(model, only, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["only"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        calibrated(model, people, tmp_path / "file" / "m.onnx", degrade=False, fmrs=(0.1,))
    assert model.read_bytes() == before


def test_an_older_file_is_kept_until_the_new_one_is_whole(model: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_bytes(b"old")
    with pytest.raises(InsufficientData):
        calibrated(model, people, out, degrade=False, fmrs=(1e-6,))
    assert out.read_bytes() == b"old"
    calibrated(model, people, out, degrade=False, fmrs=(0.1,))
    assert resolve_model(out).contract.thresholds[0].fmr == 0.1


def test_images_of_nobody_are_refused_and_a_record_file_serves(model: Path, people: Path, tmp_path: Path) -> None:
    items = [item for item in open_items(people) if not item.name.endswith("07/1.png")]
    numbers = {label: str(row) for row, label in enumerate(sorted({item.label or "" for item in items}))}
    write_recordio([replace(item, label=numbers[item.label or ""]) for item in items], tmp_path / "train.rec")
    made = calibrated(model, tmp_path / "train.rec", tmp_path / "m.onnx", degrade=False)
    assert (made.people, made.images, made.trained) == (32, 95, 0)
