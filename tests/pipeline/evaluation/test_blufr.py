"""BLUFR from lists in MATLAB's form to results, on drawn embeddings and on a few images."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import scipy.io
import scipy.stats

from drawn_faces import drawn_faces, write_faces
from probface.contract import person_digests
from probface.errors import DataError, InsufficientData, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.protocols.blufr import BlufrOptions, judge_blufr
from probface.eval.results import Figure, Results
from probface.eval.verification.options import JudgeOptions
from probface.models.graft import set_contract
from probface.models.registry import resolve_model
from probface.pipeline.evaluation.evaluate import evaluate
from probface.readers.blufr import BlufrLists, read_blufr
from small_lfw import write_small_lfw
from written_results import judged

PEOPLE, IMAGES, TRIALS = [f"Person_{number:02d}" for number in range(30)], 8, 4
RATES = JudgeOptions(fmrs=(1e-1, 1e-2, 1e-3, 1e-4), fmr=1e-3)


def write_lists(folder: Path, people: list[str], images: int, trials: int, enrolled: int) -> Path:
    """Of each trial a fifth of the people train; of the others ``enrolled`` are in the gallery, with one image."""
    rng = np.random.default_rng(1)
    numbers = np.arange(1, len(people) * images + 1).reshape(len(people), images)

    def cell(values: list[object]) -> np.ndarray:
        array = np.empty((len(values), 1), object)
        for row, value in enumerate(values):
            array[row, 0] = value if isinstance(value, str) else np.sort(np.ravel(value)).reshape(-1, 1).astype("u2")
        return array

    orders = [rng.permutation(len(people)) for _ in range(trials)]
    cut = len(people) // 5
    content = {
        "imageList": cell([f"{name}_{number:04d}.jpg" for name in people for number in range(1, images + 1)]),
        "labels": np.repeat(np.arange(1, len(people) + 1), images).reshape(-1, 1).astype("u2"),
        "trainIndex": cell([numbers[order[:cut]] for order in orders]),
        "testIndex": cell([numbers[order[cut:]] for order in orders]),
        "galIndex": cell([numbers[order[cut : cut + enrolled], 0] for order in orders]),
        "probIndex": cell(
            [np.append(numbers[order[cut : cut + enrolled], 1:], numbers[order[cut + enrolled :]]) for order in orders]
        ),
        "devTrainIndex": numbers[:3].reshape(-1, 1).astype("u2"),
        "devTestIndex": numbers[3:6].reshape(-1, 1).astype("u2"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "blufr_lfw_config.mat", content)
    return folder / "blufr_lfw_config.mat"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lfw")
    write_lists(folder / "blufr", PEOPLE, IMAGES, TRIALS, enrolled=10)
    return folder


@pytest.fixture(scope="module")
def lists(data: Path) -> BlufrLists:
    return read_blufr(data / "blufr" / "blufr_lfw_config.mat")


@pytest.fixture(scope="module")
def faces(lists: BlufrLists) -> FaceTable:
    return drawn_faces(lists.names, [lists.person(row) for row in range(len(lists.names))])


@pytest.fixture(scope="module")
def results(data: Path, faces: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("out")
    ready = write_faces(out / "mine.npz", faces)
    return judged("blufr", data, out, models=(), embeddings=(ready,), judge=RATES)


def figures(results: Results, name: str, relation: str = "value", **at: float) -> dict[str, Figure]:
    every = (figure for section in results.sections for figure in section.figures)
    return {one.system: one for one in every if (one.name, one.relation, one.at) == (name, relation, at)}


@pytest.mark.parametrize("metric", ["cosine", "fastmls"])
def test_figures_are_those_of_the_trials(results: Results, lists: BlufrLists, faces: FaceTable, metric: str) -> None:
    direct = judge_blufr(lists, faces, metric, BlufrOptions(fmrs=(1e-2,), fpirs=(1e-1,), ranks=(1, 10)))
    key = f"mine-{metric}"
    for values, name, at in (
        (direct.tmr[:, 0], "TMR", {"fmr": 1e-2}),
        (direct.identified[:, 0, 0], "DIR", {"fpir": 1e-1, "rank": 1}),
        (direct.identified[:, 0, 1], "DIR", {"fpir": 1e-1, "rank": 10}),
    ):
        mean, deviation = np.mean(values), np.std(values, ddof=1)
        row = figures(results, name, **at)[key]
        assert row.value == pytest.approx(mean, abs=1e-12)
        # 24 of 30 people are judged in each trial.
        reach = scipy.stats.t.ppf(0.975, TRIALS - 1) * deviation * np.sqrt(24 / 6 + 1 / TRIALS)
        assert row.low == pytest.approx(max(0, mean - reach), abs=1e-12)
        assert row.high == pytest.approx(min(1, mean + reach), abs=1e-12)
        assert figures(results, f"{name}, standard deviation", **at)[key].value == pytest.approx(deviation, abs=1e-12)
        less = figures(results, f"{name}, mean minus standard deviation", **at)[key]
        assert less.value == pytest.approx(mean - deviation, abs=1e-12)
    row = figures(results, "DIR", fpir=1e-1, rank=1)[key]
    assert (row.genuine, row.impostor) == (70, 112)


def test_a_trial_by_brute_force(results: Results, lists: BlufrLists, faces: FaceTable) -> None:
    """TMR at FMR 0.01 of every trial, from all pairs; the chart shows FMR 0.001, so the mean is compared."""
    found = []
    for trial in lists.trials:
        mu = faces.embeddings.mu[faces.rows([lists.names[row] for row in trial.test])].astype(np.float64)
        one, other = np.triu_indices(len(mu), 1)
        scores = (mu @ mu.T)[one, other]
        same = lists.labels[trial.test][one] == lists.labels[trial.test][other]
        impostor = np.sort(scores[~same])[::-1]
        found.append(np.mean(scores[same] > impostor[int(1e-2 * len(impostor))]))
    assert figures(results, "TMR", fmr=1e-2)["mine-cosine"].value == pytest.approx(np.mean(found), abs=1e-12)


def test_differences_are_taken_trial_by_trial(results: Results, lists: BlufrLists, faces: FaceTable) -> None:
    options = BlufrOptions(fmrs=(1e-3,), fpirs=(1e-1,))
    ours, theirs = (judge_blufr(lists, faces, metric, options).tmr[:, 0] for metric in ("cosine", "fastmls"))
    row = figures(results, "TMR", "difference", fmr=1e-3)["mine-fastmls"]
    assert row.against == "mine-cosine"
    assert row.value == pytest.approx(np.mean(theirs - ours), abs=1e-12)
    reach = scipy.stats.t.ppf(0.975, TRIALS - 1) * np.std(theirs - ours, ddof=1) * np.sqrt(24 / 6 + 1 / TRIALS)
    assert row.low is not None
    assert row.high is not None
    assert (row.low, row.high) == pytest.approx((np.mean(theirs - ours) - reach, np.mean(theirs - ours) + reach))
    assert f"higher in {np.sum(theirs > ours)}, lower in {np.sum(theirs < ours)} of {TRIALS} trials" in row.note
    (chart,) = (one for one in results.sections[0].charts if one.title.startswith("TMR at FMR 0.001"))
    assert [line.key for line in chart.series] == ["mine-cosine", "mine-fastmls"]
    assert chart.series[1].x == (1, 2, 3, 4)
    assert chart.series[1].y == pytest.approx(tuple(theirs))


def test_what_the_trials_are_too_few_for(results: Results) -> None:
    for name, at in (("TMR", {"fmr": 1e-4}), ("DIR", {"fpir": 1e-2, "rank": 1})):
        row = figures(results, name, **at)["mine-cosine"]
        assert row.value is None
        assert row.note.startswith("insufficient data: ")
        assert not figures(results, f"{name}, standard deviation", **at)


def test_lost_images_are_lost_for_all_systems(data: Path, lists: BlufrLists, faces: FaceTable, tmp_path: Path) -> None:
    names = [lists.names[lists.trials[0].gallery[0]], lists.names[lists.trials[0].probes[5]]]
    keep = [name for name in faces.names if name not in names]
    rows = faces.rows(keep)
    fewer = FaceTable(
        tuple(keep), faces.embeddings[rows], {measure: values[rows] for measure, values in faces.measures.items()}
    )
    ready = (write_faces(tmp_path / "all.npz", faces), write_faces(tmp_path / "fewer.npz", fewer))
    asked = {"models": (), "embeddings": ready, "judge": RATES, "metrics": ("cosine",)}
    with pytest.raises(DataError, match=re.escape(repr(sorted(names)[0]))):
        evaluate("blufr", data, tmp_path / "out", **asked)
    results = evaluate("blufr", data, tmp_path / "out", missing="skip", **asked)
    options = BlufrOptions(fmrs=(1e-2,), fpirs=(1e-1,), allow_missing=True)
    direct = judge_blufr(lists, fewer, "cosine", options)
    rates, found = figures(results, "TMR", fmr=1e-2), figures(results, "DIR", fpir=1e-1, rank=1)
    for key in ("all-cosine", "fewer-cosine"):
        assert rates[key].value == pytest.approx(direct.tmr.mean(), abs=1e-12)
        assert found[key].value == pytest.approx(direct.identified[:, 0, 0].mean(), abs=1e-12)
    assert any(note.startswith("2 of the listed images") for note in results.notes)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people with four images each: 8 of them are judged in each of three trials."""
    data = write_small_lfw(tmp_path_factory.mktemp("images"), PEOPLE[:10], images=4)
    write_lists(data / "blufr", PEOPLE[:10], 4, 3, enrolled=4)
    return data


def knowing(path: Path, model: Path, people: list[str], name: str) -> str:
    """A model with a contract that says who trained its head."""
    graph = onnx.load(model)
    set_contract(graph, replace(resolve_model(model).contract, name=name, training_people=person_digests(people)))
    onnx.save(graph, path)
    return str(path)


FEW = JudgeOptions(fmrs=(1e-1, 1e-3), fmr=1e-1)


def test_images_and_a_model_for_each_trial(images: Path, small_model: Path, tmp_path: Path) -> None:
    lists = read_blufr(images / "blufr" / "blufr_lfw_config.mat")
    people = [sorted({lists.person(row) for row in trial.train.tolist()}) for trial in lists.trials]
    for number, learned in enumerate(people, 1):
        knowing(tmp_path / f"trial-{number}.onnx", small_model, learned, f"head-{number}")
    general = knowing(tmp_path / "general.onnx", small_model, people[0], "general")
    asked = {"models": (general,), "judge": FEW, "aligned": True}
    alone = evaluate("blufr", images, tmp_path / "alone", **asked)
    assert [system.metric for system in alone.systems] == ["cosine"]
    assert any("--trial-models" in note and "--force" in note for note in alone.notes)
    with pytest.raises(DataError, match=rf"{people[0][0]}.*--trial-models"):
        evaluate("blufr", images, tmp_path / "refused", metrics=("fastmls",), **asked)
    forced = evaluate("blufr", images, tmp_path / "forced", force=True, faces=False, **asked)
    assert any(note.startswith("Forced") for note in forced.notes)
    # What the model exported tells as much of it, and is refused as it is.
    (exported,) = (tmp_path / "alone" / "faces").glob("*/embeddings.npz")
    ready = {"models": (), "embeddings": (exported,), "judge": FEW}
    again = evaluate("blufr", images, tmp_path / "again", **ready)
    assert [system.metric for system in again.systems] == ["cosine"]
    assert any(note.startswith("FastMLS is not judged: people of the trials trained") for note in again.notes)
    with pytest.raises(DataError, match=rf"embeddings: .*{people[0][0]}.*judge these embeddings by cosine"):
        evaluate("blufr", images, tmp_path / "again", metrics=("fastmls",), **ready)
    each = evaluate("blufr", images, tmp_path / "each", trial_models=str(tmp_path / "trial-{}.onnx"), **asked)
    assert [(one.model, one.metric) for one in each.systems] == [
        ("general", "cosine"),
        ("head-1, a model a trial", "fastmls"),
    ]
    # The networks are all one: what is forced is what each trial's model says.
    at = {"fmr": 1e-1}
    assert figures(each, "TMR", **at)["head-1, a model a trial-fastmls"].value == pytest.approx(
        figures(forced, "TMR", **at)["general-fastmls"].value
    )
    alone = evaluate(
        "blufr",
        images,
        tmp_path / "each",
        trial_models=str(tmp_path / "trial-{}.onnx"),
        metrics=("fastmls",),
        resume=True,
        **asked,
    )
    assert [one.model for one in alone.systems] == ["head-1, a model a trial"]
    assert alone.sections[0].figures[0].value == figures(each, "TMR", **at)[alone.systems[0].key].value
    assert len(list((tmp_path / "each" / "faces").glob("trial-*/embeddings.npz"))) == 3
    assert not list((tmp_path / "each" / "faces").glob("trial-*/crops/*"))  # shared
    (tmp_path / "trial-2.onnx").write_bytes((tmp_path / "trial-1.onnx").read_bytes())
    with pytest.raises(DataError, match=r"trial-2\.onnx: people 'Person_"):
        evaluate("blufr", images, tmp_path / "wrong", trial_models=str(tmp_path / "trial-{}.onnx"), **asked)


def test_what_is_not_there(images: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no blufr_lfw_config\.mat"):
        evaluate("blufr", tmp_path, tmp_path / "out")
    with pytest.raises(InvalidValue, match=r"trial models 'out/trial': must have \{\}"):
        evaluate("blufr", images, tmp_path / "out", trial_models="out/trial")
    asked = {"models": (), "embeddings": (write_faces(tmp_path / "x.npz", drawn_faces(["a/a_0001"], ["a"])),)}
    with pytest.raises(DataError, match="'Person_00/Person_00_0001'"):
        evaluate("blufr", data, tmp_path / "out", **asked)
    names = read_blufr(images / "blufr" / "blufr_lfw_config.mat").names
    asked["embeddings"] = (write_faces(tmp_path / "y.npz", drawn_faces(names, [n[:9] for n in names])),)
    with pytest.raises(InsufficientData, match=r"FMR 0\.001 needs at least 10,000"):
        evaluate("blufr", images, tmp_path / "out", judge=JudgeOptions(fmrs=(1e-3,)), **asked)


def test_an_image_that_is_not_there_is_named_or_skipped(small_model: Path, tmp_path: Path) -> None:
    data = write_small_lfw(tmp_path / "data", PEOPLE[:10], images=4)
    write_lists(data, PEOPLE[:10], 4, 2, enrolled=4)
    (data / "lfw" / "Person_03" / "Person_03_0002.jpg").unlink()
    asked = {"models": (str(small_model),), "aligned": True, "judge": FEW, "faces": False, "metrics": ("cosine",)}
    with pytest.raises(DataError, match=r"'Person_03/Person_03_0002' of blufr_lfw_config\.mat is not there \(1 such"):
        evaluate("blufr", data, tmp_path / "out", **asked)
    results = evaluate("blufr", data, tmp_path / "out", missing="skip", **asked)
    assert any(note.startswith("1 of the listed images") for note in results.notes)
