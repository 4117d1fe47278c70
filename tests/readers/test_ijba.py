"""A small split in NIST's format, and every way that it can be broken."""

import re
from pathlib import Path

import numpy as np
import pytest

from probface.errors import DataError, InvalidValue
from probface.readers.ijba import ijba_splits, read_ijba_search, read_ijba_verification

HEADER = (
    "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FRAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT,RIGHT_EYE_X,RIGHT_EYE_Y,"
    "LEFT_EYE_X,LEFT_EYE_Y,NOSE_BASE_X,NOSE_BASE_Y,FACE_YAW,FOREHEAD_VISIBLE,EYES_VISIBLE,NOSE_MOUTH_VISIBLE,INDOOR,GENDER,"
    "SKIN_TONE,AGE,FACIAL_HAIR\n"
)


def _row(
    template: object, subject: object, file: str, media: object, sighting: object, box: str = "1.5,2,30,40.25"
) -> str:
    return f"{template},{subject},{file},{media},{sighting},,{box},1,2,3,4,5,6,,1,1,1,1,1,1,4,0\n"


TRAIN = HEADER + _row(900, 1, "img/1.jpg", 1, 1) + _row(901, 0, "img/2.jpg", 2, 2)  # subject 0: not told
GALLERY = HEADER + _row(10, 101, "img/533.JPG", 533, 22238) + _row(10, 101, "frame/28337_00300.png", 28337, 8484)
GALLERY += _row(11, 102, "img/643.jpg", 643, 23585, ",,,")
PROBES = HEADER + _row(20, 101, "img/9.jpg", 9, 99) + _row(21, 103, "img/9.jpg", 9, 98)  # two people in one image
METADATA = GALLERY + PROBES.removeprefix(HEADER)
COMPARISONS = "10,20\n11,20\n10,21\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for task, lists in (
        ("1N", {"train": TRAIN, "search_gallery": GALLERY, "search_probe": PROBES}),
        ("11", {"train": TRAIN, "verify_metadata": METADATA, "verify_comparisons": COMPARISONS}),
    ):
        folder = tmp_path / f"IJB-A_{task}_sets" / "split3"
        folder.mkdir(parents=True)
        for name, text in lists.items():
            (folder / f"{name}_3.csv").write_text(text)
    return tmp_path


def test_both_tasks(root: Path) -> None:
    assert ijba_splits(root, "11") == ijba_splits(root / "IJB-A_1N_sets", "1N") == (3,)
    search = read_ijba_search(root, 3)
    assert search.gallery.names == ("img/533.JPG:22238", "frame/28337_00300.png:8484", "img/643.jpg:23585")
    assert search.gallery.files[0] == "img/533.JPG"
    assert search.gallery.media.tolist() == [533, 28337, 643]
    assert [column.tolist() for column in search.gallery.template_subjects()] == [[10, 11], [101, 102]]
    assert search.gallery.boxes[0].tolist() == [1.5, 2, 30, 40.25]
    assert np.isnan(search.gallery.boxes[2]).all()
    assert search.probes.names == ("img/9.jpg:99", "img/9.jpg:98")
    task = read_ijba_verification(root / "IJB-A_11_sets", 3)
    assert (task.first.tolist(), task.second.tolist()) == ([10, 11, 10], [20, 20, 21])
    assert task.genuine.tolist() == [True, False, False]
    assert (len(task), len(task.faces)) == (3, 5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("search_gallery", "", "line 1: no column TEMPLATE_ID"),
        ("search_gallery", HEADER.replace("MEDIA_ID", "MEDIA"), "line 1: no column MEDIA_ID"),
        ("search_gallery", HEADER.replace("FRAME", "MEDIA_ID"), "line 1: column MEDIA_ID is in the header twice"),
        ("search_gallery", HEADER, "no face in it"),
        ("search_gallery", GALLERY[:-20], "line 4: "),  # cut short
        ("search_gallery", GALLERY + _row("x", 101, "a", 1, 2), "line 5: 'x', expected a whole number"),
        ("search_gallery", GALLERY + _row("9" * 19, 101, "a", 1, 2), "line 5: '9999999999999999999', expected a whole"),
        (
            "search_gallery",
            GALLERY + _row(12, 104, "a", 1, 2, "1,2,wide,4"),
            "line 5: 'wide', expected a number or nothing",
        ),
        (
            "search_gallery",
            GALLERY + _row(12, 104, "a", 1, 2, "1,2,nan,4"),
            "line 5: 'nan', expected a number or nothing",
        ),
        (
            "search_gallery",
            GALLERY + _row(12, 104, "a", 1, 2, "1,2,inf,4"),
            "line 5: 'inf', expected a number or nothing",
        ),
        ("search_gallery", GALLERY + _row(11, 104, "a", 1, 2), "line 5: template 11 is of subject 104, and of 102"),
        ("search_gallery", GALLERY + _row(12, 102, "a", 1, 2), "subject 102 has templates 11 and 12"),
        (
            "search_gallery",
            GALLERY + _row(10, 101, "img/533.JPG", 1, 22238),
            "'img/533.JPG:22238' is in template 10 already",
        ),
        ("search_gallery", PROBES, "search_probe_3.csv (2 such templates); a template cannot search for itself"),
        ("search_gallery", GALLERY + _row(21, 103, "a", 1, 2), "template 21 is also among the probes of"),
        ("train", TRAIN + _row(902, 103, "a", 1, 2), "subject 103: in the test lists of split 3, too (1 such people)"),
        ("verify_metadata", METADATA + "1,2\n", "line 7: 2 fields, expected 25"),
        ("verify_comparisons", "", "no comparison in it"),
        ("verify_comparisons", COMPARISONS + "10\n", "line 4: 1 fields, expected 2"),
        ("verify_comparisons", COMPARISONS + "10,b\n", "line 4: 'b', expected a whole number"),
        ("verify_comparisons", COMPARISONS + "10,22\n", "line 4: template 22 is not in the metadata"),
        ("verify_comparisons", COMPARISONS + "10,10\n", "line 4: template 10 is compared with itself"),
        ("verify_comparisons", COMPARISONS + "20,11\n", "line 4: templates 20 and 11 are compared already, see"),
        ("verify_comparisons", "10,20\n", "all 1 comparisons are genuine"),
        ("verify_comparisons", "11,20\n", "all 1 comparisons are impostors'"),
    ],
)
def test_broken_lists(root: Path, name: str, text: str, message: str) -> None:
    task = "11" if name.startswith("verify") else "1N"
    (root / f"IJB-A_{task}_sets" / "split3" / f"{name}_3.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        (read_ijba_verification if task == "11" else read_ijba_search)(root, 3)
    assert f"{name}_3.csv" in str(caught.value)


def test_people_who_train_and_test(root: Path) -> None:
    folder = root / "IJB-A_11_sets" / "split3"
    rows = "".join(_row(902 + n, subject, "a", 1, n) for n, subject in enumerate((101, 103, 0)))
    (folder / "train_3.csv").write_text(TRAIN + rows)
    with pytest.raises(DataError, match=r"train_3\.csv: subject 101, 103: in the test lists of split 3, too \(2 such"):
        read_ijba_verification(root, 3)
    assert len(read_ijba_verification(root, 3, overlap="keep")) == 3
    (folder / "train_3.csv").unlink()
    with pytest.raises(DataError, match=r"train_3\.csv: No such file"):
        read_ijba_verification(root, 3)
    assert len(read_ijba_verification(root, 3, overlap="keep")) == 3
    with pytest.raises(InvalidValue, match="overlap 'yes': must be 'error' or 'keep'"):
        read_ijba_verification(root, 3, overlap="yes")  # type: ignore[arg-type]


def test_what_is_not_there(root: Path) -> None:
    with pytest.raises(DataError, match="no IJB-A_11_sets/split4 with its lists"):
        read_ijba_verification(root, 4)
    with pytest.raises(DataError, match="no IJB-A_1N_sets/split1 with its lists"):
        ijba_splits(root / "nowhere", "1N")
