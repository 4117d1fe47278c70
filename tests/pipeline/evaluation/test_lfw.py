from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from probface.cli.app import run
from probface.errors import DataError, InvalidValue
from probface.eval.metrics.verification import kfold_accuracy
from probface.eval.results import Results
from probface.eval.verification.options import JudgeOptions
from probface.pipeline.embedding_file import read_embeddings
from probface.pipeline.evaluation.evaluate import evaluate
from probface.readers.lfw import read_pairs
from probface.score.cosine import cosine
from small_lfw import write_small_lfw

TRAINED = ["Abel_Pacheco", "Akhmed_Zakayev"]
"""People whom the shipped head was trained on."""
STRANGERS = [f"Nobody_{letter}" for letter in "ABCDEFGH"]
QUICK = JudgeOptions(fmrs=(0.5, 0.2, 1e-3), fmr=0.5, resamples=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_lfw(tmp_path_factory.mktemp("lfw"), [*STRANGERS, *TRAINED])


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    evaluate("lfw", data, folder, aligned=True, judge=QUICK)
    return folder


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return Results.from_json((out / "results.json").read_text())


def figure(results: Results, name: str, system: str, **at: float) -> float | None:
    section = next(one for one in results.sections if one.title == "Verification")
    (found,) = (one for one in section.figures if one.name == name and one.system == system and one.at == at)
    return found.value


def test_the_accuracy_is_that_of_the_folds(data: Path, out: Path, results: Results) -> None:
    """Of cosine on all pairs, from the exported embeddings."""
    (exported,) = (out / "faces").glob("*/embeddings.npz")
    rows = read_embeddings(exported).rows
    place = {name: row for row, name in enumerate(rows.path)}
    pairs = read_pairs(data / "pairs.txt")
    scores = cosine(rows.mu[[place[p.a] for p in pairs]], rows.mu[[place[p.b] for p in pairs]])
    expected = kfold_accuracy(scores, np.array([p.genuine for p in pairs]), np.array([p.fold for p in pairs]))
    assert figure(results, "accuracy", "sface-cosine") == pytest.approx(expected.mean, abs=1e-12)
    assert results.provenance.genuine + results.provenance.impostor == len(pairs)


def test_people_who_trained_the_head_are_left_out_of_its_rows_alone(data: Path, results: Results) -> None:
    systems = {system.key: system for system in results.systems}
    with_them = sum(bool({p.a.split("/")[0], p.b.split("/")[0]} & set(TRAINED)) for p in read_pairs(data / "pairs.txt"))
    assert with_them > 0
    assert systems["sface-fastmls"].left_out == with_them
    assert systems["sface-cosine"].left_out == 0
    assert any(f"{with_them} comparisons with people who trained" in note for note in results.notes)


def test_forced_all_are_judged_and_the_page_says_so(data: Path, tmp_path: Path) -> None:
    results = evaluate("lfw", data, tmp_path, aligned=True, judge=QUICK, force=True, faces=False)
    assert [system.left_out for system in results.systems] == [0, 0]
    assert any("Forced" in note for note in results.notes)
    page = (tmp_path / "report.html").read_text()
    assert "Forced" in page
    assert "data:image/" not in page  # no faces were kept
    assert not list((tmp_path / "faces").glob("*/crops/*"))


def test_a_rate_without_impostors_is_no_number(results: Results) -> None:
    section = next(one for one in results.sections if one.title == "Verification")
    (rare,) = (f for f in section.figures if f.name == "TMR" and f.system == "sface-cosine" and f.at == {"fmr": 1e-3})
    assert rare.value is None
    assert rare.note.startswith("insufficient data")


def test_an_image_that_is_not_there_is_named_or_skipped(tmp_path: Path) -> None:
    data = write_small_lfw(tmp_path / "data", STRANGERS)
    (data / "lfw" / "Nobody_A" / "Nobody_A_0001.jpg").unlink()
    with pytest.raises(DataError, match=r"'Nobody_A/Nobody_A_0001' is not in the data set \(1 such images\)"):
        evaluate("lfw", data, tmp_path / "out", aligned=True, judge=QUICK)
    assert not (tmp_path / "out" / "results.json").exists()
    results = evaluate("lfw", data, tmp_path / "out", aligned=True, judge=QUICK, missing="skip")
    pairs = read_pairs(data / "pairs.txt")
    lost = sum("Nobody_A/Nobody_A_0001" in (pair.a, pair.b) for pair in pairs)
    assert results.provenance.genuine + results.provenance.impostor == len(pairs) - lost
    assert any(f"{lost} pairs are left out" in note for note in results.notes)


def test_an_image_without_a_face_takes_its_pairs_with_it(tmp_path: Path) -> None:
    data = write_small_lfw(tmp_path / "data", STRANGERS)
    (data / "lfw" / "Nobody_A" / "Nobody_A_0001.jpg").write_bytes(b"no image")
    results = evaluate("lfw", data, tmp_path / "out", aligned=True, judge=QUICK)
    assert results.provenance.failed == 1
    assert any("Nobody_A/Nobody_A_0001" in note for note in results.notes)
    pairs = read_pairs(data / "pairs.txt")
    lost = sum("Nobody_A/Nobody_A_0001" in (pair.a, pair.b) for pair in pairs)
    assert results.provenance.genuine + results.provenance.impostor == len(pairs) - lost


def test_a_pair_that_comes_twice_is_refused(tmp_path: Path) -> None:
    data = write_small_lfw(tmp_path / "data", STRANGERS)
    lines = (data / "pairs.txt").read_text().splitlines()
    lines[2] = lines[1]
    (data / "pairs.txt").write_text("\n".join(lines))
    with pytest.raises(DataError, match="is in the list twice"):
        evaluate("lfw", data, tmp_path / "out", aligned=True, judge=QUICK)


def test_the_development_lists_make_a_section(tmp_path: Path) -> None:
    data = write_small_lfw(tmp_path / "data", STRANGERS)
    header, *lines = (data / "pairs.txt").read_text().splitlines()
    folds, count = header.split()
    half = len(lines) // int(folds)
    for name, part in (("pairsDevTrain.txt", lines[:half]), ("pairsDevTest.txt", lines[half:])):
        (data / name).write_text("\n".join([count, *part]) + "\n")
    results = evaluate("lfw", data, tmp_path / "out", aligned=True, judge=QUICK)
    (section,) = (one for one in results.sections if one.title == "View 1")
    assert {figure.system for figure in section.figures} == {"sface-cosine", "sface-fastmls"}


def test_ready_embeddings_are_judged_beside_and_alone(data: Path, out: Path, results: Results, tmp_path: Path) -> None:
    (exported,) = (out / "faces").glob("*/embeddings.npz")
    rows = read_embeddings(exported).rows
    ready = tmp_path / "mine.npz"
    names = [f"somewhere/{name}.jpg" for name in rows.path]
    np.savez(ready, path=np.array(names), mu=rows.mu, luck=np.arange(len(rows)) * 1.0)
    alone = evaluate("lfw", data, tmp_path / "alone", models=(), embeddings=(ready,), sigma_sq=0.3, judge=QUICK)
    assert figure(alone, "accuracy", "mine-cosine") == figure(results, "accuracy", "sface-cosine")
    both = evaluate(
        "lfw",
        data,
        tmp_path / "both",
        embeddings=(ready,),
        sigma_sq=0.3,
        metrics=("cosine",),
        judge=QUICK,
        aligned=True,
    )
    assert [system.key for system in both.systems] == ["sface-cosine", "mine-cosine"]
    assert "luck" in both.to_json()


def test_without_variances_cosine_alone_judges(data: Path, out: Path, tmp_path: Path) -> None:
    (exported,) = (out / "faces").glob("*/embeddings.npz")
    rows = read_embeddings(exported).rows
    ready = tmp_path / "mine.npz"
    np.savez(ready, path=np.array(rows.path), mu=rows.mu)
    results = evaluate("lfw", data, tmp_path / "out", models=(), embeddings=(ready,), judge=QUICK)
    assert [system.key for system in results.systems] == ["mine-cosine"]
    with pytest.raises(InvalidValue, match=r"mine: fastmls needs variances, .* declare one \(--sigma-sq\)"):
        evaluate("lfw", data, tmp_path / "o", models=(), embeddings=(ready,), metrics=("fastmls",), judge=QUICK)


def test_groups_of_other_people_are_refused(data: Path, tmp_path: Path) -> None:
    groups = {"Nobody A": "left", "Nobody B": "right"}  # blanks where LFW has underscores
    with pytest.raises(DataError, match="none of the 10 subjects, such as 'Abel_Pacheco', is among the 2 of the table"):
        evaluate("lfw", data, tmp_path, aligned=True, judge=dataclasses.replace(QUICK, groups=groups))


def test_what_is_asked_must_make_sense(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="protocol 'lwf'"):
        evaluate("lwf", data, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="option 'metric'"):
        evaluate("lfw", data, tmp_path, metric="cosine")
    with pytest.raises(InvalidValue, match="nothing to judge"):
        evaluate("lfw", data, tmp_path, models=())
    with pytest.raises(InvalidValue, match="named twice"):
        evaluate("lfw", data, tmp_path, models=("sface", "sface"))


def test_the_verb(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = tmp_path / "people.csv"
    groups.write_text(
        "subject,side\n" + "".join(f"{name},{'left' if i % 2 else 'right'}\n" for i, name in enumerate(STRANGERS))
    )
    command = ["evaluate", "lfw", "--data", str(data), "--out", str(tmp_path / "out"), "--aligned", "--fmr", "0.5"]
    command += ["--at-fmr", "0.5", "--resamples", "20", "--groups", str(groups), "--json"]
    assert run(command) == 0
    document = json.loads(capsys.readouterr().out)
    results = Results.from_json(Path(document["results"]).read_text())
    assert document["summary"] == list(results.summary)
    assert Path(document["report"]).read_text().startswith("<!DOCTYPE html>")
    assert run([*command[:-1], "--resume"]) == 0
    assert "report: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--degrade", "extreme"], "--degrade: is for risk, not for lfw; leave it out"),
        (["--max-images", "20"], "--max-images: is for risk"),
        (["--fusion", "mean"], "--fusion: is for ijb and ijba"),
        (["--no-norm"], "--norm: is for ijb and ijba"),
        (["--trial-models", "x-{}"], "--trial-models: is for blufr"),
        (["--distractors", "x"], "--distractors: is for distractors"),
        (["--group-by", "x"], "--group-by x: names a column of --groups"),
        (["--fmr", "2"], "false-match rates"),
    ],
)
def test_an_option_without_effect_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(["evaluate", "lfw", "--data", str(data), "--out", str(tmp_path / "out"), "--aligned", *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"models": "sface"}, "models 'sface': must be a row of them"),
        ({"embeddings": "x.npz"}, "embeddings 'x.npz': must be a row"),
        ({"judge": {"fmr": 0.1}}, "must be JudgeOptions"),
        ({"missing": "ignore"}, "missing 'ignore': must be 'error' or 'skip'"),
        ({"max_images": -3}, "max_images -3: must be 2 or more"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(
    data: Path, tmp_path: Path, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidValue, match=message):
        evaluate("lfw", data, tmp_path / "out", **wrong)


def test_trouble_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "lfw", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
