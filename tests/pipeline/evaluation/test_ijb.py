"""IJB-C's lists in their true format to results, on drawn embeddings and on a few crops."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from drawn_faces import drawn_faces, write_faces
from photos import save
from probface.cli.app import run
from probface.errors import DataError, InvalidValue
from probface.eval.face_table import DETECTOR_SCORE, NORM, FaceTable
from probface.eval.metrics.verification import tmr_at_fmr
from probface.eval.protocols.ijb_identification import search_ijb
from probface.eval.protocols.ijb_verification import score_ijb_pairs
from probface.eval.protocols.templates import TemplateFusion, Templates, fuse_templates
from probface.eval.results import Figure, Results
from probface.eval.verification.options import JudgeOptions
from probface.face.align import align
from probface.face.image import read_image
from probface.pipeline.evaluation.evaluate import evaluate
from probface.pipeline.exported_faces import read_exported_faces
from probface.readers.ijb import IjbFiles, find_ijb, read_ijb_faces, read_ijb_search
from probface.readers.ijb_pairs import read_ijb_pairs
from probface.score.calibration import threshold_at
from probface.types import Embeddings
from written_results import judged

SUBJECTS, PROBES = 24, 10
QUICK = JudgeOptions(fmrs=(1e-1, 1e-2, 1e-4), fmr=1e-2, resamples=20)
CSV = "TEMPLATE_ID,SUBJECT_ID,FILENAME\n"


def write_ijb(root: Path, subjects: int = SUBJECTS, probes: int = PROBES, size: int = 112) -> dict[str, int]:
    """IJB-C with so many subjects, each with a gallery template and some probes; image -> subject.

    Subject s is enrolled by template 10 + s, in G1 where s is even; its probes are 1000 + 100 s and so on. Every
    gallery template is compared with every probe.
    """
    rng = np.random.default_rng(3)
    meta = root / "IJBC" / "meta"
    meta.mkdir(parents=True)
    (root / "IJBC" / "loose_crop").mkdir()
    templates = [(10 + subject, subject) for subject in range(subjects)]
    templates += [(1000 + 100 * subject + n, subject) for subject in range(subjects) for n in range(probes)]
    lines, landmarks, who = [], [], {}
    for template, subject in templates:
        for image in range(int(rng.integers(1, 4))):
            name = f"{len(who) + 1}.jpg"
            who[name] = subject
            lines.append(f"{name} {template} {template * 10 + image // 2}\n")
            points = (np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.6], [0.38, 0.8], [0.62, 0.8]]) * size).ravel()
            moved = " ".join(f"{value:.2f}" for value in points + rng.uniform(-2, 2, 10))
            landmarks.append(f"{name} {moved} {rng.uniform(0.6, 1):.4f}\n")
    galleries = {
        name: CSV + "".join(f"{10 + s},{500 + s},img/{s}.jpg\n" for s in range(subjects) if s % 2 == odd)
        for name, odd in (("G1", 0), ("G2", 1))
    }
    probe_rows = "".join(f"{template},{500 + subject},img/x.jpg\n" for template, subject in templates[subjects:])
    pairs = "".join(
        f"{a} {b} {int(s == t)}\n" for a, s in templates[:subjects] for b, t in templates[subjects:]
    )  # fmt: skip
    for name, text in {
        "face_tid_mid.txt": "".join(lines),
        "name_5pts_score.txt": "".join(landmarks),
        "template_pair_label.txt": pairs,
        "1N_gallery_G1.csv": galleries["G1"],
        "1N_gallery_G2.csv": galleries["G2"],
        "1N_probe_mixed.csv": CSV + probe_rows,
    }.items():
        (meta / f"ijbc_{name}").write_text(text)
    return who


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ijb")
    write_ijb(folder)
    return folder


@pytest.fixture(scope="module")
def files(data: Path) -> IjbFiles:
    return find_ijb(data)


@pytest.fixture(scope="module")
def table(files: IjbFiles) -> FaceTable:
    faces = read_ijb_faces(files)
    subject = np.where(faces.templates < 1000, faces.templates - 10, (faces.templates - 1000) // 100)
    return drawn_faces(faces.names, subject.tolist())


@pytest.fixture(scope="module")
def ready(table: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("ready") / "mine.npz", table)


@pytest.fixture(scope="module")
def results(data: Path, ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("out")
    return judged("ijb", data, out, models=(), embeddings=(ready,), judge=QUICK)


def figure(results: Results, name: str, system: str, *, by: str = "", relation: str = "value", **at: float) -> Figure:
    every = (figure for section in results.sections[:2] for figure in section.figures)
    (row,) = (
        one for one in every if (one.name, one.system, one.by, one.relation, one.at) == (name, system, by, relation, at)
    )
    return row


def fused(files: IjbFiles, table: FaceTable, fusion: TemplateFusion) -> Templates:
    faces = read_ijb_faces(files)
    return fuse_templates(
        table, faces.names, faces.templates, faces.media, fusion, detector_scores=faces.detector_scores
    )


FUSION = TemplateFusion(norm=True, detector_score=True)


@pytest.mark.parametrize("metric", ["cosine", "fastmls"])
def test_one_to_one_is_that_of_the_fused_templates(
    results: Results, files: IjbFiles, table: FaceTable, metric: str
) -> None:
    templates = fused(files, table, FUSION)
    scores = score_ijb_pairs(templates, read_ijb_pairs(files.pairs, templates.ids), metric)
    for fmr in (1e-1, 1e-2):
        row = figure(results, "TMR", f"mine-{metric}", fmr=fmr)
        assert row.value == pytest.approx(scores.tmr(fmr), abs=1e-12)
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.value <= row.high
    assert figure(results, "TMR", f"mine-{metric}", fmr=1e-4).note.startswith("insufficient data")


def test_one_to_one_by_brute_force(results: Results, files: IjbFiles, table: FaceTable) -> None:
    """The field's way, template by template in float64."""
    faces = read_ijb_faces(files)
    norms = table.measures["embedding norm"]
    raw = table.embeddings.mu.astype(np.float64) * (norms * faces.detector_scores)[:, None]
    vectors = {}
    for template in np.unique(faces.templates):
        mine = faces.templates == template
        media = [raw[mine & (faces.media == one)].mean(axis=0) for one in np.unique(faces.media[mine])]
        total = np.sum(media, axis=0)
        vectors[int(template)] = total / np.linalg.norm(total)
    pairs = read_ijb_pairs(files.pairs, faces.templates)
    scores = np.array([vectors[a] @ vectors[b] for a, b in zip(pairs.first.tolist(), pairs.second.tolist())])  # noqa: B905
    expected = tmr_at_fmr(scores[pairs.genuine], scores[~pairs.genuine], 1e-2)
    assert figure(results, "TMR", "mine-cosine", fmr=1e-2).value == pytest.approx(expected, abs=1e-12)
    assert results.provenance.subjects == SUBJECTS
    assert results.provenance.images == len(faces)
    assert (results.provenance.genuine, results.provenance.impostor) == (
        SUBJECTS * PROBES,
        SUBJECTS * PROBES * (SUBJECTS - 1),
    )


def test_people_who_lost_their_gallery_image_are_no_strangers(
    data: Path, files: IjbFiles, table: FaceTable, tmp_path: Path
) -> None:
    faces = read_ijb_faces(files)
    kept = [row for row, template in enumerate(faces.templates.tolist()) if template != 10]  # subject 0, in G1
    fewer = drawn_faces([table.names[row] for row in kept], kept)
    results = evaluate(
        "ijb",
        data,
        tmp_path,
        models=(),
        embeddings=(write_faces(tmp_path / "x.npz", fewer),),
        missing="skip",
        judge=QUICK,
    )
    for gallery, mated, others in (("G1", SUBJECTS // 2 - 1, SUBJECTS // 2), ("G2", SUBJECTS // 2, SUBJECTS // 2 - 1)):
        row = figure(results, "TPIR", "x-cosine", by=f"gallery {gallery}", fpir=0.1)
        assert (row.genuine, row.impostor) == (mated * PROBES, others * PROBES)


@pytest.mark.parametrize("metric", ["cosine", "fastmls"])
def test_one_to_many_is_that_of_both_galleries(
    results: Results, files: IjbFiles, table: FaceTable, metric: str
) -> None:
    key = f"mine-{metric}"
    found = search_ijb(fused(files, table, FUSION), read_ijb_search(files, read_ijb_faces(files)), metric)
    for rank in (1, 5, 10):
        row = figure(results, "rank rate", key, by="both galleries", rank=rank)
        assert row.value == pytest.approx(found.rank_rate(rank), abs=1e-12)
        for gallery in found.galleries:
            row = figure(results, "rank rate", key, by=f"gallery {gallery.gallery}", rank=rank)
            assert row.value == pytest.approx(gallery.rank_rate(rank), abs=1e-12)
            assert row.genuine == SUBJECTS // 2 * PROBES
    row = figure(results, "TPIR", key, by="both galleries", fpir=0.1)
    assert row.value == pytest.approx(found.tpir(0.1), abs=1e-12)
    assert row.impostor == SUBJECTS * PROBES
    for gallery in found.galleries:
        row = figure(results, "TPIR", key, by=f"gallery {gallery.gallery}", fpir=0.1)
        assert row.value == pytest.approx(gallery.tpir(0.1), abs=1e-12)
    assert figure(results, "TPIR", key, by="both galleries", fpir=0.01).note.startswith("insufficient data: FPIR 0.01")
    section = results.sections[0]
    assert [chart.kind for chart in section.charts] == ["cmc", "dir", "cmc", "dir"]
    line = next(one for one in section.charts[0].series if one.key == key)
    assert line.y[0] == pytest.approx(found.galleries[0].rank_rate(1))
    curve = next(one for one in section.charts[1].series if one.key == key)
    place = np.flatnonzero(np.array(curve.x) <= 0.1 + 1e-9)[-1]
    assert curve.y[place] == pytest.approx(found.galleries[0].tpir(0.1))
    # At the right end nobody is refused for a low score.
    assert (curve.x[-1], curve.y[-1]) == pytest.approx((1, found.galleries[0].rank_rate(1)))


def test_differences_between_scores(results: Results) -> None:
    for name, at in (("rank rate", {"rank": 1}), ("TPIR", {"fpir": 0.1})):
        ours, theirs = (figure(results, name, f"mine-{m}", by="both galleries", **at) for m in ("cosine", "fastmls"))
        more = figure(results, name, "mine-fastmls", by="both galleries", relation="difference", **at)
        assert ours.value is not None
        assert theirs.value is not None
        assert more.value == pytest.approx(theirs.value - ours.value, abs=1e-12)
        assert more.low is not None
        assert more.high is not None
        assert more.low <= more.value <= more.high


def test_uncertain_fusion(data: Path, files: IjbFiles, table: FaceTable, ready: Path, tmp_path: Path) -> None:
    fusion = TemplateFusion("uncertainty", norm=False, detector_score=True)
    results = evaluate(
        "ijb", data, tmp_path, models=(), embeddings=(ready,), metrics=("fastmls",), fusion=fusion, judge=QUICK
    )
    templates = fused(files, table, fusion)
    scores = score_ijb_pairs(templates, read_ijb_pairs(files.pairs, templates.ids), "fastmls")
    assert figure(results, "TMR", "mine-fastmls", fmr=1e-2).value == pytest.approx(scores.tmr(1e-2), abs=1e-12)


def test_crops_are_cut_by_the_landmarks_of_the_list(small_model: Path, tmp_path: Path) -> None:
    who = write_ijb(tmp_path / "data", subjects=4, probes=3, size=140)
    files = find_ijb(tmp_path / "data")
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 255, (4, 140, 140, 3))
    for name, subject in who.items():
        crop = patterns[subject] * 0.7 + rng.uniform(0, 70, (140, 140, 3))
        save(files.images / name, crop.astype(np.uint8))
    judge = JudgeOptions(fmrs=(0.3,), fmr=0.3, resamples=5)
    asked = {"models": (str(small_model),), "judge": judge, "fusion": FUSION}
    results = evaluate("ijb", tmp_path / "data", tmp_path / "out", **asked)
    (folder,) = (tmp_path / "out" / "faces").iterdir()
    exported, faces = read_exported_faces(folder), read_ijb_faces(files)
    assert exported.table.names == faces.names
    np.testing.assert_allclose(exported.table.measures[DETECTOR_SCORE], faces.detector_scores, rtol=1e-6)
    for row in (0, 7, len(faces) - 1):
        crop = align(read_image(files.images / faces.names[row]), faces.landmarks[row].tolist())
        np.testing.assert_array_equal(exported.picture(faces.names[row]), crop)
    # Each image with its mirror image, as the field's flip test sums them.
    assert exported.mirror is not None
    total = sum(
        side.embeddings.mu * side.measures[NORM][:, None].astype(np.float64)
        for side in (exported.table, exported.mirror)
    )
    length = np.linalg.norm(total, axis=1)
    mu = (total / length[:, None]).astype(np.float32)
    both = FaceTable(faces.names, Embeddings(mu, exported.table.embeddings.sigma_sq), {NORM: length})
    templates = fused(files, both, FUSION)
    assert results.provenance.data.endswith("fused by mean, each image with its mirror image")
    scores = score_ijb_pairs(templates, read_ijb_pairs(files.pairs, templates.ids), "cosine")
    assert figure(results, "TMR", "small-cosine", fmr=0.3).value == pytest.approx(scores.tmr(0.3), abs=1e-12)
    threshold = next(one for one in results.thresholds if one.system == "small-cosine")
    assert threshold.threshold == pytest.approx(threshold_at(scores.scores[~scores.genuine], 0.3), abs=1e-6)
    assert "data:image/" in (tmp_path / "out" / "report.html").read_text()

    # A crop that is gone, and one that cannot be read: alone in its template the first takes that along.
    ids, counts = np.unique(faces.templates, return_counts=True)
    alone = next(
        name for name, t in zip(faces.names, faces.templates, strict=True) if t >= 1000 and counts[ids == t] == 1
    )
    (files.images / alone).unlink()
    with pytest.raises(DataError, match=rf"no {alone} \(1 of"):
        evaluate("ijb", tmp_path / "data", tmp_path / "out", **asked)
    fewer = evaluate("ijb", tmp_path / "data", tmp_path / "out", missing="skip", **asked)
    assert fewer.provenance.genuine + fewer.provenance.impostor == len(templates.ids[4:]) * 4 - 4
    assert any("1 templates have no image left" in note for note in fewer.notes)


def test_other_landmarks_are_not_taken_up_again(small_model: Path, tmp_path: Path) -> None:
    who = write_ijb(tmp_path / "data", subjects=4, probes=3)
    files = find_ijb(tmp_path / "data")
    for name, subject in who.items():
        noise = np.random.default_rng(subject).integers(0, 255, (112, 112, 3))
        save(files.images / name, noise.astype(np.uint8))
    judge = JudgeOptions(fmrs=(0.3,), fmr=0.3, resamples=5)
    asked = {"models": (str(small_model),), "judge": judge, "fusion": TemplateFusion(), "resume": True}
    evaluate("ijb", tmp_path / "data", tmp_path / "out", **asked)
    evaluate("ijb", tmp_path / "data", tmp_path / "out", **asked)
    text = files.landmarks.read_text().splitlines()
    first = text[0].split()
    text[0] = " ".join([first[0], str(float(first[1]) + 3), *first[2:]])
    files.landmarks.write_text("\n".join(text))
    with pytest.raises(DataError, match="from other images or with other options"):
        evaluate("ijb", tmp_path / "data", tmp_path / "out", **asked)


def test_what_is_refused(data: Path, files: IjbFiles, table: FaceTable, ready: Path, tmp_path: Path) -> None:
    asked = {"models": (), "embeddings": (ready,), "judge": QUICK}
    with pytest.raises(DataError, match="no meta/ijbb_face_tid_mid"):
        evaluate("ijb", tmp_path, tmp_path / "out", **asked)
    with pytest.raises(DataError, match="loose_crop"):
        evaluate("ijb", data, tmp_path / "out", judge=QUICK)  # a model, and no crops
    np.savez(tmp_path / "bare.npz", path=np.array(table.names), mu=table.embeddings.mu)
    with pytest.raises(InvalidValue, match=r"bare: no embedding norm .*--no-norm"):
        evaluate(
            "ijb", data, tmp_path / "out", models=(), embeddings=(tmp_path / "bare.npz",), sigma_sq=0.1, judge=QUICK
        )
    write_faces(tmp_path / "few.npz", drawn_faces(table.names[1:], ["x"] * (len(table) - 1)))
    with pytest.raises(DataError, match=re.escape(repr(table.names[0]))):
        evaluate("ijb", data, tmp_path / "out", models=(), embeddings=(tmp_path / "few.npz",), judge=QUICK)
    text = files.pairs.read_text()
    try:
        files.pairs.write_text(text + "10 77 0\n")
        with pytest.raises(DataError, match="template 77 has no image"):
            evaluate("ijb", data, tmp_path / "out", **asked)
    finally:
        files.pairs.write_text(text)


def test_the_verb_passes_on_how_templates_are_fused(data: Path, ready: Path, tmp_path: Path) -> None:
    options = ["--fusion", "uncertainty", "--no-norm", "--resamples", str(QUICK.resamples)]
    line = [
        "evaluate",
        "ijb",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "verb"),
        "--embeddings",
        str(ready),
        *options,
    ]
    assert run(line) == 0
    verb = Results.from_json((tmp_path / "verb" / "results.json").read_text())
    fusion = TemplateFusion("uncertainty", norm=False, detector_score=True)
    judge = JudgeOptions(resamples=QUICK.resamples)
    direct = evaluate("ijb", data, tmp_path / "direct", models=(), embeddings=(ready,), fusion=fusion, judge=judge)
    assert verb.sections == direct.sections
    assert verb.thresholds == direct.thresholds
