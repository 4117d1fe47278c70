"""IJB-A's lists in NIST's format to results, on drawn embeddings and on photos with boxes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from drawn_faces import drawn_faces, write_faces
from photos import far_away, portrait, save
from probface.errors import DataError, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.protocols.ijba import search_ijba, verify_ijba
from probface.eval.protocols.templates import TemplateFusion
from probface.eval.results import Results
from probface.eval.verification.options import JudgeOptions
from probface.pipeline.evaluation.evaluate import evaluate
from probface.pipeline.exported_faces import read_exported_faces
from probface.readers.ijba import read_ijba_list, read_ijba_search, read_ijba_verification
from written_results import figure, judged

SPLITS = (1, 2, 4)
HEADER = "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FRAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT\n"
PLAIN = TemplateFusion()
JUDGE = JudgeOptions(resamples=5)


def row(template: int, subject: int, file: str, media: int, sighting: int, box: str = "10,20,30,40") -> str:
    return f"{template},{subject},{file},{media},{sighting},,{box}\n"


def write_ijba(root: Path, splits: tuple[int, ...] = SPLITS, subjects: int = 30, probes: int = 12) -> dict[str, int]:
    """Of each split 20 subjects are enrolled, by two images; the others are searched in vain. Face -> subject.

    All templates of the gallery are compared with all probes in 1:1.
    """
    who: dict[str, int] = {}
    rng = np.random.default_rng(8)
    for split in splits:
        order = rng.permutation(subjects)
        gallery, searched = "", ""
        for place, subject in enumerate(order.tolist()):
            faces = [(f"img/{split}_{subject}_{n}.jpg", split * 10_000 + subject * 100 + n) for n in range(2 + probes)]
            who |= {f"{file}:{sighting}": subject for file, sighting in faces}
            if place < 20:
                gallery += "".join(row(subject, 1000 + subject, file, n, s) for n, (file, s) in enumerate(faces[:2]))
            for n, (file, sighting) in enumerate(faces[2:]):
                searched += row(100 + 100 * subject + n, 1000 + subject, file, n, sighting)
        enrolled = [int(subject) for subject in order[:20]]
        pairs = [(a, 100 + 100 * b + n) for a in enrolled for b in range(subjects) for n in range(probes)]
        train = HEADER + row(9000, 77, "img/t.jpg", 1, 1)
        for task, lists in {
            "1N": {"search_gallery": HEADER + gallery, "search_probe": HEADER + searched},
            "11": {
                "verify_metadata": HEADER + gallery + searched,
                "verify_comparisons": "".join(f"{a},{b}\n" for a, b in pairs),
            },
        }.items():
            folder = root / f"IJB-A_{task}_sets" / f"split{split}"
            folder.mkdir(parents=True)
            for name, text in {"train": train, **lists}.items():
                (folder / f"{name}_{split}.csv").write_text(text)
    return who


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ijba")
    write_ijba(folder)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    who = write_ijba(tmp_path_factory.mktemp("again"))
    return drawn_faces(tuple(who), list(who.values()), seed=2)


@pytest.fixture(scope="module")
def ready(table: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("ready") / "mine.npz", table)


@pytest.fixture(scope="module")
def results(data: Path, ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("out")
    return judged("ijba", data, out, models=(), embeddings=(ready,), fusion=PLAIN, judge=JUDGE)


def test_figures_are_those_of_the_splits(results: Results, data: Path, table: FaceTable) -> None:
    for metric in ("cosine", "fastmls"):
        key = f"mine-{metric}"
        verified = [verify_ijba(table, read_ijba_verification(data, s), metric, PLAIN) for s in SPLITS]
        searched = [search_ijba(table, read_ijba_search(data, s), metric, PLAIN) for s in SPLITS]
        for name, at, values in (
            ("TMR", {"fmr": 1e-1}, [one.tmr(1e-1) for one in verified]),
            ("TMR", {"fmr": 1e-2}, [one.tmr(1e-2) for one in verified]),
            ("rank rate", {"rank": 1}, [one.rank_rate(1) for one in searched]),
            ("rank rate", {"rank": 5}, [one.rank_rate(5) for one in searched]),
            ("TPIR", {"fpir": 0.1}, [one.tpir(0.1) for one in searched]),
        ):
            assert figure(results, name, key, **at).value == pytest.approx(np.mean(values), abs=1e-12)
            deviation = figure(results, f"{name}, standard deviation", key, **at).value
            assert deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert figure(results, "TMR", key, fmr=1e-3).note.startswith("insufficient data")
        assert figure(results, "TPIR", key, fpir=1e-2).note.startswith("insufficient data: FPIR 0.01 needs")
        row = figure(results, "TPIR", key, fpir=0.1)
        assert (row.genuine, row.impostor) == (240, 120)
    assert results.provenance.genuine == 3 * 240
    chart = results.sections[0].charts[0]
    assert chart.series[0].x == SPLITS


def test_a_split_by_brute_force(data: Path, table: FaceTable, ready: Path, tmp_path: Path) -> None:
    """One split alone, in float64; there is no deviation then."""
    lone = tmp_path / "lone"
    folder = lone / "IJB-A_1N_sets" / "split1"
    folder.mkdir(parents=True)
    for path in (data / "IJB-A_1N_sets" / "split1").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    results = evaluate("ijba", lone, tmp_path / "out", models=(), embeddings=(ready,), fusion=PLAIN, judge=JUDGE)
    task = read_ijba_search(data, 1)
    mu = {name: vector.astype(np.float64) for name, vector in zip(table.names, table.embeddings.mu, strict=True)}
    gallery = {}
    for subject in np.unique(task.gallery.subjects):
        rows = np.flatnonzero(task.gallery.subjects == subject)
        total = sum(mu[task.gallery.names[row]] for row in rows)
        gallery[int(subject)] = total / np.linalg.norm(total)
    hits = total_searches = 0
    for name, subject in zip(task.probes.names, task.probes.subjects.tolist(), strict=True):
        if subject in gallery:
            total_searches += 1
            hits += subject == max(gallery, key=lambda one: float(gallery[one] @ mu[name]))
    found = figure(results, "rank rate", "mine-cosine", rank=1)
    assert found.value == pytest.approx(hits / total_searches, abs=1e-12)
    assert "split 1 alone" in found.note
    assert any(note.startswith("Task 1:1 is left out") for note in results.notes)
    assert not any("standard deviation" in one.name for section in results.sections for one in section.figures)


def test_differences_are_taken_split_by_split(results: Results, data: Path, table: FaceTable) -> None:
    ours, theirs = (
        np.array([verify_ijba(table, read_ijba_verification(data, s), metric, PLAIN).tmr(1e-2) for s in SPLITS])
        for metric in ("cosine", "fastmls")
    )
    more = figure(results, "TMR", "mine-fastmls", "difference", fmr=1e-2)
    assert more.against == "mine-cosine"
    assert more.value == pytest.approx((theirs - ours).mean(), abs=1e-12)
    assert f"lower in {(theirs < ours).sum()} of 3 splits" in more.note


def test_people_who_lost_their_gallery_faces_are_no_strangers(data: Path, table: FaceTable, tmp_path: Path) -> None:
    lost = set()
    for split in SPLITS:
        gallery = read_ijba_search(data, split).gallery
        lost |= {gallery.names[row] for row in np.flatnonzero(gallery.subjects == gallery.subjects[0])}
    kept = [name for name in table.names if name not in lost]
    ready = write_faces(tmp_path / "x.npz", drawn_faces(kept, kept))
    results = evaluate(
        "ijba", data, tmp_path, models=(), embeddings=(ready,), missing="skip", fusion=PLAIN, judge=JUDGE
    )
    row = figure(results, "TPIR", "x-cosine", fpir=0.1)
    assert (row.genuine, row.impostor) == (240 - 12, 120)


def test_intervals_are_of_the_people_of_the_splits(data: Path, table: FaceTable, ready: Path, tmp_path: Path) -> None:
    """Each split has 30 people; without another five in each, 25 of 30 are judged."""
    less = tmp_path / "data"
    for split in SPLITS:
        folder, source = (root / "IJB-A_11_sets" / f"split{split}" for root in (less, data))
        folder.mkdir(parents=True)
        for path in source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        gone = range(5 * split, 5 * split + 5)
        metadata = (source / f"verify_metadata_{split}.csv").read_text().splitlines()
        (folder / f"verify_metadata_{split}.csv").write_text(
            "\n".join(line for line in metadata if not any(f",{1000 + subject}," in line for subject in gone))
        )
        left = read_ijba_list(folder / f"verify_metadata_{split}.csv").templates.tolist()
        pairs = (source / f"verify_comparisons_{split}.csv").read_text().split()
        ours = [pair for pair in pairs if {*map(int, pair.split(","))} <= {*left}]
        (folder / f"verify_comparisons_{split}.csv").write_text("\n".join(ours))
    results = evaluate("ijba", less, tmp_path / "out", models=(), embeddings=(ready,), fusion=PLAIN, judge=JUDGE)
    values = [verify_ijba(table, read_ijba_verification(less, s), "cosine", PLAIN).tmr(1e-1) for s in SPLITS]
    row = figure(results, "TMR", "mine-cosine", fmr=1e-1)
    reach = scipy.stats.t.ppf(0.975, 2) * np.std(values, ddof=1) * np.sqrt(25 / 5 + 1 / 3)
    assert (row.low, row.high) == pytest.approx((np.mean(values) - reach, min(1, np.mean(values) + reach)))


def test_photos_are_searched_in_the_boxes(small_model: Path, tmp_path: Path) -> None:
    """Two faces in one photo, each in its box; a photo without a face; a template without a box."""
    root, folder = tmp_path / "data", tmp_path / "data" / "IJB-A_11_sets" / "split1"
    folder.mkdir(parents=True)
    photo = np.full((400, 800, 3), 90, np.uint8)
    photo[50:350, 50:350], photo[50:350, 450:750] = portrait(300), portrait(300)[:, ::-1]
    save(root / "images" / "img" / "two.png", photo)
    save(root / "images" / "img" / "far.png", far_away(100))
    save(root / "images" / "img" / "wall.png", np.full((300, 300, 3), 120, np.uint8))
    rows = [
        row(1, 5, "img/two.png", 1, 11, "150,100,90,110"),
        row(2, 6, "img/two.png", 1, 12, "550,100,90,110"),
        row(3, 5, "img/far.png", 2, 13, ",,,"),
        row(4, 6, "img/wall.png", 3, 14, "100,100,50,50"),
        row(5, 6, "img/far.png", 4, 15, "5000,100,50,50"),
        row(5, 6, "img/two.png", 4, 16, "550,100,90,110"),
    ]
    (folder / "verify_metadata_1.csv").write_text(HEADER + "".join(rows))
    (folder / "verify_comparisons_1.csv").write_text("1,3\n1,2\n2,4\n2,5\n3,5\n")
    (folder / "train_1.csv").write_text(HEADER + row(9, 77, "img/t.jpg", 1, 1))
    asked = {"models": (str(small_model),), "fusion": PLAIN, "judge": JUDGE}
    results = evaluate("ijba", root, tmp_path / "out", **asked)
    (export,) = (tmp_path / "out" / "faces").iterdir()
    faces = read_exported_faces(export)
    assert faces.table.names == ("img/two.png:11", "img/two.png:12", "img/far.png:13", "img/two.png:16")
    left, right = (faces.picture(f"img/two.png:{n}") for n in (11, 12))
    assert left is not None
    assert right is not None
    # Each is the mirror image of the other, so the faces are the right ones of the photo.
    mirrored, plain = (np.abs(left.astype(float) - other).mean() for other in (right[:, ::-1], right))
    assert mirrored < 0.5 * plain
    assert faces.mirror is not None
    assert results.provenance.data.endswith("fused by mean, each image with its mirror image")
    assert any("2 faces were not found; 1 comparisons" in note for note in results.notes)
    assert figure(results, "TMR", "small-cosine", fmr=1e-1).note.startswith("insufficient data")
    (root / "images" / "img" / "far.png").unlink()
    with pytest.raises(DataError, match=re.escape("no img/far.png (2 of 6 faces without a photo)")):
        evaluate("ijba", root, tmp_path / "out", **asked)
    (folder / "verify_comparisons_1.csv").write_text("1,2\n2,4\n2,5\n")
    skipped = evaluate("ijba", root, tmp_path / "out", missing="skip", **asked)
    assert skipped.provenance.genuine == 1


def test_people_who_train_and_test(ready: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_ijba(data)
    train = data / "IJB-A_11_sets" / "split2" / "train_2.csv"
    train.write_text(train.read_text() + row(9001, 1007, "img/x.jpg", 1, 1))
    asked = {"models": (), "embeddings": (ready,), "fusion": PLAIN, "judge": JUDGE}
    with pytest.raises(DataError, match=r"train_2\.csv: subject 1007: in the test lists of split 2"):
        evaluate("ijba", data, tmp_path / "out", **asked)
    forced = evaluate("ijba", data, tmp_path / "out", force=True, **asked)
    assert any(note.startswith("Forced") for note in forced.notes)


def test_what_is_refused(data: Path, table: FaceTable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither IJB-A_11_sets nor IJB-A_1N_sets"):
        evaluate("ijba", tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match=r"images: no img/.*put NIST's photos"):
        evaluate("ijba", data, tmp_path / "out", judge=JUDGE)
    np.savez(tmp_path / "bare.npz", path=np.array(table.names), mu=table.embeddings.mu, norm=np.ones(len(table)))
    asked = {"models": (), "embeddings": (tmp_path / "bare.npz",), "sigma_sq": 0.3, "judge": JUDGE}
    with pytest.raises(InvalidValue, match=r"bare: no detector score .*--no-detector-score"):
        evaluate("ijba", data, tmp_path / "out", **asked)
    np.savez(tmp_path / "bare.npz", path=np.array(table.names[3:]), mu=table.embeddings.mu[3:])
    with pytest.raises(DataError, match=re.escape(repr(table.names[0]))):
        evaluate("ijba", data, tmp_path / "out", **asked)
