"""What is judged: names that differ, and what a file of embeddings tells of its model."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from drawn_faces import drawn_faces, write_faces
from probface.contract import ModelContract
from probface.eval.results import Results
from probface.eval.verification.options import JudgeOptions
from probface.pipeline.embedding_file import read_embeddings
from probface.pipeline.evaluation.evaluate import evaluate
from probface.pipeline.evaluation.judged import embed_models
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.readers.item import Item
from small_lfw import write_small_lfw

TRAINED = ["Abel_Pacheco", "Akhmed_Zakayev"]
"""People whom the shipped head was trained on."""
QUICK = JudgeOptions(fmrs=(0.5,), fmr=0.5, resamples=20)
UNTOLD = "does not tell who trained its head"


@pytest.mark.parametrize("stems", sorted(set(itertools.permutations(["a", "a", "a", "a 2", "a 2"]))))
def test_no_two_have_one_name(stems: tuple[str, ...], tmp_path: Path) -> None:
    items = [Item("x", tmp_path / "x"), Item("y", tmp_path / "y")]
    files = []
    for number, stem in enumerate(stems):
        (tmp_path / str(number)).mkdir()
        files.append(write_faces(tmp_path / str(number) / f"{stem}.npz", drawn_faces("xy", "xy")))
    judged = embed_models(EvaluationRequest(tmp_path, tmp_path, models=(), embeddings=tuple(files)), items)
    names = [one.name for one in judged]
    assert len(set(names)) == len(names)
    # Who comes first with a name keeps it.
    assert {names[stems.index(stem)] for stem in ("a", "a 2")} == {"a", "a 2"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    people = [*(f"Nobody_{letter}" for letter in "ABCDEFGH"), *TRAINED]
    return write_small_lfw(tmp_path_factory.mktemp("lfw"), people)


@pytest.fixture(scope="module")
def by_model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    """The shipped model's results, and what it exported."""
    out = tmp_path_factory.mktemp("out")
    results = evaluate("lfw", data, out, aligned=True, faces=False, judge=QUICK)
    (exported,) = (out / "faces").glob("*/embeddings.npz")
    return results, exported


def without_contract(path: Path, source: Path, **changes: object) -> Path:
    with np.load(source) as arrays:
        kept = {name: arrays[name] for name in arrays if name != "contract"}
    np.savez(path, **(kept | changes))  # type: ignore[arg-type]
    return path


def test_an_exports_file_is_judged_as_its_model_is(by_model: tuple[Results, Path], data: Path, tmp_path: Path) -> None:
    results, exported = by_model
    ready = evaluate("lfw", data, tmp_path, models=(), embeddings=(exported,), judge=QUICK)
    assert results.systems[1].left_out > 0
    assert [(one.metric, one.left_out) for one in ready.systems] == [
        (one.metric, one.left_out) for one in results.systems
    ]
    assert {one.trained_on for one in ready.systems} == {read_embeddings(exported).contract.trained_on}
    assert ready.systems[0].trained_on
    assert any("comparisons with people who trained" in note for note in ready.notes)
    assert not any(UNTOLD in note for note in (*results.notes, *ready.notes))
    forced = evaluate("lfw", data, tmp_path, models=(), embeddings=(exported,), judge=QUICK, force=True)
    assert [one.left_out for one in forced.systems] == [0, 0]
    assert any(note.startswith("Forced") for note in forced.notes)


def test_a_file_that_tells_nothing_gets_a_note(by_model: tuple[Results, Path], data: Path, tmp_path: Path) -> None:
    _, exported = by_model
    asked = {"models": (), "judge": QUICK}
    bare = without_contract(tmp_path / "bare.npz", exported)
    results = evaluate("lfw", data, tmp_path / "out", embeddings=(bare,), **asked)
    assert [note for note in results.notes if UNTOLD in note] == [
        "FastMLS: the file of embeddings does not tell who trained its head; the figures are fair only if that was "
        "nobody of the data set."
    ]
    cosine = evaluate("lfw", data, tmp_path / "out", embeddings=(bare,), metrics=("cosine",), **asked)
    assert not any(UNTOLD in note for note in cosine.notes)
    with np.load(bare) as arrays:
        np.savez(tmp_path / "means.npz", path=arrays["path"], mu=arrays["mu"])
    constant = evaluate("lfw", data, tmp_path / "out", embeddings=(tmp_path / "means.npz",), sigma_sq=0.3, **asked)
    assert not any(UNTOLD in note for note in constant.notes)  # no head at all


def test_a_contract_that_names_nobody_gets_a_note(by_model: tuple[Results, Path], data: Path, tmp_path: Path) -> None:
    _, exported = by_model
    contract = ModelContract("old", 128, 1, read_embeddings(exported).contract.input, "ab")
    old = without_contract(tmp_path / "old.npz", exported, contract=contract.to_json())
    results = evaluate("lfw", data, tmp_path / "out", models=(), embeddings=(old,), judge=QUICK)
    assert any(f"FastMLS: the model {UNTOLD}" in note for note in results.notes)
