from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from people_folder import write_people

from probface.contract import QualityScale
from probface.errors import DataError
from probface.eval.metrics.verification import tmr_at_fmr
from probface.eval.results import Results
from probface.eval.verification.options import JudgeOptions
from probface.pipeline.embedding_file import EmbeddingRows, read_embeddings
from probface.pipeline.evaluation.evaluate import evaluate

QUICK = JudgeOptions(fmrs=(0.1, 1e-2), fmr=0.1, resamples=10)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = write_people(tmp_path_factory.mktemp("people"), 12, 3)
    folder = tmp_path_factory.mktemp("out")
    evaluate("risk", data, folder, aligned=True, judge=QUICK)
    return folder


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return Results.from_json((out / "results.json").read_text())


def exported(out: Path, *, degraded: bool) -> EmbeddingRows:
    (path,) = (p for p in (out / "faces").glob("*/embeddings.npz") if p.parent.name.endswith("-moderate") is degraded)
    return read_embeddings(path).rows


def test_every_cross_pair_is_judged_by_brute_force(out: Path, results: Results) -> None:
    clean, bad = exported(out, degraded=False), exported(out, degraded=True)
    assert clean.path == bad.path
    mu = np.concatenate([clean.mu, bad.mu]).astype(np.float64)
    image = np.tile(np.arange(len(clean)), 2)
    person = np.array([Path(name).parent.name for name in clean.path * 2])
    i, j = np.triu_indices(len(mu), 1)
    i, j = i[image[i] != image[j]], j[image[i] != image[j]]
    genuine = person[i] == person[j]
    assert (results.provenance.genuine, results.provenance.impostor) == (genuine.sum(), (~genuine).sum())
    scores = np.einsum("nd,nd->n", mu[i], mu[j])
    section = next(one for one in results.sections if one.title == "Verification")
    for fmr in (0.1, 1e-2):
        (found,) = (
            f for f in section.figures if f.name == "TMR" and f.system == "sface-cosine" and f.at == {"fmr": fmr}
        )
        assert found.value == pytest.approx(tmr_at_fmr(scores[genuine], scores[~genuine], fmr), abs=1e-9)


def test_quality_measures_stand_side_by_side(results: Results) -> None:
    section = next(one for one in results.sections if "discard" in one.title.lower())
    assert {"sigma^2", "embedding norm", "sharpness", "detector score"} <= {figure.by for figure in section.figures}


def test_the_pictures_are_of_the_degraded_copies_too(out: Path, results: Results) -> None:
    names = {rung.name for rung in results.ladder}
    assert any(name.endswith("(moderate)") for name in names)
    assert any(not name.endswith("(moderate)") for name in names)
    assert (out / "report.html").read_text().count("data:image/") >= len(names)


def test_people_who_trained_are_not_even_embedded(tmp_path: Path) -> None:
    data = write_people(tmp_path / "people", 6, 3)
    (data / "person-00").rename(data / "Abel_Pacheco")
    results = evaluate("risk", data, tmp_path / "out", aligned=True, judge=QUICK)
    assert results.provenance.subjects == 5
    assert any("1 people (3 images) who trained" in note for note in results.notes)


def test_several_models_of_one_input_share_their_faces(write_model: Callable[..., Path], tmp_path: Path) -> None:
    """Each sees what it would see alone."""
    data = write_people(tmp_path / "people", 8, 3)
    models = tuple(
        str(write_model(tmp_path / f"{name}.onnx", name=name, quality=QualityScale(-3.0, 3.0)))
        for name in ("one", "two")
    )
    both = evaluate("risk", data, tmp_path / "both", aligned=True, judge=QUICK, models=models)
    assert [system.key for system in both.systems] == ["one-cosine", "one-fastmls", "two-cosine", "two-fastmls"]
    alone = evaluate("risk", data, tmp_path / "alone", aligned=True, judge=QUICK, models=models[1:])
    rows = {one.key: [row for row in both.thresholds if row.system == one.key] for one in alone.systems}
    assert rows == {one.key: [row for row in alone.thresholds if row.system == one.key] for one in alone.systems}


def test_no_more_images_than_asked_for(tmp_path: Path) -> None:
    data = write_people(tmp_path / "people", 6, 6)
    results = evaluate("risk", data, tmp_path / "out", aligned=True, judge=QUICK, max_images=10)
    assert results.provenance.images == 20  # each clean and degraded
    assert any("10 of 36 images are judged: 4 of a person at most" in note for note in results.notes)


def test_images_of_nobody_are_refused(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("")
    with pytest.raises(DataError):
        evaluate("risk", listed, tmp_path / "out")
    ready = tmp_path / "mine.npz"
    with pytest.raises(DataError, match=r"mine\.npz: the degraded copies must be embedded"):
        evaluate("risk", tmp_path, tmp_path / "out", models=(), embeddings=(ready,))
