from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from probface.encoder.onnx import Encoder
from probface.errors import DataError
from probface.eval.metrics.verification import kfold_accuracy
from probface.eval.results import Results
from probface.eval.verification.options import JudgeOptions
from probface.face.image import read_image
from probface.models.registry import resolve_model
from probface.pipeline.evaluation.evaluate import evaluate
from probface.readers.lfw import lfw_images, read_pairs
from probface.readers.verification_bin import read_verification_bin
from probface.score.cosine import cosine
from probface.score.quality import quality
from probface.types import FloatArray
from small_lfw import write_small_lfw

QUICK = JudgeOptions(fmrs=(0.5, 0.2), fmr=0.5, resamples=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verification set as InsightFace's scripts write it."""
    root = write_small_lfw(tmp_path_factory.mktemp("lfw"), [f"Nobody_{letter}" for letter in "ABCDEFGH"])
    content = {item.name: Path(str(item.source)).read_bytes() for item in lfw_images(root)}
    pairs = read_pairs(root / "pairs.txt")
    images = [content[name] for pair in pairs for name in (pair.a, pair.b)]
    path = root / "small.bin"
    path.write_bytes(pickle.dumps((images, [pair.genuine for pair in pairs])))
    return path


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return evaluate("bin", data, tmp_path_factory.mktemp("out"), judge=QUICK)


def test_image_and_mirror_image_are_summed_as_the_field_does(data: Path, results: Results) -> None:
    """Against the raw embeddings' sum, written out here."""
    images, genuine = pickle.loads(data.read_bytes())  # noqa: S301  our own file
    crops = np.stack([read_image(image) for image in images])
    encoder = Encoder("sface", norm=True)
    total = _raw(encoder, crops) + _raw(encoder, np.ascontiguousarray(crops[:, :, ::-1]))
    mu = (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)
    sizes = np.full(10, len(genuine) // 10) + (np.arange(10) < len(genuine) % 10)
    folds = np.repeat(np.arange(10), sizes)
    labels = np.array(genuine)
    whole = [f for f in range(10) if labels[folds == f].any() and not labels[folds == f].all()]
    kept = np.isin(folds, whole)
    scores = cosine(mu[0::2], mu[1::2])
    expected = kfold_accuracy(scores[kept], labels[kept], folds[kept]).mean
    section = next(one for one in results.sections if one.title == "Verification")
    (found,) = (f for f in section.figures if f.name == "accuracy" and f.system == "sface-cosine")
    assert found.value == pytest.approx(expected, abs=1e-12)


def _raw(encoder: Encoder, crops: np.ndarray) -> FloatArray:
    faces = encoder.encode_with_norm(crops)
    assert faces.norm is not None
    return faces.embeddings.mu * np.reshape(faces.norm, (-1, 1))


def test_nobody_is_known_so_pairs_are_resampled(results: Results) -> None:
    assert any("resample comparisons" in note for note in results.notes)


def test_that_people_who_trained_the_head_cannot_be_left_out_is_said(
    data: Path, results: Results, tmp_path: Path
) -> None:
    unknown = "the file does not tell who is on its images; people who trained the head cannot be left out."
    assert [note for note in results.notes if unknown in note] == [f"FastMLS: {unknown}"]
    names = np.array([item.name for item in read_verification_bin(data).items])
    mu = np.random.default_rng(0).normal(size=(len(names), 8)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", path=names, mu=mu)
    np.savez(tmp_path / "own.npz", path=names, mu=mu, sigma_sq=np.full((len(names), 1), 0.5, np.float32))
    # One variance for all is of no head.
    for file, sigma_sq, notes in (("mine.npz", 0.5, 0), ("own.npz", None, 1)):
        asked = {"models": (), "embeddings": (tmp_path / file,), "sigma_sq": sigma_sq, "judge": QUICK}
        found = evaluate("bin", data, tmp_path / "out", **asked)
        assert [system.metric for system in found.systems] == ["cosine", "fastmls"]
        assert sum(unknown in note for note in found.notes) == notes


def test_the_ladder_is_on_the_scale_of_the_model(results: Results) -> None:
    scale = resolve_model("sface").contract.quality
    assert scale is not None
    grades = quality(np.array([[rung.sigma_sq] for rung in results.ladder], np.float32), scale)
    assert len(grades) > 0
    assert [rung.quality for rung in results.ladder] == grades.tolist()


def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (witness,))

    path = tmp_path / "hostile.bin"
    path.write_bytes(pickle.dumps(([Hostile()], [True])))
    with pytest.raises(DataError, match=r"hostile\.bin: no verification set"):
        evaluate("bin", path, tmp_path / "out", judge=QUICK)
    assert not witness.exists()
    assert not (tmp_path / "out").exists()


def test_a_truncated_file_is_refused(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.bin"
    path.write_bytes(data.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"short\.bin: no verification set"):
        evaluate("bin", path, tmp_path / "out", judge=QUICK)


def test_labels_of_one_kind_are_refused(data: Path, tmp_path: Path) -> None:
    images, genuine = pickle.loads(data.read_bytes())  # noqa: S301  our own file
    path = tmp_path / "one.bin"
    path.write_bytes(pickle.dumps((images, [True] * len(genuine))))
    with pytest.raises(DataError, match="pairs are genuine"):
        evaluate("bin", path, tmp_path / "out", judge=QUICK)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        evaluate("bin", tmp_path / "none.bin", tmp_path / "out")
