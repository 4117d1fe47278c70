"""Identification among distractors, on drawn embeddings, on MegaFace's lists and on a few images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from drawn_faces import drawn_faces, write_faces
from people_images import write_people_images
from probface.contract import person_digests
from probface.errors import DataError, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.protocols.distractors import search_distractors
from probface.eval.results import Results
from probface.eval.verification.options import JudgeOptions
from probface.models.graft import set_contract
from probface.models.registry import resolve_model
from probface.pipeline.embedding_file import read_embeddings
from probface.pipeline.evaluation.evaluate import evaluate
from written_results import figure, judged

PEOPLE = [f"Person {number // 3:02d}" for number in range(60)]
PROBES = [f"{person}/{number}.png" for number, person in enumerate(PEOPLE)]
OTHERS = [f"63/{number}@N03_identity_1/{number}_0.jpg" for number in range(1500)]
JUDGE = JudgeOptions(fmrs=(1e-1, 1e-3, 1e-4, 1e-6), resamples=20)


@pytest.fixture(scope="module")
def probes() -> FaceTable:
    return drawn_faces(PROBES, PEOPLE, seed=1, dim=12)


@pytest.fixture(scope="module")
def others() -> FaceTable:
    return drawn_faces(OTHERS, OTHERS, seed=2, dim=12)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MegaFace's lists."""
    folder = tmp_path_factory.mktemp("megaface")
    (folder / "facescrub_features_list.json").write_text(json.dumps({"id": PEOPLE, "path": PROBES}))
    (folder / "megaface_features_list.json_1500_1").write_text(json.dumps({"path": OTHERS}))
    return folder


def write_both(path: Path, probes: FaceTable, others: FaceTable) -> Path:
    whole = drawn_faces([*probes.names, *others.names], [*probes.names, *others.names], dim=12)
    for side, rows in ((probes, slice(0, len(probes))), (others, slice(len(probes), None))):
        whole.embeddings.mu[rows], whole.embeddings.sigma_sq[rows] = side.embeddings.mu, side.embeddings.sigma_sq
    return write_faces(path, whole)


@pytest.fixture(scope="module")
def results(data: Path, probes: FaceTable, others: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("out")
    ready = write_both(out / "mine.npz", probes, others)
    return judged("distractors", data, out, models=(), embeddings=(ready,), judge=JUDGE)


@pytest.mark.parametrize("metric", ["cosine", "fastmls"])
def test_figures_are_those_of_the_searches(results: Results, probes: FaceTable, others: FaceTable, metric: str) -> None:
    key = f"mine-{metric}"
    direct = search_distractors(probes, PEOPLE, others, metric)
    assert direct.sizes == (10, 100, 1000, 1500)
    for rank in (1, 10):
        rates = direct.rank_rates(rank)
        for level, size in enumerate(direct.sizes):
            row = figure(results, "rank rate", key, rank=rank, distractors=size)
            assert row.value == pytest.approx(rates[level].mean(), abs=1e-12)
            assert row.low is not None
            assert row.high is not None
            assert row.low <= row.value <= row.high
            assert row.genuine == 20 * 6
            low, high = 100 * rates[level].min(), 100 * rates[level].max()
            assert (f"3 draws: {low:.2f} to {high:.2f} %" in row.note) is bool(low < high)
    assert figure(results, "TMR", key, fmr=1e-3).value == pytest.approx(direct.tmr(1e-3), abs=1e-12)
    assert figure(results, "TMR", key, fmr=1e-6).note.startswith("insufficient data")
    (chart,) = results.sections[0].charts
    assert (chart.kind, chart.x.scale) == ("distractors", "log")
    line = next(one for one in chart.series if one.key == key)
    assert line.x == direct.sizes
    assert line.y == pytest.approx(tuple(direct.rank_rates(1).mean(axis=1)))


def test_all_distractors_by_brute_force(results: Results, probes: FaceTable, others: FaceTable) -> None:
    mu, far = (table.embeddings.mu.astype(np.float64) for table in (probes, others))
    own, best = mu @ mu.T, (mu @ far.T).max(axis=1)
    pairs = [(a, b) for a in range(60) for b in range(60) if a != b and PEOPLE[a] == PEOPLE[b]]
    first = np.mean([own[a, b] > best[a] for a, b in pairs])
    assert figure(results, "rank rate", "mine-cosine", rank=1, distractors=1500).value == pytest.approx(first)
    impostor = np.sort((mu @ far.T).ravel())[::-1]
    tmr = np.mean([own[a, b] > impostor[int(1e-3 * len(impostor))] for a, b in pairs])
    assert figure(results, "TMR", "mine-cosine", fmr=1e-3).value == pytest.approx(tmr)


def test_differences_are_of_the_same_searches(results: Results) -> None:
    at = {"rank": 1, "distractors": 1000}
    ours, theirs = (figure(results, "rank rate", f"mine-{metric}", **at) for metric in ("cosine", "fastmls"))
    more = figure(results, "rank rate", "mine-fastmls", "difference", **at)
    assert ours.value is not None
    assert theirs.value is not None
    assert more.value == pytest.approx(theirs.value - ours.value, abs=1e-12)
    assert more.against == "mine-cosine"
    assert more.low is not None
    assert more.high is not None
    assert more.low <= more.value <= more.high


def test_distractors_in_a_file_of_their_own(
    results: Results, data: Path, probes: FaceTable, others: FaceTable, tmp_path: Path
) -> None:
    pool = write_faces(tmp_path / "pool.npz", others)
    asked = {"models": (), "embeddings": (write_faces(tmp_path / "mine.npz", probes),), "judge": JUDGE}
    apart = evaluate("distractors", data, tmp_path / "out", distractors=pool, **asked)
    assert apart.sections == results.sections
    narrow = write_faces(tmp_path / "narrow.npz", drawn_faces(OTHERS, OTHERS, dim=5))
    with pytest.raises(InvalidValue, match="embedded by another model than mine"):
        evaluate("distractors", data, tmp_path / "out", distractors=narrow, **asked)
    asked["embeddings"] = (*asked["embeddings"], write_faces(tmp_path / "yours.npz", probes))
    with pytest.raises(InvalidValue, match="are of one model, 2 are judged"):
        evaluate("distractors", data, tmp_path / "out", distractors=pool, **asked)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    write_people_images(root / "people", [f"known-{n}" for n in range(5)], seed=0)
    write_people_images(root / "others", [f"other-{n}" for n in range(12)], images=2, seed=1)
    return root


def test_images_without_the_people_who_trained(images: Path, small_model: Path, tmp_path: Path) -> None:
    graph = onnx.load(small_model)
    contract = resolve_model(small_model).contract
    set_contract(graph, replace(contract, name="knowing", training_people=person_digests(["known-2"])))
    model = tmp_path / "knowing.onnx"
    onnx.save(graph, model)
    asked = {"models": (str(model),), "aligned": True, "judge": JUDGE, "distractors": images / "others"}
    results = evaluate("distractors", images / "people", tmp_path / "out", **asked)
    assert [(one.metric, one.left_out) for one in results.systems] == [("cosine", 0), ("fastmls", 3)]
    assert any("3 probes of people who trained" in note for note in results.notes)
    files = sorted((tmp_path / "out" / "faces").glob("*/embeddings.npz"))
    mine, pool = (
        FaceTable(file.rows.path, file.embeddings) for file in (read_embeddings(files[0]), read_embeddings(files[1]))
    )
    assert (len(mine), len(pool)) == (15, 24)
    kept = tuple(name for name in mine.names if "known-2" not in name)
    direct = search_distractors(
        FaceTable(kept, mine.embeddings[mine.rows(kept)]), [Path(name).parent.name for name in kept], pool, "fastmls"
    )
    at = {"rank": 1, "distractors": 24}
    row = figure(results, "rank rate", "knowing-fastmls", **at)
    assert row.value == pytest.approx(direct.rank_rates(1)[-1].mean(), abs=1e-12)
    assert row.genuine == 4 * 6
    more = figure(results, "rank rate", "knowing-fastmls", "difference", **at)
    assert (more.genuine, more.note) == (24, "on the 24 searches that both made")
    # Embedded by the same model, the distractors may come ready.
    ready = evaluate("distractors", images / "people", tmp_path / "ready", **asked | {"distractors": files[1]})
    assert ready.sections == results.sections
    assert sum("Who is on the distractors is not known" in note for note in ready.notes) == 1
    assert not any("distractors" in note for note in results.notes)
    forced = evaluate("distractors", images / "people", tmp_path / "forced", force=True, **asked)
    assert [one.left_out for one in forced.systems] == [0, 0]
    # Embeddings of a model beside those of another are told apart by their contracts, though they are as wide.
    probes_alone = {"models": (), "embeddings": (files[0],), "judge": JUDGE}
    apart = evaluate("distractors", images / "people", tmp_path / "apart", distractors=files[1], **probes_alone)
    assert [(one.metric, one.left_out) for one in apart.systems] == [("cosine", 0), ("fastmls", 3)]
    with np.load(files[1]) as arrays:
        third = replace(contract, name="third", training_people=()).to_json()
        np.savez(tmp_path / "third.npz", **(dict(arrays) | {"contract": third}))
    with pytest.raises(InvalidValue, match="embedded by another model than embeddings"):
        evaluate(
            "distractors", images / "people", tmp_path / "apart", distractors=tmp_path / "third.npz", **probes_alone
        )
    other = {"models": (str(small_model),), "distractors": files[1]}
    with pytest.raises(InvalidValue, match="embedded by another model than small"):
        evaluate("distractors", images / "people", tmp_path / "other", **asked | other)


def test_distractors_who_trained_are_left_out_for_all(images: Path, small_model: Path, tmp_path: Path) -> None:
    graph = onnx.load(small_model)
    contract = resolve_model(small_model).contract
    set_contract(graph, replace(contract, name="knowing", training_people=person_digests(["other-3", "other-7"])))
    onnx.save(graph, tmp_path / "knowing.onnx")
    asked = {"models": (str(tmp_path / "knowing.onnx"),), "aligned": True, "judge": JUDGE, "faces": False}
    results = evaluate("distractors", images / "people", tmp_path / "out", distractors=images / "others", **asked)
    note = "4 distractors of 2 people who trained an uncertainty head are left out for all systems."
    assert note in results.notes
    mine, pool = (
        FaceTable(file.rows.path, file.embeddings)
        for file in map(read_embeddings, sorted((tmp_path / "out" / "faces").glob("*/embeddings.npz")))
    )
    kept = tuple(name for name in pool.names if Path(name).parent.name not in ("other-3", "other-7"))
    strangers = FaceTable(kept, pool.embeddings[pool.rows(kept)])
    for metric in ("cosine", "fastmls"):
        direct = search_distractors(mine, [Path(name).parent.name for name in mine.names], strangers, metric)
        assert direct.sizes == (10, 20)
        row = figure(results, "rank rate", f"knowing-{metric}", rank=1, distractors=20)
        assert row.value == pytest.approx(direct.rank_rates(1)[-1].mean(), abs=1e-12)
    # Cosine alone has no head: all are distractors. So are they where that is forced.
    for more in ({"metrics": ("cosine",)}, {"force": True}):
        every = evaluate(
            "distractors", images / "people", tmp_path / "all", distractors=images / "others", **asked | more
        )
        assert figure(every, "rank rate", "knowing-cosine", rank=1, distractors=24).value is not None
        assert not any("distractors of" in one for one in every.notes)
    few = write_people_images(tmp_path / "few", ["other-3", "other-7"], images=2, seed=3)
    with pytest.raises(DataError, match="everybody among them trained an uncertainty head"):
        evaluate("distractors", images / "people", tmp_path / "few-out", distractors=few, **asked)


def test_what_is_refused(images: Path, data: Path, small_model: Path, tmp_path: Path) -> None:
    asked = {"models": (str(small_model),), "aligned": True, "judge": JUDGE}
    out = tmp_path / "out"
    with pytest.raises(InvalidValue, match=r"no distractors: .*--distractors"):
        evaluate("distractors", images / "people", out, **asked)
    with pytest.raises(DataError, match=r"distractor '.*known-.*': is a probe, too"):
        evaluate("distractors", images / "people", out, distractors=images / "people", **asked)
    write_people_images(tmp_path / "same", ["known-1", "new"], seed=5)
    with pytest.raises(DataError, match="'known-1' is one of the probes' people"):
        evaluate("distractors", images / "people", out, distractors=tmp_path / "same", **asked)
    with pytest.raises(InvalidValue, match="MegaFace's lists are judged by ready embeddings alone"):
        evaluate("distractors", data, out, **asked)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "facescrub_features_list.json").write_text(json.dumps({"id": PEOPLE, "path": PROBES}))
    ready = write_faces(tmp_path / "x.npz", drawn_faces(PROBES, PEOPLE))
    with pytest.raises(DataError, match="0 files megaface_features_list"):
        evaluate("distractors", tmp_path / "lists", out, models=(), embeddings=(ready,))
    with pytest.raises(DataError, match="63/0@N03_identity_1/0_0"):
        evaluate("distractors", data, out, models=(), embeddings=(ready,))
